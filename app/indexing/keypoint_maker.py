"""Makes the keypoints of indexed images from their thumbnails, in the background.

A batch takes its time from what else this machine does, so it is made in a thread of low priority,
and while images are being indexed, most of the time passes in waiting.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from time import perf_counter

from app.logs import fields
from app.pictures.thumbnails import keypoints_in
from app.store.keypoints import KeypointTable

logger = logging.getLogger(__name__)

BATCH = 16
# How often to look for images without keypoints.
LOOK_S = 2.0
# While images are being indexed or searched for, the share of the time that is spent on keypoints.
SHARE_WHEN_BUSY = 0.05
# Linux's; other programs, and the threads of this one, have 0.
NICENESS = 10


def keypoints_of(thumbnail: bytes) -> bytes:
    """Return the keypoints of a JPEG thumbnail to store, empty if it cannot be read."""
    try:
        return keypoints_in(thumbnail).to_bytes()
    except Exception as exc:
        # Whatever is wrong with it, it would be wrong the next time.
        logger.warning("a thumbnail has no keypoints", extra=fields(cause=exc))
        return b""


class KeypointMaker:
    """Makes keypoints until none are missing.

    `work_done` returns a number that grows with the images embedded in this process.
    """

    def __init__(self, keypoints: KeypointTable, *, work_done: Callable[[], int]) -> None:
        self._keypoints = keypoints
        self._work_done = work_done
        self._thread = ThreadPoolExecutor(1, "keypoints", initializer=_yield_to_others)

    async def run(self) -> None:
        """Make keypoints for ever; raises `DatabaseUnavailable`."""
        while True:
            before, start = self._work_done(), perf_counter()
            made = await self.make_some()
            if not made:
                await asyncio.sleep(LOOK_S)
            elif self._work_done() != before:
                await asyncio.sleep((perf_counter() - start) * (1 / SHARE_WHEN_BUSY - 1))

    async def make_some(self) -> int:
        """Make the keypoints of some images that lack them; return of how many."""
        loop = asyncio.get_running_loop()
        async with self._keypoints.claim(limit=BATCH) as claim:
            made = {
                image_id: await loop.run_in_executor(self._thread, keypoints_of, thumbnail)
                for image_id, thumbnail in claim.thumbnails.items()
            }
            await claim.store(made)
        return len(made)

    def close(self) -> None:
        """Let the thread end."""
        self._thread.shutdown()


def _yield_to_others() -> None:
    # Only Linux has priorities of threads.
    with suppress(AttributeError, OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
