"""Cursors of lists: the list and its order, and where a page of it ended, as URL-safe text."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from app.problems import InvalidRequest

A = TypeVar("A")
B = TypeVar("B")


def written(of: str, first: object, second: object) -> str:
    """Return the position at which a page ended; `of` is the list with its order, one word.

    Of lists by time, `first` is a datetime; no value has a space in its text.
    """
    value = first.isoformat() if isinstance(first, datetime) else first
    return urlsafe_b64encode(f"{of} {value} {second}".encode()).decode()


def read(
    cursor: str, *, of: str, first: Callable[[str], A], second: Callable[[str], B]
) -> tuple[A, B]:
    """Return the position of a cursor of the same list and order; raises `InvalidRequest`.

    `first` and `second` read its values, and raise `ValueError` or `OverflowError` for others.
    """
    try:
        name, value, other = urlsafe_b64decode(cursor).decode().split(" ")
        position = first(value), second(other)
    except (ValueError, OverflowError) as exc:
        raise _foreign() from exc
    if name != of:
        raise _foreign()
    return position


def moment(text: str) -> datetime:
    """Return a time, in UTC; raises `ValueError` or `OverflowError`."""
    return datetime.fromisoformat(text).astimezone(UTC)


def number(text: str, most: int) -> int:
    """Return a number from 0 to `most`; raises `ValueError`."""
    if not re.fullmatch("[0-9]{1,19}", text) or int(text) > most:
        raise ValueError("no such number")
    return int(text)


def _foreign() -> InvalidRequest:
    return InvalidRequest("cursor: it is not from this server, or of another list or order.")
