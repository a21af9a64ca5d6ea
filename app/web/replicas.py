"""Searches that may read a replica, and clients that have just written and so read the primary."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Receive, Scope, Send

from app.store.replica import FRESH_S
from app.web.requests import Request, parts
from app.web.security import add_header

T = TypeVar("T")

COOKIE = "lookalike_fresh"
# They ask, although they are sent with POST.
_ASKING = frozenset({"/api/query", "/api/search", "/api/compare"})


async def searched(request: Request, call: Callable[[], Awaitable[T]]) -> T:
    """Return what a call finds, on the replica if there is one that is near enough.

    A client that has just written, or sends `Cache-Control: no-cache`, reads the primary.
    """
    replica = parts(request).database.replica
    if replica is None:
        return await call()
    return await replica.read(call, fresh=_is_fresh(Headers(scope=request.scope)))


class ReadYourWrites:
    """Sends each client that has written something a cookie, with which it reads the primary."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request (ASGI)."""
        reads = scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS")
        if not (reads or scope["path"] in _ASKING):
            # Whatever becomes of it: something may be written.
            secure = "; Secure" if scope.get("scheme") == "https" else ""
            value = f"{COOKIE}=1; Max-Age={FRESH_S}; Path=/; HttpOnly; SameSite=Lax{secure}"
            add_header(scope, "Set-Cookie", value)
        await self.app(scope, receive, send)


def _is_fresh(headers: Headers) -> bool:
    if "no-cache" in headers.get("cache-control", ""):
        return True
    return COOKIE in cookie_parser(headers.get("cookie", ""))
