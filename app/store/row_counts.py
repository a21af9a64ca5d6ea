"""How many rows a vector table has and what index, as far as that decides how it is searched."""

from collections.abc import Sequence
from time import monotonic
from typing import Any

from sqlalchemy import ScalarSelect, Table, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.store.hnsw import kinds_query
from app.store.milvus.outbox import active_query
from app.store.scans import Kind, kinds_of

# A search whose plan fits a table as it was so long ago finds the same, a little slower.
KNOWN_S = 5.0


class RowCount:
    """The number of rows of a table, counted as far as somebody asks, at most every few seconds.

    With it, the kind of its vector index is read, which another process may change meanwhile, or
    the `collection` in Milvus that is its index.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        self._rows = 0
        # All rows were counted if there are fewer than this.
        self._most = 0
        self._until = -float("inf")
        self.kind: Kind = "halfvec"
        self.collection: str | None = None

    @property
    def is_recent(self) -> bool:
        """Whether it was read at most a few seconds ago."""
        return monotonic() < self._until

    def known(self, most: int) -> bool | None:
        """Return whether there are no more rows than `most`; None if that must be counted."""
        if not self.is_recent:
            return None
        if self._rows > most:
            return False
        return True if self._rows < self._most else None

    async def is_within(self, connection: AsyncConnection, most: int) -> bool:
        """Return whether there are no more rows than `most`."""
        known = self.known(most)
        if known is None:
            await self._count(connection, most)
            return self._rows <= most
        return known

    async def read_kind(self, connection: AsyncConnection, most: int) -> Kind:
        """Return the kind of the index, as it was a few seconds ago at the earliest.

        If it must be read, rows are counted up to `most`, too.
        """
        if not self.is_recent:
            await self._count(connection, most)
        return self.kind

    def counting(self, most: int) -> tuple[ScalarSelect[int], ScalarSelect[Any], ScalarSelect[Any]]:
        """Return columns for another statement, with what `found` takes.

        They are the number of rows, up to one over `most`, the kinds of the indexes, and the
        collection in Milvus.
        """
        some = select(self._table.c.id).limit(most + 1).subquery()
        counted = select(func.count()).select_from(some).scalar_subquery()
        collection = active_query(self._table).scalar_subquery()
        return counted, kinds_query(self._table).scalar_subquery(), collection

    def found(
        self, most: int, rows: int, kinds: Sequence[str] | None, collection: str | None
    ) -> None:
        """Keep what was counted."""
        self.collection = collection
        self._rows, self._most, self._until = rows, most + 1, monotonic() + KNOWN_S
        # Of an index that somebody else has made, the name says nothing.
        ours = kinds_of(kinds or ())
        self.kind = ours[-1] if ours else self.kind

    async def _count(self, connection: AsyncConnection, most: int) -> None:
        [counted] = await connection.execute(select(*self.counting(most)))
        self.found(most, *counted)


def row_count(table: Table) -> RowCount:
    """Return the row count of a table, the same for everyone who uses this object for it."""
    return table.info.setdefault("rows", RowCount(table))
