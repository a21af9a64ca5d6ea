"""Pages of other sites: off by default; allowed ones read, and write with a key of their own."""

import base64
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from app.web.server import create_app
from tests.conftest import Server
from tests.live import Loop
from tests.web.asgi import Asgi, probes, with_settings

ALLOWED = "https://app.example"
OTHERS = ["https://evil.example", "https://app.example:8443", "http://app.example", "null"]
KEY = {"authorization": "Bearer secret"}
BASIC = {"authorization": "Basic " + base64.b64encode(b"anyone:secret").decode()}


@contextmanager
def asgi(server: Server, origins: Sequence[str] = (ALLOWED,), **settings: Any) -> Generator[Asgi]:
    lookalike = with_settings(server.lookalike, cors_origins=origins, **settings)
    routes = [*probes("/api", origins=origins), *probes(origins=origins)]
    yield Asgi(create_app(lookalike, routes=routes), lookalike)


def from_page(
    loop: Loop, send: Asgi, method: str, path: str = "/api/probe", *, origin: str, **headers: str
) -> httpx.Response:
    """A request as a browser makes it for a page of another site."""
    own = {"origin": origin, "sec-fetch-site": "cross-site", **headers}
    return loop.run(send(method, path, headers=own))


def cors_headers(answer: httpx.Response) -> set[str]:
    return {name for name in answer.headers if name.startswith("access-control-")}


def preflight(loop: Loop, send: Asgi, origin: str, path: str = "/api/probe") -> httpx.Response:
    asked = {"access-control-request-method": "POST"}
    return from_page(loop, send, "OPTIONS", path, origin=origin, **asked)


def test_no_origin_is_allowed_by_default(shared_server: Server, loop: Loop) -> None:
    with asgi(shared_server, ()) as send:
        assert not cors_headers(from_page(loop, send, "GET", origin=ALLOWED))
        assert not cors_headers(preflight(loop, send, ALLOWED))
        assert "vary" not in from_page(loop, send, "GET", origin=ALLOWED).headers
        assert from_page(loop, send, "POST", origin=ALLOWED).status_code == 403


@pytest.mark.parametrize("origin", OTHERS)
def test_other_origins_get_nothing(shared_server: Server, loop: Loop, origin: str) -> None:
    with asgi(shared_server, api_keys=["secret"]) as send:
        read = from_page(loop, send, "GET", origin=origin)
        assert not cors_headers(read)
        assert read.headers["vary"] == "Origin"
        assert not cors_headers(preflight(loop, send, origin))
        assert from_page(loop, send, "POST", origin=origin, **KEY).status_code == 403


@pytest.mark.parametrize(
    ("path", "status"),
    [("/api/probe", 200), ("/api/broken", 500), ("/api/nothing", 404), ("/images/1", 404)],
)
def test_an_allowed_page_reads_answers_and_problems(
    shared_server: Server, loop: Loop, path: str, status: int
) -> None:
    with asgi(shared_server) as send:
        answer = from_page(loop, send, "GET", path, origin=ALLOWED)
    assert answer.status_code == status
    assert answer.headers["access-control-allow-origin"] == ALLOWED
    assert "Retry-After" in answer.headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in answer.headers
    assert answer.headers["vary"] == "Origin"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/", "/index", "/docs", "/probe", "/static/style.css"])
def test_pages_are_not_for_other_pages(shared_server: Server, loop: Loop, path: str) -> None:
    with asgi(shared_server) as send:
        assert not cors_headers(from_page(loop, send, "GET", path, origin=ALLOWED))
        assert not cors_headers(preflight(loop, send, ALLOWED, path))


def test_a_preflight_needs_no_key_and_costs_nothing(shared_server: Server, loop: Loop) -> None:
    strict: dict[str, Any] = {"read_access": "key", "api_keys": ["secret"], "rate_limit": "5/day"}
    with asgi(shared_server, **strict) as send:
        for _ in range(6):
            answer = preflight(loop, send, ALLOWED)
            assert answer.status_code == 204
            assert "Authorization" in answer.headers["access-control-allow-headers"]
            assert "PATCH" in answer.headers["access-control-allow-methods"]
        refused = from_page(loop, send, "GET", origin=ALLOWED)
        assert refused.status_code == 401
        assert refused.headers["access-control-allow-origin"] == ALLOWED
        for _ in range(5):
            last = from_page(loop, send, "GET", origin=ALLOWED, **KEY)
        assert last.headers["ratelimit"].startswith('"5-in-86400s";r=0')


def test_an_allowed_page_writes_with_a_bearer_key_and_nothing_else(
    shared_server: Server, loop: Loop
) -> None:
    with asgi(shared_server, api_keys=["secret"]) as send:
        assert from_page(loop, send, "POST", origin=ALLOWED, **KEY).status_code == 200
        # A browser adds the password by itself, for any page that sends a form.
        assert from_page(loop, send, "POST", origin=ALLOWED, **BASIC).status_code == 401
        assert from_page(loop, send, "POST", origin=ALLOWED).status_code == 401
        wrong = {"authorization": "Bearer wrong"}
        assert from_page(loop, send, "POST", origin=ALLOWED, **wrong).status_code == 401


def test_the_place_of_a_visitor_is_no_permission_of_a_page(
    shared_server: Server, loop: Loop
) -> None:
    with asgi(shared_server) as send:
        assert loop.run(send("POST", "/api/probe")).status_code == 200
        assert from_page(loop, send, "POST", origin=ALLOWED).status_code == 401


def test_all_origins_with_a_star(shared_server: Server, loop: Loop) -> None:
    with asgi(shared_server, ["*"], read_access="public", api_keys=["secret"]) as send:
        answer = from_page(loop, send, "GET", origin="https://any.example")
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "vary" not in answer.headers
        assert not cors_headers(from_page(loop, send, "GET", origin="null"))
        answer = from_page(loop, send, "POST", origin="https://any.example", **KEY)
        assert answer.status_code == 200
