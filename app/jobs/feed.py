"""The progress of jobs, read once for everyone in this process who follows them."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Collection
from dataclasses import dataclass, field

from app.logs import fields
from app.problems import Unavailable
from app.store.items import JobProgress
from app.store.job_changes import JobChanges
from app.store.job_items import JobItems

logger = logging.getLogger(__name__)

# A job that changes is read this often at most; where changes are not announced, this often.
READ_EVERY_S = 0.5
# How often jobs are read although no change was announced: rates fall by themselves.
READ_ALL_EVERY_S = 5
MAX_SILENCE_S = 10
# How many of the items that ended last, and of the failed ones, are shown.
RECENT, FAILURES = 12, 20


@dataclass(eq=False, slots=True)
class _Follower:
    """Someone who follows jobs; `news` is what they have not seen yet, None for a deleted job."""

    jobs: set[int]
    news: dict[int, JobProgress | None] = field(default_factory=dict[int, JobProgress | None])
    fault: Exception | None = None
    woken: asyncio.Event = field(default_factory=asyncio.Event)


class JobFeed:
    """Reads the jobs that are followed, with one connection at a time however many follow them.

    It reads only while someone does. An outage of the database is waited out.
    """

    def __init__(
        self, *, job_items: JobItems, changes: JobChanges, stopping: asyncio.Event
    ) -> None:
        self._job_items = job_items
        self._changes = changes
        self._stopping = stopping
        self._followers: set[_Follower] = set()
        self._new: set[int] = set()
        self._changed: set[int] = set()
        self._woken = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None

    async def follow(self, job_ids: Collection[int]) -> AsyncGenerator[JobProgress]:
        """Yield the progress of jobs, and again whenever it changes, until all of them have ended.

        Someone slow misses what lies between. Unchanged progress is yielded every 10 seconds, so
        that a lost client is noticed. Ends early when the process stops.
        """
        follower = _Follower(set(job_ids))
        seen: dict[int, JobProgress] = {}
        self._join(follower)
        try:
            while follower.jobs and not self._stopping.is_set():
                for job in await _next(follower, seen):
                    seen[job.id] = job
                    if job.state != "running":
                        follower.jobs.discard(job.id)
                    yield job
        finally:
            await self._leave(follower)

    def wake(self) -> None:
        """Let everyone who follows jobs see that the process stops."""
        for follower in self._followers:
            follower.woken.set()

    def _join(self, follower: _Follower) -> None:
        self._followers.add(follower)
        self._new |= follower.jobs
        self._woken.set()
        if self._reading is None:
            self._reading = asyncio.create_task(self._read_while_followed())

    async def _leave(self, follower: _Follower) -> None:
        self._followers.discard(follower)
        reading = self._reading
        if reading is not None and not self._followers:
            self._reading = None
            await _end(reading)

    def _on_change(self, job_id: int | None) -> None:
        if job_id is None:
            self._changed |= {one for follower in self._followers for one in follower.jobs}
        else:
            self._changed.add(job_id)
        self._woken.set()

    async def _read_while_followed(self) -> None:
        listening = asyncio.create_task(self._changes.listen(self._on_change))
        try:
            await self._read_for_ever()
        finally:
            await _end(listening)

    async def _read_for_ever(self) -> None:
        now = asyncio.get_running_loop().time
        read_at = read_all_at = now()
        while True:
            self._woken.clear()
            followed = {job_id for follower in self._followers for job_id in follower.jobs}
            due, self._new = self._new & followed, set()
            if now() >= read_at + READ_EVERY_S:
                due |= self._changed & followed
                self._changed.clear()
                read_at = now()
            every_s = READ_ALL_EVERY_S if self._changes.arrive else READ_EVERY_S
            if now() >= read_all_at + every_s:
                due, read_all_at = followed, now()
            if due:
                await self._read(due)
            next_at = read_all_at + every_s
            if self._changed:
                next_at = min(next_at, read_at + READ_EVERY_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, next_at - now())):
                    await self._woken.wait()

    async def _read(self, job_ids: Collection[int]) -> None:
        try:
            found = await self._job_items.progress_of(job_ids, recent=RECENT, failures=FAILURES)
        except Unavailable as exc:
            logger.warning(
                "progress is not read this time", extra=fields(cause=exc.__cause__ or exc)
            )
            self._new.update(job_ids)
            await asyncio.sleep(READ_EVERY_S)
            return
        except Exception as exc:
            for follower in self._followers:
                follower.fault = exc
                follower.woken.set()
            return
        jobs = {job.id: job for job in found}
        for follower in self._followers:
            if wanted := follower.jobs.intersection(job_ids):
                follower.news.update({job_id: jobs.get(job_id) for job_id in wanted})
                follower.woken.set()


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel a task until it ends: before Python 3.12, a wait of the driver may lose one."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=1)
    if not task.cancelled() and (fault := task.exception()) is not None:
        logger.error("progress could not be read", exc_info=fault)


async def _next(follower: _Follower, seen: dict[int, JobProgress]) -> list[JobProgress]:
    """Wait for news; return the jobs that changed, or, if none did for long, those that run."""
    try:
        async with asyncio.timeout(MAX_SILENCE_S):
            await follower.woken.wait()
    except TimeoutError:
        return [job for job_id, job in seen.items() if job_id in follower.jobs]
    follower.woken.clear()
    if follower.fault is not None:
        raise follower.fault
    news, follower.news = follower.news, {}
    follower.jobs -= {job_id for job_id, job in news.items() if job is None}
    return [job for job_id, job in news.items() if job is not None and job != seen.get(job_id)]
