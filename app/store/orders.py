"""Orders of lists of images, and where their pages end."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias
from uuid import UUID

from sqlalchemy import BigInteger, cast, tuple_

from app.store.tables import IMAGES

ListOrder = Literal["newest", "oldest", "biggest"]
CatalogOrder = Literal["newest", "oldest", "biggest", "smallest", "heaviest"]
"""By when images were indexed, by their pixels, and by the bytes of their files."""

Untyped: TypeAlias = Any

_PIXELS = cast(IMAGES.c.width, BigInteger) * IMAGES.c.height
_VALUES: dict[CatalogOrder, Untyped] = {
    "newest": IMAGES.c.indexed_at,
    "oldest": IMAGES.c.indexed_at,
    "biggest": _PIXELS,
    "smallest": _PIXELS,
    "heaviest": IMAGES.c.bytes,
}
_ASCENDING = ("oldest", "smallest")


@dataclass(frozen=True, slots=True)
class Position:
    """Where a page ends: the last image, and when it was indexed, or its pixels or bytes."""

    value: datetime | int
    id: UUID


def value_of(order: CatalogOrder) -> Untyped:
    """Return what images are ordered by, as an SQL expression."""
    return _VALUES[order]


def in_order(query: Untyped, order: CatalogOrder, *, after: Position | None = None) -> Untyped:
    """Return a query of images in an order, equal ones by their ids, `after` another image.

    So none is missed or repeated on the next page while others are added or deleted.
    """
    value, last = _VALUES[order], IMAGES.c.id
    place = tuple_(value, last)
    if order in _ASCENDING:
        query = query.order_by(value, last)
    else:
        query = query.order_by(value.desc(), last.desc())
    if after is None:
        return query
    end = (after.value, after.id)
    return query.where(place > end if order in _ASCENDING else place < end)
