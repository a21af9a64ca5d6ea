"""Durable jobs: created, extended, retried and watched here, worked on by `worker.py`.

A job is rows of items; every 64 of them are a chunk, and every chunk is a task of the queue. Items
and tasks are written in one transaction, so that neither exists without the other.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from itertools import islice

from sqlalchemy.ext.asyncio import AsyncConnection

from app.indexing.changes import Change, Changer
from app.indexing.indexer import Indexer
from app.indexing.keypoint_maker import KeypointMaker
from app.indexing.trash import Trash
from app.jobs.captions import Captioner
from app.jobs.feed import JobFeed
from app.jobs.worker import Worker
from app.logs import fields
from app.problems import JobCancelled, NotFound, Unavailable
from app.store.catalog import Selection
from app.store.claims import uploads_of
from app.store.database import Database
from app.store.items import JobProgress, NewItem
from app.store.job_changes import JobChanges
from app.store.job_items import CHUNK, JobItems
from app.store.trash import TrashFilters
from app.store.workers import Workers

logger = logging.getLogger(__name__)

UNDESCRIBED = Selection(undescribed=True)
ITEMS_PER_TRANSACTION = 16 * CHUNK
# More images than this are changed by a job, and not while someone waits for the answer.
MANY = 1000


class Jobs:
    """Creates jobs, and runs this process's worker on the jobs of everyone.

    `retry_s` and `worker_timeout_s` are those of `Worker`. Jobs are deleted `job_days` days after
    they ended.
    """

    def __init__(
        self,
        *,
        database: Database,
        job_items: JobItems,
        workers: Workers,
        indexer: Indexer,
        trash: Trash,
        captioner: Captioner,
        keypoint_maker: KeypointMaker,
        changer: Changer,
        retry_s: float,
        worker_timeout_s: float,
        job_days: float,
    ) -> None:
        self._database = database
        self._job_items = job_items
        self._indexer = indexer
        self._trash = trash
        self._captioner = captioner
        self._job_days = job_days
        self._worker = Worker(
            database=database,
            job_items=job_items,
            workers=workers,
            indexer=indexer,
            captioner=captioner,
            keypoint_maker=keypoint_maker,
            changer=changer,
            retry_s=retry_s,
            worker_timeout_s=worker_timeout_s,
            chunk_ended=self._chunk_ended,
            upkeep=self.keep_up,
        )
        self._feed = JobFeed(
            job_items=job_items, changes=JobChanges(database), stopping=self._worker.stopping
        )

    async def create(self, title: str, items: Iterable[NewItem]) -> int:
        """Create a job; return its id.

        The items are read as a stream, in a thread. If reading them raises, the job is deleted and
        the exception passed on. If the job is cancelled meanwhile, the rest is not read; if it is
        deleted, raises `JobCancelled`.
        """
        batches = _batches(items)
        first = await asyncio.to_thread(next, batches, ())
        async with self._database.begin() as connection:
            job_id = await self._job_items.create(connection, title)
            await self._append(connection, job_id, first)
        try:
            while batch := await asyncio.to_thread(next, batches, ()):
                await self.add(job_id, batch)
        except JobCancelled:
            return job_id
        except NotFound as exc:
            raise JobCancelled("The job was deleted while it was being created.") from exc
        except BaseException:
            await self.delete(job_id)
            raise
        await self._log("job created", job_id)
        return job_id

    async def add(self, job_id: int, items: Sequence[NewItem]) -> None:
        """Add items to a job; raises `JobCancelled`, or `NotFound` if there is no such job."""
        async with self._database.begin() as connection:
            await self._append(connection, job_id, items)

    async def refresh(self, selection: Selection) -> int:
        """Create a job that checks the web for changed and removed images; return its id."""
        async with self._database.begin() as connection:
            job_id = await self._job_items.create(connection, "Refresh")
            chunks = await self._job_items.append_images(connection, job_id, "refresh", selection)
            await self._worker.queue.defer(connection, job_id, chunks)
        await self._log("job created", job_id)
        return job_id

    async def caption(
        self, selection: Selection = UNDESCRIBED, *, of_job: int | None = None
    ) -> int | None:
        """Create a job that captions images without a description; return its id.

        With `of_job`, only those that this job indexed or updated. Returns None if there are none,
        or if no caption model is configured.
        """
        if not self._captioner.is_on:
            return None
        async with self._database.begin() as connection:
            job_id = await self._job_items.create(connection, "Captions")
            chunks = await self._job_items.append_images(
                connection, job_id, "caption", selection, of_job=of_job
            )
            await self._worker.queue.defer(connection, job_id, chunks)
            if not chunks:
                await self._job_items.forget(connection, job_id)
        if not chunks:
            return None
        await self._log("job created", job_id)
        return job_id

    async def change(self, change: Change, images: Selection | TrashFilters) -> int:
        """Create a job that changes images, those of the trash if it restores; return its id."""
        async with self._database.begin() as connection:
            kept = change.model_dump(mode="json", exclude_none=True)
            job_id = await self._job_items.create(connection, change.title, change=kept)
            chunks = (
                await self._job_items.append_images(connection, job_id, "change", images)
                if isinstance(images, Selection)
                else await self._job_items.append_trashed(connection, job_id, images)
            )
            await self._worker.queue.defer(connection, job_id, chunks)
        await self._log("job created", job_id)
        return job_id

    async def undo_trash(self, at: datetime) -> int | None:
        """Bring back what was moved to the trash together; return the id of a job that does.

        A job that still moves some there is cancelled before. A few are restored at once, and then
        the answer is None. What was restored or deleted for good since is left as it is.
        """
        for job_id in await self._job_items.trashing(at):
            await self._job_items.cancel(job_id)
        return await self.restore(TrashFilters(at=at))

    async def restore(self, filters: TrashFilters) -> int | None:
        """Restore images of the trash: a few at once, many by a job, whose id is returned."""
        if await self._trash.table.count(filters) > MANY:
            return await self.change(Change(do="restore"), filters)
        await self._trash.restore_found(filters)
        return None

    async def retry(self, job_id: int) -> None:
        """Retry the failed and the cancelled items of a job."""
        async with self._database.begin() as connection:
            chunks = await self._job_items.reopen(connection, job_id)
            await self._worker.queue.defer(connection, job_id, chunks)
        await self._log("job retried", job_id)

    async def delete(self, job_id: int) -> None:
        """Delete a job, its items, and the uploads that only it kept; what it indexed stays."""
        async with self._database.begin() as connection:
            uploads = await uploads_of(connection, job_id)
            await self._job_items.forget(connection, job_id)
        logger.info("job deleted", extra=fields(job=job_id))
        # One that a worker is indexing is claimed; it deletes the file if it stores no image.
        await self._indexer.delete_unused(uploads)

    async def keep_up(self) -> None:
        """Delete old jobs, what has been in the trash for TRASH_DAYS, and unneeded thumbnails."""
        await self.delete_old()
        await self._trash.empty_old()
        await self._indexer.originals.thumbnails.sweep_if_possible()

    async def delete_old(self) -> None:
        """Delete the jobs that ended JOB_DAYS ago or earlier."""
        while jobs := await self._job_items.ended_before(self._job_days, limit=100):
            for job_id in jobs:
                await self.delete(job_id)

    def watch(self, *job_ids: int) -> AsyncGenerator[JobProgress]:
        """Yield the progress of jobs whenever it changes, as `JobFeed.follow` does."""
        return self._feed.follow(job_ids)

    @property
    def stopping(self) -> asyncio.Event:
        """Set once this process's worker and watchers should end."""
        return self._worker.stopping

    @asynccontextmanager
    async def working(self) -> AsyncGenerator[None]:
        """Work on jobs in the background; on leaving, finish or requeue what is running."""
        work = asyncio.create_task(self.work())
        try:
            yield
        finally:
            self.stop()
            await work

    async def work(self) -> None:
        """Work on jobs until `stop` is called; survives outages of the database."""
        await self._worker.work()

    def stop(self) -> None:
        """Let this process's worker and watchers end."""
        self.stopping.set()
        self._feed.wake()

    async def _append(
        self, connection: AsyncConnection, job_id: int, items: Sequence[NewItem]
    ) -> None:
        if items:
            chunks = await self._job_items.append(connection, job_id, items)
            await self._worker.queue.defer(connection, job_id, chunks)

    async def _chunk_ended(self, job_id: int, chunk: int) -> None:
        """Once all items of a job have ended, log it, and caption what it indexed.

        Captions are a job of their own.
        """
        if await self._job_items.waits(job_id):
            return
        progress = await self._job_items.progress(job_id, recent=1)
        # Chunks that end together all find the job ended: only that of the last item logs it.
        if progress and progress.recent and progress.recent[0].position // CHUNK == chunk:
            _log_event("job ended", progress)
        if self._captioner.is_on:
            await self.caption(of_job=job_id)

    async def _log(self, event: str, job_id: int) -> None:
        """Log an event of a job, unless the database has gone away just after it."""
        with suppress(Unavailable):
            if progress := await self._job_items.progress(job_id):
                _log_event(event, progress)


def _log_event(event: str, job: JobProgress) -> None:
    counts = fields(job=job.id, title=job.title, items=job.total, **job.counts)
    logger.info(event, extra=counts)


def _batches(items: Iterable[NewItem]) -> Iterator[list[NewItem]]:
    iterator = iter(items)
    while batch := list(islice(iterator, ITEMS_PER_TRANSACTION)):
        yield batch
