"""Rate limits: who is counted, what a request costs, what is said, and how much is remembered."""

import shutil
import socket
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from app.problems import MissingPackage, WrongSetting
from app.settings import Settings
from app.web.access import HEALTH, METRICS
from app.web.openapi import OPERATIONS
from app.web.rate_counters import REDIS_TIMEOUT_S, BoundedStorage, RateCounters
from app.web.rate_limits import DECODING, cost_of
from app.web.server import create_app
from tests.conftest import Server, path_of
from tests.live import Loop
from tests.web.asgi import PROBES, Asgi, with_settings


@contextmanager
def asgi(server: Server, limit: str, **settings: Any) -> Generator[Asgi]:
    changes = {"read_access": "public", "rate_limit": limit, **settings}
    lookalike = with_settings(server.lookalike, **changes)
    yield Asgi(create_app(lookalike, routes=PROBES), lookalike)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time of the counters, which only the test moves."""
    now = [1_000_000.0]
    monkeypatch.setattr("app.web.rate_counters.time", lambda: now[0])
    return now


def statuses(loop: Loop, send: Asgi, number: int, **request: Any) -> list[int]:
    return [loop.run(send("GET", "/probe", **request)).status_code for _ in range(number)]


def test_a_client_gets_what_it_may_have_and_then_a_429(
    shared_server: Server, loop: Loop, clock: list[float]
) -> None:
    with asgi(shared_server, "6/minute") as send:
        for left in (5, 4, 3, 2, 1, 0):
            answer = loop.run(send("GET", "/probe"))
            assert answer.status_code == 200
            assert answer.headers["ratelimit-policy"] == '"6-in-60s";q=6;w=60'
            assert answer.headers["ratelimit"] == f'"6-in-60s";r={left};t=60'
        clock[0] += 20.5
        answer = loop.run(send("GET", "/probe"))
        assert answer.status_code == 429
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["type"] == "/docs#rate-limited"
        assert answer.headers["ratelimit"] == '"6-in-60s";r=0;t=40'
        assert answer.headers["retry-after"] == "40"
        # After that time, and no earlier, there is enough again.
        clock[0] += 38
        assert statuses(loop, send, 1) == [429]
        clock[0] += 2
        assert statuses(loop, send, 7) == [200] * 6 + [429]


def test_what_decodes_costs_more_and_a_refused_request_nothing(
    shared_server: Server, loop: Loop, clock: list[float]
) -> None:
    with asgi(shared_server, "9/minute") as send:
        first = loop.run(send("POST", "/api/query"))
        assert (first.status_code, first.headers["ratelimit"]) == (400, '"9-in-60s";r=4;t=60')
        assert loop.run(send("POST", "/api/query")).status_code == 429
        assert statuses(loop, send, 5) == [200] * 4 + [429]


def test_several_limits_hold_together(
    shared_server: Server, loop: Loop, clock: list[float]
) -> None:
    with asgi(shared_server, "5/second, 7/hour") as send:
        assert statuses(loop, send, 6) == [200] * 5 + [429]
        clock[0] += 1
        assert statuses(loop, send, 2) == [200] * 2
        answer = loop.run(send("GET", "/probe"))
        assert answer.headers["ratelimit"] == '"5-in-1s";r=3;t=1, "7-in-3600s";r=0;t=3599'
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "3599")


def test_clients_are_counted_by_key_or_else_by_network(
    shared_server: Server, loop: Loop, clock: list[float]
) -> None:
    keys = {"api_keys": ["one", "two"]}
    one, two = ({"authorization": f"Bearer {key}"} for key in keys["api_keys"])
    with asgi(shared_server, "5/minute", **keys) as send:
        assert statuses(loop, send, 6, headers=one) == [200] * 5 + [429]
        # The same key from elsewhere, another key from the same address, and no key.
        assert statuses(loop, send, 1, headers=one, peer="203.0.113.7") == [429]
        assert statuses(loop, send, 1, headers=two) == [200]
        assert statuses(loop, send, 6) == [200] * 5 + [429]
        # A wrong key is none.
        wrong = {"authorization": "Bearer wrong"}
        assert statuses(loop, send, 1, headers=wrong) == [429]
        for spread in (["203.0.113.1", "203.0.113.2"], ["2001:db8:0:1::1", "2001:db8:0:2::1"]):
            for peer in spread:
                assert statuses(loop, send, 5, peer=peer) == [200] * 5
        together = [f"2001:db8:0:7::{i}" for i in range(6)]
        found = [statuses(loop, send, 1, peer=peer)[0] for peer in together]
        assert found == [200] * 5 + [429]


def test_refused_requests_count_too(shared_server: Server, loop: Loop, clock: list[float]) -> None:
    with asgi(shared_server, "5/minute", read_access="key", api_keys=["secret"]) as send:
        assert statuses(loop, send, 6) == [401] * 5 + [429]


@pytest.mark.parametrize(
    "path", ["/healthz", "/readyz", "/static/style.css", "/images/1/thumbnail"]
)
def test_health_static_files_and_thumbnails_are_free(
    shared_server: Server, loop: Loop, path: str
) -> None:
    with asgi(shared_server, "5/minute") as send:
        for _ in range(7):
            answer = loop.run(send("GET", path))
            assert answer.status_code != 429
            assert "ratelimit" not in answer.headers


def test_without_a_limit_nothing_is_counted(shared_server: Server, loop: Loop) -> None:
    with asgi(shared_server, "") as send:
        answer = loop.run(send("GET", "/probe"))
    assert not [name for name in answer.headers if name.startswith("ratelimit")]


def cost(method: str, path: str, query: bytes = b"") -> int:
    return cost_of({"method": method, "path": path, "query_string": query})


def test_every_operation_that_takes_images_is_one_that_costs_more() -> None:
    for operation in OPERATIONS:
        takes_images = operation.form is not None or bool(operation.lists)
        free = operation.path in (*HEALTH, METRICS) or operation.path.endswith("/thumbnail")
        expected = 5 if takes_images else 0 if free else 1
        assert cost(operation.method.upper(), path_of(operation)) == expected, operation
    pages = {("POST", "/"), ("POST", "/index")}
    assert {(op.method.upper(), op.path) for op in OPERATIONS if op.form or op.lists} | pages == (
        DECODING
    )
    assert (cost("GET", "/"), cost("GET", "/", b"q=http://x"), cost("POST", "/")) == (1, 5, 5)


def test_the_memory_is_bounded_however_many_addresses_ask(loop: Loop) -> None:
    storage = BoundedStorage(most=100)

    async def fill() -> None:
        for i in range(20_001):
            assert await storage.incr(f"client {i}", 60) == 1
            # One that keeps asking is not forgotten.
            assert await storage.incr("busy", 60) == i + 1

    loop.run(fill())
    assert len(storage) == 100
    assert loop.run(storage.get("busy")) == 20_001
    assert loop.run(storage.get("client 20000")) == 1
    assert loop.run(storage.get("client 1")) == 0


def counters(settings: Settings, **changes: Any) -> RateCounters:
    return RateCounters(Settings(**{**settings.model_dump(), "rate_limit": "9/minute", **changes}))


def taken(loop: Loop, of: RateCounters, client: str = "someone", cost: int = 5) -> bool:
    return all(use.granted for use in loop.run(of.take(client, cost)))


def test_without_its_redis_each_server_counts_for_itself(
    settings: Settings, loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"redis://:hunter2@127.0.0.1:{closed.getsockname()[1]}/0"
    found = counters(settings, rate_limit_url=url)
    assert [taken(loop, found), taken(loop, found)] == [True, False]
    [record] = [r for r in caplog.records if "RATE_LIMIT_URL does not answer" in r.message]
    assert "hunter2" not in record.message
    loop.run(found.close())


def test_a_redis_that_hangs_holds_up_one_request_for_a_bounded_time(
    settings: Settings, loop: Loop
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        found = counters(settings, rate_limit_url=url)
        start = monotonic()
        assert [taken(loop, found, cost=1) for _ in range(9)] == [True] * 9
        # All nine would wait for nine times as long.
        assert monotonic() - start < REDIS_TIMEOUT_S * 9
        loop.run(found.close())


def test_a_wrong_url_and_a_missing_package_are_said_in_a_line(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(WrongSetting, match="RATE_LIMIT_URL is not a URL"):
        counters(settings, rate_limit_url="http://hunter2@127.0.0.1/")
    monkeypatch.setitem(__import__("sys").modules, "redis.asyncio", None)
    with pytest.raises(MissingPackage, match=r"lookalike\[redis\]"):
        counters(settings, rate_limit_url="redis://127.0.0.1/")


@pytest.fixture
def redis(tmp_path: Path) -> Generator[str]:
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed")
    path = tmp_path / "socket"
    options = ["--port", "0", "--unixsocket", str(path), "--save", "", "--daemonize", "no"]
    with subprocess.Popen([program, *options], cwd=tmp_path, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if b"ready to accept connections" in line.lower():
                break
        yield f"unix://{path}"
        process.terminate()
        process.stdout.read()


@pytest.mark.slow
def test_servers_count_together_in_a_redis(settings: Settings, loop: Loop, redis: str) -> None:
    first, second = (counters(settings, rate_limit_url=redis) for _ in range(2))
    assert taken(loop, first)
    assert not taken(loop, second)
    assert taken(loop, second, cost=4)
    assert not taken(loop, first, cost=1)
    assert taken(loop, second, "another")
    [use] = loop.run(first.take("someone", 1))
    assert 0 < use.reset_s <= 60
    for found in (first, second):
        loop.run(found.close())
