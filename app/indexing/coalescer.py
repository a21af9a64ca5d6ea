"""Concurrent calls that share batches of work."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from typing import Any, Generic, TypeVar

from app.problems import Unavailable, WriteConflict

# About as long as a transaction with one row.
HELD_OPEN_S = 0.01
# For what arrives one by one, and waits for longer than this later on, as images of a job do: for
# the rest of their batch to be embedded.
LONGER_S = 0.03
# How often a batch that conflicts with another writer is run.
MAX_RUNS = 3

T = TypeVar("T")
R = TypeVar("R")


class Coalescer(Generic[T, R]):
    """Runs `work` on the items submitted while it was busy, at most `max_batch` at once.

    `work` returns one result per item, in order. A single call runs at once; after a batch of
    several, the next one is held open for `held_open_s`, which makes fewer and larger batches under
    load. If a batch fails, its items are retried one by one, so that a bad item fails alone, unless
    the problem is `Unavailable`. After a `WriteConflict`, the batch runs again, thrice at most.
    """

    def __init__(
        self,
        work: Callable[[Sequence[T]], Awaitable[Sequence[R]]],
        *,
        max_batch: int,
        held_open_s: float = HELD_OPEN_S,
    ) -> None:
        self._work = work
        self._held_open_s = held_open_s
        self._max_batch = max_batch
        self._waiting: list[tuple[T, asyncio.Future[R]]] = []
        self._worker: asyncio.Task[None] | None = None

    async def submit(self, item: T) -> R:
        """Return the item's result; raises what `work` raises."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._worker is None:
            self._worker = asyncio.create_task(self._run())
        return await future

    async def _run(self) -> None:
        busy = False
        try:
            while self._waiting:
                if busy and len(self._waiting) < self._max_batch:
                    await asyncio.sleep(self._held_open_s)
                batch = self._waiting[: self._max_batch]
                del self._waiting[: self._max_batch]
                await self._run_batch([pair for pair in batch if not pair[1].done()])
                busy = len(batch) > 1
        finally:
            self._worker = None

    async def _run_batch(self, batch: Sequence[tuple[T, asyncio.Future[R]]]) -> None:
        if not batch:
            return
        try:
            results = await self._run_work([item for item, _ in batch])
        except Exception as exc:
            if len(batch) > 1 and not isinstance(exc, Unavailable):
                for pair in batch:
                    await self._run_batch([pair])
                return
            for _, future in batch:
                if not future.done():
                    future.set_exception(exc)
            return
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)

    async def _run_work(self, items: Sequence[T]) -> Sequence[R]:
        for _ in range(MAX_RUNS - 1):
            with suppress(WriteConflict):
                return await self._work(items)
        return await self._work(items)


async def gather(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run coroutines together; the first one's failure ends the others and is raised as it is."""
    started: list[asyncio.Task[T]] = []
    try:
        async with asyncio.TaskGroup() as tasks:
            started += [tasks.create_task(item) for item in work]
    except BaseExceptionGroup as group:
        failure = group.exceptions[0]
    else:
        return [task.result() for task in started]
    # Not `from` the group, which would take the place of its own cause.
    raise failure
