"""Write access, request size limits and security headers."""

import base64
import hmac
import ipaddress
import re
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import urlsplit

from pydantic import SecretStr
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.problems import BodyTooLarge, InvalidRequest, KeyRequired, NotAllowed

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data: blob:; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    # Not no-referrer, which makes browsers send forms with `Origin: null`.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Sent with every response that does not set its own."""

Render = Callable[[Request, Exception], Awaitable[Response]]

# RFC 3986, 3.2.2 and 3.2.3; the brackets of an IPv6 address are checked by `urlsplit`.
_HOST = re.compile(r"([\w.~!$&'()*+,;=%-]*|\[[\w:.%-]+\])(:[0-9]*)?", re.ASCII)

FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip")

# A client reads "too large" only once its body has been received; one that sends more than this
# many times the limit is cut off.
DRAIN_FACTOR = 5


class SecurityHeaders:
    """Adds the security headers to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request (ASGI)."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, send_with_headers)


class HostCheck:
    """Refuses a request whose `Host` is none, from which no URL can be made.

    It stands outside of the exception handlers, so `render` makes the response of a problem.
    """

    def __init__(self, app: ASGIApp, *, render: Render) -> None:
        self.app = app
        self._render = render

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request (ASGI)."""
        if scope["type"] != "http" or _is_host(Headers(scope=scope).get("host", "")):
            await self.app(scope, receive, send)
            return
        problem = InvalidRequest("The Host header is not the name or address of a host.")
        problem.status = 400
        response = await self._render(Request(scope), problem)
        await response(scope, receive, send)


class WriteAccess:
    """Admits only clients that may change the index.

    With keys: those that send one as a bearer token (or, from a browser, as a Basic password).
    Without keys: those on this machine that connect directly. Pages of other sites never may.
    Raises `KeyRequired` or `NotAllowed`.
    """

    def __init__(self, app: ASGIApp, *, keys: Sequence[SecretStr]) -> None:
        self.app = app
        self._keys = [key.get_secret_value().encode() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request (ASGI)."""
        headers = Headers(scope=scope)
        _refuse_other_sites(headers)
        if self._keys:
            self._check_key(headers.get("authorization", ""))
        elif not is_local(scope, headers):
            raise NotAllowed
        await self.app(scope, receive, send)

    def _check_key(self, authorization: str) -> None:
        given = _credential(authorization)
        # Every key is compared, so that the time reveals nothing.
        matches = [hmac.compare_digest(given, key) for key in self._keys]
        if not any(matches):
            raise KeyRequired


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


def _credential(authorization: str) -> bytes:
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        # Headers are bytes; Starlette decodes them as Latin-1.
        return value.strip().encode("latin-1")
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).partition(b":")[2]
        except ValueError:
            return b""
    return b""


def _refuse_other_sites(headers: Headers) -> None:
    origin = headers.get("origin")
    foreign = origin is not None and _netloc(origin) != headers.get("host")
    if foreign or headers.get("sec-fetch-site") in ("cross-site", "same-site"):
        raise NotAllowed("Pages of other sites may not change the index.")


def _netloc(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def _is_host(host: str) -> bool:
    try:
        # Reading the port checks its range.
        return bool(_HOST.fullmatch(host)) and (urlsplit(f"//{host}").port or 0) >= 0
    except ValueError:
        return False


def is_local(scope: Scope, headers: Headers) -> bool:
    """Return whether a request comes from this machine, directly and to a loopback host."""
    client = scope.get("client")
    if client is None or any(name in headers for name in FORWARDED):
        return False
    # The host name, too: another site may have pointed its own name at this machine.
    host = urlsplit(f"//{headers.get('host', '')}").hostname or ""
    return _is_loopback(client[0]) and (host == "localhost" or _is_loopback(host))


def _is_loopback(address: str) -> bool:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_loopback
