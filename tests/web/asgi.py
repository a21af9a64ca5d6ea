"""Requests to an application without a socket: from any address, with any headers."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import httpx
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.lookalike import Lookalike
from app.settings import Settings
from app.web.access import WriteAccess
from app.web.clients import client_of


async def _probe(request: Request) -> Response:
    client = client_of(request.scope)
    return JSONResponse(
        {"key": client.key, "scopes": sorted(client.scopes), "counted_as": client.counted_as}
    )


async def _broken(_: Request) -> Response:
    raise ZeroDivisionError("secret detail")


def probes(below: str = "", *, origins: Sequence[str] = ()) -> list[Route]:
    """Routes that need no database: one that reads, one that writes, one that has a bug."""
    writes = [Middleware(WriteAccess, origins=origins)]
    return [
        Route(f"{below}/probe", _probe),
        Route(f"{below}/probe", _probe, methods=["POST"], middleware=writes),
        Route(f"{below}/broken", _broken),
    ]


PROBES = probes()


def with_settings(lookalike: Lookalike, **changes: Any) -> Lookalike:
    """The same parts with other settings, read as from the environment."""
    settings = lookalike.settings
    return replace(lookalike, settings=Settings(**{**settings.model_dump(), **changes}))


@dataclass
class Asgi:
    """Sends requests to an application, as uvicorn would after its proxy headers."""

    app: Any
    lookalike: Lookalike

    async def __call__(
        self,
        method: str,
        path: str,
        *,
        peer: str | None = "127.0.0.1",
        host: str = "localhost",
        headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
        http_version: str = "1.1",
    ) -> httpx.Response:
        path, _, query = path.partition("?")
        given = dict(headers).items() if isinstance(headers, Mapping) else headers
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": http_version,
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(b"host", host.encode())]
            + [(name.lower().encode(), value.encode("latin-1")) for name, value in given],
            "client": None if peer is None else (peer, 5000),
            "server": ("127.0.0.1", 8000),
            "state": {"lookalike": self.lookalike},
        }
        sent: list[Any] = []
        bodies = iter([b""])

        async def receive() -> Any:
            if next(bodies, None) is None:
                # The client stays until it has been answered.
                await asyncio.Event().wait()
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        try:
            await self.app(scope, receive, send)
        except ZeroDivisionError:
            # Starlette raises it again once it has answered.
            assert path.endswith("/broken")
        body = b"".join(message.get("body", b"") for message in sent)
        return httpx.Response(sent[0]["status"], headers=sent[0]["headers"], content=body)
