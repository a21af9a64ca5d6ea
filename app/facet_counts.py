"""What there is to filter by: values with the number of images that have them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Table, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.filters import Filters
from app.nearest import conditions, estimated_rows, table_rows

# Up to so many images are counted one by one; of more, a sample of about this size.
MOST_COUNTED = 50_000
VALUES_PER_KIND = 20


@dataclass(frozen=True, slots=True)
class FacetCounts:
    """The number of images by kind of label and value, the most frequent first.

    Counts are `approximate` when they were estimated from a sample. `taken` is the first and the
    last date there is; `located` the number of images that tell a place.
    """

    total: int
    approximate: bool
    values: dict[str, dict[str, int]]
    taken: tuple[datetime, datetime] | None
    located: int


async def facet_counts(session: AsyncSession, table: Table, filters: Filters) -> FacetCounts:
    """Count the images that pass the filters."""
    wanted = conditions(table, filters)
    passing = await estimated_rows(session, table, wanted)
    rows = await table_rows(session, table)
    approximate = min(passing, rows) > MOST_COUNTED
    share = MOST_COUNTED / rows if approximate else 1.0
    source: Any = table.tablesample(func.system(100 * share)) if approximate else table
    counted = conditions(source, filters)
    each = select(func.unnest(source.c.labels).label("label")).where(*counted).subquery()
    number = func.count().label("number")
    kind = func.split_part(each.c.label, ":", 1)
    place = func.row_number().over(partition_by=kind, order_by=(number.desc(), each.c.label))
    by_label = select(each.c.label, number, place.label("place")).group_by(each.c.label).subquery()
    best = select(by_label.c.label, by_label.c.number).where(by_label.c.place <= VALUES_PER_KIND)
    values: dict[str, dict[str, int]] = {}
    for row in await session.execute(best.order_by(by_label.c.place)):
        name, _, value = row.label.partition(":")
        values.setdefault(name, {})[value] = round(row.number / share)
    totals = (
        await session.execute(
            select(
                func.count().label("total"),
                func.min(source.c.taken_at).label("first"),
                func.max(source.c.taken_at).label("last"),
                func.count(source.c.latitude).label("located"),
            )
            .select_from(source)
            .where(*counted)
        )
    ).one()
    return FacetCounts(
        total=round(totals.total / share),
        approximate=approximate,
        values=values,
        taken=(totals.first, totals.last) if totals.first else None,
        located=round(totals.located / share),
    )
