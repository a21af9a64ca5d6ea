"""Jobs: no image is lost and none is indexed twice, whichever process dies."""

import asyncio
import gzip
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import httpx
import psycopg
import pytest

from app.lookalike import Lookalike, open_lookalike
from app.problems import Unavailable
from app.settings import Settings
from app.store.images import Entry
from app.store.items import NewItem
from tests.conftest import Server
from tests.image_host import ImageHost
from tests.live import Loop
from tests.onnx_models import write_clip
from tests.samples import png
from tests.store.test_embedded import kill_postmaster


def rows(database_url: str) -> tuple[list[str], list[str]]:
    """The URLs that have a row and those that have a vector, sorted, duplicates included."""
    with psycopg.connect(database_url) as connection:
        tables = connection.execute("SELECT vector_table FROM encoders").fetchall()
        images = [row[0] for row in connection.execute("SELECT url FROM images")]
        [table] = {table for (table,) in tables}
        query = f"SELECT metadata_->>'url' FROM {table}"
        return sorted(images), sorted(row[0] for row in connection.execute(query))  # pyright: ignore[reportArgumentType]


def states(server: Server, job_id: int) -> dict[str, str]:
    items = server.client.get(f"/api/jobs/{job_id}/items?limit=1000").json()["items"]
    return {item["url"]: item["state"] for item in items}


def test_a_job_is_accepted_at_once_and_indexes_every_url(server: Server, host: ImageHost) -> None:
    urls = [host.url(f"seed/{seed}.png") for seed in range(5)]
    answer = server.client.post(
        "/api/upsert", json={"images": urls}, headers={"prefer": "wait=9, respond-async"}
    )
    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["location"] == f"/api/jobs/{job['id']}"
    assert answer.headers["preference-applied"] == "respond-async"
    assert (job["total"], job["title"]) == (5, "5 URLs")
    ended = server.done(job["id"])
    assert (ended["state"], ended["indexed"], ended["waiting"]) == ("done", 5, 0)
    assert {item["id"] for item in ended["recent"]} == {str(Entry(url).id) for url in urls}
    assert len(server.query(png(3))) == 1


def test_uploads_can_become_a_job_or_join_one(server: Server) -> None:
    def send(path: str, *pictures: tuple[str, bytes]) -> httpx.Response:
        files = [("file", picture) for picture in pictures]
        return server.client.post(path, files=files, headers={"prefer": "respond-async"})

    job = send("/api/images", ("a.png", png(1)), ("b.png", b"words")).json()
    assert send(f"/api/images?job={job['id']}", ("c.png", png(2))).json()["id"] == job["id"]
    ended = server.done(job["id"])
    assert (ended["total"], ended["indexed"], ended["failed"]) == (3, 2, 1)
    assert send("/api/images?job=999", ("d.png", png(3))).status_code == 404
    assert send("/api/images?job=x", ("d.png", png(3))).status_code == 422


def test_too_large_an_upload_fails_alone(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.lookalike.indexer.originals, "_max_bytes", len(png(1)) - 1)
    small = b"\x89PNG"
    files = [("file", ("large.png", png(1))), ("file", ("small.png", small))]
    answer = server.client.post("/api/images", files=files, headers={"prefer": "respond-async"})
    ended = server.done(answer.json()["id"])
    items = server.client.get(f"/api/jobs/{ended['id']}/items").json()["items"]
    assert [item["state"] for item in items] == ["failed", "failed"]
    assert "larger than" in items[0]["reason"]
    assert "not an image" in items[1]["reason"]


@pytest.mark.parametrize(
    ("media_type", "body"),
    [
        ("text/plain", "{0}\n{1}\n"),
        ("text/csv; charset=utf-8", "url,title\n{0},First\n{1},\n"),
        ("application/x-ndjson", '"{0}"\n{{"url": "{1}"}}\n'),
    ],
)
def test_a_list_as_the_request_body_becomes_a_job(
    server: Server, host: ImageHost, media_type: str, body: str
) -> None:
    urls = [host.url("seed/1.png"), host.url("seed/2.png")]
    answer = server.client.post(
        "/api/upsert", content=body.format(*urls), headers={"content-type": media_type}
    )
    assert answer.status_code == 202, answer.text
    assert server.done(answer.json()["id"])["indexed"] == 2


def test_a_damaged_list_leaves_no_job_behind(server: Server) -> None:
    urls = "".join(f"https://example.com/{n}.jpg\n" for n in range(3000))
    body = gzip.compress(f"url\n{urls}".encode())[:-20]
    answer = server.client.post("/api/upsert", content=body, headers={"content-type": "text/csv"})
    assert answer.status_code == 422
    assert answer.json()["detail"] == "The list is gzip-compressed and damaged."
    assert server.client.get("/api/jobs").json() == {"jobs": []}


def test_temporary_failures_are_retried_and_permanent_ones_are_not(
    server: Server, host: ImageHost
) -> None:
    host.add("a.png", png(1))
    host.troubles["busy"] = [(429, {"retry-after": "0"}), (503, {}), (500, {})]
    host.troubles["denied"] = [(403, {})]
    host.troubles["broken"] = [(500, {})] * 9
    names = ("busy", "denied", "broken", "missing")
    job = server.start([host.url(f"troubled/{name}/a.png") for name in names[:3]] + ["no url"])
    ended = server.done(job["id"])
    items = server.client.get(f"/api/jobs/{job['id']}/items").json()["items"]
    assert [item["state"] for item in items] == ["indexed", "failed", "failed", "failed"]
    assert [item["tries"] for item in items] == [4, 1, 5, 1]
    assert [host.asked[name] for name in names] == [4, 1, 5, 0]
    assert "answers 403" in items[1]["reason"]
    assert (ended["indexed"], ended["failed"]) == (1, 3)
    failed = server.client.get(f"/api/jobs/{job['id']}/items?state=failed&after=1&limit=1").json()
    assert [item["position"] for item in failed["items"]] == [2]
    assert failed["next"] == 2


def test_a_flaky_host_fails_only_its_own_items(
    settings: Settings, loop: Loop, host: ImageHost
) -> None:
    expected = {
        host.url("never"): ("failed", 5, "No complete answer"),
        host.url("drip"): ("failed", 5, "No complete answer"),
        host.url("declared/500"): ("failed", 5, "could not be reached or returned an error"),
        host.url("cut"): ("failed", 1, "damaged"),
        host.url("html"): ("failed", 1, "not an image"),
        host.add("changing.png", png(1)): ("indexed", 1, ""),
    }
    # Long enough for the hosts that do answer, on a busy machine too.
    quick = settings.model_copy(update={"fetch_timeout_s": 1.0})
    with without_worker(quick, loop) as lookalike, loop.entered(lookalike.jobs.working()):
        items = [NewItem("web", Entry(url)) for url in expected]
        job_id = loop.run(lookalike.jobs.create("flaky", items))
        loop.run(progressed(lookalike, job_id, len(items)))
        found = loop.run(lookalike.job_items.items(job_id, state=None, after=-1, limit=100))
        for item in found:
            state, tries, reason = expected[item.entry.url]
            assert (item.state, item.tries) == (state, tries)
            assert reason in (item.reason or "")
        # Content that changes between two jobs remains one row.
        host.add("changing.png", png(2))
        again = loop.run(lookalike.jobs.create("again", items[-1:]))
        loop.run(progressed(lookalike, again, 1))
        progress = loop.run(lookalike.job_items.progress(again))
        assert progress is not None
        assert progress.counts == {"updated": 1}
        assert loop.run(lookalike.catalog.count()) == loop.run(lookalike.vectors.count()) == 1


def test_retry_after_is_respected(server: Server, host: ImageHost) -> None:
    host.troubles["busy"] = [(429, {"retry-after": "3000"})]
    job = server.start([host.url("troubled/busy/a.png"), host.url("seed/1.png")])
    with server.client.stream("GET", f"/api/jobs/{job['id']}/events") as answer:
        for line in answer.iter_lines():
            if line.startswith("data: {") and json.loads(line[6:])["indexed"]:
                break
    with psycopg.connect(server.lookalike.database.url) as connection:
        query = "SELECT extract(epoch FROM not_before - now()) FROM job_items WHERE tries > 0"
        waits = [
            row[0]
            for row in connection.execute(query + " AND state = 'waiting'")  # pyright: ignore[reportArgumentType]
        ]
    assert all(2900 < wait <= 3000 for wait in waits)
    assert server.client.get(f"/api/jobs/{job['id']}").json()["waiting"] == 1


def test_a_job_can_be_cancelled_retried_and_deleted(server: Server, host: ImageHost) -> None:
    host.open.clear()
    job = server.start([host.add(f"{i}.png", png(i)) + "?gate=1" for i in range(3)])
    cancelled = server.client.post(f"/api/jobs/{job['id']}/cancel").json()
    assert (cancelled["state"], cancelled["cancelled"]) == ("cancelled", 3)
    host.open.set()
    again = server.client.post(f"/api/jobs/{job['id']}/retry").json()
    assert again["waiting"] + again["indexed"] == 3
    ended = server.done(job["id"])
    # Images in progress when the job was cancelled may have been indexed all the same.
    assert ended["indexed"] + ended["unchanged"] == 3
    assert server.client.delete(f"/api/jobs/{job['id']}").status_code == 204
    assert server.client.get(f"/api/jobs/{job['id']}").status_code == 404
    assert server.client.get("/api/stats").json()["images"] == 3


def test_progress_is_streamed_also_to_clients_that_reconnect(
    server: Server, host: ImageHost
) -> None:
    host.open.clear()
    gated = host.add("late.png", png(2)) + "?gate=1"
    job = server.start([host.url("seed/1.png"), gated])

    def follow() -> Generator[dict[str, Any]]:
        with server.client.stream("GET", f"/api/jobs/{job['id']}/events") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            for line in answer.iter_lines():
                if line.startswith("data: {"):
                    yield json.loads(line.removeprefix("data: "))

    for progress in follow():
        if progress["indexed"] == 1:
            break
    assert (progress["state"], progress["waiting"]) == ("running", 1)
    assert progress["rate"] > 0
    assert progress["eta_s"] > 0
    host.open.set()
    *_, progress = follow()
    assert (progress["state"], progress["indexed"], progress["eta_s"]) == ("done", 2, None)
    [listed] = server.client.get("/api/jobs").json()["jobs"]
    assert (listed["id"], listed["indexed"]) == (job["id"], 2)


def test_a_short_job_does_not_wait_for_a_long_one(settings: Settings, loop: Loop) -> None:
    items = [NewItem("web", Entry(f"https://example.com/{i}.png")) for i in range(1000)]
    with without_worker(settings, loop) as lookalike:
        long = loop.run(lookalike.jobs.create("long", items))
        short = loop.run(lookalike.jobs.create("short", items[:1]))
        with psycopg.connect(lookalike.database.url) as connection:
            order = connection.execute(
                "SELECT (args->>'job_id')::int, (args->>'chunk')::int FROM procrastinate_jobs "
                "ORDER BY priority DESC, id"
            ).fetchall()
    assert order[:3] == [(long, 0), (short, 0), (long, 1)]
    assert len(order) == 17


@pytest.mark.parametrize("change", ["add", "cancel", "delete"])
def test_a_job_can_be_changed_while_its_first_item_ends(
    settings: Settings, loop: Loop, database_url: str, change: str
) -> None:
    """Both writers are waiting when a third one releases the rows of the counts."""

    async def blocked(observer: psycopg.AsyncConnection, writers: int) -> None:
        query = (
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0"
        )
        while await (await observer.execute(query)).fetchone() != (writers,):  # noqa: ASYNC110
            await asyncio.sleep(0.005)

    async def both(lookalike: Lookalike) -> None:
        items = [NewItem("web", Entry(f"https://example.com/{place}.png")) for place in range(2)]
        job_id = await lookalike.jobs.create("Two", items)
        [first, _] = await lookalike.job_items.items(job_id, state=None, after=-1, limit=9)
        changes: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
            "add": lambda: lookalike.jobs.add(job_id, items),
            "cancel": lambda: lookalike.job_items.cancel(job_id),
            "delete": lambda: lookalike.jobs.delete(job_id),
        }
        connect = psycopg.AsyncConnection.connect
        async with (
            await connect(database_url) as holder,
            await connect(database_url, autocommit=True) as observer,
        ):
            await holder.execute("SELECT * FROM job_counts FOR UPDATE")
            ends = asyncio.create_task(lookalike.job_items.fail(first, "no picture"))
            await blocked(observer, 1)
            changed = asyncio.create_task(changes[change]())
            await blocked(observer, 2)
            await holder.rollback()
            await asyncio.gather(ends, changed)

    with without_worker(settings, loop) as lookalike:
        loop.run(both(lookalike))


def test_the_same_bytes_are_embedded_once(server: Server, host: ImageHost) -> None:
    urls = [host.add(f"{i}.png", png(1)) for i in range(40)]
    assert server.done(server.start(urls)["id"])["indexed"] == 40
    assert server.lookalike.encoder.images.items == 1
    assert server.client.get("/api/stats").json()["vectors"] == 40


class Worker:
    """`lookalike worker` in its own process."""

    def __init__(self, settings: Settings, database_url: str, **others: str) -> None:
        environment = {
            "DATABASE_URL": database_url,
            "DATA_DIR": str(settings.data_dir),
            "ENCODER": "builtin",
            "FETCH_ALLOW": "127.0.0.1",
            "RETRY_S": "0.05",
            **others,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "app", "worker"],
            env={**os.environ, **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


@pytest.fixture
def new_worker(settings: Settings, database_url: str) -> Generator[Callable[..., Worker]]:
    workers: list[Worker] = []

    def start(**environment: str) -> Worker:
        workers.append(Worker(settings, database_url, **environment))
        return workers[-1]

    yield start
    for worker in workers:
        if worker.process.poll() is None:
            worker.end(signal.SIGKILL)


@contextmanager
def without_worker(settings: Settings, loop: Loop) -> Generator[Lookalike]:
    with loop.entered(open_lookalike(settings, announce=lambda _: None)) as lookalike:
        yield lookalike


async def progressed(lookalike: Lookalike, job_id: int, ended: int) -> int:
    """Wait until at least `ended` items have ended; return their number."""
    while True:
        try:
            progress = await lookalike.job_items.progress(job_id)
        except Unavailable:
            # In the tests that stop the database.
            await asyncio.sleep(0.05)
            continue
        assert progress is not None
        if progress.ended >= ended:
            return progress.ended
        await asyncio.sleep(0.005)


@pytest.mark.slow
def test_no_image_is_lost_or_duplicated_when_workers_are_killed(
    settings: Settings,
    loop: Loop,
    host: ImageHost,
    database_url: str,
    new_worker: Callable[..., Worker],
) -> None:
    """Kill -9 at 20 random moments of a 300-image job, each followed by a new worker."""
    urls = [host.url(f"seed/{seed}.png?slow=1") for seed in range(295)]
    bad = [host.url(f"status/404?{i}") for i in range(5)]
    random = Random(4)  # noqa: S311 - not for secrets
    moments = sorted(random.randrange(1, 290) for _ in range(20))
    with without_worker(settings, loop) as lookalike:
        items = [NewItem("web", Entry(url)) for url in urls + bad]
        job_id = loop.run(lookalike.jobs.create("300", items))
        quick = {"WORKER_TIMEOUT_S": "0.6"}
        worker, spare = new_worker(**quick), new_worker(**quick)
        for moment in moments:
            loop.run(progressed(lookalike, job_id, moment))
            worker.end(signal.SIGKILL)
            worker, spare = spare, new_worker(**quick)
        loop.run(progressed(lookalike, job_id, 300))
        found = {
            item.entry.url: item.state
            for item in loop.run(
                lookalike.job_items.items(job_id, state=None, after=-1, limit=1000)
            )
        }
        assert found == dict.fromkeys(urls, "indexed") | dict.fromkeys(bad, "failed")
        progress = loop.run(lookalike.job_items.progress(job_id))
        assert progress is not None
        assert progress.counts == {"indexed": 295, "failed": 5}
    images, vectors = rows(database_url)
    assert images == vectors == sorted(urls)


def test_two_workers_share_a_job_without_fetching_twice(
    settings: Settings,
    loop: Loop,
    host: ImageHost,
    database_url: str,
    new_worker: Callable[..., Worker],
) -> None:
    urls = [host.add(f"{i}.png", png(i)) for i in range(200)]
    with without_worker(settings, loop) as lookalike:
        job_id = loop.run(
            lookalike.jobs.create("200", [NewItem("web", Entry(url)) for url in urls])
        )
        workers = [new_worker(), new_worker()]
        loop.run(progressed(lookalike, job_id, 200))
    assert set(host.asked.values()) == {1}
    images, vectors = rows(database_url)
    assert images == vectors == sorted(urls)
    assert [worker.end(signal.SIGTERM) for worker in workers] == [0, 0]


def test_a_worker_stops_whatever_it_is_doing_as_it_starts(settings: Settings, loop: Loop) -> None:
    async def start_and_stop(steps: int) -> None:
        # Many, because a cancellation was lost only if it came together with a connection.
        worker = asyncio.create_task(lookalike.jobs.work())
        for _ in range(steps):
            await asyncio.sleep(0)
        lookalike.jobs.stop()
        await worker
        lookalike.jobs.stopping.clear()

    with without_worker(settings, loop) as lookalike:
        for steps in range(0, 300, 6):
            loop.run(start_and_stop(steps))
        names = {task.get_name() for task in loop.run(tasks())}
    assert not any(name.startswith("pool-") for name in names)


async def tasks() -> set[asyncio.Task[Any]]:
    """The tasks of this event loop."""
    return asyncio.all_tasks()


def test_a_worker_that_looks_dead_does_not_requeue_its_own_tasks(
    settings: Settings, loop: Loop, host: ImageHost, database_url: str
) -> None:
    """As after a computer's sleep: the worker runs, but its last heartbeat is old."""
    with psycopg.connect(database_url) as connection:
        connection.execute(
            """
            CREATE FUNCTION long_ago() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN NEW.last_heartbeat = 'epoch'; RETURN NEW; END $$
            """
        )
        connection.execute(
            "CREATE TRIGGER long_ago BEFORE INSERT OR UPDATE ON procrastinate_workers"
            " FOR EACH ROW EXECUTE FUNCTION long_ago()"
        )
    # Each try lasts long enough for several searches for dead workers.
    quick = settings.model_copy(update={"worker_timeout_s": 0.3, "fetch_timeout_s": 0.5})
    with without_worker(quick, loop) as lookalike, loop.entered(lookalike.jobs.working()):
        job_id = loop.run(lookalike.jobs.create("", [NewItem("web", Entry(host.url("never")))]))
        loop.run(progressed(lookalike, job_id, 1))
        [item] = loop.run(lookalike.job_items.items(job_id, state=None, after=-1, limit=2))
    assert (item.state, item.tries) == ("failed", 5)


def test_a_job_survives_an_outage_of_the_database(
    loop: Loop, host: ImageHost, tmp_path: Path, settings: Settings
) -> None:
    """Postgres is killed in the middle of a job, and started again by those who use it."""
    own = settings.model_copy(
        update={"database_url": None, "data_dir": tmp_path / "own", "worker_timeout_s": 1}
    )
    urls = [host.add(f"{i}.png", png(i)) + "?gate=1" for i in range(60)]
    host.open.clear()
    with without_worker(own, loop) as lookalike:
        items = [NewItem("web", Entry(url)) for url in urls]
        job_id = loop.run(lookalike.jobs.create("60", items))
        with loop.entered(lookalike.jobs.working()):
            loop.run(host.waited_for(1))
            kill_postmaster(tmp_path / "own" / "postgres")
            host.open.set()
            loop.run(progressed(lookalike, job_id, 60))
        progress = loop.run(lookalike.job_items.progress(job_id))
        assert progress is not None
        assert progress.counts == {"indexed": 60}
        assert loop.run(lookalike.catalog.count()) == loop.run(lookalike.vectors.count()) == 60


@pytest.mark.slow
def test_memory_stays_flat_however_long_the_job(
    settings: Settings,
    loop: Loop,
    host: ImageHost,
    new_worker: Callable[..., Worker],
    tmp_path: Path,
) -> None:
    """Between 3,000 and 20,000 images, memory grows by no more than caches filling up."""
    clip = str(write_clip(tmp_path / "clip"))
    small = settings.model_copy(update={"encoder": clip})
    with without_worker(small, loop) as lookalike:
        items = (NewItem("web", Entry(host.url(f"tiny/{seed}.bmp"))) for seed in range(20_000))
        job_id = loop.run(lookalike.jobs.create("20,000", items))
        worker = new_worker(ENCODER=clip)
        loop.run(progressed(lookalike, job_id, 3_000), timeout_s=120)
        before = resident_bytes(worker.process.pid)
        loop.run(progressed(lookalike, job_id, 20_000), timeout_s=400)
        grown = resident_bytes(worker.process.pid) - before
        progress = loop.run(lookalike.job_items.progress(job_id))
        assert progress is not None
        assert progress.counts == {"indexed": 20_000}
    assert grown < 60_000_000


def resident_bytes(process_id: int) -> int:
    pages = int(Path(f"/proc/{process_id}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_counts_match_the_states_of_the_items(server: Server, host: ImageHost) -> None:
    host.pictures["a.png"] = png(1)
    job = server.start([host.url("pictures/a.png"), host.url("pictures/b.png")] * 40)
    ended = server.done(job["id"])
    items = server.client.get(f"/api/jobs/{job['id']}/items?limit=1000").json()["items"]
    counted = Counter(item["state"] for item in items)
    assert counted == {state: ended[state] for state in ("indexed", "unchanged", "failed")}
    assert sum(counted.values()) == ended["total"] == 80
