"""What happens to jobs is in the log: each event with its counts, each retry, each dead worker."""

import logging
from typing import Any

import psycopg
import pytest

from app.settings import Settings
from app.store.images import Entry
from app.store.items import NewItem
from tests.conftest import Server
from tests.image_host import ImageHost
from tests.jobs.test_jobs import progressed, without_worker
from tests.live import Loop


@pytest.fixture(autouse=True)
def everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "app")


def events(caplog: pytest.LogCaptureFixture, message: str) -> list[dict[str, Any]]:
    return [vars(record)["fields"] for record in caplog.records if record.message == message]


def test_a_job_is_logged_from_its_start_to_its_end(
    server: Server, host: ImageHost, caplog: pytest.LogCaptureFixture
) -> None:
    # Of two chunks, which end at about the same time: the end is logged once.
    urls = [
        *(host.url(f"seed/{seed % 3}.png?{seed}") for seed in range(69)),
        host.url("status/404"),
    ]
    job = server.start(urls)
    server.done(job["id"])
    server.client.post(f"/api/jobs/{job['id']}/retry").raise_for_status()
    server.done(job["id"])
    server.client.delete(f"/api/jobs/{job['id']}").raise_for_status()
    [created] = events(caplog, "job created")
    assert (created["job"], created["title"], created["items"]) == (job["id"], job["title"], 70)
    ended = events(caplog, "job ended")
    assert [(event["job"], event["indexed"], event["failed"]) for event in ended] == [
        (job["id"], 69, 1)
    ] * 2
    assert events(caplog, "job retried")[0]["job"] == job["id"]
    assert events(caplog, "job deleted") == [{"job": job["id"]}]
    failed = events(caplog, "item failed")
    assert [(item["job"], item["item"], item["url"]) for item in failed] == [
        (job["id"], 69, host.url("status/404"))
    ] * 2


def test_a_cancelled_job_is_logged_with_what_was_left(
    settings: Settings, loop: Loop, host: ImageHost, caplog: pytest.LogCaptureFixture
) -> None:
    with without_worker(settings, loop) as lookalike:
        items = [NewItem("web", Entry(host.url(f"seed/{seed}.png"))) for seed in range(3)]
        job_id = loop.run(lookalike.jobs.create("a\nforged", items))
        loop.run(lookalike.job_items.cancel(job_id))
    assert events(caplog, "job created") == [
        {"job": job_id, "title": "a\nforged", "items": 3, "waiting": 3}
    ]
    assert events(caplog, "job cancelled") == [{"job": job_id, "cancelled": 3}]


def test_each_retry_is_logged(
    server: Server, host: ImageHost, caplog: pytest.LogCaptureFixture
) -> None:
    job = server.start([host.url("status/503?token=hunter2")])
    server.done(job["id"])
    retries = events(caplog, "item will be retried")
    assert [retry["tries"] for retry in retries] == [1, 2, 3, 4]
    assert {retry["url"] for retry in retries} == {host.url("status/503")}
    assert all(retry["wait_s"] > 0 and retry["reason"] for retry in retries)
    assert [event["tries"] for event in events(caplog, "item failed")] == [5]


def test_a_dead_worker_is_logged(
    settings: Settings,
    loop: Loop,
    host: ImageHost,
    database_url: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    changed = settings.model_copy(update={"worker_timeout_s": 0.3})
    with without_worker(changed, loop) as lookalike:
        items = [NewItem("web", Entry(host.url("seed/1.png")))]
        job_id = loop.run(lookalike.jobs.create("one", items))
        with psycopg.connect(database_url, autocommit=True) as connection:
            # As a worker leaves it that was killed an hour ago.
            connection.execute(
                "INSERT INTO procrastinate_workers (id, last_heartbeat) "
                "OVERRIDING SYSTEM VALUE VALUES (4711, now() - interval '1 hour')"
            )
            connection.execute("UPDATE procrastinate_jobs SET status = 'doing', worker_id = 4711")
        with loop.entered(lookalike.jobs.working()):
            loop.run(progressed(lookalike, job_id, 1))
    [death] = events(caplog, "a worker died or lost its task: another takes it over")
    assert (death["job"], death["chunk"]) == (job_id, 0)


def test_a_worker_that_fails_starts_again(
    settings: Settings,
    loop: Loop,
    host: ImageHost,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with without_worker(settings, loop) as lookalike:
        manager = lookalike.jobs._worker.queue.app
        opened = manager.open_async
        failures = iter([ZeroDivisionError("a bug")])

        async def fail_once() -> Any:
            for failure in failures:
                raise failure
            return await opened()

        monkeypatch.setattr(manager, "open_async", fail_once)
        job_id = loop.run(
            lookalike.jobs.create("one", [NewItem("web", Entry(host.url("seed/1.png")))])
        )
        with loop.entered(lookalike.jobs.working()):
            loop.run(progressed(lookalike, job_id, 1))
    [record] = [r for r in caplog.records if r.message == "the worker failed, and starts again"]
    assert record.exc_info
    assert "a bug" in str(record.exc_info[1])
