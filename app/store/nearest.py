"""The SQL of searches: the nearest vectors that pass filters, and the images that have words.

If few rows pass, the search is exact: an index finds them, and their distances are sorted. If many
pass, the HNSW index is scanned until enough of its candidates do (pgvector's iterative scan). Pages
behind the first are exact, too: what one of them missed, no later one would show.
Postgres' planner knows too little about the HNSW index to choose well, so the choice is made here
(`python -m bench.filter`).
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
    Numeric,
    Select,
    Table,
    Text,
    all_,
    and_,
    case,
    cast,
    exists,
    false,
    func,
    literal,
    or_,
    select,
    tablesample,
    text,
    true,
)
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import ClauseElement, Executable
from sqlalchemy.sql.elements import ColumnElement

from app.store.filters import PLAIN_NUMBER, Filters, metadata_label
from app.store.row_counts import row_count
from app.store.scans import EF_SEARCH, SCANS, local_settings, scan_settings
from app.store.tables import IMAGES

Untyped: TypeAlias = Any

# At most this many of the images that have the words are ranked: more common words say little.
MAX_RANKED = 10_000
# Of a SHA-256, as many as tell files apart.
FILE_DIGITS = 16
# The exact plan compares this many rows in the time that an index of whole vectors takes per
# candidate.
ROWS_PER_CANDIDATE = 20

# A sample of so many times fewer rows is read by pages, not from all rows.
SAMPLED_BY_PAGE = 40

FACETS = {
    "labels": "text[]",
    "taken_at": "timestamptz",
    "width": "integer",
    "height": "integer",
    "latitude": "double precision",
    "longitude": "double precision",
}
"""The columns that filters use, with their Postgres types."""


@dataclass(frozen=True, slots=True)
class Beyond:
    """Where a page of results ended: its last distance, and the files shown at that distance.

    The `files` are the first 16 hexadecimal digits of SHA-256.
    """

    distance: float
    files: Sequence[str]


def facet_columns() -> list[Column[Any]]:
    """Return the columns of `FACETS` for SQLAlchemy."""
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
        # The rows of an older version, until `reindex` has run; counting none of them is free.
        Index(f"{name}_bare", c.node_id, postgresql_where=c.labels.is_(None)),
        Index(f"{name}_taken_at", c.taken_at, postgresql_where=c.taken_at.is_not(None)),
        Index(f"{name}_width", c.width),
        Index(f"{name}_height", c.height),
        Index(f"{name}_place", c.latitude, c.longitude, postgresql_where=c.latitude.is_not(None)),
    ]


def conditions(table: Table, filters: Filters) -> list[ColumnElement[bool]]:
    """Return filters as SQL expressions; every value is a bound parameter."""
    c = table.c
    wanted: list[ColumnElement[bool]] = [
        c.labels.op("&&")(cast(group, ARRAY(Text))) for group in filters.any_of.values()
    ]
    if filters.all_of:
        wanted.append(c.labels.op("@>")(cast(filters.all_of, ARRAY(Text))))
    wanted += [_in_range(table, key, *limits) for key, limits in filters.ranges.items()]
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


def _in_range(
    table: Table, key: str, lowest: float | None, highest: float | None
) -> ColumnElement[bool]:
    """Return whether metadata of this key is a number within limits, both inclusive."""
    written = func.unnest(table.c.labels).column_valued("label")
    prefix = metadata_label(key, "")
    number = func.substr(written, len(prefix) + 1)
    # Postgres casts only what the CASE before it has let through.
    value = cast(number, Numeric)
    limits = [value >= lowest] if lowest is not None else []
    limits += [value <= highest] if highest is not None else []
    is_number = and_(func.starts_with(written, prefix), number.regexp_match(f"^{PLAIN_NUMBER}$"))
    return exists().where(case((is_number, and_(true(), *limits)), else_=false()))


async def nearest(
    connection: AsyncConnection,
    table: Table,
    vector: Untyped,
    *,
    limit: int,
    filters: Filters,
    beyond: Beyond | None = None,
    exactly: bool = False,
) -> list[Untyped]:
    """Return rows of (node_id, cosine distance), the nearest first.

    There are `limit` of them, unless fewer rows pass the filters. Unless it compares every row,
    `exactly`, this needs a transaction: it makes settings.
    """
    distance = table.c.embedding.cosine_distance(vector).label("distance")
    wanted = conditions(table, filters)
    query = select(table.c.node_id, distance).where(*wanted, *after(table, distance, beyond))
    if exactly:
        return await exact(connection, query, limit)
    scan = SCANS[await row_count(table).read_kind(connection, most_of_small(limit))]
    brought = scan.candidates(limit)
    candidates: float = brought
    if wanted:
        rows, passing = await estimate(connection, table, wanted)
        if passing**2 <= ROWS_PER_CANDIDATE * scan.effort * brought * rows:
            return await exact(connection, query, limit)
        candidates = brought * rows / passing
    elif await is_small(connection, table, limit):
        return await exact(connection, query, limit)
    await connection.execute(*scan_settings(brought, candidates, narrowed=bool(wanted)))
    near = scan.nearest(table, vector, limit=limit, wanted=wanted)
    found = (await connection.execute(near)).all()
    if len(found) < limit:
        return await exact(connection, query, limit)
    # In relaxed order, the scan returns rows nearly in the order of their distances.
    return sorted(found, key=lambda row: row.distance)


async def given_before(
    connection: AsyncConnection,
    table: Table,
    vector: Untyped,
    hashes: Sequence[str],
    *,
    filters: Filters,
    beyond: Beyond,
    left_out: Sequence[UUID],
) -> set[str]:
    """Return SHA-256 as described at `VectorTable.given_before`."""
    distance = table.c.embedding.cosine_distance(vector)
    query = (
        select(IMAGES.c.sha256)
        .distinct()
        .join(table, table.c.node_id == cast(IMAGES.c.id, Text))
        .where(IMAGES.c.sha256.in_(hashes), IMAGES.c.id.not_in(left_out))
        .where(distance < beyond.distance)
        .where(*conditions(table, filters))
    )
    return set(await connection.scalars(query))


async def worded(
    connection: AsyncConnection,
    table: Table,
    tokens: Sequence[str],
    *,
    limit: int,
    filters: Filters,
) -> list[UUID]:
    """Return images as described at `VectorTable.worded`; `tokens` are those of `query_tokens`."""
    if not tokens:
        return []
    wanted = func.words_query(cast(list(tokens), ARRAY(Text)))
    found = (
        select(IMAGES.c.id, IMAGES.c.words)
        .join(table, table.c.node_id == cast(IMAGES.c.id, Text))
        .where(IMAGES.c.words.op("@@")(wanted), *conditions(table, filters))
        .limit(MAX_RANKED)
        .subquery()
    )
    rank = func.ts_rank_cd(found.c.words, wanted)
    query = select(found.c.id).order_by(rank.desc(), found.c.id).limit(limit)
    return list(await connection.scalars(query))


async def neighbours(
    connection: AsyncConnection, table: Table, ids: Sequence[str], *, limit: int, within: float
) -> list[Untyped]:
    """Return rows of (node_id, other, distance): the others nearest to each id, up to a distance.

    Of the `limit` nearest to each, those farther than `within` are left out.
    """
    mine, others = table.alias("mine"), table.alias("others")
    scan = SCANS[await row_count(table).read_kind(connection, most_of_small(limit))]
    brought = limit
    if await is_small(connection, table, limit):
        # As in `exact`.
        distance = others.c.embedding.cosine_distance(mine.c.embedding).label("distance")
        rows = select(others.c.node_id, distance).correlate(mine).offset(0).subquery().lateral()
        nearest = select(rows).order_by(rows.c.distance).limit(limit).lateral()
    else:
        brought = scan.candidates(limit)
        nearest = scan.nearest(others, mine.c.embedding, limit=limit).lateral()
    query = (
        select(mine.c.node_id, nearest.c.node_id.label("other"), nearest.c.distance)
        .select_from(mine.join(nearest, literal(True)))
        .where(mine.c.node_id.in_(ids), nearest.c.distance <= within)
        .order_by(nearest.c.distance)
    )
    await connection.execute(*local_settings(brought))
    return list((await connection.execute(query)).all())


async def sample(connection: AsyncConnection, table: Table, *, limit: int) -> list[Untyped]:
    """Return rows of (embedding), at most `limit`: about the same ones each time."""
    rows = await table_rows(connection, table)
    if rows > SAMPLED_BY_PAGE * limit:
        # Whole pages of rows, which are as far apart in time as in the table.
        share = min(100.0, 100 * 2 * limit / rows)
        some = tablesample(table, func.system(share), seed=literal(0))
        return list((await connection.execute(select(some.c.embedding).limit(limit))).all())
    in_any_order = func.md5(table.c.node_id)
    query = select(table.c.embedding).order_by(in_any_order).limit(limit)
    return list((await connection.execute(query)).all())


async def is_small(connection: AsyncConnection, table: Table, limit: int) -> bool:
    """Return whether comparing every row is as fast as a scan of the HNSW index.

    It is better, too: among many vectors that are nearly the same, a scan misses some.
    """
    return await row_count(table).is_within(connection, most_of_small(limit))


def most_of_small(limit: int) -> int:
    """Return the rows of the largest table that is searched by comparing each of them."""
    return ROWS_PER_CANDIDATE * max(limit, EF_SEARCH)


async def estimated_rows(
    connection: AsyncConnection, table: Table, wanted: Sequence[ColumnElement[bool]]
) -> float:
    """Return the planner's estimate of the rows that pass."""
    plan = await connection.scalar(_Explain(select(table.c.id).where(*wanted)))
    return float(plan[0]["Plan"]["Plan Rows"])


async def table_rows(connection: AsyncConnection, table: Table) -> float:
    """Return the number of rows at the last VACUUM or ANALYZE."""
    size = text("SELECT greatest(reltuples, 0) FROM pg_class WHERE oid = to_regclass(:name)")
    return await connection.scalar(size, {"name": table.name}) or 0


async def estimate(
    connection: AsyncConnection, table: Table, wanted: Sequence[ColumnElement[bool]]
) -> tuple[float, float]:
    """Return the estimated numbers of all rows and of those that pass, each at least 1."""
    passing = max(1, await estimated_rows(connection, table, wanted))
    return max(passing, await table_rows(connection, table)), passing


async def exact(connection: AsyncConnection, query: Select[Any], limit: int) -> list[Untyped]:
    """Return the `limit` rows of a query of (node_id, distance) that are nearest, by no index."""
    # OFFSET 0 keeps the planner from pushing the order, and with it the HNSW index, into the inner
    # query, for which it may use any index on the filters' columns.
    rows = query.offset(0).subquery()
    ordered = select(rows).order_by(rows.c.distance).limit(limit)
    return list((await connection.execute(ordered)).all())


def after(table: Table, distance: Untyped, beyond: Beyond | None) -> list[ColumnElement[bool]]:
    """Return the conditions of a page behind the first."""
    if beyond is None:
        return []
    file = func.left(table.c.metadata_["sha256"].astext, FILE_DIGITS)
    shown = cast(list(beyond.files), ARRAY(Text))
    return [distance.element >= beyond.distance, file != all_(shown)]


class _Explain(Executable, ClauseElement):
    """EXPLAIN of a query, as JSON."""

    inherit_cache = False

    def __init__(self, query: Untyped) -> None:
        self.query = query


@compiles(_Explain)
def _(element: Untyped, compiler: Untyped, **options: Untyped) -> str:
    return f"EXPLAIN (FORMAT JSON) {compiler.process(element.query, **options)}"
