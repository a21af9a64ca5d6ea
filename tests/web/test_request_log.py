"""Each request has an id and one line in the log, and nothing secret is in it."""

import logging
import re
import socket
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.lookalike import Lookalike
from app.store.index import Index
from app.web.server import create_app
from tests.conftest import Server, client_of
from tests.image_host import ImageHost
from tests.jobs.test_interruptions import RAISE, poison
from tests.live import Loop
from tests.samples import png
from tests.web.test_problems import away

Fields = dict[str, Any]


@pytest.fixture(autouse=True)
def everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "app")


def events(caplog: pytest.LogCaptureFixture, message: str = "request") -> list[Fields]:
    return [vars(record)["fields"] for record in caplog.records if record.message == message]


def test_a_request_is_one_line(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    for path in (
        "/healthz",
        "/api/images/00000000-0000-0000-0000-000000000000",
        "/static/style.css",
    ):
        server.client.get(path)
    server.client.put("/api/stats")
    server.client.get("/nothing/at/all")
    lines = events(caplog)
    assert [(line["method"], line["route"], line["status"]) for line in lines] == [
        ("GET", "/healthz", 200),
        ("GET", "/api/images/{id:uuid}", 404),
        ("GET", "/static", 200),
        ("PUT", "/api/stats", 405),
        ("GET", "-", 404),
    ]
    assert all(line["ms"] >= 0 for line in lines)
    assert [line.get("problem") for line in lines][1] == "not-found"


@pytest.mark.parametrize("given", ["abc-123", str(UUID(int=7)), "a" * 128, "Zm9v+/=="])
def test_a_valid_id_is_kept(server: Server, given: str) -> None:
    answer = server.client.get("/api/nothing", headers={"x-request-id": given})
    assert answer.headers["x-request-id"] == given
    assert answer.json()["request_id"] == given


@pytest.mark.parametrize("given", ["", "a b", "a" * 129, 'x"y', "é".encode(), "a\tb"])
def test_an_invalid_id_is_replaced(server: Server, given: str | bytes) -> None:
    answer = server.client.get("/api/nothing", headers={b"x-request-id": given})  # pyright: ignore[reportArgumentType]
    assert re.fullmatch("[0-9a-f]{16}", answer.headers["x-request-id"])
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


def test_every_answer_has_an_id_of_its_own(server: Server) -> None:
    paths = ["/", "/healthz", "/static/style.css", "/nothing", "/api/nothing", "/readyz"]
    ids = [server.client.get(path).headers["x-request-id"] for path in paths]
    ids.append(server.client.get("/healthz", headers={"host": "a b"}).headers["x-request-id"])
    assert len(set(ids)) == len(ids)


def test_what_is_no_http_has_an_id_and_a_line(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    url = httpx.URL(server.address)
    with socket.create_connection((url.host, url.port or 80)) as connection:
        connection.sendall(b"no HTTP\r\n\r\n")
        answer = connection.makefile("rb").read().decode()
    [line] = events(caplog, "no request")
    assert line["status"] == 400
    assert f"X-Request-ID: {line['request_id']}" in answer
    assert f'"request_id": "{line["request_id"]}"' in answer


def test_an_unexpected_error_is_logged_with_its_traceback(
    lookalike: Lookalike,
    loop: Loop,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail(_: Index) -> None:
        raise ZeroDivisionError("the cause")

    monkeypatch.setattr(Index, "stats", fail)
    with loop.serving(create_app(lookalike)) as address, client_of(address) as client:
        answer = client.get("/api/stats")
    assert (answer.status_code, answer.json()["type"]) == (500, "/docs#problem")
    assert answer.headers["x-request-id"] == answer.json()["request_id"]
    assert "nosniff" in answer.headers["x-content-type-options"]
    [error] = [record for record in caplog.records if record.exc_info]
    assert (error.message, error.levelname) == ("unexpected error", "ERROR")
    assert error.exc_info is not None
    assert "the cause" in str(error.exc_info[1])
    [line] = events(caplog)
    assert (line["route"], line["status"]) == ("/api/stats", 500)


def test_a_503_is_logged_with_its_reason(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    with away(server.lookalike):
        server.client.get("/readyz")
    [record] = [record for record in caplog.records if record.message == "request"]
    line: Fields = vars(record)["fields"]
    assert (record.levelname, line["status"], line["problem"]) == (
        "WARNING",
        503,
        "database-unavailable",
    )
    assert line["reason"]
    assert line["cause"]


def test_a_full_disk_is_named_in_the_log(
    server: Server, host: ImageHost, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    poison(database_url, RAISE.format("53100"))
    images = [host.add("poison.png", png(99))]
    assert server.client.post("/api/upsert", json={"images": images}).status_code == 503
    [line] = events(caplog)
    assert (line["problem"], line["cause"]) == ("database-busy", "the cause")


def test_no_secret_is_logged(
    server: Server, host: ImageHost, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "app"):
        server.client.get("/api/images", params={"q": "hunter2"})
        server.client.get("/api/images", headers={"authorization": "Bearer hunter2"})
        server.client.post("/api/query?token=hunter2", files={"file": b"hunter2"})
        server.client.get("/hunter2")
        url = host.url("status/404?sig=hunter2").replace("http://", "http://me:hunter2@")
        server.upsert([url])
        job = server.start([url, host.url("status/503?sig=hunter2")])
        server.done(job["id"])
    assert events(caplog, "item failed")
    for record in caplog.records:
        assert "hunter2" not in str(vars(record))
