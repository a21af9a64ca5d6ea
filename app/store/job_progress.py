"""How far jobs are, read from their tables."""

from collections import defaultdict
from collections.abc import Collection
from typing import Any

from sqlalchemy import Float, Select, cast, extract, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.store.item_rows import item_of
from app.store.items import Item, ItemState, JobProgress
from app.store.tables import COUNTS, ITEMS
from app.store.workers import count_workers

RATE_WINDOW_S = 20


async def read_progress(
    connection: AsyncConnection, jobs: Select[Any], *, recent: int, failures: int
) -> list[JobProgress]:
    """Return the progress of jobs, in the order of the query.

    Each has its `recent` last ended items, newest first, and its first `failures`.
    """
    rows = (await connection.execute(jobs)).all()
    counts = await _counts(connection, [row.id for row in rows])
    captions = await _captions(connection, [row.id for row in rows])
    workers = await count_workers(connection)
    running = {job_id for job_id, numbers in counts.items() if "waiting" in numbers}
    return [
        JobProgress(
            row.id,
            row.title,
            row.created_at,
            row.cancelled_at,
            row.ended_at,
            counts[row.id],
            await _rate(connection, row.id) if row.id in running else 0,
            await _postponed(connection, row.id) if row.id in running else 0,
            await _recent(connection, row.id, recent),
            await _failures(connection, row.id, failures) if "failed" in counts[row.id] else [],
            row.id in captions,
            workers.captioning if row.id in captions else workers.running,
        )
        for row in rows
    ]


async def _counts(
    connection: AsyncConnection, ids: Collection[int]
) -> dict[int, dict[ItemState, int]]:
    query = select(COUNTS).where(COUNTS.c.job_id.in_(ids), COUNTS.c.number > 0)
    counts: dict[int, dict[ItemState, int]] = defaultdict(dict)
    for row in await connection.execute(query.order_by(COUNTS.c.state)):
        counts[row.job_id][row.state] = row.number
    return counts


async def _captions(connection: AsyncConnection, ids: Collection[int]) -> set[int]:
    """Return which of the jobs write captions."""
    query = select(ITEMS.c.job_id).where(
        ITEMS.c.job_id.in_(ids), ITEMS.c.position == 0, ITEMS.c.source == "caption"
    )
    return set(await connection.scalars(query))


async def _rate(connection: AsyncConnection, job_id: int) -> float:
    span = extract("epoch", func.clock_timestamp() - func.min(ITEMS.c.ended_at))
    query = select(func.count() / func.greatest(cast(span, Float), 1)).where(
        ITEMS.c.job_id == job_id,
        ITEMS.c.ended_at > func.now() - text(f"interval '{RATE_WINDOW_S} seconds'"),
    )
    return float(await connection.scalar(query) or 0)


async def _postponed(connection: AsyncConnection, job_id: int) -> int:
    query = select(func.count()).where(
        ITEMS.c.job_id == job_id, ITEMS.c.state == "waiting", ITEMS.c.not_before.is_not(None)
    )
    return await connection.scalar(query) or 0


async def _recent(connection: AsyncConnection, job_id: int, limit: int) -> list[Item]:
    if not limit:
        return []
    query = (
        select(ITEMS)
        .where(ITEMS.c.job_id == job_id, ITEMS.c.ended_at.is_not(None))
        .order_by(ITEMS.c.ended_at.desc())
        .limit(limit)
    )
    return [item_of(row) for row in await connection.execute(query)]


async def _failures(connection: AsyncConnection, job_id: int, limit: int) -> list[Item]:
    if not limit:
        return []
    query = (
        select(ITEMS)
        .where(ITEMS.c.job_id == job_id, ITEMS.c.state == "failed")
        .order_by(ITEMS.c.position)
        .limit(limit)
    )
    return [item_of(row) for row in await connection.execute(query)]
