"""Following jobs: one connection reads for everyone, and nothing that changes is missed."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, aclosing

import pytest
from sqlalchemy import event

from app.jobs.feed import JobFeed
from app.lookalike import Lookalike
from app.settings import Settings
from app.store.images import Entry
from app.store.items import JobProgress, NewItem
from app.store.job_changes import JobChanges
from tests.jobs.test_jobs import without_worker
from tests.live import Loop
from tests.web.test_problems import away

ITEMS = [NewItem("web", Entry(f"https://example.com/{place}.png")) for place in range(2)]


async def end_first(lookalike: Lookalike, job_id: int) -> None:
    [first, *_] = await lookalike.job_items.items(job_id, state="waiting", after=-1, limit=9)
    await lookalike.job_items.fail(first, "no image")


async def seen(followed: AsyncGenerator[JobProgress], ended: int) -> JobProgress:
    """Follow until so many items have ended."""
    async for progress in followed:
        if progress.ended >= ended:
            return progress
    raise AssertionError("the stream has ended")


def feed_of(lookalike: Lookalike, changes: JobChanges) -> JobFeed:
    return JobFeed(job_items=lookalike.job_items, changes=changes, stopping=asyncio.Event())


async def announced(changes: JobChanges) -> None:
    while not changes.arrive:  # noqa: ASYNC110
        await asyncio.sleep(0.005)


class Silent(JobChanges):
    """Announces nothing, and says so once it has been `told`: what changed before was missed."""

    def __init__(self, lookalike: Lookalike) -> None:
        super().__init__(lookalike.database)
        self.arrive = True
        self.told = asyncio.Event()

    async def listen(self, on_change: Callable[[int | None], None]) -> None:
        await self.told.wait()
        on_change(None)
        await asyncio.Event().wait()


def test_what_changed_before_changes_are_announced_is_read(
    settings: Settings, loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.jobs.feed.READ_ALL_EVERY_S", 10_000)

    async def run() -> None:
        changes = Silent(lookalike)
        job_id = await lookalike.jobs.create("two", ITEMS)
        async with aclosing(feed_of(lookalike, changes).follow([job_id])) as followed:
            assert (await anext(followed)).ended == 0
            await end_first(lookalike, job_id)
            changes.told.set()
            assert (await seen(followed, 1)).ended == 1

    with without_worker(settings, loop) as lookalike:
        loop.run(run())


def test_the_first_thing_announced_is_that_anything_may_have_changed(
    settings: Settings, loop: Loop
) -> None:
    async def run() -> None:
        announced: asyncio.Queue[int | None] = asyncio.Queue()
        listening = asyncio.create_task(JobChanges(lookalike.database).listen(announced.put_nowait))
        assert await announced.get() is None
        listening.cancel()

    with without_worker(settings, loop) as lookalike:
        loop.run(run())


def test_hundreds_of_followers_use_one_connection(settings: Settings, loop: Loop) -> None:
    async def run() -> None:
        changes = JobChanges(lookalike.database)
        feed = feed_of(lookalike, changes)
        job_id = await lookalike.jobs.create("two", ITEMS)
        checkouts: list[object] = []
        async with AsyncExitStack() as stack:
            followers = [
                await stack.enter_async_context(aclosing(feed.follow([job_id]))) for _ in range(300)
            ]
            await asyncio.gather(*(seen(follower, 0) for follower in followers))
            await announced(changes)
            event.listen(
                lookalike.database.engine.sync_engine.pool,
                "checkout",
                lambda *arguments: checkouts.append(arguments),
            )
            await end_first(lookalike, job_id)
            everyone = await asyncio.gather(*(seen(follower, 1) for follower in followers))
            assert [progress.ended for progress in everyone] == [1] * 300
            # The change itself, and the readings of a few seconds at most.
            assert len(checkouts) < 30
            query = (
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND query = 'LISTEN lookalike_jobs'"
            )
            async with lookalike.database.begin() as connection:
                assert (await connection.exec_driver_sql(query)).scalar_one() == 1

    with without_worker(settings, loop) as lookalike:
        loop.run(run())


@pytest.mark.parametrize("change", ["end", "cancel", "delete", "add", "retry"])
def test_every_change_of_a_job_is_announced(
    settings: Settings, loop: Loop, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """Nobody looks for changes: they are announced, or the test ends never."""
    monkeypatch.setattr("app.jobs.feed.READ_ALL_EVERY_S", 10_000)

    async def run() -> None:
        changes = JobChanges(lookalike.database)
        feed = feed_of(lookalike, changes)
        job_id = await lookalike.jobs.create("two", ITEMS)
        if change == "retry":
            await end_first(lookalike, job_id)
        async with aclosing(feed.follow([job_id])) as followed:
            first = await seen(followed, 0)
            await announced(changes)
            makes = {
                "end": lambda: end_first(lookalike, job_id),
                "cancel": lambda: lookalike.job_items.cancel(job_id),
                "delete": lambda: lookalike.jobs.delete(job_id),
                "add": lambda: lookalike.jobs.add(job_id, ITEMS),
                "retry": lambda: lookalike.jobs.retry(job_id),
            }
            await makes[change]()
            following = [progress async for progress in _until(followed, first)]
            assert bool(following) == (change != "delete")

    with without_worker(settings, loop) as lookalike:
        loop.run(run())


async def _until(
    followed: AsyncGenerator[JobProgress], first: JobProgress
) -> AsyncGenerator[JobProgress]:
    async for progress in followed:
        if progress != first:
            yield progress
            return


def test_where_nothing_is_announced_changes_are_looked_for(
    settings: Settings, loop: Loop, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As behind a transaction pooler: LISTEN succeeds, and what is announced goes elsewhere."""
    monkeypatch.setattr("app.store.job_changes.PROBE_S", 0.05)

    async def run() -> None:
        changes = JobChanges(lookalike.database)
        feed = feed_of(lookalike, changes)
        job_id = await lookalike.jobs.create("two", ITEMS)
        async with aclosing(feed.follow([job_id])) as followed:
            await seen(followed, 0)
            await end_first(lookalike, job_id)
            await seen(followed, 1)
            await end_first(lookalike, job_id)
            assert (await seen(followed, 2)).state == "done"
        assert not changes.arrive

    with without_worker(settings, loop) as lookalike:
        # Notifications stay within a database.
        monkeypatch.setattr(lookalike.database, "url", postgres)
        loop.run(run())


def test_an_outage_is_waited_out(settings: Settings, loop: Loop) -> None:
    async def run() -> None:
        feed = feed_of(lookalike, JobChanges(lookalike.database))
        job_id = await lookalike.jobs.create("two", ITEMS)
        async with aclosing(feed.follow([job_id])) as followed:
            await seen(followed, 0)
            following = asyncio.create_task(seen(followed, 2))
            with away(lookalike):
                await asyncio.wait([following], timeout=0.7)
                assert not following.done()
            for _ in ITEMS:
                await end_first(lookalike, job_id)
            assert (await following).state == "done"

    with without_worker(settings, loop) as lookalike:
        loop.run(run())


def test_several_jobs_are_followed_until_the_last_one_ends(settings: Settings, loop: Loop) -> None:
    async def run() -> None:
        ids = [await lookalike.jobs.create(f"{n}", ITEMS[:1]) for n in range(4)]
        await lookalike.jobs.delete(ids[1])
        followed = lookalike.jobs.watch(*ids, 999)
        for job_id in (ids[0], *ids[2:]):
            await end_first(lookalike, job_id)
        last = {progress.id: progress.state async for progress in followed}
        assert last == dict.fromkeys((ids[0], *ids[2:]), "done")

    with without_worker(settings, loop) as lookalike:
        loop.run(run())
