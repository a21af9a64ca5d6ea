"""From a URL to bytes, on the assumption that both the URL and its server mean harm."""

import asyncio
import ipaddress
import math
import socket
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

import httpx
from httpx_secure import SSRFProtectionError, httpx_ssrf_protection

from app.problems import (
    AddressRefused,
    BadUrl,
    FetchFailed,
    FetchProblem,
    FetchTimedOut,
    PictureTooLarge,
    TooManyRedirects,
    UrlNotFound,
    UrlRefused,
)

Address = IPv4Address | IPv6Address

MOST_FETCHES = 16
# As many as browsers open.
MOST_FETCHES_PER_HOST = 6
MOST_REDIRECTS = 5
LONGEST_URL = 8192

# RFC 6052: an IPv4 address follows in the last 32 bits.
NAT64 = IPv6Network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a URL answered, with its validators (RFC 9110, 8.8); None if it has not changed."""

    data: bytes | None
    etag: str | None = None
    last_modified: str | None = None


class Fetcher:
    """Fetches pictures over HTTP: at most 16 at once, 6 per host.

    Only public addresses are fetched, and those that `allow` names (hosts or CIDRs). `timeout_s`
    covers one URL with all its redirects; `max_bytes` is enforced while reading.
    """

    def __init__(self, *, allow: Sequence[str], timeout_s: float, max_bytes: int) -> None:
        self._allowed_hosts = {entry.lower() for entry in allow if "/" not in entry}
        self._allowed_networks = [ipaddress.ip_network(entry) for entry in allow if "/" in entry]
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._fetches = asyncio.Semaphore(MOST_FETCHES)
        self._hosts: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        client = httpx.AsyncClient(
            headers={"User-Agent": "Lookalike/0.1", "Accept": "image/*,*/*;q=0.5"},
            timeout=timeout_s,
            follow_redirects=False,
            trust_env=False,
        )
        # It looks at the address of each new connection, so a name that changes its mind is caught.
        self._client = httpx_ssrf_protection(
            client,
            check_globally_reachable=False,
            custom_validator=lambda host, ip, _port: self._may_fetch(host, ip),
        )

    async def fetch(self, url: str) -> bytes:
        """Return what the URL answers with.

        Raises a `FetchProblem` or `PictureTooLarge`; every refused address gives the same
        `AddressRefused`, whatever may be there.
        """
        async with self.fetched(url) as answer:
            return answer.data or b""

    @asynccontextmanager
    async def fetched(
        self, url: str, *, etag: str | None = None, last_modified: str | None = None
    ) -> AsyncGenerator[Fetched]:
        """Fetch a URL, or learn that what these validators belong to is still the same.

        Until the context ends, the answer keeps its place among the fetches, so that no more are
        made than the caller has room for. Raises what `fetch` raises.
        """
        host = _host(url)
        per_host = self._hosts.get(host) or asyncio.Semaphore(MOST_FETCHES_PER_HOST)
        self._hosts[host] = per_host
        given = {"If-None-Match": etag, "If-Modified-Since": last_modified}
        headers = {name: value for name, value in given.items() if value}
        # In this order, so that many URLs of one slow host do not keep the others' places.
        async with per_host, self._fetches:
            yield await self._fetch(url, headers)

    async def _fetch(self, url: str, headers: Mapping[str, str]) -> Fetched:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._follow(url, headers)
        except (TimeoutError, httpx.TimeoutException) as exc:
            raise FetchTimedOut(f"No complete answer within {self._timeout_s:g} s.") from exc
        except SSRFProtectionError as exc:
            raise AddressRefused from exc
        except httpx.HTTPError as exc:
            raise FetchFailed from exc

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _follow(self, url: str, headers: Mapping[str, str]) -> Fetched:
        for _ in range(MOST_REDIRECTS + 1):
            async with self._open(url, headers) as response:
                if response.next_request is None:
                    data = await self._read(response)
                    etag = response.headers.get("ETag")
                    return Fetched(data, etag, response.headers.get("Last-Modified"))
                url = str(response.next_request.url)
        raise TooManyRedirects(f"The URL redirects more than {MOST_REDIRECTS} times.")

    @asynccontextmanager
    async def _open(self, url: str, headers: Mapping[str, str]) -> AsyncGenerator[httpx.Response]:
        # Resolved and checked here first: the client's own check comes after a connection is made.
        await self._check(_host(url), urlsplit(url).port or 443)
        async with self._client.stream("GET", url, headers=headers) as response:
            yield response

    async def _check(self, host: str, port: int) -> None:
        with suppress(ValueError):
            if not self._may_fetch(host, ipaddress.ip_address(host)):
                raise AddressRefused
            return
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as exc:
            passing = isinstance(exc, socket.gaierror) and exc.errno == socket.EAI_AGAIN
            problem = FetchFailed if passing else UrlNotFound
            raise problem("The URL's host name is not known.") from exc
        for *_, address in found:
            if not self._may_fetch(host, ipaddress.ip_address(str(address[0]).partition("%")[0])):
                raise AddressRefused

    def _may_fetch(self, host: str, ip: Address) -> bool:
        if host.lower().strip("[]") in self._allowed_hosts or str(ip) in self._allowed_hosts:
            return True
        return is_public(ip) or any(ip in network for network in self._allowed_networks)

    async def _read(self, response: httpx.Response) -> bytes | None:
        if response.status_code == 304:
            return None
        if response.status_code != 200:
            raise _answered(response)
        length = response.headers.get("Content-Length", "")
        if length.isdecimal() and int(length) > self._max_bytes:
            raise PictureTooLarge.over(self._max_bytes)
        data = bytearray()
        async for chunk in response.aiter_bytes():
            data += chunk
            if len(data) > self._max_bytes:
                raise PictureTooLarge.over(self._max_bytes)
        return bytes(data)


def _answered(response: httpx.Response) -> FetchProblem:
    status = response.status_code
    detail = f"The URL's server answers {status}."
    if status in (404, 410):
        return UrlNotFound(detail)
    if status in (408, 425, 429) or status >= 500:
        problem = FetchFailed(detail)
        problem.retry_after_s = _seconds(response.headers.get("Retry-After", ""))
        return problem
    return UrlRefused(detail)


def _seconds(retry_after: str) -> int | None:
    """Return the seconds that a Retry-After asks for, as a number or as a date."""
    if retry_after.isdecimal():
        return int(retry_after)
    try:
        date = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return max(0, math.ceil((date - datetime.now(date.tzinfo)).total_seconds()))


def is_public(ip: Address) -> bool:
    """Return whether an address, and any IPv4 address inside it, is one of the public Internet."""
    inner: list[Address | None] = []
    if isinstance(ip, IPv6Address):
        inner = [ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())]
        if ip in NAT64:
            inner.append(IPv4Address(ip.packed[-4:]))
    embedded = [address for address in inner if address is not None]
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        return is_public(ip.ipv4_mapped)
    return ip.is_global and not ip.is_multicast and all(is_public(address) for address in embedded)


def _is_disguised(host: str) -> bool:
    """Return whether the host is an IPv4 address in octal, hexadecimal, decimal or short form."""
    try:
        socket.inet_aton(host)
        ipaddress.IPv4Address(host)
    except ipaddress.AddressValueError:
        return True
    except OSError:
        return False
    return False


def _host(url: str) -> str:
    """Return the URL's host; raises `BadUrl` unless it is a complete http(s) address."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        if _is_disguised(host):
            raise AddressRefused
        valid = parts.scheme in ("http", "https") and host and parts.port != 0
        httpx.URL(url)
    except (ValueError, httpx.InvalidURL) as exc:
        raise BadUrl from exc
    if not valid or len(url) > LONGEST_URL:
        raise BadUrl
    return host
