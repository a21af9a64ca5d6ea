"""The images that pass filters, in an order and page by page."""

from collections.abc import Sequence

from sqlalchemy import Text, cast, select

from app.store.filters import Filters
from app.store.nearest import conditions
from app.store.orders import ListOrder, Position, in_order, value_of
from app.store.tables import IMAGES
from app.store.vectors import VectorTable


async def passing(
    vectors: VectorTable,
    filters: Filters,
    *,
    order: ListOrder,
    limit: int,
    after: Position | None = None,
) -> Sequence[Position]:
    """Return the images that pass the filters, in an order; equal ones by their ids.

    Images count that have a vector in the table, as in a search. A page starts `after` another, so
    that none is missed or repeated while others are added or deleted.
    """
    table = vectors.table
    query = (
        select(value_of(order).label("value"), IMAGES.c.id)
        .join(table, table.c.node_id == cast(IMAGES.c.id, Text))
        .where(*conditions(table, filters))
        .limit(limit)
    )
    async with vectors.database.reading() as connection:
        rows = await connection.execute(in_order(query, order, after=after))
        return [Position(row.value, row.id) for row in rows]
