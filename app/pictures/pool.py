"""The threads that decode images, within a bound of memory; queries come before indexing."""

import heapq
import itertools
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from time import monotonic
from typing import Any, TypeVar

from app.problems import TooCostly

T = TypeVar("T")

# Seconds that one image may be decoded for. A thread cannot be stopped, so what an image may cost
# is bounded beforehand (costs.py); this ends the wait for what that did not foresee.
LONGEST_S = 60.0
# The share of the memory that indexing leaves to queries, unless nothing else is being decoded.
LEFT_TO_QUERIES = 0.25


class Memory:
    """The bytes that all images being decoded may take together.

    Who asks for more than is free waits, queries first and otherwise in the order of asking.
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.free_bytes = most_bytes
        self._changed = threading.Condition()
        self._waiting: list[tuple[bool, int]] = []
        self._numbers = itertools.count()

    @property
    def waiting(self) -> int:
        """How many images wait for memory."""
        with self._changed:
            return len(self._waiting)

    def take(self, size: int, *, first: bool) -> None:
        """Take `size` bytes, once they are free; raises `TooCostly` if they never can be."""
        if size > self.most_bytes:
            raise TooCostly(
                f"Decoding the image would take {size / 1e6:,.0f} MB; "
                f"this server allows {self.most_bytes / 1e6:,.0f} MB (MAX_DECODED_MB)."
            )
        with self._changed:
            mine = (not first, next(self._numbers))
            heapq.heappush(self._waiting, mine)
            self._changed.wait_for(lambda: self._waiting[0] == mine and self._fits(size, first))
            heapq.heappop(self._waiting)
            self.free_bytes -= size
            self._changed.notify_all()

    def give_back(self, size: int) -> None:
        """Return bytes that were taken."""
        with self._changed:
            self.free_bytes += size
            self._changed.notify_all()

    def _fits(self, size: int, first: bool) -> bool:
        kept = 0 if first else self.most_bytes * LEFT_TO_QUERIES
        return size + kept <= self.free_bytes or self.free_bytes == self.most_bytes


class Room:
    """The memory and the time of one image while it is decoded.

    `on_start` is called in the decoding thread when the time begins, which is once there is memory.
    """

    def __init__(
        self, memory: Memory, *, first: bool = False, on_start: Callable[[], object] | None = None
    ) -> None:
        self._memory = memory
        self._first = first
        self._on_start = on_start
        self._taken = 0
        self._deadline: float | None = None

    def need(self, size: int) -> None:
        """Reserve `size` bytes for what comes next, and wait for them; call before each attempt.

        Raises `TooCostly` if there can never be so much, or if the time is up.
        """
        if self._deadline is not None and monotonic() > self._deadline:
            raise TooCostly(f"Decoding the image takes longer than {LONGEST_S:g} s.")
        if size > self._taken:
            # Nobody waits for more while holding some, so nobody waits for ever.
            self.leave()
            self._memory.take(size, first=self._first)
            self._taken = size
        if self._deadline is None:
            self._deadline = monotonic() + LONGEST_S
            if self._on_start is not None:
                self._on_start()

    def leave(self) -> None:
        """Return the memory."""
        taken, self._taken = self._taken, 0
        self._memory.give_back(taken)


class DecodingPool:
    """Threads that run queries first, and keep one thread for nothing else.

    At most `threads` images are decoded for the index at once.
    """

    def __init__(self, threads: int, *, memory: Memory) -> None:
        self.memory = memory
        self._most = threads
        self._changed = threading.Condition()
        self._queries: deque[_Task] = deque()
        self._others: deque[_Task] = deque()
        self._indexing = 0
        self._closing = False
        self._threads = [
            threading.Thread(target=self._work, name=f"decode-{number}", daemon=True)
            for number in range(threads + 1)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, work: Callable[[], T], *, first: bool = False) -> Future[T]:
        """Queue work, before all indexing if `first`; a cancelled future is dropped."""
        future: Future[T] = Future()
        with self._changed:
            (self._queries if first else self._others).append((work, future))
            self._changed.notify()
        return future

    def close(self) -> None:
        """Finish what has begun, cancel what is queued, and end the threads."""
        with self._changed:
            self._closing = True
            for _, future in (*self._queries, *self._others):
                future.cancel()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (task := self._next()) is not None:
            (work, future), first = task
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(work())
                except BaseException as exc:
                    future.set_exception(exc)
            # Not held until the next task comes.
            del work, future, task
            if not first:
                with self._changed:
                    self._indexing -= 1
                    self._changed.notify()

    def _next(self) -> "tuple[_Task, bool] | None":
        """Wait for a task; return it and whether it is a query's. None once closed."""
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    self._closing or self._queries or (self._others and self._indexing < self._most)
                )
            )
            if self._closing:
                return None
            if self._queries:
                return self._queries.popleft(), True
            self._indexing += 1
            return self._others.popleft(), False


_Task = tuple[Callable[[], Any], Future[Any]]
