"""Deleting images: for good, or by way of the trash, from which they can be restored."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from app.indexing.originals import Originals
from app.store.catalog import Catalog, Selection
from app.store.database import Database
from app.store.faces import FaceTable
from app.store.trash import TrashFilters, TrashTable

# Images per transaction.
AT_ONCE = 128


@dataclass(frozen=True, slots=True)
class Moved:
    """How many images were moved to the trash together, and `at` which time, which names them."""

    at: datetime
    number: int


class Trash:
    """Moves images to the trash and back, and empties it.

    Files of uploads are kept while their image is there; files elsewhere are never touched. What
    has been in the trash for `days` days is deleted by `empty_old`.
    """

    def __init__(
        self,
        *,
        database: Database,
        catalog: Catalog,
        table: TrashTable,
        originals: Originals,
        faces: FaceTable,
        days: float,
    ) -> None:
        self._database = database
        self._catalog = catalog
        self._originals = originals
        self._faces = faces
        self.table = table
        self.days = days

    async def put(self, ids: Sequence[UUID]) -> Moved:
        """Move images to the trash, together."""
        at = await self.table.now()
        return Moved(at, await self._put(ids, at))

    async def _put(self, ids: Sequence[UUID], at: datetime) -> int:
        moved = 0
        for start in range(0, len(ids), AT_ONCE):
            async with self._database.begin() as connection:
                moved += len(await self.put_in(connection, ids[start : start + AT_ONCE], at=at))
        return moved

    async def put_in(
        self, connection: AsyncConnection, ids: Sequence[UUID], *, at: datetime
    ) -> list[UUID]:
        """Move images to the trash in the caller's transaction; return which were there."""
        locked = list(await self._catalog.lock(connection, ids))
        # The trash has none of them, so that nothing has to be erased there.
        await self._faces.erase(connection, locked)
        await self.table.put(connection, locked, at=at)
        await self._catalog.delete(connection, locked)
        return locked

    async def put_all(self, selection: Selection) -> Moved:
        """Move every image of a selection to the trash, together."""
        at = await self.table.now()
        moved = 0
        while images := await self._catalog.newest(selection, limit=AT_ONCE):
            moved += await self._put([image.id for image in images], at)
        return Moved(at, moved)

    async def restore(self, ids: Sequence[UUID] | None) -> int:
        """Move images, all if `ids` is None, back to the index; return how many were there."""
        return await self._in_parts(ids, self._restore)

    async def restore_found(self, filters: TrashFilters) -> int:
        """Move the images back that pass filters; return how many were there."""
        restored = 0
        while some := await self.table.some(filters, limit=AT_ONCE):
            restored += await self._restore(some)
        return restored

    async def empty(self, ids: Sequence[UUID] | None) -> int:
        """Delete images of the trash, all if `ids` is None, for good; return how many."""
        return await self._in_parts(ids, self._delete)

    async def empty_old(self) -> None:
        """Delete what has been in the trash for too long."""
        while ids := await self.table.some(limit=AT_ONCE, days=self.days):
            await self._delete(ids)

    async def _in_parts(
        self, ids: Sequence[UUID] | None, change: Callable[[Sequence[UUID]], Awaitable[int]]
    ) -> int:
        if ids is not None:
            parts = [ids[start : start + AT_ONCE] for start in range(0, len(ids), AT_ONCE)]
            return sum([await change(part) for part in parts])
        changed = 0
        while some := await self.table.some(limit=AT_ONCE):
            changed += await change(some)
        return changed

    async def _restore(self, ids: Sequence[UUID]) -> int:
        async with self._database.begin() as connection:
            return len(await self.table.restore(connection, ids=ids))

    async def _delete(self, ids: Sequence[UUID]) -> int:
        urls = await self.table.delete(ids)
        await self._originals.remove_unneeded(urls)
        return len(urls)
