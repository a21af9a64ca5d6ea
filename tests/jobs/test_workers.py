"""Which workers there are, and what each takes off the queue."""

import asyncio
from collections.abc import Callable, Generator
from contextlib import closing

import psycopg
import pytest
from click.testing import CliRunner

from app.cli.main import cli
from app.lookalike import Lookalike
from app.settings import Settings
from app.store.images import Entry
from app.store.items import NewItem
from app.store.workers import WorkerCount
from app.web.server import create_app
from tests.caption_host import CaptionHost
from tests.conftest import client_of
from tests.image_host import ImageHost
from tests.jobs.test_jobs import progressed, without_worker
from tests.live import Loop
from tests.store.test_migrations import migrate


@pytest.fixture
def captioning(settings: Settings, loop: Loop) -> Generator[Settings]:
    """The settings of a process with a caption model."""
    host = CaptionHost()
    with loop.serving(host.app()) as host.address:
        yield settings.model_copy(
            update={"caption_model": "tiny", "caption_url": f"{host.address}/v1"}
        )


async def caption_job(lookalike: Lookalike, host: ImageHost) -> int:
    """Index an image, and create a job that captions it; return its id."""
    await lookalike.indexer.upsert_urls([Entry(host.url("seed/1.png"))])
    job_id = await lookalike.jobs.caption()
    assert job_id is not None
    return job_id


async def queue_of(database_url: str, queue: str) -> None:
    """Wait until the only task waits in a queue."""
    query = "SELECT queue_name, status FROM procrastinate_jobs"
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        while await (await connection.execute(query)).fetchall() != [(queue, "todo")]:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("queue", ["lookalike-captions", "lookalike"], ids=["new", "old"])
def test_captions_wait_for_a_worker_with_a_model(
    settings: Settings, captioning: Settings, loop: Loop, host: ImageHost, queue: str
) -> None:
    """A task of an older server may be in the queue that every worker takes from."""
    with without_worker(captioning, loop) as able, without_worker(settings, loop) as plain:
        job_id = loop.run(caption_job(able, host))
        with psycopg.connect(plain.database.url, autocommit=True) as connection:
            connection.execute("UPDATE procrastinate_jobs SET queue_name = %s", [queue])
        with loop.entered(plain.jobs.working()):
            other = [NewItem("web", Entry(host.url("seed/2.png")))]
            loop.run(progressed(plain, loop.run(plain.jobs.create("other", other)), 1))
            loop.run(queue_of(plain.database.url, "lookalike-captions"))
            job = loop.run(plain.job_items.find(job_id))
            assert (job.counts, job.workers) == ({"waiting": 1}, 0)
            assert "No running worker has a CAPTION_MODEL" in (job.missing or "")
        [item] = loop.run(plain.job_items.items(job_id, state=None, after=-1, limit=2))
        assert item.tries == 0
        with loop.entered(able.jobs.working()):
            loop.run(progressed(able, job_id, 1))
        assert loop.run(able.job_items.find(job_id)).counts == {"updated": 1}


def test_a_job_that_no_running_worker_can_do_says_so(
    settings: Settings, captioning: Settings, loop: Loop, host: ImageHost
) -> None:
    with without_worker(captioning, loop) as able:
        job_id = loop.run(caption_job(able, host))
    idle = settings.model_copy(update={"worker": False})
    with (
        without_worker(idle, loop) as lookalike,
        loop.serving(create_app(lookalike)) as address,
        client_of(address) as client,
    ):
        assert client.get(f"/api/jobs/{job_id}").json()["workers"] == 0
        page = client.get("/add").text
        assert "No worker is running." in page
        assert "No running worker has a CAPTION_MODEL" in page
        with loop.entered(lookalike.jobs.working()):
            loop.run(counted(lookalike, WorkerCount(1, 0)))
            page = client.get("/add").text
            assert "1 worker is running." in page
            assert "No running worker has a CAPTION_MODEL" in page
            assert client.get(f"/api/jobs/{job_id}").json()["workers"] == 0
            with (
                without_worker(captioning, loop) as able,
                loop.entered(able.jobs.working()),
            ):
                loop.run(progressed(able, job_id, 1))
                assert client.get(f"/api/jobs/{job_id}").json()["workers"] == 1


async def counted(lookalike: Lookalike, expected: WorkerCount) -> None:
    while await lookalike.workers.count() != expected:  # noqa: ASYNC110
        await asyncio.sleep(0.005)


def test_a_worker_counts_until_it_stops_or_its_time_is_up(
    captioning: Settings, loop: Loop, database_url: str
) -> None:
    quick = captioning.model_copy(update={"worker_timeout_s": 0.3})
    with without_worker(quick, loop) as lookalike:
        assert loop.run(lookalike.workers.count()) == WorkerCount(0, 0)
        with psycopg.connect(database_url, autocommit=True) as connection:
            # One that was killed.
            connection.execute(
                "INSERT INTO workers VALUES (gen_random_uuid(), true, now() - interval '1 second')"
            )
            assert loop.run(lookalike.workers.count()) == WorkerCount(0, 0)
            with loop.entered(lookalike.jobs.working()):
                loop.run(counted(lookalike, WorkerCount(1, 1)))
                [row] = connection.execute("SELECT count(*) FROM workers").fetchall()
                assert row == (1,)
            assert loop.run(lookalike.workers.count()) == WorkerCount(0, 0)


def test_the_command_line_says_whether_a_worker_is_alive(
    settings: Settings,
    loop: Loop,
    host: ImageHost,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("ENCODER", "builtin")
    with without_worker(settings, loop) as lookalike:
        items = [NewItem("web", Entry(host.url("seed/1.png")))]
        loop.run(lookalike.jobs.create("one", items))
        alone = CliRunner().invoke(cli, ["jobs"])
        assert "No worker is running; this job waits for one." in alone.stderr
        assert "No worker is running: start a server, or `lookalike worker`." in alone.stderr
        with loop.entered(lookalike.jobs.working()):
            loop.run(counted(lookalike, WorkerCount(1, 0)))
            beside = CliRunner().invoke(cli, ["jobs"])
    assert "1 worker is running, none with a CAPTION_MODEL." in beside.stderr


def test_an_older_version_leaves_captions_and_jobs_that_end_from_now_on(
    new_database: Callable[..., str],
) -> None:
    url = new_database("template1")
    migrate(url, "0006")
    with closing(psycopg.connect(url, autocommit=True)) as connection:
        for title, state in [("ended", "indexed"), ("running", "waiting")]:
            connection.execute(
                "WITH job AS (INSERT INTO jobs (title, created_at) VALUES (%s, 'epoch') "
                "RETURNING id) INSERT INTO job_items (job_id, position, source, url, state) "
                "SELECT id, 0, 'caption', 'u', %s FROM job",
                [title, state],
            )
        for lock in ("captions", "1:0"):
            connection.execute(
                "INSERT INTO procrastinate_jobs (queue_name, task_name, lock) "
                "VALUES ('lookalike', 'index_chunk', %s)",
                [lock],
            )
        migrate(url, "0009")
        queues = "SELECT lock, queue_name FROM procrastinate_jobs ORDER BY id"
        assert connection.execute(queues).fetchall() == [
            ("captions", "lookalike-captions"),
            ("1:0", "lookalike"),
        ]
        ends = "SELECT title, ended_at > now() - interval '1 hour' FROM jobs ORDER BY id"
        assert connection.execute(ends).fetchall() == [("ended", True), ("running", None)]
        # From now on, the counts decide.
        connection.execute("UPDATE job_items SET state = 'failed'")
        assert connection.execute(ends).fetchall() == [("ended", True), ("running", True)]
        connection.execute("UPDATE job_items SET state = 'waiting' WHERE job_id = 1")
        assert connection.execute(ends).fetchall() == [("ended", None), ("running", True)]
