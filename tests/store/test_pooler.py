"""A whole server behind PgBouncer in transaction mode, from an empty database on."""

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.image_host import ImageHost
from tests.jobs.test_pooler import pgbouncer
from tests.running import serving
from tests.samples import altered, png

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("pgbouncer") is None, reason="PgBouncer is not installed"),
]

CLIENTS = 8


def test_a_server_behind_a_transaction_pooler(
    new_database: Callable[..., str], tmp_path: Path, host: ImageHost
) -> None:
    with pgbouncer(new_database("template1"), tmp_path / "pgbouncer.ini") as url:
        settings = {"DATABASE_URL": url, "DATA_DIR": str(tmp_path), "LOG_LEVEL": "warning"}
        with serving(**settings) as (client, server), serving(**settings) as (other, second):

            def work(number: int) -> None:
                """Index, find, describe and delete, on both servers."""
                one = (client, other)[number % 2]
                urls = [host.url(f"seed/{100 * number + i}.png") for i in range(4)]
                images = [{"url": urls[0], "title": f"boat {number}"}, *urls[1:]]
                answer = one.post("/api/upsert", json={"images": images})
                results = answer.json()["results"]
                assert [result["status"] for result in results] == ["indexed"] * 4, answer.text
                found = one.post("/api/query", files={"file": altered(png(100 * number))}).json()
                assert found[0] == urls[0]
                body = {"text": f"boat {number}", "hosts": ["127.0.0.1"]}
                assert one.post("/api/search", json=body).status_code == 200
                change = one.patch(f"/api/images/{results[1]['id']}", json={"tags": ["kept"]})
                assert change.status_code == 200
                assert one.delete(f"/api/images/{results[2]['id']}").status_code == 204

            with ThreadPoolExecutor(CLIENTS) as clients:
                list(clients.map(work, range(CLIENTS)))
            assert other.get("/api/stats").json()["images"] == 3 * CLIENTS
            listed = client.get("/api/images", params={"limit": 100}).json()
            assert sum(image["tags"] == ["kept"] for image in listed["images"]) == CLIENTS
            for path in ("/", "/index", "/duplicates", "/readyz", "/metrics", "/api/facets"):
                assert client.get(path).status_code == 200
            for run in (server, second):
                assert run.stop() == 0
                assert not [line for line in run.lines if " WARNING " in line or "ERROR" in line]
