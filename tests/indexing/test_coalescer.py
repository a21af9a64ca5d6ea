import asyncio
from collections.abc import Sequence

import pytest

from app.indexing.coalescer import Coalescer, gather
from app.problems import DatabaseUnavailable


def test_calls_made_during_a_batch_share_the_next_one() -> None:
    batches: list[list[int]] = []

    async def double(items: Sequence[int]) -> list[int]:
        batches.append(list(items))
        await asyncio.sleep(0)
        return [2 * item for item in items]

    async def run() -> list[int]:
        shared = Coalescer(double, max_batch=4)
        return await asyncio.gather(*(shared.submit(item) for item in range(10)))

    assert asyncio.run(run()) == list(range(0, 20, 2))
    assert batches[0] != []
    assert max(map(len, batches)) == 4
    assert [item for batch in batches for item in batch] == list(range(10))


def test_a_bad_item_fails_alone() -> None:
    async def invert(items: Sequence[int]) -> list[float]:
        return [1 / item for item in items]

    async def run() -> list[float | BaseException]:
        shared = Coalescer(invert, max_batch=8)
        calls = (shared.submit(item) for item in (1, 2, 0, 4))
        return await asyncio.gather(*calls, return_exceptions=True)

    one, half, bad, quarter = asyncio.run(run())
    assert (one, half, quarter) == (1, 0.5, 0.25)
    assert isinstance(bad, ZeroDivisionError)


def test_a_batch_is_not_retried_when_the_database_is_unavailable() -> None:
    calls = 0

    async def fail(items: Sequence[int]) -> list[int]:
        nonlocal calls
        calls += 1
        raise DatabaseUnavailable

    async def run() -> None:
        shared = Coalescer(fail, max_batch=8)
        await asyncio.gather(*(shared.submit(item) for item in range(8)))

    with pytest.raises(DatabaseUnavailable):
        asyncio.run(run())
    assert calls == 1


def test_a_failure_among_gathered_calls_keeps_its_cause() -> None:
    async def fail() -> None:
        raise DatabaseUnavailable from ValueError("the cause")

    async def wait() -> None:
        await asyncio.Event().wait()

    with pytest.raises(DatabaseUnavailable) as caught:
        asyncio.run(gather([wait(), fail()]))
    assert str(caught.value.__cause__) == "the cause"


def test_cancelled_calls_are_skipped() -> None:
    seen: list[int] = []

    async def note(items: Sequence[int]) -> list[int]:
        seen.extend(items)
        await asyncio.sleep(0)
        return list(items)

    async def run() -> None:
        shared = Coalescer(note, max_batch=1)
        first = asyncio.create_task(shared.submit(1))
        second = asyncio.create_task(shared.submit(2))
        await asyncio.sleep(0)
        second.cancel()
        assert await first == 1
        assert await shared.submit(3) == 3

    asyncio.run(run())
    assert seen == [1, 3]
