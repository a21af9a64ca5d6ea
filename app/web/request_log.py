"""The id of each request, and its line in the log."""

import logging
import re
import secrets
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.logs import REQUEST_ID, fields
from app.problems import Problem
from app.web.clients import client_of

Render = Callable[[Request, Exception], Awaitable[Response]]

HEADER = "X-Request-ID"
# What proxies make: UUIDs, hexadecimal, Base64 and the like.
_VALID = re.compile(r"[A-Za-z0-9._~+/=:-]{1,128}")

logger = logging.getLogger(__name__)


class RequestLog:
    """Gives each request an id, and logs how it ended.

    The id is that of a valid `X-Request-ID`, or a new one; the response has it, too, and so has
    every log line written meanwhile. An unexpected exception ends here: its traceback is logged,
    and `render` makes the response.
    """

    def __init__(self, app: ASGIApp, *, render: Render) -> None:
        self.app = app
        self._render = render

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request (ASGI)."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status, logged = perf_counter(), 0, False
        request_id = given_or_new_id(Headers(scope=scope))
        REQUEST_ID.set(request_id)

        def log_once() -> None:
            nonlocal logged
            if not logged:
                logged = True
                _log(scope, status, perf_counter() - start)

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[HEADER] = request_id
            elif message["type"] == "http.response.body" and not message.get("more_body"):
                # Whoever has a whole response finds its line.
                log_once()
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except Exception as exc:
            logger.exception("unexpected error", extra=fields(route=route_of(scope)))
            # Of a response that has begun, the rest is missing: the server closes the connection.
            if not status:
                response = await self._render(Request(scope), exc)
                await response(scope, receive, send_with_id)
        finally:
            log_once()


def given_or_new_id(headers: Headers) -> str:
    """Return the request's own id if it is valid, or a new one."""
    given = headers.get(HEADER, "")
    return given if _VALID.fullmatch(given) else new_id()


def new_id() -> str:
    """Return a new request id."""
    return secrets.token_hex(8)


def route_of(scope: Scope) -> str:
    """Return the template of a routed request's path, such as `/images/{id:uuid}`, or `-`."""
    return getattr(scope.get("route"), "path", "-")


def problem_document(problem: Problem) -> dict[str, Any]:
    """Return a problem document with the id of the request that it answers."""
    return {**problem.document(), "request_id": REQUEST_ID.get() or new_id()}


def note_problem(scope: Scope, problem: Problem) -> None:
    """Keep the problem that a request ends with, for its line in the log."""
    scope["problem"] = problem


def _log(scope: Scope, status: int, seconds: float) -> None:
    """Log a request without its path or query, which may hold secrets and words of users."""
    problem: Problem | None = scope.get("problem")
    failed = status >= 500
    logger.log(
        logging.WARNING if failed else logging.INFO,
        "request",
        extra=fields(
            method=scope["method"],
            route=route_of(scope),
            status=status or "-",
            ms=round(seconds * 1000, 1),
            key=client_of(scope).key,
            problem=problem.slug() if problem else None,
            reason=problem.detail if problem and failed else None,
            cause=_cause(problem) if problem and failed else None,
        ),
    )


def _cause(problem: Problem) -> str | None:
    """Return the first line of the error behind a problem, such as Postgres' own message."""
    cause = problem.__cause__
    lines = str(getattr(cause, "orig", cause)).strip().splitlines() if cause else []
    return lines[0] if lines else None
