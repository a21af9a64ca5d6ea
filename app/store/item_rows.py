"""Rows of the table of items: from a new item, and to an item."""

from datetime import UTC, datetime
from typing import Any

from psycopg.types.json import Jsonb
from sqlalchemy import Row

from app.store.database import storable
from app.store.images import DROPPED, Entry
from app.store.items import Item, NewItem

LONGEST_REASON = 1000

COPIED = {
    "job_id": "bigint",
    "position": "bigint",
    "source": "text",
    "url": "text",
    "title": "text",
    "description": "text",
    "tags": "text[]",
    "metadata": "jsonb",
    "credentials": "text",
    "state": "text",
    "reason": "text",
    "ended_at": "timestamptz",
}
"""The columns that new items are copied into, with their types."""


def stored_reason(reason: str | None) -> str | None:
    """Return a reason as it can be stored: it may quote what some server sent."""
    return None if reason is None else storable(reason)[:LONGEST_REASON]


def item_of(row: Row[Any]) -> Item:
    """Return a row of the table as an item."""
    said = (row.title, row.description, row.tags, row.metadata)
    entry = Entry(row.url, *said, row.credentials, row.image_id)
    return Item(row.job_id, row.position, row.source, entry, row.state, row.reason, row.tries)


def copied(job_id: int, position: int, item: NewItem) -> tuple[object, ...]:
    """Return a new item as a row of the columns of `COPIED`; one with a reason has failed."""
    entry, failed = item.entry, item.reason is not None
    return (
        job_id,
        position,
        item.source,
        entry.url,
        entry.title,
        entry.description,
        None if entry.tags is None else list(entry.tags),
        None if entry.metadata is None else Jsonb(entry.metadata),
        DROPPED if failed and entry.credentials else entry.credentials,
        "failed" if failed else "waiting",
        item.reason,
        datetime.now(UTC) if failed else None,
    )
