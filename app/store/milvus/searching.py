"""Searches of a vector table whose index is in Milvus.

Milvus brings ids; Postgres adds those that the outbox has noted, filters them all, and compares
their vectors. So an answer may lack images, by the recall of the index, and is never wrong; and
what was stored is found at once. Where few rows pass, no index is asked, as in nearest.py.

Where 7% or more of its rows pass a filter, Milvus' own filtered search misses many of the nearest
(docs/scale.md). So it is asked for more of them without the filter first, and with the filter only
if too few of those pass, or for pages that are very far behind.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from sqlalchemy import ARRAY, BigInteger, Select, Table, cast, func, literal, select

from app.encoding.encoder import Vector
from app.problems import MilvusUnavailable
from app.store.database import Database
from app.store.filters import Filters
from app.store.milvus.client import MOST_RESULTS, Brought, Milvus
from app.store.milvus.outbox import noted
from app.store.milvus.rows import expression
from app.store.nearest import (
    ROWS_PER_CANDIDATE,
    Beyond,
    after,
    conditions,
    estimate,
    exact,
    is_small,
    most_of_small,
)
from app.store.row_counts import row_count

Untyped: TypeAlias = Any

# The size of Milvus' candidate list: twice what is wanted, within these bounds, or all of it.
LEAST_EF, MOST_EF = 200, 2_000
# Milvus brings without the filter what is wanted as if at least this share of the rows passed.
LEAST_SHARE = 0.03
# More than wanted, for those that are deleted since.
SPARE = 50
# A page behind the first begins among so many of the nearest, or four, or sixteen times as many.
DEEPER = 4
# More than Milvus and Postgres differ by in the distance of the same vectors.
ROUNDING = 1e-5


class MilvusIndex:
    """The index in Milvus of a vector table, of which `row_count(table)` knows whether it is there.

    `milvus` is None in a process that knows none.
    """

    def __init__(self, database: Database, table: Table, milvus: Milvus | None) -> None:
        self._database, self._table = database, table
        self.milvus = milvus

    @property
    def is_used(self) -> bool:
        """Whether the table had its index in Milvus when that was last read."""
        return row_count(self._table).collection is not None

    async def is_there(self, limit: int) -> bool:
        """Return whether the table has its index in Milvus, as of a few seconds ago.

        If that must be read, rows are counted for a search of `limit` results, too. A process that
        knows no Milvus reads it with its searches.
        """
        known = row_count(self._table)
        if (self.is_used or self.milvus is not None) and not known.is_recent:
            async with self._database.reading() as connection:
                await known.read_kind(connection, most_of_small(limit))
        return self.is_used

    async def nearest(
        self, vector: Vector, *, limit: int, filters: Filters, beyond: Beyond | None
    ) -> list[Untyped]:
        """Return rows as nearest.py's `nearest` does."""
        table = self._table
        distance = table.c.embedding.cosine_distance(vector).label("distance")
        wanted = conditions(table, filters)
        query = select(table.c.node_id, distance).where(*wanted, *after(table, distance, beyond))
        share = 1.0
        async with self._database.reading() as connection:
            if wanted:
                rows, passing = await estimate(connection, table, wanted)
                if passing**2 <= ROWS_PER_CANDIDATE * limit * rows:
                    return await exact(connection, query, limit)
                share = passing / rows
            elif await is_small(connection, table, limit):
                return await exact(connection, query, limit)
        others: Sequence[int] = ()
        for size, narrowing in _asks(limit, share, filters, further=beyond is not None):
            [near] = await self.search([vector], limit=size, filters=narrowing)
            found = await self._compared(query, [*others, *near.ids], limit)
            # Farther than what was brought, rows may be missing, and those that are noted are not
            # next.
            if len(found) >= limit and found[-1].distance <= near.reach + ROUNDING:
                return found
            if len(near.ids) < size:
                break
            others = others if narrowing else near.ids
        async with self._database.reading() as connection:
            return await exact(connection, query, limit)

    async def brought(self, vector: Vector, *, limit: int) -> Brought:
        """Return the rows that are about the nearest, some more than `limit`."""
        [near] = await self.search([vector], limit=min(limit + SPARE, MOST_RESULTS))
        return near

    async def neighbours(
        self, ids: Sequence[str], *, limit: int, within: float
    ) -> list[Untyped] | None:
        """Return rows as nearest.py's `neighbours` does; None if the table is small."""
        c = self._table.c
        async with self._database.reading() as connection:
            if await is_small(connection, self._table, limit):
                return None
            query = select(c.id, c.embedding).where(c.node_id.in_(ids))
            mine = (await connection.execute(query)).all()
        if not mine:
            return []
        vectors = [np.array(row.embedding, np.float32) for row in mine]
        found = await self.search(vectors, limit=min(limit + SPARE, MOST_RESULTS))
        pairs = [
            (row.id, other) for row, near in zip(mine, found, strict=True) for other in near.ids
        ]
        query = self._pairs([row.id for row in mine], pairs, limit=limit, within=within)
        async with self._database.reading() as connection:
            return list((await connection.execute(query)).all())

    async def search(
        self,
        vectors: Sequence[Vector],
        *,
        limit: int,
        filters: Filters | None = None,
    ) -> list[Brought]:
        """Return the rows that Milvus brings for each vector; raises `MilvusUnavailable`."""
        collection, milvus = row_count(self._table).collection, self.milvus
        if milvus is None or collection is None:
            raise MilvusUnavailable(
                "The index of vectors is in Milvus, and this process has no MILVUS_URL."
            )
        passing = expression(filters) if filters else ""
        ef = max(limit, LEAST_EF, min(2 * limit, MOST_EF))
        return await milvus.call(
            lambda milvus: milvus.search(
                collection, vectors, limit=limit, ef=ef, expression=passing
            )
        )

    async def _compared(self, query: Select[Any], ids: Sequence[int], limit: int) -> list[Untyped]:
        """Return the `limit` nearest that a query has of these rows and of those that are noted."""
        given = func.unnest(cast(list(ids), ARRAY(BigInteger)))
        some = select(given).union(select(noted(self._table).subquery().c.id))
        async with self._database.reading() as connection:
            return await exact(connection, query.where(self._table.c.id.in_(some)), limit)

    def _pairs(
        self, ids: Sequence[int], pairs: Sequence[tuple[int, int]], *, limit: int, within: float
    ) -> Select[Any]:
        """Return the query of the neighbours of `ids` among pairs, and those that are noted."""
        table = self._table
        mine, others, more = table.alias("mine"), table.alias("others"), table.alias("more")
        columns = [cast([pair[i] for pair in pairs], ARRAY(BigInteger)) for i in (0, 1)]
        brought = func.unnest(*columns).table_valued("mine", "other", name="brought")
        brought = brought.render_derived()
        changed = noted(table).subquery("noted")
        fresh = (
            select(more.c.node_id, more.c.embedding)
            .join(changed, more.c.id == changed.c.id)
            .cte("fresh")
        )
        some = (
            select(
                others.c.node_id,
                others.c.embedding.cosine_distance(mine.c.embedding).label("distance"),
            )
            .join(brought, others.c.id == brought.c.other)
            .where(brought.c.mine == mine.c.id)
            .correlate(mine)
        )
        far = fresh.c.embedding.cosine_distance(mine.c.embedding).label("distance")
        noted_ones = select(fresh.c.node_id, far).correlate(mine)
        every = some.union(noted_ones).subquery()
        near = select(every).order_by(every.c.distance).limit(limit).lateral()
        return (
            select(mine.c.node_id, near.c.node_id.label("other"), near.c.distance)
            .select_from(mine.join(near, literal(True)))
            .where(mine.c.id.in_(ids), near.c.distance <= within)
            .order_by(near.c.distance)
        )


def _asks(
    limit: int, share: float, filters: Filters, *, further: bool
) -> list[tuple[int, Filters | None]]:
    """Return how many rows to ask for, one after the other until they suffice, and by what filters.

    `further` for a page behind the first.
    """
    brought = (limit + SPARE) * (DEEPER if further else 1)
    if not expression(filters):
        # What only Postgres compares leaves out some of what is brought.
        return [(size, None) for size in _deeper(brought / share)]
    plain = _deeper(brought / max(share, LEAST_SHARE))
    # On the first page, one that does not suffice shows that the filter keeps away what is near.
    plain = plain if further else plain[:1]
    narrowed = _deeper(brought / share if filters.ranges else brought)
    return [
        *((size, None) for size in plain if size * share >= limit),
        *((size, filters) for size in narrowed),
    ]


def _deeper(first: float) -> list[int]:
    """Return ever larger numbers of rows, up to the most that Milvus brings."""
    sizes = [min(round(first), MOST_RESULTS)]
    while sizes[-1] < MOST_RESULTS:
        sizes.append(min(DEEPER * sizes[-1], MOST_RESULTS))
    return sizes
