"""Facets: the values to filter by, with the number of images that have each."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Table, case, func, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.elements import ColumnElement

from app.store.filters import ANY_OF, Filters, label
from app.store.nearest import conditions, estimated_rows, table_rows

# More images than this are estimated from a sample of about this size.
MOST_COUNTED = 50_000
# Of each kind, and of each key of metadata.
VALUES_PER_KIND = 20
# There are fewer kinds than this.
MOST_KEYS = 20


@dataclass(frozen=True, slots=True)
class FacetCounts:
    """The number of images by kind of label and value, the most frequent values first.

    `approximate` counts are estimated from a sample. `taken` is the first and last date, `located`
    the number of images with a location.
    """

    total: int
    approximate: bool
    values: dict[str, dict[str, int]]
    taken: tuple[datetime, datetime] | None
    located: int


async def facet_counts(connection: AsyncConnection, table: Table, filters: Filters) -> FacetCounts:
    """Count the images that pass the filters, by what they could be filtered by.

    Values of a kind in `Filters.any_of` are counted without the filter on that kind, since choosing
    another of them adds images.
    """
    passing = await estimated_rows(connection, table, conditions(table, filters))
    rows = await table_rows(connection, table)
    approximate = min(passing, rows) > MOST_COUNTED
    share = MOST_COUNTED / rows if approximate else 1.0
    source: Any = table.tablesample(func.system(100 * share)) if approximate else table
    counts = await _by_label(connection, source, filters)
    for kind in filters.any_of:
        others = await _by_label(connection, source, filters.without(kind))
        counts[kind] = others.get(kind, {})
    totals = (
        await connection.execute(
            select(
                func.count().label("total"),
                func.min(source.c.taken_at).label("first"),
                func.max(source.c.taken_at).label("last"),
                func.count(source.c.latitude).label("located"),
            )
            .select_from(source)
            .where(*conditions(source, filters))
        )
    ).one()
    return FacetCounts(
        total=round(totals.total / share),
        approximate=approximate,
        values={
            kind: {value: round(number / share) for value, number in values.items()}
            for kind, values in counts.items()
        },
        taken=(totals.first, totals.last) if totals.first else None,
        located=round(totals.located / share),
    )


async def facet_values(
    connection: AsyncConnection,
    table: Table,
    filters: Filters,
    kind: str,
    *,
    key: str = "",
    containing: str = "",
    limit: int,
) -> dict[str, int]:
    """Return the values of a kind of label that contain a text, with their numbers of images.

    All values are looked through, not only the frequent ones. Those that begin with the text come
    first, and then the more frequent ones. Of metadata, they are those of a `key`, and without it.
    As in `facet_counts`, a filter on this kind does not count if one match of it is enough.
    """
    prefix = label(kind, f"{key}=" if kind == "metadata" else "")
    sought = label("", containing)[1:]
    passing = conditions(table, filters.without(kind) if kind in ANY_OF else filters)
    each = select(func.unnest(table.c.labels).label("label")).where(*passing).subquery()
    value = func.substr(each.c.label, len(prefix) + 1)
    number = func.count().label("number")
    query = (
        select(value.label("value"), number)
        .where(func.starts_with(each.c.label, prefix), func.strpos(value, sought) > 0)
        .group_by(each.c.label)
        .order_by(func.starts_with(value, sought).desc(), number.desc(), each.c.label)
        .limit(limit)
    )
    return {row.value: row.number for row in await connection.execute(query)}


async def _by_label(
    connection: AsyncConnection, source: Any, filters: Filters
) -> dict[str, dict[str, int]]:
    """Return the most frequent values of each kind and key of metadata, with their counts."""
    each = select(func.unnest(source.c.labels).label("label"))
    written = each.where(*conditions(source, filters)).subquery().c.label
    number = func.count().label("number")
    group = _group(written)
    rank = func.row_number().over(partition_by=group, order_by=(number.desc(), written))
    uses = func.sum(func.count()).over(partition_by=group)
    counted = (
        select(written, number, rank.label("rank"), uses.label("uses"), group.label("group"))
        .group_by(written)
        .subquery()
    )
    c = counted.c
    is_key = func.starts_with(c.group, "metadata:")
    place = func.dense_rank().over(partition_by=is_key, order_by=(c.uses.desc(), c.group))
    frequent = select(counted, place.label("place")).where(c.rank <= VALUES_PER_KIND).subquery()
    best = (
        select(frequent)
        .where(frequent.c.place <= MOST_KEYS)
        .order_by(frequent.c.place, frequent.c.rank)
    )
    found: dict[str, dict[str, int]] = {}
    for row in await connection.execute(best):
        kind, _, value = row.label.partition(":")
        found.setdefault(kind, {})[value] = row.number
    return found


def _group(written: Any) -> ColumnElement[str]:
    """Return what the values of a label are counted among: its kind, or its key of metadata."""
    kind = func.split_part(written, ":", 1)
    return case((kind == "metadata", func.split_part(written, "=", 1)), else_=kind)
