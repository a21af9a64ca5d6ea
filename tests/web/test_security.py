"""Who may change the index, and the headers of every response."""

import base64
from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from app.lookalike import Lookalike
from app.web.openapi import OPERATIONS
from app.web.server import create_app
from tests.conftest import Server, client_of, path_of
from tests.live import Loop
from tests.samples import png

WRITES = [(op.method, path_of(op)) for op in OPERATIONS if op.writes]


@pytest.fixture(scope="module")
def with_keys(shared_server: Server, loop: Loop) -> Generator[httpx.Client]:
    settings = shared_server.lookalike.settings
    keyed = type(settings)(**{**settings.model_dump(), "api_keys": ["first", "second"]})
    lookalike = replace(shared_server.lookalike, settings=keyed)
    with (
        loop.serving(create_app(lookalike)) as address,
        client_of(address) as client,
    ):
        yield client


def write(client: httpx.Client, **headers: str) -> httpx.Response:
    return client.post("/api/upsert", json={"images": []}, headers=headers)


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"anyone:{password}".encode()).decode()


def test_a_key_is_required_and_accepted(with_keys: httpx.Client) -> None:
    answer = write(with_keys)
    assert answer.status_code == 401
    assert "Bearer" in answer.headers["www-authenticate"]
    for given in ("Bearer first", "bearer second", basic("first")):
        assert write(with_keys, authorization=given).status_code == 200
    for given in ("Bearer third", "Bearer", "first", basic("x"), "Basic %%%", "Bearer firs"):
        assert write(with_keys, authorization=given).status_code == 401


@pytest.mark.parametrize(("method", "path"), WRITES)
def test_every_write_requires_a_key_and_reads_do_not(
    with_keys: httpx.Client, method: str, path: str
) -> None:
    assert with_keys.request(method, path).status_code == 401
    assert with_keys.get("/api/stats").status_code == 200
    assert with_keys.post("/api/query", files={"file": png(1)}).status_code == 200


def test_the_index_page_requires_a_key_too(with_keys: httpx.Client) -> None:
    assert with_keys.get("/index").status_code == 200
    assert with_keys.post("/index", data={"urls": "x"}).status_code == 401
    answer = with_keys.post("/index", data={"urls": "x"}, headers={"authorization": basic("first")})
    assert answer.status_code == 303


def test_without_keys_this_machine_may_write(shared_server: Server) -> None:
    assert write(shared_server.client).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"x-forwarded-for": "203.0.113.7"},
        {"forwarded": "for=203.0.113.7"},
        {"host": "pictures.example"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
    ],
    ids=str,
)
def test_without_keys_no_one_else_may_write(shared_server: Server, headers: dict[str, str]) -> None:
    answer = write(shared_server.client, **headers)
    assert answer.status_code == 403
    assert answer.headers["content-type"] == "application/problem+json"


def asgi_status(app: Any, client: tuple[str, int], loop: Loop) -> int:
    """Return the status of a write from a client address."""

    async def run() -> int:
        transport = httpx.ASGITransport(app, client=client)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            return (await http.post("/api/upsert", json={"images": []})).status_code

    return loop.run(run())


@pytest.mark.parametrize(
    ("address", "status"),
    [("203.0.113.7", 403), ("10.0.0.7", 403), ("::1", 200), ("::ffff:127.0.0.1", 200)],
)
def test_the_client_address_decides(
    lookalike: Lookalike, loop: Loop, address: str, status: int
) -> None:
    app = _with_state(create_app(lookalike), lookalike)
    assert asgi_status(app, (address, 5000), loop) == status


def _with_state(app: Any, lookalike: Lookalike) -> Callable[..., Any]:
    async def stated(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "state": {"lookalike": lookalike}}, receive, send)

    return stated


@pytest.mark.parametrize("path", ["/", "/index", "/api/stats", "/nothing", "/static/style.css"])
def test_every_response_has_the_security_headers(shared_server: Server, path: str) -> None:
    headers = shared_server.client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "server" not in headers or "Lookalike" not in headers["server"]


def test_an_upload_cannot_run_as_a_page(shared_server: Server) -> None:
    answer = shared_server.client.post("/api/images", files={"file": ("x.html", png(1))})
    path = f"/images/{answer.json()['results'][0]['id']}/original"
    headers = shared_server.client.get(path).headers
    assert headers["content-type"] == "image/png"
    assert "sandbox" in headers["content-security-policy"]
