"""Security headers, host names and the size of requests."""

import re
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.problems import BodyTooLarge, InvalidRequest
from app.web.access import HEALTH, is_trusted
from app.web.clients import host_of, is_loopback

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data: blob:; connect-src 'self'; manifest-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    # Not no-referrer, which makes browsers send forms with `Origin: null`.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Sent with every response that does not set its own."""

# RFC 3986, 3.2.2 and 3.2.3; the brackets of an IPv6 address are checked by `urlsplit`.
_HOST = re.compile(r"([\w.~!$&'()*+,;=%-]*|\[[\w:.%-]+\])(:[0-9]*)?", re.ASCII)

# A client reads "too large" only once its body has been received; one that sends more than this
# many times the limit is cut off.
DRAIN_FACTOR = 5


def add_header(scope: Scope, name: str, value: str) -> None:
    """Add a header to the response to this request, whoever makes it."""
    scope.setdefault("state", {}).setdefault("headers", {})[name] = value


class SecurityHeaders:
    """Adds the security headers to every response, and those that `add_header` was given.

    Pages may show images from the origin `images_from`, too.
    """

    def __init__(self, app: ASGIApp, *, images_from: str | None = None) -> None:
        self.app = app
        self._headers = dict(HEADERS)
        if images_from:
            policy = HEADERS["Content-Security-Policy"]
            allowed = policy.replace("img-src 'self'", f"img-src 'self' {images_from}")
            self._headers["Content-Security-Policy"] = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request (ASGI)."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
                for name, value in scope.get("state", {}).get("headers", {}).items():
                    headers.append(name, value)
            await send(message)

        await self.app(scope, receive, send_with_headers)


class HostCheck:
    """Refuses a request whose `Host` is none, from which no URL can be made.

    With `trusted`, the TRUSTED_HOSTS, it refuses all others, too, except for this machine's own
    names and for health checks. Raises an `InvalidRequest` with the status 400.
    """

    def __init__(self, app: ASGIApp, *, trusted: Collection[str] = ()) -> None:
        self.app = app
        self._trusted = trusted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request (ASGI)."""
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            if not _is_host(headers.get("host", "")):
                raise _bad_request("The Host header is not the name or address of a host.")
            host = host_of(headers)
            known = not self._trusted or is_loopback(host) or is_trusted(host, self._trusted)
            if not known and scope["path"] not in HEALTH:
                raise _bad_request("The Host header names none of this server's TRUSTED_HOSTS.")
        await self.app(scope, receive, send)


class BodyLimit:
    """Raises `BodyTooLarge` for a body, declared or sent, of more than `max_bytes`."""

    def __init__(self, app: ASGIApp, *, max_bytes: int) -> None:
        self.app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request (ASGI)."""
        declared = Headers(scope=scope).get("content-length", "")
        # Python refuses to read numbers of thousands of digits.
        if declared.isdecimal() and (len(declared) > 20 or int(declared) > self._max_bytes):
            await self._refuse(receive, 0)
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                await self._refuse(receive, received)
            return message

        await self.app(scope, counted, send)

    async def _refuse(self, receive: Receive, received: int) -> None:
        more = True
        while more and received <= self._max_bytes * DRAIN_FACTOR:
            message = await receive()
            received += len(message.get("body", b""))
            more = message.get("more_body", False)
        raise BodyTooLarge(
            f"The request is larger than {self._max_bytes / 1e6:.3g} MB. "
            "MAX_UPLOAD_MB sets the limit for an image."
        )


def _bad_request(detail: str) -> InvalidRequest:
    problem = InvalidRequest(detail)
    problem.status = 400
    return problem


def _is_host(host: str) -> bool:
    try:
        # Reading the port checks its range.
        return bool(_HOST.fullmatch(host)) and (urlsplit(f"//{host}").port or 0) >= 0
    except ValueError:
        return False
