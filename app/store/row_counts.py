"""How many rows a table has, as far as that decides how it is searched."""

from time import monotonic

from sqlalchemy import ScalarSelect, Table, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

# A search whose plan fits a table as it was so long ago finds the same, a little slower.
KNOWN_S = 5.0


class RowCount:
    """The number of rows of a table, counted as far as somebody asks, at most every few seconds."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._rows = 0
        # All rows were counted if there are fewer than this.
        self._most = 0
        self._until = -float("inf")

    def known(self, most: int) -> bool | None:
        """Return whether there are no more rows than `most`; None if that must be counted."""
        if monotonic() >= self._until:
            return None
        if self._rows > most:
            return False
        return True if self._rows < self._most else None

    async def is_within(self, connection: AsyncConnection, most: int) -> bool:
        """Return whether there are no more rows than `most`."""
        known = self.known(most)
        if known is None:
            return self.found(most, await connection.scalar(select(self.counting(most))) or 0)
        return known

    def counting(self, most: int) -> ScalarSelect[int]:
        """Return the number of rows, up to one over `most`, as a column of another statement."""
        some = select(self._table.c.id).limit(most + 1).subquery()
        return select(func.count()).select_from(some).scalar_subquery()

    def found(self, most: int, rows: int) -> bool:
        """Keep what was counted; return whether there are no more rows than `most`."""
        self._rows, self._most, self._until = rows, most + 1, monotonic() + KNOWN_S
        return rows <= most


def row_count(table: Table) -> RowCount:
    """Return the row count of a table, the same for everyone who uses this object for it."""
    return table.info.setdefault("rows", RowCount(table))
