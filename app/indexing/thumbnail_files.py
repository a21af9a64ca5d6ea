"""The files of thumbnails in MEDIA_URL: read, written and removed in threads of their own."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from time import monotonic
from typing import TypeVar
from urllib.parse import urlsplit

from app.indexing.media import Media
from app.logs import fields
from app.problems import StorageUnavailable, Unavailable
from app.store.thumbnails import holds

logger = logging.getLogger(__name__)

# Requests to a bucket at once: each waits for tens of milliseconds.
THREADS = 16
# How long a bucket may take, and how long a search waits for it.
LOAD_S, MOMENT_S = 20.0, 1.0
# After which a search asks a bucket again that could not be read.
AWAY_S = 5.0
# Of 15 kB: what a key stands for never changes.
MOST_CACHED = 1_000

T = TypeVar("T")


class MediaThumbnails:
    """Thumbnails in files, by their keys. Whatever fails raises `StorageUnavailable`.

    If it `signs`, `origin` is that of the signed URLs; raises `WrongSetting` if there are none.
    """

    def __init__(self, media: Media, *, signs: bool = False) -> None:
        self._media = media
        self.origin: str | None = None
        if signs:
            example = urlsplit(media.signed_thumbnail("example", for_s=60))
            self.origin = f"{example.scheme}://{example.netloc}"
        self._threads = ThreadPoolExecutor(THREADS, "media")
        self._cached: OrderedDict[str, bytes] = OrderedDict()
        self._away_until = -float("inf")

    async def load(self, keys: Collection[str]) -> Mapping[str, bytes]:
        """Return the files that there are; one whose bytes are others counts as lost."""
        found = self._at_hand(keys)
        try:
            async with asyncio.timeout(LOAD_S), asyncio.TaskGroup() as tasks:
                for key in set(keys) - found.keys():
                    tasks.create_task(self._load(key, found))
        except TimeoutError as exc:
            self._away_until = monotonic() + AWAY_S
            raise StorageUnavailable from exc
        except BaseExceptionGroup as group:
            failure = group.exceptions[0]
        else:
            return found
        self._away_until = monotonic() + AWAY_S
        raise failure

    async def load_soon(self, keys: Collection[str]) -> Mapping[str, bytes]:
        """Return the files that can be had within a moment; never raises for the others."""
        found = self._at_hand(keys)
        missing = set(keys) - found.keys()
        if not missing or monotonic() < self._away_until:
            return found
        tasks = [asyncio.create_task(self._load(key, found)) for key in missing]
        try:
            done, late = await asyncio.wait(tasks, timeout=MOMENT_S)
        finally:
            for task in tasks:
                task.cancel()
        failures = [task.exception() for task in done]
        cause = next((failure for failure in failures if failure), None)
        if late or cause:
            self._away_until = monotonic() + AWAY_S
            logger.warning(
                "thumbnails in MEDIA_URL cannot be read: searches verify nothing by them",
                extra=fields(late=len(late), cause=cause and (cause.__cause__ or cause)),
            )
        return found

    async def store(self, key: str, data: bytes) -> None:
        """Write a file; it is there in full when this returns."""
        await self._run(lambda: self._media.put_thumbnail(key, data))

    async def delete(self, keys: Collection[str]) -> dict[str, Unavailable]:
        """Remove files, if they are there; return those that could not be removed, and why.

        All together may take as long as a bucket may.
        """
        for key in keys:
            self._cached.pop(key, None)
        failed: dict[str, Unavailable] = {key: StorageUnavailable() for key in keys}

        async def remove(key: str) -> None:
            try:
                await self._run(lambda: self._media.delete_thumbnail(key))
            except Unavailable as exc:
                failed[key] = exc
            else:
                del failed[key]

        # Who notes one of them again waits until they are removed.
        with suppress(TimeoutError):
            async with asyncio.timeout(LOAD_S):
                await asyncio.gather(*map(remove, keys))
        return failed

    async def reread(self, key: str) -> bytes | None:
        """Return a file as it is in the bucket by now, None if it is not as it should be."""
        self._cached.pop(key, None)
        return (await self.load([key])).get(key)

    async def signed(self, key: str, *, for_s: int) -> str:
        """Return a URL from which whoever has it can load the file, for some seconds."""
        return await self._run(lambda: self._media.signed_thumbnail(key, for_s=for_s))

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _at_hand(self, keys: Collection[str]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for key in keys:
            if key in self._cached:
                self._cached.move_to_end(key)
                found[key] = self._cached[key]
        return found

    async def _load(self, key: str, found: dict[str, bytes]) -> None:
        data = await self._run(lambda: self._media.load_thumbnail(key))
        if data is None or not holds(key, data):
            logger.warning(
                "a thumbnail is not in MEDIA_URL, or damaged there", extra=fields(key=key)
            )
            return
        found[key] = self._cached[key] = data
        if len(self._cached) > MOST_CACHED:
            self._cached.popitem(last=False)

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)
