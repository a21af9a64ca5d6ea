"""`/metrics` counts what happens, under few labels, and needs no database to answer."""

import json
import re
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from pydantic import SecretStr

from app.encoding.encoder import Encoder
from app.lookalike import Lookalike
from app.settings import Settings
from app.store.images import Entry
from app.store.items import NewItem
from app.store.keys import ApiKeys
from app.web.server import create_app, create_worker_app
from tests.conftest import Server, client_of, opened
from tests.image_host import ImageHost
from tests.jobs.test_jobs import without_worker
from tests.live import Loop
from tests.process import lookalike as run_process
from tests.running import running
from tests.samples import png
from tests.web.test_problems import away, check

ROOT = Path(__file__).parents[2]


def read(client: httpx.Client) -> list[Sample]:
    answer = client.get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain")
    return [s for family in text_string_to_metric_families(answer.text) for s in family.samples]


def value(client: httpx.Client, name: str, **labels: str) -> float:
    found = [s.value for s in read(client) if s.name == f"lookalike_{name}" and s.labels == labels]
    assert len(found) == 1, (name, labels, found)
    return found[0]


def test_requests_are_counted_by_method_route_and_class_of_status(server: Server) -> None:
    for _ in range(3):
        server.client.get("/api/jobs/7")
    server.client.request("BREW", "/api/stats")
    server.client.get("/no/such/path")
    count = "request_seconds_count"
    labels = {"method": "GET", "route": "/api/jobs/{id:job}", "status": "4xx"}
    assert value(server.client, count, **labels) == 3
    brewed = {"method": "other", "route": "/api/stats", "status": "4xx"}
    assert value(server.client, count, **brewed) == 1
    assert value(server.client, count, method="GET", route="-", status="4xx") == 1
    assert value(server.client, "requests_in_flight") == 1


def test_labels_do_not_grow_with_what_clients_send(server: Server) -> None:
    def labels() -> set[tuple[tuple[str, str], ...]]:
        samples = [s for s in read(server.client) if s.name == "lookalike_request_seconds_count"]
        return {tuple(s.labels.items()) for s in samples}

    server.client.get("/nothing")
    server.client.request("BREW", "/nothing")
    server.client.get("/api/images/00000000-0000-0000-0000-000000000000")
    read(server.client)
    before = labels()
    for number in range(20):
        server.client.get(f"/nothing/{number}?{number}")
        server.client.request(f"BREW{number}", "/nothing")
        server.client.get(f"/api/images/00000000-0000-0000-0000-{number:012}")
    assert labels() == before


def test_parts_are_read(server: Server, host: ImageHost) -> None:
    server.upsert([host.url("seed/1.png"), host.url("status/404")])
    server.upsert([host.url("seed/2.png")])
    server.search(png(1))
    server.client.post("/api/search", json={"text": "boat"}).raise_for_status()
    client = server.client
    assert value(client, "fetches_total", outcome="fetched") == 2
    assert value(client, "fetches_total", outcome="url-not-found") == 1
    assert value(client, "searches_total", kind="image") == 1
    assert value(client, "searches_total", kind="text") == 1
    assert value(client, "searches_total", kind="next page") == 0
    # The images of the index, and the query image.
    assert value(client, "encoder_batch_size_sum", tower="image") == 3
    assert value(client, "encoder_batch_size_bucket", tower="image", le="+Inf") == value(
        client, "encoder_batch_seconds_count", tower="image"
    )
    assert value(client, "database_connections_most") >= 10
    assert value(client, "table_rows", table="images") == 2
    vectors = server.lookalike.vectors.table.name
    assert value(client, "table_rows", table=vectors) == 2
    assert value(client, "table_bytes", table=vectors) > 0
    assert value(client, "database_up") == 1


def test_jobs_are_counted_by_state(settings: Settings, loop: Loop) -> None:
    with without_worker(settings, loop) as lookalike:
        items = [NewItem("web", Entry(f"http://127.0.0.1/{number}")) for number in range(3)]
        for _ in range(2):
            job_id = loop.run(lookalike.jobs.create("some", items))
        loop.run(lookalike.job_items.cancel(job_id))
        with loop.serving(create_worker_app(lookalike)) as address, client_of(address) as client:
            numbers = {s: value(client, "jobs", state=s) for s in ("running", "cancelled", "done")}
            assert numbers == {"running": 1, "cancelled": 1, "done": 0}
            assert value(client, "job_items_waiting") == 3
            # Counted again only after a while.
            loop.run(lookalike.jobs.create("more", items))
            assert value(client, "job_items_waiting") == 3


def test_without_a_database_the_rest_is_still_there(server: Server) -> None:
    server.client.get("/healthz")
    with away(server.lookalike):
        assert value(server.client, "database_up") == 0
        labels = {"method": "GET", "route": "/healthz", "status": "2xx"}
        assert value(server.client, "request_seconds_count", **labels) == 1


@pytest.mark.parametrize(
    "headers", [{"x-forwarded-for": "203.0.113.9"}, {"host": "images.example.com"}]
)
def test_others_may_not_read_them(server: Server, headers: dict[str, str]) -> None:
    check(server.client.get("/metrics", headers=headers), 403)


@pytest.mark.parametrize("mode", ["auto", "public", "key"])
def test_an_admin_key_or_this_machine_reads_them(
    settings: Settings, loop: Loop, encoder: Encoder, mode: str
) -> None:
    keys = {"api_keys": [SecretStr("writer")], "read_access": mode}
    changed = settings.model_copy(update=keys)
    elsewhere = {"x-forwarded-for": "203.0.113.9"}
    with opened(changed, loop, encoder) as lookalike:
        _, admin = loop.run(ApiKeys(lookalike.database).add("prometheus", ["admin"]))
        with loop.serving(create_app(lookalike)) as address, client_of(address) as client:

            def ask(key: str | None) -> httpx.Response:
                known = {"authorization": f"Bearer {key}"} if key else {}
                return client.get("/metrics", headers={**elsewhere, **known})

            assert client.get("/metrics").status_code == 200
            assert ask(admin).status_code == 200
            check(ask("writer"), 403)
            check(ask("nonsense"), 401)
            check(ask(None), 401)


def test_two_servers_of_one_process_count_apart(
    lookalike: Lookalike, loop: Loop, settings: Settings
) -> None:
    with (
        loop.serving(create_worker_app(lookalike)) as one,
        loop.serving(create_worker_app(lookalike)) as other,
        client_of(one) as first,
        client_of(other) as second,
    ):
        first.get("/healthz")
        labels = {"method": "GET", "route": "/healthz", "status": "2xx"}
        assert value(first, "request_seconds_count", **labels) == 1
        assert not any(s.labels == labels for s in read(second))


def test_a_worker_offers_metrics_on_its_port(database_url: str, tmp_path: Path) -> None:
    settings = {"DATABASE_URL": database_url, "DATA_DIR": str(tmp_path), "METRICS_PORT": "0"}
    with running("worker", **settings) as worker:
        address = worker.wait_for(r"Metrics are at (http://\S+)/metrics")[1]
        port = address.rpartition(":")[2]
        with client_of(address) as client:
            assert value(client, "table_rows", table="images") == 0
            assert client.get("/healthz").status_code == 200
            check(client.get("/api/stats"), 404)
            html = client.get("/nothing", headers={"accept": "text/html"})
            assert (html.status_code, "nothing at this URL" in html.text) == (404, True)
            taken = run_process("worker", ENCODER="builtin", **{**settings, "METRICS_PORT": port})
            assert taken.returncode == 1
            assert taken.stderr.splitlines()[-1] == (
                f"lookalike: METRICS_PORT: cannot listen on 127.0.0.1, port {port}; "
                "each worker of a machine needs one of its own."
            )
        assert worker.stop() == 0


def test_the_dashboard_shows_metrics_that_exist(server: Server) -> None:
    dashboard = json.loads((ROOT / "docs" / "grafana.json").read_text("utf-8"))
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    server.search(png(1))
    there = {sample.name for sample in read(server.client)}
    # A counter appears with its first event.
    there.add("lookalike_fetches_total")
    named = {name for query in queries for name in re.findall(r"(?:lookalike|process)_\w+", query)}
    assert named
    assert named <= there
