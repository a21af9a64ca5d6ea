"""The tables of jobs and their items: what to index, and how each item ended."""

import logging
from collections.abc import Collection, Sequence, Set
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    DateTime,
    and_,
    case,
    cast,
    delete,
    func,
    insert,
    literal,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from app.logs import fields
from app.problems import JobCancelled, NotFound
from app.store.catalog import Selection
from app.store.database import Database, copy_rows
from app.store.images import DROPPED
from app.store.item_ends import DROPPED_CREDENTIALS, END_ITEMS, LOCK_JOBS
from app.store.item_rows import COPIED, copied, item_of, stored_reason
from app.store.items import Ended, Item, ItemSource, ItemState, JobProgress, NewItem
from app.store.job_progress import read_progress
from app.store.tables import COUNTS, IMAGES, ITEMS, JOBS, TRASH, seconds
from app.store.trash import TrashFilters

logger = logging.getLogger(__name__)

# Items per task of the queue: enough to make the queue's overhead small, few enough that a worker
# that dies loses little.
CHUNK = 64
DAY_S = 86_400
NO_JOB = "There is no such job."
# Arbitrary, but unlike every other advisory lock in the database.
CAPTION_LOCK = 0x10_0CA11CF


class JobItems:
    """Reads and writes jobs and their items; a trigger counts the items of each state."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(
        self, connection: AsyncConnection, title: str, *, change: dict[str, Any] | None = None
    ) -> int:
        """Create a job without items; return its id. `change` is what it does to images."""
        statement = insert(JOBS).values(title=title, change=change).returning(JOBS.c.id)
        return (await connection.execute(statement)).scalar_one()

    async def append(
        self, connection: AsyncConnection, job_id: int, items: Sequence[NewItem]
    ) -> Sequence[int]:
        """Append items to a job; return the numbers of their chunks.

        Raises `JobCancelled`, or `NotFound` if the job was deleted.
        """
        # Under the lock, which `cancel`, `reopen` and `forget` take, too.
        if not await self._lock(connection, {job_id}):
            raise NotFound(NO_JOB)
        if await connection.scalar(select(JOBS.c.cancelled_at).where(JOBS.c.id == job_id)):
            raise JobCancelled
        first = await self._total(connection, job_id)
        rows = (copied(job_id, place, item) for place, item in enumerate(items, first))
        await copy_rows(connection, "job_items", COPIED, rows)
        return range(first // CHUNK, (first + len(items) - 1) // CHUNK + 1)

    async def append_images(
        self,
        connection: AsyncConnection,
        job_id: int,
        source: ItemSource,
        selection: Selection,
        *,
        of_job: int | None = None,
    ) -> Sequence[int]:
        """Add indexed images to a new job; return the numbers of their chunks.

        `refresh` adds only images on the web, `caption` only those without a pending caption. With
        `of_job`, only images that this job indexed or updated are added.
        """
        wanted = selection.conditions
        if source == "refresh":
            wanted.append(IMAGES.c.url.regexp_match("^https?:"))
        if source == "caption":
            # Otherwise two jobs that end together would request the same captions.
            await connection.execute(select(func.pg_advisory_xact_lock(CAPTION_LOCK)))
            pending = select(ITEMS.c.url).where(
                ITEMS.c.source == "caption", ITEMS.c.state == "waiting", ITEMS.c.url == IMAGES.c.url
            )
            wanted.append(~pending.exists())
        if of_job is not None:
            done = select(ITEMS.c.url).where(
                ITEMS.c.job_id == of_job,
                ITEMS.c.state.in_(["indexed", "updated"]),
                ITEMS.c.source != "change",
            )
            wanted.append(IMAGES.c.url.in_(done))
        images = select(
            literal(job_id),
            func.row_number().over(order_by=IMAGES.c.id) - 1,
            literal(source),
            IMAGES.c.url,
            IMAGES.c.id,
            case((IMAGES.c.needs_credentials, DROPPED), else_=None),
        ).where(*wanted)
        names = ["job_id", "position", "source", "url", "image_id", "credentials"]
        await connection.execute(insert(ITEMS).from_select(names, images))
        return range(-(-await self._total(connection, job_id) // CHUNK))

    async def append_trashed(
        self, connection: AsyncConnection, job_id: int, wanted: TrashFilters
    ) -> Sequence[int]:
        """Add images of the trash to a new job; return the numbers of their chunks."""
        images = select(
            literal(job_id),
            func.row_number().over(order_by=TRASH.c.image_id) - 1,
            literal("change"),
            TRASH.c.url,
            TRASH.c.image_id,
        ).where(*wanted.conditions)
        names = ["job_id", "position", "source", "url", "image_id"]
        await connection.execute(insert(ITEMS).from_select(names, images))
        return range(-(-await self._total(connection, job_id) // CHUNK))

    async def change(self, job_id: int) -> dict[str, Any] | None:
        """Return what a job does to images; None if it indexes or describes them."""
        query = select(JOBS.c.change).where(JOBS.c.id == job_id)
        async with self._database.begin() as connection:
            return await connection.scalar(query)

    async def trashing(self, at: datetime) -> Sequence[int]:
        """Return the jobs that move images to the trash with this time there."""
        query = select(JOBS.c.id).where(
            JOBS.c.change["do"].astext == "trash",
            cast(JOBS.c.change["at"].astext, DateTime(timezone=True)) == at,
        )
        async with self._database.begin() as connection:
            return (await connection.scalars(query)).all()

    async def still_waiting(
        self, connection: AsyncConnection, items: Sequence[Item]
    ) -> Sequence[Item]:
        """Return those items that are pending; none is cancelled until the transaction ends."""
        await self._lock(connection, {item.job_id for item in items})
        query = select(ITEMS.c.job_id, ITEMS.c.position).where(
            tuple_(ITEMS.c.job_id, ITEMS.c.position).in_(
                [(item.job_id, item.position) for item in items]
            ),
            ITEMS.c.state == "waiting",
        )
        waiting = {tuple(row) for row in await connection.execute(query)}
        return [item for item in items if (item.job_id, item.position) in waiting]

    async def due(self, job_id: int, chunk: int) -> list[Item]:
        """Return the pending items of a chunk that may be tried now, by position."""
        query = (
            select(ITEMS)
            .where(_in_chunk(job_id, chunk), ITEMS.c.state == "waiting")
            .where(or_(ITEMS.c.not_before.is_(None), ITEMS.c.not_before <= func.now()))
            .order_by(ITEMS.c.position)
        )
        async with self._database.reading() as connection:
            return [item_of(row) for row in await connection.execute(query)]

    async def next_due(self, job_id: int, chunk: int) -> datetime | None:
        """Return when the next pending item of a chunk may be tried, None if none is pending."""
        query = select(func.min(func.coalesce(ITEMS.c.not_before, func.now()))).where(
            _in_chunk(job_id, chunk), ITEMS.c.state == "waiting"
        )
        async with self._database.reading() as connection:
            return await connection.scalar(query)

    async def end(self, connection: AsyncConnection, ended: Sequence[Ended]) -> None:
        """Record how items ended; those that had ended before are unchanged."""
        await self._lock(connection, {e.item.job_id for e in ended})
        given = {
            "all_job_id": [e.item.job_id for e in ended],
            "all_position": [e.item.position for e in ended],
            "all_tries": [e.item.next_tries for e in ended],
            "all_state": [e.state for e in ended],
            "all_reason": [stored_reason(e.reason) for e in ended],
            "all_image_id": [e.image_id for e in ended],
        }
        await connection.execute(END_ITEMS, given)

    async def fail(self, item: Item, reason: str) -> None:
        """End an item as failed."""
        async with self._database.begin() as connection:
            await self.end(connection, [Ended(item, "failed", reason)])

    async def fail_chunk(self, job_id: int, chunk: int, reason: str) -> None:
        """End the pending items of a chunk as failed, so that they can be retried."""
        statement = (
            update(ITEMS)
            .values(
                state="failed",
                reason=reason,
                credentials=DROPPED_CREDENTIALS,
                tries=ITEMS.c.tries + 1,
                ended_at=func.clock_timestamp(),
            )
            .where(_in_chunk(job_id, chunk), ITEMS.c.state == "waiting")
        )
        async with self._database.begin() as connection:
            await self._lock(connection, {job_id})
            await connection.execute(statement)

    async def start(self, item: Item) -> None:
        """Count an attempt before it is made, in case the process does not survive it."""
        await self._keep_waiting(item, {})

    async def postpone(self, item: Item, reason: str, *, wait_s: float) -> None:
        """Count an attempt, and schedule an item's retry in `wait_s` seconds."""
        due = func.now() + seconds(wait_s)
        await self._keep_waiting(item, {"reason": stored_reason(reason), "not_before": due})

    async def _keep_waiting(self, item: Item, values: dict[str, Any]) -> None:
        statement = (
            update(ITEMS)
            .values(tries=item.next_tries, **values)
            .where(ITEMS.c.job_id == item.job_id, ITEMS.c.position == item.position)
            .where(ITEMS.c.state == "waiting")
        )
        async with self._database.begin() as connection:
            await connection.execute(statement)

    async def reopen(self, connection: AsyncConnection, job_id: int) -> list[int]:
        """Make failed and cancelled items pending again; return the numbers of their chunks.

        Items that failed as they were added would only fail again, and stay as they are.
        """
        # What only now moves to the trash is kept there from now on, not from the job's creation.
        now = func.jsonb_build_object("at", func.now())
        is_trashing = JOBS.c.change["do"].astext == "trash"
        change = case((is_trashing, JOBS.c.change.concat(now)), else_=JOBS.c.change)
        await connection.execute(
            update(JOBS)
            .values(cancelled_at=None, tokens=0, change=change)
            .where(JOBS.c.id == job_id)
        )
        failed = and_(ITEMS.c.state == "failed", ITEMS.c.tries > 0)
        statement = (
            update(ITEMS)
            .values(state="waiting", reason=None, tries=0, not_before=None, ended_at=None)
            .where(ITEMS.c.job_id == job_id)
            .where(or_(ITEMS.c.state == "cancelled", failed))
            .returning(ITEMS.c.position)
        )
        positions = await connection.scalars(statement)
        return sorted({position // CHUNK for position in positions})

    async def source(self, connection: AsyncConnection, job_id: int) -> ItemSource | None:
        """Return the source of a job's first item, None if the job has no items."""
        query = select(ITEMS.c.source).where(ITEMS.c.job_id == job_id, ITEMS.c.position == 0)
        return await connection.scalar(query)

    async def waits(self, job_id: int) -> bool:
        """Return whether any item of a job is pending."""
        query = select(ITEMS.c.position).where(ITEMS.c.job_id == job_id, ITEMS.c.state == "waiting")
        async with self._database.begin() as connection:
            return await connection.scalar(query.limit(1)) is not None

    async def tokens(self, job_id: int) -> int:
        """Return the number of tokens that a job's captions have used."""
        async with self._database.reading() as connection:
            return await connection.scalar(select(JOBS.c.tokens).where(JOBS.c.id == job_id)) or 0

    async def add_tokens(self, job_id: int, number: int) -> None:
        """Add to the tokens that a job's captions have used."""
        statement = update(JOBS).values(tokens=JOBS.c.tokens + number).where(JOBS.c.id == job_id)
        async with self._database.begin() as connection:
            await connection.execute(statement)

    async def cancel(self, job_id: int) -> None:
        """Cancel a job's pending items."""
        async with self._database.begin() as connection:
            job = update(JOBS).values(cancelled_at=func.now()).where(JOBS.c.id == job_id)
            await connection.execute(job)
            cancelled = await connection.execute(
                update(ITEMS)
                .values(
                    state="cancelled",
                    credentials=DROPPED_CREDENTIALS,
                    ended_at=func.clock_timestamp(),
                )
                .where(ITEMS.c.job_id == job_id, ITEMS.c.state == "waiting")
            )
        logger.info("job cancelled", extra=fields(job=job_id, cancelled=cancelled.rowcount))

    async def is_cancelled(self, job_id: int) -> bool:
        """Return whether a job was cancelled or deleted."""
        query = select(JOBS.c.cancelled_at).where(JOBS.c.id == job_id)
        async with self._database.reading() as connection:
            row = (await connection.execute(query)).one_or_none()
        return row is None or row.cancelled_at is not None

    async def forget(self, connection: AsyncConnection, job_id: int) -> None:
        """Delete a job and its items; what it indexed stays."""
        await connection.execute(delete(JOBS).where(JOBS.c.id == job_id))

    async def ended_before(self, days: float, *, limit: int) -> Sequence[int]:
        """Return jobs that ended at least so many days ago, the oldest first."""
        query = (
            select(JOBS.c.id)
            .where(JOBS.c.ended_at < func.now() - seconds(days * DAY_S))
            .order_by(JOBS.c.ended_at)
            .limit(limit)
        )
        async with self._database.reading() as connection:
            return (await connection.scalars(query)).all()

    async def find(self, job_id: int) -> JobProgress:
        """Return a job's progress; raises `NotFound`."""
        progress = await self.progress(job_id)
        if progress is None:
            raise NotFound(NO_JOB)
        return progress

    async def progress(self, job_id: int, *, recent: int = 12) -> JobProgress | None:
        """Return a job's progress with its `recent` last ended items; None if there is none."""
        found = await self.progress_of([job_id], recent=recent)
        return found[0] if found else None

    async def progress_of(
        self, job_ids: Collection[int], *, recent: int = 12, failures: int = 0
    ) -> list[JobProgress]:
        """Return the progress of the jobs that exist, by id, with their first failures."""
        query = select(JOBS).where(JOBS.c.id.in_(job_ids)).order_by(JOBS.c.id)
        async with self._database.begin() as connection:
            return await read_progress(connection, query, recent=recent, failures=failures)

    async def newest(self, *, limit: int, recent: int = 0, failures: int = 0) -> list[JobProgress]:
        """Return the progress of jobs, newest first, with their first failures."""
        query = select(JOBS).order_by(JOBS.c.id.desc()).limit(limit)
        async with self._database.begin() as connection:
            return await read_progress(connection, query, recent=recent, failures=failures)

    async def items(
        self, job_id: int, *, state: ItemState | None, after: int, limit: int
    ) -> list[Item]:
        """Return a job's items, of all states if None, by position greater than `after`."""
        query = (
            select(ITEMS)
            .where(ITEMS.c.job_id == job_id, ITEMS.c.position > after)
            .order_by(ITEMS.c.position)
            .limit(limit)
        )
        if state is not None:
            query = query.where(ITEMS.c.state == state)
        async with self._database.reading() as connection:
            return [item_of(row) for row in await connection.execute(query)]

    async def _lock(self, connection: AsyncConnection, job_ids: Set[int]) -> Sequence[int]:
        """Lock the rows of jobs until the transaction ends; return the ids that exist.

        Every statement on a job's items also writes its counts, whose foreign key locks the job.
        Taking that lock first makes concurrent writers wait instead of deadlocking.
        """
        return (await connection.scalars(LOCK_JOBS, {"ids": list(job_ids)})).all()

    async def _total(self, connection: AsyncConnection, job_id: int) -> int:
        total = cast(func.coalesce(func.sum(COUNTS.c.number), 0), BigInteger)
        query = select(total).where(COUNTS.c.job_id == job_id)
        return (await connection.execute(query)).scalar_one()


def _in_chunk(job_id: int, chunk: int) -> Any:
    return and_(
        ITEMS.c.job_id == job_id,
        ITEMS.c.position >= chunk * CHUNK,
        ITEMS.c.position < (chunk + 1) * CHUNK,
    )
