"""Queries are decoded before the index, and all of it within a bound of memory."""

import asyncio
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import pytest

from app.pictures import pool as pool_module
from app.pictures.decoding import Decoder
from app.pictures.pool import DecodingPool, Memory, Room
from app.problems import TooCostly
from tests.samples import encode, photo


@contextmanager
def pool_of(threads: int, *, most_bytes: int = 1_000_000_000) -> Generator[DecodingPool]:
    pool = DecodingPool(threads, memory=Memory(most_bytes))
    try:
        yield pool
    finally:
        pool.close()


class Held:
    """Work that begins, and ends when it is told to."""

    def __init__(self) -> None:
        self.began, self.end = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.began.set()
        assert self.end.wait(60)


def test_a_query_does_not_wait_for_the_index() -> None:
    with pool_of(2) as pool:
        held = [Held() for _ in range(2)]
        busy = [pool.submit(work) for work in held]
        for work in held:
            assert work.began.wait(60)
        waiting = pool.submit(lambda: "indexed")
        # All threads of the index are taken.
        assert pool.submit(lambda: "found", first=True).result(60) == "found"
        assert not waiting.done()
        for work in held:
            work.end.set()
        assert waiting.result(60) == "indexed"
        assert [future.result(60) for future in busy] == [None, None]


def test_queries_come_first_in_the_order_of_asking() -> None:
    order: list[str] = []
    with pool_of(1) as pool:
        held = [Held(), Held()]
        pool.submit(held[0])
        pool.submit(held[1], first=True)
        for work in held:
            assert work.began.wait(60)
        futures: list[Future[None]] = []
        for name, first in (("a", False), ("b", False), ("q", True), ("r", True)):
            futures.append(pool.submit(lambda name=name: order.append(name), first=first))
        # One thread, so that nothing ends at the same time.
        held[1].end.set()
        for future in futures[2:]:
            future.result(60)
        held[0].end.set()
        for future in futures:
            future.result(60)
    assert order == ["q", "r", "a", "b"]


def test_failures_are_those_of_the_work_and_what_is_cancelled_is_dropped() -> None:
    ran: list[str] = []
    with pool_of(1) as pool:
        held = Held()
        pool.submit(held)
        dropped = pool.submit(lambda: ran.append("dropped"))
        failing: Future[float] = pool.submit(lambda: 1 / 0)
        assert dropped.cancel()
        held.end.set()
        with pytest.raises(ZeroDivisionError):
            failing.result(60)
    assert ran == []


def test_closing_finishes_what_has_begun_and_cancels_the_rest() -> None:
    pool = DecodingPool(1, memory=Memory(1))
    held = Held()
    begun = pool.submit(held)
    assert held.began.wait(60)
    queued = pool.submit(lambda: None)
    closing = threading.Thread(target=pool.close)
    closing.start()
    held.end.set()
    closing.join(60)
    assert not closing.is_alive()
    assert begun.result(0) is None
    assert queued.cancelled()


def taking(memory: Memory, size: int, order: list[Any], *, first: bool) -> threading.Thread:
    """A thread that waits for memory and notes its name; returned once it waits or has it."""

    def take() -> None:
        memory.take(size, first=first)
        order.append((size, first))

    before = memory.waiting
    thread = threading.Thread(target=take)
    thread.start()
    while memory.waiting == before and thread.is_alive():
        thread.join(0.001)
    return thread


def test_memory_is_waited_for_and_queries_have_it_first() -> None:
    memory, order = Memory(100), list[tuple[int, bool]]()
    memory.take(90, first=True)
    threads = [taking(memory, 60, order, first=False), taking(memory, 61, order, first=True)]
    assert order == []
    memory.give_back(90)
    threads[1].join(60)
    assert order == [(61, True)]
    assert memory.free_bytes == 39
    memory.give_back(61)
    threads[0].join(60)
    assert order == [(61, True), (60, False)]
    assert memory.free_bytes == 40


def test_the_index_leaves_a_part_to_queries() -> None:
    memory, order = Memory(100), list[tuple[int, bool]]()
    memory.take(50, first=False)
    waiting = taking(memory, 30, order, first=False)
    taking(memory, 31, order, first=True).join(60)
    assert order == [(31, True)]
    memory.give_back(50)
    waiting.join(60)
    assert memory.free_bytes == 100 - 61


def test_alone_an_image_of_the_index_may_take_everything() -> None:
    memory = Memory(100)
    memory.take(100, first=False)
    assert memory.free_bytes == 0


def test_what_can_never_fit_is_refused_at_once() -> None:
    memory = Memory(50_000_000)
    memory.take(50_000_000, first=True)
    with pytest.raises(TooCostly, match=r"would take 51 MB; this server allows 50 MB"):
        memory.take(51_000_000, first=True)


def test_an_image_that_needs_more_gives_back_first_so_that_no_two_wait_for_each_other() -> None:
    memory = Memory(100)
    rooms = [Room(memory, first=True) for _ in range(2)]
    for room in rooms:
        room.need(50)
    grown = [threading.Thread(target=room.need, args=(90,)) for room in rooms]
    for thread in grown:
        thread.start()
    done: list[Room] = []
    while len(done) < 2:
        for room, thread in zip(rooms, grown, strict=True):
            thread.join(0.001)
            if not thread.is_alive() and room not in done:
                room.leave()
                done.append(room)
    assert memory.free_bytes == 100


def test_less_than_before_is_not_taken_again() -> None:
    memory = Memory(100)
    room = Room(memory)
    for size in (60, 20, 60):
        room.need(size)
    assert memory.free_bytes == 40
    room.leave()
    room.leave()
    assert memory.free_bytes == 100


def test_attempts_end_when_the_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "LONGEST_S", -1)
    room = Room(Memory(100))
    room.need(1)
    with pytest.raises(TooCostly, match="takes longer than"):
        room.need(1)


@pytest.fixture
def with_decoder() -> Generator[Callable[..., Any]]:
    with pool_of(1) as pool:

        def run(work: Callable[[Decoder], Any]) -> Any:
            return asyncio.run(work(Decoder(pool, max_pixels=1_000_000)))

        yield run
        # Whatever became of the image, its memory is free again.
        assert pool.memory.free_bytes == pool.memory.most_bytes


def test_pixels_are_counted_until_they_are_used(with_decoder: Callable[..., Any]) -> None:
    free: list[int] = []

    async def work(decoder: Decoder) -> Any:
        memory = decoder.pool.memory
        return await decoder.decode_and(
            encode(photo(1)), lambda picture: free.append(memory.free_bytes)
        )

    facts, _ = with_decoder(work)
    assert facts.width == 256
    assert not hasattr(facts, "image")
    assert free[0] < 1_000_000_000


def test_waiting_for_an_image_ends_although_its_thread_does_not(
    with_decoder: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.pictures.decoding.LONGEST_S", 0.05)
    held = Held()

    async def work(decoder: Decoder) -> None:
        with pytest.raises(TooCostly, match=r"takes longer than 0\.05 s"):
            await decoder.decode_and(encode(photo(1)), lambda _: held())
        assert held.began.is_set()
        # It still counts among those being decoded.
        assert decoder.pool.memory.free_bytes < decoder.pool.memory.most_bytes
        held.end.set()
        # One thread decodes for the index, so this begins after the other has ended.
        await decoder.facts(encode(photo(2), "JPEG"))

    with_decoder(work)


def test_an_image_that_fails_gives_its_memory_back(with_decoder: Callable[..., Any]) -> None:
    async def work(decoder: Decoder) -> None:
        with pytest.raises(ZeroDivisionError):
            await decoder.decode_and(encode(photo(1)), lambda _: 1 / 0)

    with_decoder(work)
