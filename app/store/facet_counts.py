"""Facets: the values to filter by, with the number of images that have each."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Table, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.store.filters import Filters
from app.store.nearest import conditions, estimated_rows, table_rows

# More images than this are estimated from a sample of about this size.
MOST_COUNTED = 50_000
VALUES_PER_KIND = 20


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


async def _by_label(
    connection: AsyncConnection, source: Any, filters: Filters
) -> dict[str, dict[str, int]]:
    """Return the most frequent values of each kind, with their counts."""
    each = select(func.unnest(source.c.labels).label("label"))
    label = each.where(*conditions(source, filters)).subquery().c.label
    number = func.count().label("number")
    rank = func.row_number().over(
        partition_by=func.split_part(label, ":", 1), order_by=(number.desc(), label)
    )
    counted = select(label, number, rank.label("rank")).group_by(label).subquery()
    best = select(counted).where(counted.c.rank <= VALUES_PER_KIND).order_by(counted.c.rank)
    found: dict[str, dict[str, int]] = {}
    for row in await connection.execute(best):
        kind, _, value = row.label.partition(":")
        found.setdefault(kind, {})[value] = row.number
    return found
