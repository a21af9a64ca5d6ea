"""The HTTP client of the fetcher: it connects to nothing that was not checked just before.

Imported when the first URL is fetched, as it takes a tenth of a second and 7 MB.
"""

import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from functools import partial
from ipaddress import ip_address
from typing import Any

import aiohttp
import certifi
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from app.indexing.addresses import Address, Target
from app.indexing.answers import ASKED_ENCODING
from app.problems import AddressRefused

# A job may ask a hundred hosts in a second, and a connection that waits is an open file.
KEPT_S = 1
# The most bytes of a header, and headers of an answer: together less than an image may have.
LONGEST_HEADER = 16_384
MOST_HEADERS = 400

HEADERS = {
    "User-Agent": "Lookalike/0.1",
    "Accept": "image/*,*/*;q=0.5",
    "Accept-Encoding": ASKED_ENCODING,
}

# What a server does wrong, as the client says it.
FAILURES = (aiohttp.ClientError, aiohttp.http.HttpProcessingError)

MayFetch = Callable[[str, Address], bool]
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

# The host that the task at hand asks: who opens a socket is told the address only.
_host_asked: ContextVar[str] = ContextVar("_host_asked")


class HttpClient:
    """Asks for URLs, of addresses that `resolve` returns and `may_fetch` allows.

    `resolve` takes a name and a port, and raises a `Problem` unless all addresses may be fetched.
    A literal address is never resolved, so each is checked again when its socket is opened. A
    connection that is kept alive was checked when it was made.
    """

    failures = FAILURES

    def __init__(self, *, may_fetch: MayFetch, resolve: Resolve) -> None:
        def open_socket(address: Any) -> socket.socket:
            family, kind, protocol, _, to = address
            if not may_fetch(_host_asked.get(), ip_address(to[0].partition("%")[0])):
                raise AddressRefused
            return socket.socket(family, kind, protocol)

        self._session = aiohttp.ClientSession(
            connector=_Connector(
                resolver=_Resolver(resolve),
                use_dns_cache=False,
                socket_factory=open_socket,
                ssl=_verifying(),
                # Fetches wait for each other in the fetcher.
                limit=0,
                keepalive_timeout=KEPT_S,
            ),
            headers=HEADERS,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            # The fetcher's deadline covers everything.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            max_line_size=LONGEST_HEADER,
            max_field_size=LONGEST_HEADER,
            max_headers=MOST_HEADERS,
        )

    async def get(self, target: Target, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        """Send a request and return the answer once its headers are there; follows no redirects.

        Raises `FAILURES`, `OSError` and what `resolve` raises.
        """
        _host_asked.set(target.host)
        url = URL(target.url, encoded=True)
        return await self._session.get(url, headers=headers, allow_redirects=False)

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()


class _Connector(aiohttp.TCPConnector):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = partial[ResponseHandler](_Connection, loop=self._loop)


class _Connection(ResponseHandler):
    def connection_lost(self, exc: BaseException | None) -> None:
        """Fail the body that is being read if the connection broke, and was not closed.

        The client itself would take what has come of a body without a length for all of it.
        """
        if exc is not None and self._payload is not None and not self._payload.is_eof():
            self._payload.set_exception(aiohttp.ClientPayloadError("the connection broke"), exc)
        super().connection_lost(exc)


class _Resolver(AbstractResolver):
    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=ip,
                port=port,
                family=family,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for ip in await self._resolve(host, port)
        ]

    async def close(self) -> None:
        pass


def _verifying() -> ssl.SSLContext:
    """Return a context with Mozilla's roots; the environment names no others."""
    context = ssl.create_default_context(cafile=certifi.where())
    context.set_alpn_protocols(["http/1.1"])
    return context
