"""Procrastinate's queue: one task per chunk of a job's items."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

from procrastinate import App, BaseRetryStrategy, JobContext, PsycopgConnector, RetryDecision
from procrastinate.jobs import Job
from sqlalchemy.ext.asyncio import AsyncConnection

from app.store.connections import CONNECT_TIMEOUT_S
from app.store.database import driver_connection
from app.store.job_items import JobItems

QUEUE = "lookalike"
# Only workers with a caption model take from it.
CAPTION_QUEUE = "lookalike-captions"
QUEUES = (QUEUE, CAPTION_QUEUE)
INDEX_CHUNK = "index_chunk"
# The lock of every chunk of captions: one runs at a time, which leaves room for indexing.
CAPTIONS = "captions"
LOWEST_PRIORITY = -1_000_000
LONGEST_RETRY_WAIT_S = 60
# Of one task: more than the interruptions after which the worker gives its chunk up.
MAX_TRIES = 50

IndexChunk = Callable[[JobContext, int, int], Awaitable[None]]
"""Indexes a chunk: the task's context, the job's id and the chunk's number."""


class ChunkQueue:
    """Queues chunks of jobs; `app` is the Procrastinate app whose workers call `index_chunk`."""

    def __init__(self, url: str, *, job_items: JobItems, index_chunk: IndexChunk) -> None:
        self.app = _create_app(url, index_chunk)
        self._job_items = job_items

    async def defer(
        self,
        connection: AsyncConnection,
        job_id: int,
        chunks: Sequence[int],
        *,
        at: datetime | None = None,
    ) -> None:
        """Queue chunks in the caller's transaction, to be run from `at` on, or at once if None.

        The priority falls with the chunk's number, so that a short job overtakes the rest of a long
        one. A lock keeps two workers from running the same chunk.
        """
        driver = await driver_connection(connection)
        captions = await self._job_items.source(connection, job_id) == "caption"
        for chunk in chunks:
            task = self.app.tasks[INDEX_CHUNK].configure(
                connection=driver,
                queue=CAPTION_QUEUE if captions else QUEUE,
                lock=CAPTIONS if captions else f"{job_id}:{chunk}",
                priority=max(-chunk, LOWEST_PRIORITY),
                schedule_at=at,
            )
            await task.defer_async(job_id=job_id, chunk=chunk)


class _RetryInterrupted(BaseRetryStrategy):
    """Retries an interrupted chunk: at once after a shutdown, later if the database was away.

    Before the last try, the worker lets the items fail that still wait.
    """

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        if job.attempts >= MAX_TRIES:
            return None
        wait_s = 0
        if not isinstance(exception, asyncio.CancelledError):
            wait_s = min(2**job.attempts, LONGEST_RETRY_WAIT_S)
        return RetryDecision(retry_in={"seconds": wait_s})


def _create_app(url: str, index_chunk: IndexChunk) -> App:
    """Create an app of its own for each server: tasks registered on a global would be shared."""
    connector = PsycopgConnector(
        conninfo=url,
        min_size=1,
        max_size=4,
        timeout=CONNECT_TIMEOUT_S,
        kwargs={"prepare_threshold": None, "connect_timeout": CONNECT_TIMEOUT_S},
    )
    app = App(connector=connector)

    @app.task(name=INDEX_CHUNK, queue=QUEUE, pass_context=True, retry=_RetryInterrupted())
    async def run(context: JobContext, job_id: int, chunk: int) -> None:
        await index_chunk(context, job_id, chunk)

    return app
