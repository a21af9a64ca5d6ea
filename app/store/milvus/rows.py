"""Rows as Milvus has them, and filters as its expressions, which hold numbers only.

What Postgres keeps as null is a number that no image has. A label is the hash of its text: two that
share one let a candidate pass too many, which Postgres finds out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import blake2b
from typing import Any

from app.store.filters import Box, Filters

# Of each image; the most that Milvus allows. An image has some 200 at most.
MOST_LABELS = 4096
NO_NUMBER = -1
NO_TIME = -(2**62)
NO_DEGREES = 1000.0

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class StoredRow:
    """A row of a vector table; the vector has unit length."""

    id: int
    labels: Sequence[str] | None
    width: int | None
    height: int | None
    taken_at: datetime | None
    latitude: float | None
    longitude: float | None
    vector: Any


def label_hash(label: str) -> int:
    """Return the number that stands for a label: 63 bits, so that no expression has a sign."""
    return int.from_bytes(blake2b(label.encode(), digest_size=8).digest(), "big") >> 1


def fields_of(row: StoredRow) -> dict[str, Any]:
    """Return the fields of a row, without its vector."""
    return {
        "id": row.id,
        "labels": [label_hash(label) for label in (row.labels or ())][:MOST_LABELS],
        "width": NO_NUMBER if row.width is None else row.width,
        "height": NO_NUMBER if row.height is None else row.height,
        "taken_at": NO_TIME if row.taken_at is None else _microseconds(row.taken_at),
        "latitude": NO_DEGREES if row.latitude is None else row.latitude,
        "longitude": NO_DEGREES if row.longitude is None else row.longitude,
    }


def expression(filters: Filters) -> str:
    """Return filters as an expression, "" for none.

    It leaves out the ranges of metadata, which only Postgres compares.
    """
    wanted = [_one_of(labels) for labels in filters.any_of.values()]
    wanted += [f"array_contains(labels, {label_hash(label)})" for label in filters.all_of]
    if filters.taken_after is not None:
        wanted.append(f"taken_at >= {_microseconds(filters.taken_after)}")
    if filters.taken_before is not None:
        wanted.append(f"taken_at < {_microseconds(filters.taken_before)}")
        wanted.append(f"taken_at > {NO_TIME}")
    if filters.min_width is not None:
        wanted.append(f"width >= {int(filters.min_width)}")
    if filters.min_height is not None:
        wanted.append(f"height >= {int(filters.min_height)}")
    if filters.located is not None:
        wanted.append(f"latitude {'<' if filters.located else '>='} {NO_DEGREES}")
    if filters.box is not None:
        wanted += _within(filters.box)
    return " and ".join(wanted)


def _one_of(labels: Sequence[str]) -> str:
    hashes = ", ".join(str(label_hash(label)) for label in labels)
    return f"array_contains_any(labels, [{hashes}])"


def _within(box: Box) -> list[str]:
    # No degrees are north of every box, and east of each.
    west, east = f"longitude >= {_degrees(box.west)}", f"longitude <= {_degrees(box.east)}"
    wanted = [f"latitude >= {_degrees(box.south)}", f"latitude <= {_degrees(box.north)}"]
    return [*wanted, *([f"({west} or {east})"] if box.west > box.east else [west, east])]


def _degrees(number: float) -> str:
    """Return a number with all its digits, and without an exponent."""
    return format(Decimal(repr(float(number))), "f")


def _microseconds(time: datetime) -> int:
    return (time - _EPOCH) // timedelta(microseconds=1)
