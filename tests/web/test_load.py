"""Requests that do not arrive, and more of them than one client or the server may have open."""

import asyncio
import json
import socket
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from app.encoding.encoder import Encoder
from app.problems import Problem
from app.settings import Settings, read_settings
from app.web.load import BodyDeadline, OpenRequests
from app.web.protocol import Protocol
from app.web.security import SecurityHeaders
from app.web.server import _problem, create_app
from tests.conftest import client_of, opened
from tests.live import Loop

TIMEOUT_S = 0.3


class Gate:
    """An application whose `/wait` answers once it is let to; it counts who waits."""

    def __init__(self, **changed: Any) -> None:
        self.settings = read_settings(**{"request_timeout_s": TIMEOUT_S, **changed})
        self.waiting, self.open = 0, asyncio.Event()

    def app(self) -> Starlette:
        paths = ("/wait", "/jobs/1/events", "/healthz")
        return Starlette(
            routes=[
                Route("/", self.answer, methods=["GET", "POST"]),
                *(Route(path, self.wait) for path in paths),
            ],
            middleware=[
                Middleware(SecurityHeaders),
                Middleware(ExceptionMiddleware, handlers={Problem: _problem}),
                Middleware(
                    OpenRequests,
                    most=self.settings.max_requests,
                    most_per_client=self.settings.max_requests_per_client,
                ),
                Middleware(BodyDeadline, timeout_s=self.settings.request_timeout_s),
            ],
            exception_handlers={Problem: _problem},
        )

    async def answer(self, request: Request) -> Response:
        return PlainTextResponse(f"{len(await request.body())} bytes")

    async def wait(self, request: Request) -> Response:
        self.waiting += 1
        await self.open.wait()
        return PlainTextResponse("done")

    async def waited_for(self, number: int) -> None:
        while self.waiting < number:  # noqa: ASYNC110
            await asyncio.sleep(0.005)

    async def let(self) -> None:
        self.open.set()


@pytest.fixture
def serve(loop: Loop) -> Generator[Callable[..., tuple[Gate, str]]]:
    """A function that serves a gate; returns it with its URL."""
    with ExitStack() as stack:

        def run(**changed: Any) -> tuple[Gate, str]:
            gate = Gate(**changed)
            protocol = Protocol.limited(gate.settings)
            return gate, stack.enter_context(loop.serving(gate.app(), protocol=protocol))

        yield run


@contextmanager
def connection(address: str, sent: bytes = b"") -> Generator[socket.socket]:
    url = httpx.URL(address)
    with socket.create_connection((url.host, url.port or 80), timeout=60) as opened_socket:
        opened_socket.sendall(sent)
        yield opened_socket


def rest(opened_socket: socket.socket) -> bytes:
    """All that comes until the server closes the connection."""
    received = b""
    while piece := opened_socket.recv(65_536):
        received += piece
    return received


def until(opened_socket: socket.socket, wanted: bytes) -> None:
    """Read until the answer has these bytes; heads and bodies may come apart."""
    received = b""
    while wanted not in received:
        piece = opened_socket.recv(65_536)
        assert piece, received
        received += piece


def document(answer: bytes) -> dict[str, Any]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head.lower()
    assert b"connection: close" in head.lower()
    return json.loads(body)


HEAD = b"GET / HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize("sent", [b"G", HEAD, HEAD + b"X: " + b"y" * 1000])
def test_the_head_of_a_request_has_a_time(serve: Callable[..., Any], sent: bytes) -> None:
    _, address = serve()
    with connection(address, sent) as half:
        assert document(rest(half))["type"] == "/docs#request-timed-out"


def test_each_request_of_a_connection_has_its_time(serve: Callable[..., Any]) -> None:
    _, address = serve()
    with connection(address, HEAD + b"\r\n") as kept:
        until(kept, b"0 bytes")
        kept.sendall(HEAD)
        assert document(rest(kept))["status"] == 408


def test_bytes_that_drip_do_not_prolong_it(serve: Callable[..., Any]) -> None:
    _, address = serve()
    with connection(address, HEAD + b"X: ") as dripping:
        dripping.settimeout(0.01)
        answer = b""
        while not answer:
            dripping.sendall(b"y")
            try:
                answer = dripping.recv(65_536)
            except TimeoutError:
                continue
        assert answer.startswith(b"HTTP/1.1 408")


def test_a_connection_without_a_request_is_closed_without_an_answer(
    serve: Callable[..., Any],
) -> None:
    _, address = serve()
    with connection(address) as silent:
        assert rest(silent) == b""


def test_a_body_has_a_time(serve: Callable[..., Any]) -> None:
    _, address = serve()
    post = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
    for sent in (post, post + b"x" * 10):
        with connection(address, sent) as half:
            assert document(rest(half))["status"] == 408


def test_a_long_body_has_more_time_and_an_answer_any(serve: Callable[..., Any], loop: Loop) -> None:
    gate, address = serve()
    post = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000001\r\n\r\n"
    with (
        connection(address, HEAD.replace(b"/ ", b"/wait ") + b"\r\n") as waiting,
        connection(address, post + b"x" * 1_000_000) as long,
    ):
        loop.run(gate.waited_for(1))
        with connection(address, HEAD) as half:
            # As long as a head may take.
            assert document(rest(half))["status"] == 408
        long.sendall(b"x")
        until(long, b"1000001 bytes")
        loop.run(gate.let())
        until(waiting, b"done")


def test_connections_of_one_client_are_few(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not this machine, as by default.
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "192.0.2.1")
    _, address = serve(max_connections_per_client=3, request_timeout_s=60)
    with ExitStack() as stack:
        held = [stack.enter_context(connection(address, HEAD)) for _ in range(3)]
        with connection(address) as refused:
            answer = rest(refused)
        assert document(answer)["type"] == "/docs#too-many-open"
        assert answer.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
        assert b"\r\nRetry-After: 1\r\n" in answer
        held[0].close()
        # The server notices that one has gone, and then there is room.
        with client_of(address) as client:
            while True:
                try:
                    if client.get("/").status_code == 200:
                        break
                except httpx.TransportError:
                    # Refused before the request was sent.
                    continue


def test_connections_of_a_trusted_proxy_are_those_of_all(serve: Callable[..., Any]) -> None:
    _, address = serve(max_connections_per_client=1, max_connections=3, request_timeout_s=60)
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(connection(address, HEAD))
        with connection(address) as refused:
            assert document(rest(refused))["type"] == "/docs#too-busy"


def get(address: str, path: str, client: str) -> httpx.Response:
    with client_of(address) as http:
        return http.get(path, headers={"X-Forwarded-For": client})


def test_open_requests_of_one_client_and_of_all_are_few(
    serve: Callable[..., Any], loop: Loop
) -> None:
    gate, address = serve(max_requests_per_client=2, max_requests=3)
    mine = HEAD + b"X-Forwarded-For: 192.0.2.1\r\n\r\n"
    with ExitStack() as stack:
        for number in range(1, 3):
            stack.enter_context(connection(address, mine.replace(b"/ ", b"/wait ", 1)))
            loop.run(gate.waited_for(number))
        # Neither of these is counted.
        for number, path in enumerate((b"/jobs/1/events ", b"/healthz "), 3):
            stack.enter_context(connection(address, mine.replace(b"/ ", path, 1)))
            loop.run(gate.waited_for(number))
        refused = get(address, "/", "192.0.2.1")
        assert (refused.status_code, refused.json()["type"]) == (429, "/docs#too-many-open")
        assert refused.headers["retry-after"] == "1"
        assert "content-security-policy" in refused.headers
        assert get(address, "/", "192.0.2.2").status_code == 200
        other = HEAD.replace(b"/ ", b"/wait ", 1) + b"X-Forwarded-For: 192.0.2.2\r\n\r\n"
        stack.enter_context(connection(address, other))
        loop.run(gate.waited_for(5))
        full = get(address, "/", "192.0.2.3")
        assert (full.status_code, full.json()["type"]) == (503, "/docs#too-busy")
        loop.run(gate.let())
    # What has ended is not counted any longer.
    while get(address, "/", "192.0.2.1").status_code != 200:
        continue


def test_the_server_gives_its_requests_a_time(
    settings: Settings, loop: Loop, encoder: Encoder
) -> None:
    changed = settings.model_copy(update={"request_timeout_s": TIMEOUT_S})
    with (
        opened(changed, loop, encoder) as lookalike,
        loop.serving(create_app(lookalike)) as address,
    ):
        for path, kind in (
            ("/api/search", "application/json"),
            ("/api/query", "multipart/form-data; boundary=url"),
            ("/api/upsert", "text/csv"),
            ("/api/images", "multipart/form-data; boundary=url"),
        ):
            head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
            with connection(address, f"{head}Content-Length: 99\r\n\r\n--url".encode()) as half:
                assert document(rest(half))["type"] == "/docs#request-timed-out", path
