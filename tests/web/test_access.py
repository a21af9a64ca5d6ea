"""Who may read and who may write: every combination of what decides it, against a second rule."""

import asyncio
import base64
from collections.abc import Generator
from contextlib import contextmanager
from itertools import product
from typing import Any

import pytest
from starlette.routing import Route

from app.web.access import read_warnings
from app.web.server import create_app
from tests.conftest import Server
from tests.live import Loop
from tests.web.asgi import PROBES, Asgi, with_settings

BINDS = ["127.0.0.1", "::1", "0.0.0.0"]  # noqa: S104
MORE_BINDS = [*BINDS, "localhost", "127.0.0.2", "::", "192.168.1.5", "photos.example"]
PEERS = ["127.0.0.1", "::1", "::ffff:127.0.0.1", "203.0.113.7", None]
HOSTS = [
    "LOCALHOST:8000",
    "[::1]:8000",
    "photos.example:8000",
    "a.lan.example",
    "127.0.0.1.evil.example",
]
TRUSTED = ["photos.example", "*.lan.example"]
FORWARDED: list[dict[str, str]] = [{}, {"x-forwarded-for": "127.0.0.1"}, {"via": "1.1 proxy"}]
MORE_FORWARDED = [
    "forwarded",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-server",
    "x-real-ip",
    "x-client-ip",
    "cf-connecting-ip",
    "true-client-ip",
    "fly-client-ip",
    "cdn-loop",
]
KEYED: list[tuple[list[str], str | None]] = [
    ([], None),
    ([], "stray"),
    (["secret"], None),
    (["secret"], "wrong"),
    (["secret"], "secret"),
]
LOOPBACK_BINDS = {"127.0.0.1", "127.0.0.2", "::1", "localhost"}
LOOPBACK_PEERS = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
LOOPBACK_HOSTS = {"LOCALHOST:8000", "[::1]:8000"}
TRUSTED_HOSTS = {"photos.example:8000", "a.lan.example"}


@contextmanager
def asgi(server: Server, **settings: Any) -> Generator[Asgi]:
    lookalike = with_settings(server.lookalike, **settings)
    yield Asgi(create_app(lookalike, routes=PROBES), lookalike)


def expected(
    *, mode: str, bind: str, trusting: bool, peer: str | None, host: str, forwarded: bool,
    keys: list[str], sent: str | None,
) -> tuple[int, int]:  # fmt: skip
    """Return the statuses of a read and a write, as the documentation states them."""
    if trusting and host not in LOOPBACK_HOSTS | TRUSTED_HOSTS:
        return 400, 400
    direct = peer in LOOPBACK_PEERS and not forwarded
    local = direct and host in LOOPBACK_HOSTS
    if keys and sent in keys:
        return 200, 200
    if mode == "key":
        return 401, 401
    if keys:
        return 200, 401
    write = 200 if local else 403
    if mode == "public" or bind not in LOOPBACK_BINDS:
        return 200, write
    named = host in LOOPBACK_HOSTS or (trusting and host in TRUSTED_HOSTS)
    return (200 if direct and named else 403), write


@pytest.mark.parametrize("bind", BINDS)
@pytest.mark.parametrize("mode", ["auto", "public", "key"])
def test_every_combination_of_who_asks_and_what_is_set(
    shared_server: Server, loop: Loop, mode: str, bind: str
) -> None:
    async def ask() -> None:
        for trusting, (keys, sent) in product([False, True], KEYED):
            trusted = TRUSTED if trusting else []
            changes = {"bind": bind, "read_access": mode, "api_keys": keys}
            with asgi(shared_server, **changes, trusted_hosts=trusted) as send:
                for peer, host, forwarded in product(PEERS, HOSTS, FORWARDED):
                    headers = dict(forwarded)
                    if sent is not None:
                        headers["authorization"] = f"Bearer {sent}"
                    asked = {"peer": peer, "host": host, "headers": headers}
                    statuses = (
                        (await send("GET", "/probe", **asked)).status_code,
                        (await send("POST", "/probe", **asked)).status_code,
                    )
                    wanted = expected(
                        mode=mode, bind=bind, trusting=trusting, peer=peer, host=host,
                        forwarded=bool(forwarded), keys=keys, sent=sent,
                    )  # fmt: skip
                    assert statuses == wanted, (keys, sent, trusting, asked)
                    if sent is None:
                        assert (await send("GET", "/healthz", **asked)).status_code == 200
                # The matrix is long, and others use this loop.
                await asyncio.sleep(0)

    loop.run(ask(), timeout_s=600)


@pytest.mark.parametrize("name", MORE_FORWARDED)
def test_whatever_a_proxy_adds_tells_it_from_a_local_client(
    shared_server: Server, loop: Loop, name: str
) -> None:
    with asgi(shared_server) as send:
        for method in ("GET", "POST"):
            answer = loop.run(send(method, "/probe", headers={name: "x"}))
            assert answer.status_code == 403


def test_so_does_the_version_that_nginx_speaks_unless_told_otherwise(
    shared_server: Server, loop: Loop
) -> None:
    with asgi(shared_server) as send:
        for method in ("GET", "POST"):
            answer = loop.run(send(method, "/probe", http_version="1.0"))
            assert answer.status_code == 403


def test_a_rebinding_page_reads_nothing_through_any_route(
    shared_server: Server, loop: Loop
) -> None:
    with asgi(shared_server) as send:
        for method, path in every_route(send):
            answer = loop.run(send(method, path, host="evil.example"))
            wanted = 200 if path in ("/healthz", "/readyz") else 403
            assert answer.status_code == wanted, (method, path)


def test_with_read_access_key_every_route_but_health_and_static_needs_one(
    shared_server: Server, loop: Loop
) -> None:
    with asgi(shared_server, read_access="key") as send:
        for method, path in every_route(send):
            answer = loop.run(send(method, path))
            # The metrics are for clients on this machine, with a key or without.
            free = path in ("/healthz", "/readyz", "/metrics") or path.startswith("/static/")
            assert answer.status_code == (200 if free else 401), (method, path)
            if not free:
                assert "Basic" in answer.headers["www-authenticate"]


def every_route(send: Asgi) -> list[tuple[str, str]]:
    routes = [route for route in send.app.routes if isinstance(route, Route)]
    found = [(method, route.path) for route in routes for method in sorted(route.methods or ())]
    return [*found, ("GET", "/static/style.css"), ("GET", "/nothing"), ("OPTIONS", "/")]


def test_a_browser_reads_with_the_key_as_a_password(shared_server: Server, loop: Loop) -> None:
    given = base64.b64encode(b"anyone:secret").decode()
    with asgi(shared_server, read_access="key", api_keys=["secret"]) as send:
        answer = loop.run(send("GET", "/", headers={"authorization": f"Basic {given}"}))
    assert (answer.status_code, answer.headers["content-type"][:9]) == (200, "text/html")


@pytest.mark.parametrize(
    ("peer", "counted_as"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("not an address", ""),
        (None, ""),
    ],
)
def test_a_client_without_a_key_is_counted_by_its_network(
    shared_server: Server, loop: Loop, peer: str | None, counted_as: str
) -> None:
    with asgi(shared_server, read_access="public") as send:
        document = loop.run(send("GET", "/probe", peer=peer)).json()
    assert document == {"key": None, "scopes": ["read"], "counted_as": counted_as}


def test_a_client_with_a_key_is_counted_by_its_name(shared_server: Server, loop: Loop) -> None:
    with asgi(shared_server, api_keys=["one", "two"]) as send:
        answer = loop.run(send("GET", "/probe", headers={"authorization": "Bearer two"}))
    assert answer.json() == {
        "key": "API_KEYS:2",
        "scopes": ["read", "write"],
        "counted_as": "key API_KEYS:2",
    }


@pytest.mark.parametrize("bind", MORE_BINDS)
@pytest.mark.parametrize("mode", ["auto", "public", "key"])
@pytest.mark.parametrize("keys", [[], ["secret"]])
def test_a_public_server_that_anyone_may_read_warns(
    shared_server: Server, bind: str, mode: str, keys: list[str]
) -> None:
    changed = with_settings(shared_server.lookalike, bind=bind, read_access=mode, api_keys=keys)
    warns = mode == "auto" and bind not in LOOPBACK_BINDS
    assert len(read_warnings(changed.settings)) == warns


@pytest.mark.parametrize("accept", ["application/json", "text/html"])
@pytest.mark.parametrize("path", ["/broken", "/probe", "/nothing", "/healthz", "/static/style.css"])
@pytest.mark.parametrize("host", ["localhost", "evil.example", "no host"])
def test_every_response_has_the_security_headers_whoever_answers(
    shared_server: Server, loop: Loop, path: str, accept: str, host: str
) -> None:
    with asgi(shared_server) as send:
        answer = loop.run(send("GET", path, host=host, headers={"accept": accept}))
    if (path, host) == ("/broken", "localhost"):
        assert answer.status_code == 500
        assert "secret" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert answer.headers["referrer-policy"] == "same-origin"
