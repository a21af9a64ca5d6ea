"""The images that pass filters, in an order and page by page."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias
from uuid import UUID

from sqlalchemy import BigInteger, Text, cast, select, tuple_

from app.store.filters import Filters
from app.store.nearest import conditions
from app.store.tables import IMAGES
from app.store.vectors import VectorTable

ListOrder = Literal["newest", "oldest", "biggest"]
Untyped: TypeAlias = Any

_PIXELS = cast(IMAGES.c.width, BigInteger) * IMAGES.c.height


@dataclass(frozen=True, slots=True)
class Position:
    """Where a page ends: the last image, and when it was indexed or how many pixels it has."""

    value: datetime | int
    id: UUID


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
    value: Untyped = _PIXELS if order == "biggest" else IMAGES.c.indexed_at
    place = tuple_(value, IMAGES.c.id)
    query = (
        select(value.label("value"), IMAGES.c.id)
        .join(table, table.c.node_id == cast(IMAGES.c.id, Text))
        .where(*conditions(table, filters))
        .limit(limit)
    )
    if order == "oldest":
        query = query.order_by(value, IMAGES.c.id)
    else:
        query = query.order_by(value.desc(), IMAGES.c.id.desc())
    if after is not None:
        end = (after.value, after.id)
        query = query.where(place > end if order == "oldest" else place < end)
    async with vectors.database.reading() as connection:
        return [Position(row.value, row.id) for row in await connection.execute(query)]
