"""The SQL of searching: the nearest vectors under filters, and the images that have words.

A filter that keeps few rows is answered exactly: an index finds the rows, and their distances are
sorted. One that keeps many is answered from the HNSW index, which goes on until enough of what it
finds passes (pgvector's iterative scan). Postgres' planner knows too little of the HNSW index to
choose well, so the choice is made here (`python -m bench.filter`).
"""

# SQLAlchemy's compiler hooks are untyped.
# pyright: reportUntypedFunctionDecorator=false, reportUnknownParameterType=false
# pyright: reportMissingParameterType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    Column,
    DateTime,
    Float,
    Index,
    Integer,
    Select,
    Table,
    Text,
    cast,
    func,
    or_,
    select,
    text,
)
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import ClauseElement, Executable
from sqlalchemy.sql.elements import ColumnElement

from app.store.filters import Filters
from app.store.tables import IMAGES

Untyped: TypeAlias = Any

# Candidates that the HNSW index weighs at once. With filters, twice as many as have to be looked at
# for enough that pass, within bounds (bench/filter.py: recall 0.95 and more from there on).
EF_SEARCH = 100
LEAST_EF_FILTERED, MOST_EF_FILTERED = 150, 500
# pgvector's largest.
MOST_EF_SEARCH = 1000
# What the iterative scan may look at before it gives up; the rest is then searched exactly.
MOST_SCANNED = 40_000
# Of images that have the words, so many are weighed against each other: words that more have
# tell little.
MOST_WEIGHED = 10_000
# How many rows the exact plan compares in the time that the HNSW index takes for one candidate.
ROWS_PER_CANDIDATE = 20

FACETS = {
    "labels": "text[]",
    "taken_at": "timestamptz",
    "width": "integer",
    "height": "integer",
    "latitude": "double precision",
    "longitude": "double precision",
}
"""The columns beside each vector that filters ask of, with their types."""


@dataclass(frozen=True, slots=True)
class Beyond:
    """Where a page of results ended: at a distance, with the ids already shown there."""

    distance: float
    ids: Sequence[UUID]


def facet_columns() -> list[Column[Any]]:
    """Return the columns of `FACETS` for a vector table's description."""
    return [
        Column("labels", ARRAY(Text)),
        Column("taken_at", DateTime(timezone=True)),
        Column("width", Integer),
        Column("height", Integer),
        Column("latitude", Float(53)),
        Column("longitude", Float(53)),
    ]


def facet_indexes(table: Table) -> list[Index]:
    """Return the indexes of the columns of `FACETS`."""
    c, name = table.c, table.name
    return [
        Index(f"{name}_labels", c.labels, postgresql_using="gin"),
        # Empty once `reindex` has been over rows of an older version: counting them costs nothing.
        Index(f"{name}_bare", c.node_id, postgresql_where=c.labels.is_(None)),
        Index(f"{name}_taken_at", c.taken_at, postgresql_where=c.taken_at.is_not(None)),
        Index(f"{name}_width", c.width),
        Index(f"{name}_height", c.height),
        Index(f"{name}_place", c.latitude, c.longitude, postgresql_where=c.latitude.is_not(None)),
    ]


def conditions(table: Table, filters: Filters) -> list[ColumnElement[bool]]:
    """Return filters as SQL; every value is a bound parameter."""
    c = table.c
    wanted: list[ColumnElement[bool]] = [
        c.labels.op("&&")(cast(group, ARRAY(Text))) for group in filters.any_of.values()
    ]
    if filters.all_of:
        wanted.append(c.labels.op("@>")(cast(filters.all_of, ARRAY(Text))))
    if filters.taken_after is not None:
        wanted.append(c.taken_at >= filters.taken_after)
    if filters.taken_before is not None:
        wanted.append(c.taken_at < filters.taken_before)
    if filters.min_width is not None:
        wanted.append(c.width >= filters.min_width)
    if filters.min_height is not None:
        wanted.append(c.height >= filters.min_height)
    if filters.located is not None:
        wanted.append(c.latitude.is_not(None) if filters.located else c.latitude.is_(None))
    if filters.box is not None:
        box = filters.box
        east, west = c.longitude <= box.east, c.longitude >= box.west
        wanted.append(c.latitude.between(box.south, box.north))
        wanted += [or_(east, west)] if box.west > box.east else [east, west]
    return wanted


async def nearest(
    connection: AsyncConnection,
    table: Table,
    vector: Untyped,
    *,
    limit: int,
    filters: Filters,
    beyond: Beyond | None = None,
) -> list[Untyped]:
    """Return rows of (node_id, distance), the nearest first.

    There are `limit` of them, if as many pass the filters.
    """
    distance = table.c.embedding.cosine_distance(vector).label("distance")
    wanted = conditions(table, filters)
    query = select(table.c.node_id, distance).where(*wanted, *_behind(table, distance, beyond))
    candidates: float = limit
    if wanted:
        rows, passing = await _estimate(connection, table, wanted)
        if passing**2 <= ROWS_PER_CANDIDATE * limit * rows:
            return await _exact(connection, query, limit)
        candidates = limit * rows / passing
    await connection.execute(*_scan_settings(limit, candidates, narrowed=bool(wanted or beyond)))
    found = (await connection.execute(query.order_by(distance).limit(limit))).all()
    if wanted and len(found) < limit:
        return await _exact(connection, query, limit)
    # The scan's order is nearly that of the distances (pgvector's relaxed order).
    return sorted(found, key=lambda row: row.distance)


async def newest(
    connection: AsyncConnection, table: Table, filters: Filters, *, limit: int
) -> list[UUID]:
    """Return images as `VectorTable.newest` says."""
    query = select(table.c.node_id).where(*conditions(table, filters))
    ids = await connection.scalars(query.order_by(table.c.id.desc()).limit(limit))
    return [UUID(node_id) for node_id in ids]


async def worded(
    connection: AsyncConnection, table: Table, words: str, *, limit: int, filters: Filters
) -> list[UUID]:
    """Return the images that have the words, as `VectorTable.worded` says."""
    asked = [func.websearch_to_tsquery(language, words) for language in ("english", "simple")]
    wanted = asked[0].op("||")(asked[1])
    found = (
        select(IMAGES.c.id, IMAGES.c.words)
        .join(table, table.c.node_id == cast(IMAGES.c.id, Text))
        .where(IMAGES.c.words.op("@@")(wanted), *conditions(table, filters))
        .limit(MOST_WEIGHED)
        .subquery()
    )
    rank = func.ts_rank_cd(found.c.words, wanted)
    query = select(found.c.id).order_by(rank.desc(), found.c.id).limit(limit)
    return list(await connection.scalars(query))


async def estimated_rows(
    connection: AsyncConnection, table: Table, wanted: Sequence[ColumnElement[bool]]
) -> float:
    """Return how many rows Postgres' statistics expect to pass."""
    plan = await connection.scalar(_Explain(select(table.c.id).where(*wanted)))
    return float(plan[0]["Plan"]["Plan Rows"])


async def table_rows(connection: AsyncConnection, table: Table) -> float:
    """Return the number of rows as of the last ANALYZE."""
    size = text("SELECT greatest(reltuples, 0) FROM pg_class WHERE oid = to_regclass(:name)")
    return await connection.scalar(size, {"name": table.name}) or 0


async def _estimate(
    connection: AsyncConnection, table: Table, wanted: Sequence[ColumnElement[bool]]
) -> tuple[float, float]:
    """Return the number of rows, and of those that pass, as Postgres' statistics have them."""
    passing = max(1, await estimated_rows(connection, table, wanted))
    return max(passing, await table_rows(connection, table)), passing


async def _exact(connection: AsyncConnection, query: Select[Any], limit: int) -> list[Untyped]:
    # OFFSET 0 keeps the outer query's order, and with it the HNSW index, out of the inner plan; the
    # rest is for the planner, who may take any index of the filters' columns.
    rows = query.offset(0).subquery()
    ordered = select(rows).order_by(rows.c.distance).limit(limit)
    return list((await connection.execute(ordered)).all())


def _behind(table: Table, distance: Untyped, beyond: Beyond | None) -> list[ColumnElement[bool]]:
    if beyond is None:
        return []
    shown = [str(image_id) for image_id in beyond.ids]
    return [distance.element >= beyond.distance, table.c.node_id.not_in(shown)]


def local_settings(limit: int) -> tuple[Any, dict[str, str]]:
    """Return the statement that fits the index scans of this transaction to `limit` results."""
    return _settings(max(limit, EF_SEARCH), order="strict_order")


def _scan_settings(limit: int, candidates: float, *, narrowed: bool) -> tuple[Any, dict[str, str]]:
    """Return the same for a scan that has to look at so many candidates."""
    if not narrowed:
        return local_settings(limit)
    ef_search = min(max(2 * round(candidates), LEAST_EF_FILTERED), MOST_EF_FILTERED)
    # Any plan but the HNSW index's, which needs no sort, is made to look dear.
    return _settings(max(limit, ef_search), order="relaxed_order", sort="off")


def _settings(ef_search: int, *, order: str, sort: str = "on") -> tuple[Any, dict[str, str]]:
    statement = text(
        "SELECT set_config('hnsw.ef_search', :ef_search, true), "
        "set_config('hnsw.iterative_scan', :order, true), "
        "set_config('hnsw.max_scan_tuples', :most, true), "
        "set_config('enable_sort', :sort, true)"
    )
    return statement, {
        "ef_search": str(min(ef_search, MOST_EF_SEARCH)),
        "order": order,
        "most": str(MOST_SCANNED),
        "sort": sort,
    }


class _Explain(Executable, ClauseElement):
    """The plan that Postgres would choose for a query, as JSON."""

    inherit_cache = False

    def __init__(self, query: Untyped) -> None:
        self.query = query


@compiles(_Explain)
def _(element: Untyped, compiler: Untyped, **options: Untyped) -> str:
    return f"EXPLAIN (FORMAT JSON) {compiler.process(element.query, **options)}"
