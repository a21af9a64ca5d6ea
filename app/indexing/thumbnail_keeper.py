"""Where new thumbnails go: into the rows of their images, or into files of MEDIA_URL."""

import logging
from collections.abc import Sequence
from uuid import UUID

from app.indexing.coalescer import Coalescer, gather
from app.indexing.thumbnail_files import MediaThumbnails
from app.logs import fields
from app.problems import Unavailable
from app.store.loose_thumbnails import LooseThumbnails, Place
from app.store.thumbnails import new_key

logger = logging.getLogger(__name__)

MOST_NOTED = 128
SWEPT_AT_ONCE = 200


class ThumbnailKeeper:
    """Writes the files of new thumbnails, and removes those that nothing needs any more.

    A file is noted before it is written, and there before its row is: what a crash leaves behind is
    removed a day later, and no row has a key without a file.
    """

    def __init__(self, files: MediaThumbnails, loose: LooseThumbnails, place: Place) -> None:
        self.files = files
        self.place = place
        self._loose = loose
        self._notes = Coalescer(self._note, max_batch=MOST_NOTED)

    async def put(self, image_id: UUID, thumbnail: bytes) -> str | None:
        """Write a new thumbnail into a file; return its key, or None if it belongs into the row.

        Raises `StorageUnavailable`.
        """
        if self.place == "database":
            return None
        return await self.put_file(image_id, thumbnail)

    async def put_file(self, image_id: UUID, thumbnail: bytes) -> str:
        """Write a thumbnail into a file, wherever new ones go; return its key."""
        key = new_key(image_id, thumbnail)
        await self._notes.submit(key)
        await self.files.store(key, thumbnail)
        return key

    async def put_all(self, thumbnails: Sequence[tuple[UUID, bytes]]) -> list[str | None]:
        """Do what `put` does for each."""
        return await gather([self.put(image_id, data) for image_id, data in thumbnails])

    async def drop(self, keys: Sequence[str]) -> None:
        """Remove files that were written for nothing, sooner than in a day."""
        if keys:
            await self._loose.drop_soon(keys)

    async def sweep(self) -> int:
        """Remove the files that no image needs, in the index or the trash; return their number.

        Raises `StorageUnavailable` at the end if some could not be removed: they are tried again
        later. If that is a whole batch, the storage is away, and the rest waits for the next sweep.
        """
        removed, failed = 0, dict[str, Unavailable]()
        while True:
            async with self._loose.unneeded(limit=SWEPT_AT_ONCE) as found:
                left = await self.files.delete(found.keys)
                # They do not keep the next ones from it.
                found.left.update(left)
            failed |= left
            removed += len(found.keys) - len(left)
            if found.due < SWEPT_AT_ONCE or found.all_left:
                break
        if failed:
            raise next(iter(failed.values()))
        return removed

    async def sweep_if_possible(self) -> None:
        """Remove them, unless the storage or the database is away: they are removed later then."""
        try:
            await self.sweep()
        except Unavailable as exc:
            logger.warning("thumbnails are not removed this time", extra=fields(cause=exc))

    async def _note(self, keys: Sequence[str]) -> list[None]:
        await self._loose.note(keys)
        return [None] * len(keys)
