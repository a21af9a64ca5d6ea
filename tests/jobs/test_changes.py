"""Jobs that are changed while they grow: whatever comes first, no item waits for ever."""

import asyncio
import threading
from collections.abc import Iterator

import psycopg
import pytest

from app.problems import JobCancelled, NotFound
from app.settings import Settings
from app.store.images import Entry
from app.store.items import NewItem
from app.store.job_items import CHUNK
from tests.conftest import Server
from tests.jobs.test_jobs import without_worker
from tests.live import Loop
from tests.samples import png

ITEMS = [NewItem("web", Entry(f"https://example.com/{place}.png")) for place in range(3)]


def test_a_cancelled_job_takes_no_more_uploads(server: Server) -> None:
    def send(path: str, name: str, seed: int) -> dict[str, object]:
        answer = server.client.post(
            path, files={"file": (name, png(seed))}, headers={"prefer": "respond-async"}
        )
        return {**answer.json(), "answered": answer.status_code}

    job = send("/api/images", "a.png", 1)
    server.client.post(f"/api/jobs/{job['id']}/cancel")
    refused = send(f"/api/images?job={job['id']}", "b.png", 2)
    assert (refused["answered"], refused["type"]) == (409, "/docs#job-cancelled")
    assert server.client.get(f"/api/jobs/{job['id']}").json()["total"] == 1
    # Retried, it takes more again.
    server.client.post(f"/api/jobs/{job['id']}/retry")
    assert send(f"/api/images?job={job['id']}", "b.png", 2)["answered"] == 202
    assert server.done(int(str(job["id"])))["total"] == 2
    # So does a job that has ended.
    assert send(f"/api/images?job={job['id']}", "c.png", 3)["answered"] == 202
    ended = server.done(int(str(job["id"])))
    assert (ended["total"], ended["waiting"], ended["state"]) == (3, 0, "done")


@pytest.mark.parametrize(
    ("change", "problem"),
    [("cancel", JobCancelled), ("delete", NotFound)],
    ids=["cancel", "delete"],
)
def test_what_is_added_while_a_job_is_cancelled_or_deleted_is_refused(
    settings: Settings, loop: Loop, database_url: str, change: str, problem: type[Exception]
) -> None:
    """The change has the job's lock, and the items come before it is committed."""

    async def run() -> None:
        job_id = await lookalike.jobs.create("Three", ITEMS)
        async with (
            await psycopg.AsyncConnection.connect(database_url) as holder,
            await psycopg.AsyncConnection.connect(database_url, autocommit=True) as observer,
        ):
            await holder.execute("SELECT FROM jobs WHERE id = %s FOR UPDATE", [job_id])
            if change == "cancel":
                await holder.execute("UPDATE jobs SET cancelled_at = now()")
                await holder.execute("UPDATE job_items SET state = 'cancelled'")
            else:
                await holder.execute("DELETE FROM jobs")
            adding = asyncio.create_task(lookalike.jobs.add(job_id, ITEMS))
            await blocked(observer)
            await holder.commit()
            with pytest.raises(problem):
                await adding
        assert not await lookalike.job_items.waits(job_id)

    with without_worker(settings, loop) as lookalike:
        loop.run(run())


async def blocked(observer: psycopg.AsyncConnection) -> None:
    query = (
        "SELECT FROM pg_stat_activity"
        " WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0"
    )
    while await (await observer.execute(query)).fetchone() is None:  # noqa: ASYNC110
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("change", ["cancel", "delete"])
def test_a_job_that_is_changed_while_its_list_is_read_comes_to_an_end(
    settings: Settings, loop: Loop, change: str
) -> None:
    half, changed = threading.Event(), threading.Event()

    def items() -> Iterator[NewItem]:
        yield from ITEMS * (16 * CHUNK // len(ITEMS) + 1)
        half.set()
        assert changed.wait(60)
        yield from ITEMS * (16 * CHUNK)

    async def run() -> None:
        creating = asyncio.create_task(lookalike.jobs.create("long", items()))
        await asyncio.to_thread(half.wait, 60)
        [job] = await lookalike.job_items.newest(limit=2)
        if change == "cancel":
            await lookalike.job_items.cancel(job.id)
        else:
            await lookalike.jobs.delete(job.id)
        changed.set()
        if change == "cancel":
            assert await creating == job.id
            ended = await lookalike.job_items.find(job.id)
            assert (ended.state, ended.total) == ("cancelled", 16 * CHUNK)
        else:
            with pytest.raises(JobCancelled):
                await creating
        assert not await lookalike.job_items.waits(job.id)

    with without_worker(settings, loop) as lookalike:
        loop.run(run())
