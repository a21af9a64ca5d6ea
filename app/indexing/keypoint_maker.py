"""Makes the keypoints of indexed images, and hashes that are missing, in the background.

A batch takes its time from what else this machine does, so it is made in a thread of low priority,
and while images are being indexed, most of the time passes in waiting.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from time import perf_counter
from uuid import UUID

from app.logs import fields
from app.pictures.thumbnails import keypoints_in, phash_of
from app.store.hashes import HashTable, Missing
from app.store.keypoints import KeypointTable

logger = logging.getLogger(__name__)

BATCH = 16
# They take a tenth of the time.
HASHES = 160
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


def hash_of(thumbnail: bytes) -> int | None:
    """Return the hash of a JPEG thumbnail to store, None if it cannot be read."""
    try:
        return phash_of(thumbnail)
    except Exception as exc:
        logger.warning("a thumbnail has no hash", extra=fields(cause=exc))
        return None


class KeypointMaker:
    """Makes hashes, then keypoints, until none are missing.

    `work_done` returns a number that grows with the images embedded in this process.
    """

    def __init__(
        self, keypoints: KeypointTable, hashes: HashTable, *, work_done: Callable[[], int]
    ) -> None:
        self._keypoints = keypoints
        self._hashes = hashes
        self._work_done = work_done
        self._thread = ThreadPoolExecutor(1, "keypoints", initializer=_yield_to_others)

    async def run(self) -> None:
        """Make what is missing for ever; raises `DatabaseUnavailable`."""
        while True:
            before, start = self._work_done(), perf_counter()
            made = await self.make_some()
            if not made:
                await asyncio.sleep(LOOK_S)
            elif self._work_done() != before:
                await asyncio.sleep((perf_counter() - start) * (1 / SHARE_WHEN_BUSY - 1))

    async def make_some(self) -> int:
        """Make the hashes of some images that lack them, or else keypoints; return of how many."""
        hashed = await self.make_hashes()
        if hashed:
            return hashed
        loop = asyncio.get_running_loop()
        async with self._keypoints.claim(limit=BATCH) as claim:
            made = {
                image_id: await loop.run_in_executor(self._thread, keypoints_of, thumbnail)
                for image_id, thumbnail in claim.thumbnails.items()
            }
            await claim.store(made)
        return len(made)

    async def make_hashes(self) -> int:
        """Make the hashes of some images that lack them; return of how many."""
        missing = await self._hashes.missing(limit=HASHES)
        if missing:
            loop = asyncio.get_running_loop()
            made = await loop.run_in_executor(self._thread, _hashes_of, missing)
            await self._hashes.keep(missing, made)
        return len(missing)

    def close(self) -> None:
        """Let the thread end."""
        self._thread.shutdown()


def _hashes_of(images: Sequence[Missing]) -> dict[UUID, int | None]:
    return {image.id: hash_of(image.thumbnail) for image in images}


def _yield_to_others() -> None:
    # Only Linux has priorities of threads.
    with suppress(AttributeError, OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
