"""Moves thumbnails from the database into MEDIA_URL, or back, while everything else goes on."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from uuid import UUID

from app.indexing.coalescer import gather
from app.indexing.thumbnail_keeper import ThumbnailKeeper
from app.problems import StorageUnavailable
from app.store.database import Database
from app.store.loose_thumbnails import Place
from app.store.misplaced_thumbnails import Misplaced, MisplacedThumbnails, Table

AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Moving:
    """How many thumbnails were moved so far, and how many could not be, as their file is lost."""

    moved: int
    lost: int


class ThumbnailMover:
    """Moves all thumbnails to one place; what was moved stays so if it is interrupted.

    Each is read again at its new place, and compared, before its row changes; only then it goes at
    the old one.
    """

    def __init__(self, database: Database, keeper: ThumbnailKeeper, target: Place) -> None:
        self._keeper = keeper
        self._target = target
        self._rows = MisplacedThumbnails(database, target)

    async def count(self) -> int:
        """Return how many are to be moved."""
        return await self._rows.count()

    async def run(self) -> AsyncGenerator[Moving]:
        """Move them, and remove the files that are no longer needed; yields the progress.

        Raises `StorageUnavailable`.
        """
        moving = Moving(0, 0)
        tables: Sequence[Table] = ("images", "trash")
        for table in tables:
            after: UUID | None = None
            while rows := await self._rows.some(table, after=after, limit=AT_ONCE):
                moved, lost = await self._move(table, rows)
                moving = Moving(moving.moved + moved, moving.lost + lost)
                after = rows[-1].id
                yield moving
        await self._keeper.sweep()
        await self._rows.finish()

    async def _move(self, table: Table, rows: Sequence[Misplaced]) -> tuple[int, int]:
        """Move some; return how many were moved, and how many are lost."""
        one = self._into_file if self._target == "media" else self._from_file
        copied = [copy for copy in await gather([one(row) for row in rows]) if copy]
        changed = await self._rows.put(table, copied)
        if self._target == "media":
            stale = [key for (_, _, key), is_so in zip(copied, changed, strict=True) if not is_so]
            await self._keeper.drop(stale)
        return sum(changed), len(rows) - len(copied)

    async def _into_file(self, row: Misplaced) -> tuple[UUID, bytes, str] | None:
        data = row.thumbnail or b""
        key = await self._keeper.put_file(row.id, data)
        if await self._keeper.files.reread(key) != data:
            raise StorageUnavailable("MEDIA_URL does not return what was written to it.")
        return row.id, data, key

    async def _from_file(self, row: Misplaced) -> tuple[UUID, bytes, str] | None:
        key = row.thumbnail_key or ""
        # Compared with the SHA-256 in its key.
        data = await self._keeper.files.reread(key)
        return None if data is None else (row.id, data, key)
