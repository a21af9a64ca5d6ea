"""uvicorn's HTTP, with a deadline for heads and a limit of connections, and problem documents."""

import asyncio
import json
import logging
from collections.abc import Container
from http import HTTPStatus
from typing import Any, ClassVar, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from app.logs import fields
from app.problems import InvalidRequest, Problem, RequestTimedOut, TooBusy, TooManyOpen
from app.settings import Settings
from app.web.clients import network_of
from app.web.request_log import HEADER, problem_document

logger = logging.getLogger(__name__)


class Protocol(H11Protocol):
    """One connection.

    uvicorn waits for ever for the rest of a head, and counts connections only once a request has
    come. Proxies whose forwarding headers are trusted connect for many clients, so they have no
    limit of their own. What no application sees is refused here, with the same documents.
    """

    head_timeout_s: ClassVar[float] = 30
    most_connections: ClassVar[int] = 1000
    most_per_client: ClassVar[int] = 100

    _head_timer: asyncio.TimerHandle | None = None

    @classmethod
    def limited(cls, settings: Settings) -> "type[Protocol]":
        """Return this class with the limits of the settings."""
        limits = {
            "head_timeout_s": settings.request_timeout_s,
            "most_connections": settings.max_connections,
            "most_per_client": settings.max_connections_per_client,
        }
        return type("Protocol", (cls,), limits)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a connection, or refuse it if there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self.most_connections:
            self._refuse(TooBusy("Too many connections are open."))
        elif self._is_one_too_many():
            self._refuse(TooManyOpen("Too many connections of this client are open."))
        else:
            self._await_head()

    def data_received(self, data: bytes) -> None:
        """Read a part of a request."""
        super().data_received(data)
        if self.transport.is_closing() or self.conn.their_state is not h11.IDLE:
            self._stop_timer()
        elif self._head_timer is None:
            # The beginning of the next request, for which uvicorn has ended its own wait.
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_timer()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Refuse a request, and close the connection."""
        problem = InvalidRequest("The request is not valid HTTP, or its headers are too long.")
        problem.status = 400
        self._refuse(problem, reason=msg)

    def _is_one_too_many(self) -> bool:
        if self.client is None or self.client[0] in _trusted(self.app):
            return False
        mine = network_of(self.client[0])
        others = (cast(H11Protocol, other).client for other in self.connections)
        return sum(o is not None and network_of(o[0]) == mine for o in others) > (
            self.most_per_client
        )

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(self.head_timeout_s, self._end_of_patience)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _end_of_patience(self) -> None:
        if self.transport.is_closing():
            return
        if self.conn.trailing_data[0]:
            self._refuse(RequestTimedOut())
        else:
            self.transport.close()

    def _refuse(self, problem: Problem, *, reason: str | None = None) -> None:
        self._stop_timer()
        document = problem_document(problem)
        body = json.dumps(document).encode()
        lines = [
            f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}",
            "Content-Type: application/problem+json",
            f"{HEADER}: {document['request_id']}",
            f"Content-Length: {len(body)}",
            "Connection: close",
        ]
        if problem.retry_after_s is not None:
            lines.append(f"Retry-After: {problem.retry_after_s}")
        self.transport.write("\r\n".join([*lines, "", ""]).encode() + body)
        self.transport.close()
        logger.info(
            "no request",
            extra=fields(
                status=problem.status,
                reason=reason or problem.detail,
                request_id=document["request_id"],
            ),
        )


def _trusted(app: Any) -> Container[str]:
    """Return the proxies whose forwarding headers uvicorn trusts (FORWARDED_ALLOW_IPS)."""
    return getattr(app, "trusted_hosts", ())
