"""An image that the database refuses, or that ends whoever works on it, fails alone."""

import asyncio
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
from tests.samples import png

POISON = "poison.png"
RAISE = "RAISE EXCEPTION 'the cause' USING ERRCODE = '{0}'"
# Of the transaction that writes the poison; a real outage as far as its client can tell.
END_CONNECTION = "PERFORM pg_terminate_backend(pg_backend_pid())"


def poison(database_url: str, statement: str, *, lets_pass_after: int = 10_000) -> None:
    """Run `statement` when the image `POISON` is written, at most so many times."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("CREATE SEQUENCE attempts")
        connection.execute(
            f"""
            CREATE FUNCTION poisoned() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                IF NEW.url LIKE '%{POISON}' AND nextval('attempts') <= {lets_pass_after} THEN
                    {statement};
                END IF;
                RETURN NEW;
            END $$
            """  # pyright: ignore[reportArgumentType]
        )
        connection.execute(
            "CREATE TRIGGER poisoned BEFORE INSERT ON images "
            "FOR EACH ROW EXECUTE FUNCTION poisoned()"
        )


def outcome(server: Server, host: ImageHost) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run a job of six images with the poison among them; return the poison and the others."""
    host.add(POISON, png(99))
    urls = [host.url(f"seed/{seed}.png") for seed in range(5)]
    job = server.start([*urls[:2], host.url(f"pictures/{POISON}"), *urls[2:]])
    server.done(job["id"])
    items = server.client.get(f"/api/jobs/{job['id']}/items").json()["items"]
    [poisoned] = [item for item in items if item["url"].endswith(POISON)]
    return poisoned, [item for item in items if item is not poisoned]


@pytest.mark.parametrize("state", ["54000", "22021", "XX000", "23514"])
def test_an_image_that_the_database_refuses_fails_alone_at_once(
    server: Server, host: ImageHost, database_url: str, state: str
) -> None:
    poison(database_url, RAISE.format(state))
    poisoned, others = outcome(server, host)
    assert (poisoned["state"], poisoned["tries"]) == ("failed", 1)
    assert poisoned["reason"]
    assert {item["state"] for item in others} == {"indexed"}


@pytest.mark.parametrize(
    "statement", [RAISE.format("57P01"), END_CONNECTION], ids=["looks so", "is so"]
)
def test_an_image_that_looks_like_an_outage_fails_alone_after_its_last_try(
    server: Server, host: ImageHost, database_url: str, statement: str
) -> None:
    poison(database_url, statement)
    poisoned, others = outcome(server, host)
    assert (poisoned["state"], poisoned["tries"]) == ("failed", 5)
    assert "database" in poisoned["reason"]
    assert {item["state"] for item in others} == {"indexed"}


@pytest.mark.parametrize("state", ["53100", "40001", "40P01"])
def test_what_may_pass_is_tried_again(
    server: Server, host: ImageHost, database_url: str, state: str
) -> None:
    poison(database_url, RAISE.format(state), lets_pass_after=1)
    poisoned, others = outcome(server, host)
    assert {item["state"] for item in [poisoned, *others]} == {"indexed"}


def test_an_upsert_names_what_the_database_refuses(
    server: Server, host: ImageHost, database_url: str
) -> None:
    poison(database_url, RAISE.format("54000"))
    urls = [host.url("seed/1.png"), host.add(POISON, png(99)), host.url("seed/2.png")]
    outcomes = server.upsert(urls)
    assert [outcome["status"] for outcome in outcomes] == ["indexed", "failed", "indexed"]
    assert "the cause" in outcomes[1]["reason"]


def test_an_upsert_during_a_shortage_is_a_503(
    server: Server, host: ImageHost, database_url: str
) -> None:
    poison(database_url, RAISE.format("53100"))
    answer = server.client.post("/api/upsert", json={"images": [host.add(POISON, png(99))]})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
    assert "limit" in answer.json()["detail"]


def test_a_description_of_a_megabyte_stops_nothing(
    server: Server, host: ImageHost, loop: Loop
) -> None:
    words = " ".join(map(str, range(200_000)))
    assert len(words) > 1_200_000
    urls = [host.url(f"seed/{seed}.png") for seed in range(3)]
    entries = [Entry(urls[0]), Entry(urls[1], description=words), Entry(urls[2])]
    job_id = loop.run(
        server.lookalike.jobs.create("three", [NewItem("web", entry) for entry in entries])
    )
    server.done(job_id)
    items = server.client.get(f"/api/jobs/{job_id}/items").json()["items"]
    assert [item["state"] for item in items] == ["indexed"] * 3


@pytest.mark.parametrize(
    ("attempts", "states"),
    [(1, ["indexed", "failed", "indexed"]), (30, ["failed", "failed", "failed"])],
    ids=["the image that was always interrupted", "the rest of its chunk in the end"],
)
def test_a_chunk_whose_workers_always_die_comes_to_an_end(
    settings: Settings,
    loop: Loop,
    host: ImageHost,
    database_url: str,
    attempts: int,
    states: list[str],
) -> None:
    items = [NewItem("web", Entry(host.url(f"seed/{seed}.png"))) for seed in range(3)]
    with without_worker(settings, loop) as lookalike:
        job_id = loop.run(lookalike.jobs.create("three", items))
        with psycopg.connect(database_url, autocommit=True) as connection:
            # As after workers that died: five of them while they indexed the second image.
            connection.execute("UPDATE procrastinate_jobs SET attempts = %s", [attempts])
            connection.execute("UPDATE job_items SET tries = 5 WHERE position = 1")
        with loop.entered(lookalike.jobs.working()):
            loop.run(progressed(lookalike, job_id, 3))
        ended = loop.run(lookalike.job_items.items(job_id, state=None, after=-1, limit=9))
        loop.run(lookalike.jobs.retry(job_id))
        progress = loop.run(lookalike.job_items.progress(job_id))
    assert progress is not None
    assert progress.counts.get("waiting", 0) == states.count("failed")
    assert [item.state for item in ended] == states
    assert all("interrupted" in (i.reason or "") for i in ended if i.state == "failed")


@pytest.mark.parametrize("broken", ["due", "next_due"])
def test_a_chunk_that_an_error_of_ours_ends_has_a_last_try_and_a_log(
    settings: Settings,
    loop: Loop,
    host: ImageHost,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    broken: str,
) -> None:
    tries = 0

    async def fail(*_: object) -> None:
        nonlocal tries
        tries += 1
        raise ZeroDivisionError

    monkeypatch.setattr("app.jobs.worker.MAX_FAILURES", 2)
    host.troubles["busy"] = [(429, {"retry-after": "3000"})] * 4
    with without_worker(settings, loop) as lookalike:
        monkeypatch.setattr(lookalike.job_items, broken, fail)
        items = [NewItem("web", Entry(host.url("troubled/busy/a.png")))]
        job_id = loop.run(lookalike.jobs.create("one", items))
        with loop.entered(lookalike.jobs.working()):
            loop.run(progressed(lookalike, job_id, 1))
            loop.run(no_task_left(lookalike.database.url))
        [item] = loop.run(lookalike.job_items.items(job_id, state=None, after=-1, limit=2))
    assert tries == 2
    assert (item.state, item.reason) == ("failed", "Something went wrong on the server.")
    logged = [record for record in caplog.records if record.levelname == "ERROR"]
    assert [vars(record)["fields"]["job"] for record in logged] == [job_id, job_id]
    assert all("ZeroDivisionError" in str(record.exc_text) for record in logged)


async def no_task_left(database_url: str) -> None:
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        while await (await connection.execute("SELECT FROM procrastinate_jobs")).fetchone():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def test_an_item_that_an_error_of_ours_ends_fails_alone_and_is_logged_with_its_job(
    server: Server,
    host: ImageHost,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    upsert = server.lookalike.indexer.upsert

    async def fail(source: Any, entry: Entry, **options: Any) -> Any:
        if entry.url.endswith(POISON):
            raise ZeroDivisionError
        return await upsert(source, entry, **options)

    monkeypatch.setattr(server.lookalike.indexer, "upsert", fail)
    poisoned, others = outcome(server, host)
    assert (poisoned["state"], poisoned["tries"]) == ("failed", 1)
    assert {item["state"] for item in others} == {"indexed"}
    [logged] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert vars(logged)["fields"]["job"] == 1
    assert "ZeroDivisionError" in str(logged.exc_text)
