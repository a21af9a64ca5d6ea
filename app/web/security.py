"""Write access, request size limits and security headers."""

import base64
import binascii
import hmac
import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

from pydantic import SecretStr
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.problems import BodyTooLarge, KeyRequired, NotAllowed

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
        elif not _is_local(scope, headers):
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
        if declared.isdecimal() and int(declared) > self._max_bytes:
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
        return value.strip().encode()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).partition(b":")[2]
        except binascii.Error:
            return b""
    return b""


def _refuse_other_sites(headers: Headers) -> None:
    origin = headers.get("origin")
    foreign = origin is not None and urlsplit(origin).netloc != headers.get("host")
    if foreign or headers.get("sec-fetch-site") in ("cross-site", "same-site"):
        raise NotAllowed("Pages of other sites may not change the index.")


def _is_local(scope: Scope, headers: Headers) -> bool:
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
