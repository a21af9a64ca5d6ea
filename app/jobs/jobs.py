"""Durable indexing jobs: Procrastinate's queue hands out chunks of a job's items to workers.

A chunk is a task; its items are indexed together, and each is ended by the transaction that stores
its picture. A worker that dies leaves its tasks to others, who find the ended items ended. Items
whose failure may pass wait and are tried again.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import psycopg
from procrastinate import App, BaseRetryStrategy, JobContext, PsycopgConnector, RetryDecision
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job
from psycopg_pool import PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection

from app.indexing.coalescer import gather
from app.indexing.indexer import Indexer
from app.jobs.captions import Captioner
from app.problems import DatabaseUnavailable, Problem
from app.store.catalog import Selection
from app.store.database import CONNECT_TIMEOUT_S, Database, driver_connection
from app.store.items import Item, JobProgress, NewItem
from app.store.job_items import CHUNK, JobItems

logger = logging.getLogger(__name__)

QUEUE = "lookalike"
INDEX_CHUNK = "index_chunk"
# One chunk of captions runs at a time, so that they leave room for indexing.
CAPTIONS = "captions"
UNDESCRIBED = Selection(undescribed=True)
# Enough that slow hosts in some chunks leave others to keep the encoder busy.
CHUNKS_AT_ONCE = 8
MOST_TRIES = 5
ITEMS_PER_TRANSACTION = 16 * CHUNK
LONGEST_WAIT_S = 3600
# A wait that a chunk sits out; for a longer one it makes room for others.
SHORT_WAIT_S = 2
POLL_S = 1.0
# How often someone who watches a job is told.
WATCH_S = 0.5
LONGEST_SILENCE_S = 10
# How long running chunks may go on after the signal to stop.
GRACE_S = 5


class Jobs:
    """Makes jobs, works on them and tells how far they are.

    `retry_s` is the wait before a first retry, doubled each time; a worker that was not heard of
    for `worker_timeout_s` is taken for dead.
    """

    def __init__(
        self,
        *,
        database: Database,
        job_items: JobItems,
        indexer: Indexer,
        captioner: Captioner,
        retry_s: float,
        worker_timeout_s: float,
    ) -> None:
        self._database = database
        self._items = job_items
        self._indexer = indexer
        self._captioner = captioner
        self._retry_s = retry_s
        self._worker_timeout_s = worker_timeout_s
        self._queue = _queue(database.url, self._index_chunk)
        self._running: set[int] = set()
        self._worker_id: int | None = None
        self.stopping = asyncio.Event()

    async def create(self, title: str, items: Iterable[NewItem]) -> int:
        """Make a job of items, which are read as a stream, in a thread; return its id.

        What goes wrong while reading is raised, and leaves no job behind.
        """
        parts = _parts(items)
        first = await asyncio.to_thread(next, parts, ())
        async with self._database.begin() as connection:
            job_id = await self._items.create(connection, title)
            await self._append(connection, job_id, first)
        try:
            while part := await asyncio.to_thread(next, parts, ()):
                await self.add(job_id, part)
        except BaseException:
            await self._items.delete(job_id)
            raise
        return job_id

    async def add(self, job_id: int, items: Sequence[NewItem]) -> None:
        """Add items to a job."""
        async with self._database.begin() as connection:
            await self._append(connection, job_id, items)

    async def refresh(self, selection: Selection) -> int:
        """Make a job that asks the web whether images have changed or gone; return its id."""
        async with self._database.begin() as connection:
            job_id = await self._items.create(connection, "Refresh")
            chunks = await self._items.append_images(connection, job_id, "refresh", selection)
            await self._defer(connection, job_id, chunks)
        return job_id

    async def caption(
        self, selection: Selection = UNDESCRIBED, *, of_job: int | None = None
    ) -> int | None:
        """Make a job that describes the images that no one has described; return its id.

        None if there are none, or no model is named that could.
        """
        if not self._captioner.is_on:
            return None
        async with self._database.begin() as connection:
            job_id = await self._items.create(connection, "Captions")
            chunks = await self._items.append_images(
                connection, job_id, "caption", selection, of_job=of_job
            )
            await self._defer(connection, job_id, chunks)
            if not chunks:
                await self._items.forget(connection, job_id)
        return job_id if chunks else None

    async def retry(self, job_id: int) -> None:
        """Try the failed and the cancelled items of a job again."""
        async with self._database.begin() as connection:
            chunks = await self._items.reopen(connection, job_id)
            await self._defer(connection, job_id, chunks)

    async def watch(self, job_id: int) -> AsyncGenerator[JobProgress]:
        """Yield a job's progress when it has changed, until it ends or this process stops.

        Every now and then even if nothing has changed, so that a watcher who left is noticed.
        """
        told, silent = None, 0.0
        while (progress := await self._items.progress(job_id)) is not None:
            if progress != told or silent >= LONGEST_SILENCE_S:
                yield progress
                told, silent = progress, 0.0
            silent += WATCH_S
            if progress.state != "running" or await self._stops_within(WATCH_S):
                return

    @asynccontextmanager
    async def working(self) -> AsyncGenerator[None]:
        """Work on jobs in the background; on leaving, finish or hand back what is running."""
        worker = asyncio.create_task(self.work())
        try:
            yield
        finally:
            self.stop()
            await worker

    async def work(self) -> None:
        """Work on jobs until `stop`, through outages of the database."""
        while not self.stopping.is_set():
            try:
                await _until_first(self._session(), self.stopping.wait())
            except (ConnectorException, psycopg.Error, PoolTimeout) as exc:
                logger.info("The queue does not answer: %s", exc)
            await self._stops_within(POLL_S)

    def stop(self) -> None:
        """Let workers and watchers of this process end."""
        self.stopping.set()

    async def _session(self) -> None:
        """Work as one worker of the queue, until it fails or is cancelled."""
        async with self._queue.open_async():
            worker = self._queue.run_worker_async(
                queues=[QUEUE],
                concurrency=CHUNKS_AT_ONCE,
                fetch_job_polling_interval=POLL_S,
                shutdown_graceful_timeout=GRACE_S,
                delete_jobs="successful",
                install_signal_handlers=False,
                update_heartbeat_interval=self._worker_timeout_s / 3,
                stalled_worker_timeout=self._worker_timeout_s,
            )
            await _until_first(worker, self._take_over())

    async def _take_over(self) -> None:
        """Give the tasks that no one works on any more back to the queue, again and again.

        Those of dead workers; and those that this worker lost, when the database went away just as
        they were handed over or done. Never what runs here: a computer that slept finds its own
        worker dead.
        """
        manager = self._queue.job_manager
        suspected: set[int | None] = set()
        while True:
            await asyncio.sleep(self._worker_timeout_s / 3)
            stalled = await manager.get_stalled_jobs(
                queue=QUEUE, seconds_since_heartbeat=self._worker_timeout_s
            )
            mine: list[Job] = []
            if self._worker_id is not None:
                mine = list(
                    await manager.list_jobs_async(
                        queue=QUEUE, status="doing", worker_id=self._worker_id
                    )
                )
            idle = [job for job in mine if job.id not in self._running]
            lost = [job for job in idle if job.id in suspected]
            suspected = {job.id for job in idle}
            for job in (*stalled, *lost):
                if job.id not in self._running:
                    await manager.retry_job(job)

    async def _append(
        self, connection: AsyncConnection, job_id: int, items: Sequence[NewItem]
    ) -> None:
        if items:
            chunks = await self._items.append(connection, job_id, items)
            await self._defer(connection, job_id, chunks)

    async def _defer(
        self,
        connection: AsyncConnection,
        job_id: int,
        chunks: Sequence[int],
        at: datetime | None = None,
    ) -> None:
        """Queue chunks as part of the caller's transaction.

        The first chunks of every job come before the later ones of others, so that a short job does
        not wait for a long one; and no chunk is worked on twice at once.
        """
        driver = await driver_connection(connection)
        captions = await self._items.source(connection, job_id) == "caption"
        for chunk in chunks:
            task = self._queue.tasks[INDEX_CHUNK].configure(
                connection=driver,
                lock=CAPTIONS if captions else f"{job_id}:{chunk}",
                priority=-min(chunk, 1_000_000),
                schedule_at=at,
            )
            await task.defer_async(job_id=job_id, chunk=chunk)

    async def _index_chunk(self, context: JobContext, job_id: int, chunk: int) -> None:
        task_id = context.job.id
        assert task_id is not None  # noqa: S101 - only jobs that are not yet queued have none
        self._running.add(task_id)
        self._worker_id = context.job.worker_id
        try:
            await self._index_due(job_id, chunk)
        finally:
            self._running.discard(task_id)

    async def _index_due(self, job_id: int, chunk: int) -> None:
        """Index a chunk's items; what must wait long for its next try goes back to the queue."""
        while True:
            items = await self._items.due(job_id, chunk)
            if not await self._index_unless_cancelled(job_id, items):
                return
            later = await self._items.next_due(job_id, chunk)
            if later is None:
                await self._caption_if_done(job_id)
                return
            wait_s = (later - datetime.now(UTC)).total_seconds()
            if wait_s > SHORT_WAIT_S:
                async with self._database.begin() as connection:
                    await self._defer(connection, job_id, [chunk], later)
                return
            await asyncio.sleep(max(0, wait_s))

    async def _caption_if_done(self, job_id: int) -> None:
        """When a job has ended, let what it indexed be described, as a job of its own."""
        if self._captioner.is_on and not await self._items.waits(job_id):
            await self.caption(of_job=job_id)

    async def _index_unless_cancelled(self, job_id: int, items: Sequence[Item]) -> bool:
        work = asyncio.create_task(gather([self._index(item) for item in items]))
        try:
            while not work.done():
                await asyncio.wait([work], timeout=POLL_S)
                if not work.done() and await self._items.is_cancelled(job_id):
                    return False
            await work
        finally:
            work.cancel()
            await asyncio.wait([work])
        return True

    async def _index(self, item: Item) -> None:
        try:
            if item.source == "caption":
                outcome = await self._captioner.caption(item)
            else:
                outcome = await self._indexer.upsert(item.source, item.entry, item=item)
            problem = outcome.problem
        except DatabaseUnavailable:
            raise
        except Exception:
            logger.exception("indexing %s", item.entry.url)
            problem = Problem()
        if problem is None:
            return
        if problem.may_pass and item.tries + 1 < MOST_TRIES:
            wait_s = max(self._retry_s * 2**item.tries, problem.retry_after_s or 0)
            await self._items.postpone(item, problem.detail, wait_s=min(wait_s, LONGEST_WAIT_S))
        else:
            await self._items.fail(item, problem.detail)

    async def _stops_within(self, seconds: float) -> bool:
        """Wait so long, or until this process stops; return whether it does."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.stopping.wait(), seconds)
        return self.stopping.is_set()


def _parts(items: Iterable[NewItem]) -> Iterator[list[NewItem]]:
    iterator = iter(items)
    while part := list(islice(iterator, ITEMS_PER_TRANSACTION)):
        yield part


async def _until_first(*work: Coroutine[Any, Any, Any]) -> None:
    """Run coroutines together until one of them ends; raises what it, or another, raised."""
    tasks = [asyncio.create_task(item) for item in work]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


class _UntilDone(BaseRetryStrategy):
    """Tries again whatever stopped a chunk: the database went away, or the worker was told to."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision:
        wait_s = 0 if isinstance(exception, asyncio.CancelledError) else min(2**job.attempts, 60)
        return RetryDecision(retry_in={"seconds": wait_s})


def _queue(url: str, index_chunk: Callable[..., Any]) -> App:
    """Return the queue; not a module's global, so that each server has its own."""
    connector = PsycopgConnector(
        conninfo=url,
        min_size=1,
        max_size=4,
        timeout=CONNECT_TIMEOUT_S,
        kwargs={"prepare_threshold": None, "connect_timeout": CONNECT_TIMEOUT_S},
    )
    app = App(connector=connector)

    @app.task(name=INDEX_CHUNK, queue=QUEUE, pass_context=True, retry=_UntilDone())
    async def run(context: JobContext, job_id: int, chunk: int) -> None:
        await index_chunk(context, job_id, chunk)

    return app
