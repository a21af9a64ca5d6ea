"""How many requests may be open at once, and how long a body may take."""

import asyncio
from collections import Counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.problems import RequestTimedOut, TooBusy, TooManyOpen
from app.web.access import HEALTH
from app.web.clients import client_of

# Beside the time that the setting allows, a body has a second for each so many of its bytes: any
# size may be sent over a slow line, but no one holds a request open with a byte a minute.
BYTES_PER_S = 10_000


_STREAM = "/events"


class OpenRequests:
    """Refuses requests while too many are open, of one client or in all.

    Event streams have limits of their own (stream_counter.py), as they are open for as long as
    their jobs take; health checks have none, and must answer when nothing else does.
    """

    def __init__(self, app: ASGIApp, *, most: int, most_per_client: int) -> None:
        self.app = app
        self._most = most
        self._most_per_client = most_per_client
        self._open: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request (ASGI)."""
        if scope["type"] != "http" or scope["path"] in HEALTH or scope["path"].endswith(_STREAM):
            await self.app(scope, receive, send)
            return
        client = client_of(scope).counted_as
        if self._open[client] >= self._most_per_client:
            raise TooManyOpen
        if self._open.total() >= self._most:
            raise TooBusy("Too many requests are open; try again soon.")
        self._open[client] += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self._open[client] -= 1
            if not self._open[client]:
                del self._open[client]


class BodyDeadline:
    """Raises `RequestTimedOut` for a body that takes too long to arrive.

    Only the time that is spent waiting for the client counts.
    """

    def __init__(self, app: ASGIApp, *, timeout_s: float) -> None:
        self.app = app
        self._timeout_s = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request (ASGI)."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        loop = asyncio.get_running_loop()
        waited, received, more = 0.0, 0, True

        async def within_time() -> Message:
            nonlocal waited, received, more
            # Afterwards, the next message is that the client has gone.
            if not more:
                return await receive()
            start = loop.time()
            try:
                async with asyncio.timeout(self._timeout_s + received / BYTES_PER_S - waited):
                    message = await receive()
            except TimeoutError as exc:
                raise RequestTimedOut from exc
            waited += loop.time() - start
            received += len(message.get("body", b""))
            more = message.get("more_body", False)
            return message

        await self.app(scope, within_time, send)
