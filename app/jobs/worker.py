"""A worker: takes chunks off the queue and indexes their items; then it makes keypoints.

The items of a chunk are indexed together, and each is ended by the transaction that stores its
image. If a worker dies, another takes over its tasks and skips the items that have ended. Items
that failed for a reason that may pass are retried.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import psycopg
from procrastinate import JobContext
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job
from procrastinate.worker import Worker as QueueWorker
from psycopg_pool import PoolTimeout

from app.indexing.changes import Changer
from app.indexing.coalescer import gather
from app.indexing.indexer import Indexer
from app.indexing.keypoint_maker import KeypointMaker
from app.jobs.captions import Captioner
from app.jobs.queue import CAPTION_QUEUE, QUEUE, QUEUES, ChunkQueue
from app.logs import fields
from app.problems import DatabaseUnavailable, Problem, Unavailable
from app.store.database import Database
from app.store.items import Item
from app.store.job_items import JobItems
from app.store.urls import loggable, without_credentials
from app.store.workers import Workers

logger = logging.getLogger(__name__)

# Enough to keep the encoder busy while some chunks wait for slow hosts.
CHUNKS_AT_ONCE = 8
MAX_TRIES = 5
MAX_RETRY_WAIT_S = 3600
# A chunk that was interrupted is indexed item by item, so that an item that ends the worker or the
# database with it is found; after this many interruptions its other items fail.
MAX_INTERRUPTIONS = 30
INTERRUPTED = "Indexing this image was interrupted too often; see the server's log."
# How often this process tries a chunk that an error of ours ends.
MAX_FAILURES = 5
# A chunk waits this long itself for its next retry; before a longer wait it returns to the queue.
SHORT_WAIT_S = 2
POLL_S = 1.0
# How often it is looked whether a job whose items are being indexed was cancelled.
CANCELLED_WITHIN_S = 1.0
# How long running chunks may continue after the signal to stop.
GRACE_S = 5
# How often old jobs and old trash are deleted.
UPKEEP_S = 3600
# After keypoints could not be made.
PAUSE_S = 60
# What interrupts a chunk, and is no fault of it.
OUTAGES = (Unavailable, ConnectorException, PoolTimeout)


class Worker:
    """Works on the chunks of the queue until told to stop.

    `retry_s` is the wait before an item's first retry and doubles with each one. A worker whose
    last heartbeat is `worker_timeout_s` old counts as dead. `chunk_ended` is awaited with the job's
    id and the chunk's number whenever the last item of a chunk has ended, and `upkeep` once an
    hour.
    """

    def __init__(
        self,
        *,
        database: Database,
        job_items: JobItems,
        workers: Workers,
        indexer: Indexer,
        captioner: Captioner,
        keypoint_maker: KeypointMaker,
        changer: Changer,
        retry_s: float,
        worker_timeout_s: float,
        chunk_ended: Callable[[int, int], Awaitable[None]],
        upkeep: Callable[[], Awaitable[None]],
    ) -> None:
        self._database = database
        self._job_items = job_items
        self._workers = workers
        self._id = uuid4()
        self._indexer = indexer
        self._captioner = captioner
        self._keypoint_maker = keypoint_maker
        self._changer = changer
        self._retry_s = retry_s
        self._worker_timeout_s = worker_timeout_s
        self._chunk_ended = chunk_ended
        self._upkeep = upkeep
        self._running_tasks: set[int] = set()
        # By job and chunk. Attempts that the queue counts include outages, which last as they last.
        self._failures: Counter[tuple[int, int]] = Counter()
        self._worker_id: int | None = None
        self.queue = ChunkQueue(database.url, job_items=job_items, index_chunk=self._index_chunk)
        self.stopping = asyncio.Event()

    async def work(self) -> None:
        """Work until `stopping` is set; survives outages of the database."""
        while not self.stopping.is_set():
            try:
                await _run_until_first(self._run_session(), self.stopping.wait())
            except (*OUTAGES, psycopg.Error) as exc:
                logger.warning("the queue does not answer", extra=fields(cause=exc))
            except Exception:
                logger.exception("the worker failed, and starts again")
            await self.stops_within(POLL_S)

    async def stops_within(self, seconds: float) -> bool:
        """Wait up to `seconds` for `stopping`; return whether it is set."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.stopping.wait(), seconds)
        return self.stopping.is_set()

    async def _run_session(self) -> None:
        """Run one Procrastinate worker until it fails or is cancelled."""
        app = self.queue.app
        try:
            await app.open_async()
            worker = QueueWorker(
                app=app,
                queues=[QUEUE, CAPTION_QUEUE] if self._captioner.is_on else [QUEUE],
                concurrency=CHUNKS_AT_ONCE,
                fetch_job_polling_interval=POLL_S,
                shutdown_graceful_timeout=GRACE_S,
                delete_jobs="successful",
                install_signal_handlers=False,
                update_heartbeat_interval=self._worker_timeout_s / 3,
                stalled_worker_timeout=self._worker_timeout_s,
            )
            await _run_until_first(
                worker.run(),
                self._requeue_lost_tasks(),
                self._show_life(),
                self._keep_up(),
                self._make_keypoints(),
                self._stop_in_time(worker),
            )
        finally:
            await app.close_async()

    async def _stop_in_time(self, worker: QueueWorker) -> None:
        """Tell the queue's worker to stop when this one does.

        Cancelling it is not enough: before Python 3.12, `asyncio.wait_for`, on which connections
        wait as it starts, loses a cancellation that arrives together with its result.
        """
        await self.stopping.wait()
        worker.stop()

    async def _show_life(self) -> None:
        """Record at regular intervals that this worker is alive, and on leaving that it is not."""
        try:
            while True:
                await self._workers.renew(
                    self._id, captions=self._captioner.is_on, for_s=self._worker_timeout_s
                )
                await asyncio.sleep(self._worker_timeout_s / 3)
        finally:
            with contextlib.suppress(Unavailable):
                await self._workers.remove(self._id)

    async def _keep_up(self) -> None:
        while True:
            try:
                await self._upkeep()
            except Unavailable as exc:
                logger.warning(
                    "old jobs and trash are not deleted this time", extra=fields(cause=exc)
                )
            except Exception:
                logger.exception("old jobs and trash are not deleted this time")
            await asyncio.sleep(UPKEEP_S)

    async def _make_keypoints(self) -> None:
        while True:
            try:
                await self._keypoint_maker.run()
            except Unavailable as exc:
                logger.warning("no keypoints are made for a while", extra=fields(cause=exc))
            except Exception:
                logger.exception("no keypoints are made for a while")
            await asyncio.sleep(PAUSE_S)

    async def _requeue_lost_tasks(self) -> None:
        """Return abandoned tasks to the queue, at regular intervals.

        Abandoned are the tasks of dead workers, and those that this worker lost because the
        database went away while they were handed over or finished. A task that runs here is never
        one of them, although a computer that slept finds its own worker dead.
        """
        manager = self.queue.app.job_manager
        suspected: set[int | None] = set()
        while True:
            await asyncio.sleep(self._worker_timeout_s / 3)
            stalled = [
                job
                for queue in QUEUES
                for job in await manager.get_stalled_jobs(
                    queue=queue, seconds_since_heartbeat=self._worker_timeout_s
                )
            ]
            idle = [job for job in await self._own_tasks() if job.id not in self._running_tasks]
            # Idle in two checks in a row: in one, it may be on its way from the queue to us.
            lost = [job for job in idle if job.id in suspected]
            suspected = {job.id for job in idle}
            for job in (*stalled, *lost):
                if job.id not in self._running_tasks:
                    logger.warning(
                        "a worker died or lost its task: another takes it over",
                        extra=fields(worker=job.worker_id, **_named_chunk(job)),
                    )
                    await manager.retry_job(job)

    async def _own_tasks(self) -> Sequence[Job]:
        """Return the tasks that the queue believes this worker to run."""
        if self._worker_id is None:
            return []
        tasks = await self.queue.app.job_manager.list_jobs_async(
            status="doing", worker_id=self._worker_id
        )
        return list(tasks)

    async def _index_chunk(self, context: JobContext, job_id: int, chunk: int) -> None:
        task_id = context.job.id
        assert task_id is not None  # noqa: S101 - a task that runs was queued, and so has an id
        self._running_tasks.add(task_id)
        self._worker_id = context.job.worker_id
        interruptions = context.job.attempts
        try:
            if interruptions >= MAX_INTERRUPTIONS:
                given_up = fields(job=job_id, chunk=chunk, interruptions=interruptions)
                logger.error("a chunk was interrupted too often: its items fail", extra=given_up)
                await self._job_items.fail_chunk(job_id, chunk, INTERRUPTED)
            await self._index_due_items(job_id, chunk, together=interruptions == 0)
            del self._failures[job_id, chunk]
        except OUTAGES as exc:
            interrupted = fields(job=job_id, chunk=chunk, cause=exc)
            logger.warning("a chunk was interrupted", extra=interrupted)
            raise
        except Exception:
            await self._fail_or_retry(job_id, chunk)
        finally:
            self._running_tasks.discard(task_id)

    async def _fail_or_retry(self, job_id: int, chunk: int) -> None:
        """Log the error of ours that ended a chunk, and raise it again unless it was its last try.

        After the last one, the chunk's pending items fail.
        """
        self._failures[job_id, chunk] += 1
        tries = self._failures[job_id, chunk]
        failed = fields(job=job_id, chunk=chunk, tries=tries, most=MAX_FAILURES)
        logger.exception("a chunk failed", extra=failed)
        if tries < MAX_FAILURES:
            raise
        await self._job_items.fail_chunk(job_id, chunk, Problem().detail)
        del self._failures[job_id, chunk]

    async def _index_due_items(self, job_id: int, chunk: int, *, together: bool) -> None:
        """Index a chunk's items; requeue the chunk if its next retry is not due soon."""
        while True:
            items = await self._job_items.due(job_id, chunk)
            if not self._captioner.is_on and any(item.source == "caption" for item in items):
                # From a server of an older version, which knows one queue only.
                async with self._database.begin() as connection:
                    await self.queue.defer(connection, job_id, [chunk])
                return
            work = self._index_together(items) if together else self._index_one_by_one(items)
            finished = await self._finished(job_id, work)
            if not finished:
                return
            next_due = await self._job_items.next_due(job_id, chunk)
            if next_due is None:
                await self._chunk_ended(job_id, chunk)
                return
            wait_s = (next_due - datetime.now(UTC)).total_seconds()
            if wait_s > SHORT_WAIT_S:
                async with self._database.begin() as connection:
                    await self.queue.defer(connection, job_id, [chunk], at=next_due)
                return
            await asyncio.sleep(max(0, wait_s))

    async def _finished(self, job_id: int, work: Coroutine[Any, Any, Any]) -> bool:
        """Index items; return False, with the rest left undone, if the job is cancelled."""
        indexing = asyncio.create_task(work)
        try:
            while not indexing.done():
                await asyncio.wait([indexing], timeout=CANCELLED_WITHIN_S)
                if not indexing.done() and await self._job_items.is_cancelled(job_id):
                    return False
            await indexing
        finally:
            indexing.cancel()
            await asyncio.wait([indexing])
        return True

    async def _index_together(self, items: Sequence[Item]) -> None:
        if items and items[0].source == "change":
            await self._changer.change(items)
        else:
            await gather(map(self._index, items))

    async def _index_one_by_one(self, items: Sequence[Item]) -> None:
        """Index the items of a chunk that was interrupted; each attempt is counted beforehand.

        An item with which every attempt is interrupted fails.
        """
        for item in items:
            if item.tries >= MAX_TRIES:
                await self._job_items.fail(item, INTERRUPTED)
                continue
            await self._job_items.start(item)
            try:
                await self._index(item)
            except DatabaseUnavailable as problem:
                # If the database answers now, the item is to blame; if not, this raises again.
                logger.warning(
                    "an image interrupted its worker",
                    extra=fields(**_named(item), cause=problem.__cause__),
                )
                await self._end_or_retry(item, problem)

    async def _index(self, item: Item) -> None:
        """Index, caption or change one item; record a failure, or a retry if the problem may pass.

        Raises `DatabaseUnavailable`.
        """
        problem = None
        try:
            if item.source == "change":
                await self._changer.change([item])
            elif item.source == "caption":
                problem = (await self._captioner.caption(item)).problem
            else:
                outcome = await self._indexer.upsert(item.source, item.entry, item=item)
                problem = outcome.problem
        except DatabaseUnavailable:
            raise
        except Unavailable as exc:
            problem = exc
        except Exception:
            logger.exception("unexpected error", extra=fields(**_named(item)))
            problem = Problem()
        if problem is not None:
            await self._end_or_retry(item, problem)

    async def _end_or_retry(self, item: Item, problem: Problem) -> None:
        reason = without_credentials(problem.detail)
        if problem.may_pass and item.next_tries < MAX_TRIES:
            wait_s = self._retry_s * 2**item.tries
            if not isinstance(problem, Unavailable):
                wait_s = max(wait_s, problem.retry_after_s or 0)
            wait_s = min(wait_s, MAX_RETRY_WAIT_S)
            again = fields(**_named(item), tries=item.next_tries, wait_s=wait_s, reason=reason)
            logger.info("item will be retried", extra=again)
            await self._job_items.postpone(item, problem.detail, wait_s=wait_s)
        else:
            failed = fields(**_named(item), tries=item.next_tries, reason=reason)
            logger.info("item failed", extra=failed)
            await self._job_items.fail(item, problem.detail)


def _named_chunk(task: Job) -> dict[str, object]:
    """Return what names the chunk of a task in the log."""
    return {"job": task.task_kwargs.get("job_id"), "chunk": task.task_kwargs.get("chunk")}


def _named(item: Item) -> dict[str, object]:
    """Return what names an item in the log."""
    return {"job": item.job_id, "item": item.position, "url": loggable(item.entry.url)}


async def _run_until_first(*work: Coroutine[Any, Any, Any]) -> None:
    """Run coroutines together until one ends, then cancel the others; raises what any raised."""
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
