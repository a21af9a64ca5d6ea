"""Fetches URLs, assuming that both the URL and its server are hostile."""

import asyncio
import ipaddress
import logging
import re
import socket
from base64 import b64encode
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from time import monotonic
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes, urljoin, urlsplit
from weakref import WeakValueDictionary

from app.indexing.addresses import USUAL_PORTS, Address, is_public, target_of
from app.indexing.answers import header, read_body, validator
from app.logs import fields
from app.problems import (
    AddressRefused,
    BadUrl,
    FetchFailed,
    FetchTimedOut,
    Problem,
    TooManyRedirects,
)
from app.store.urls import LONGEST_URL, URL_TOO_LONG, loggable, split_credentials

if TYPE_CHECKING:
    from aiohttp import ClientResponse

    from app.indexing.http_client import HttpClient

MOST_FETCHES = 16
# As many as browsers open.
MOST_FETCHES_PER_HOST = 6
MOST_REDIRECTS = 5

# urljoin would take these for relative paths.
_WITHOUT_HOST = re.compile(r"https?:(?!//)", re.IGNORECASE)
NO_WEB_URL = "The URL redirects to something that is not an http or https URL."

# A refusal takes at least this long, so that its time does not tell a name that does not exist from
# one that may not be asked; few look-ups take longer.
REFUSAL_S = 0.5

REDIRECTS = (301, 302, 303, 307, 308)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Fetched:
    """The body and validators (RFC 9110, 8.8) of a response; no body if it has not changed."""

    data: bytes | None
    etag: str | None = None
    last_modified: str | None = None
    content_type: str = ""


class _Refused(Exception):  # noqa: N818 - carries a problem
    """An address is refused; the client learns it at the time `due`, in seconds of `monotonic`."""

    def __init__(self, problem: AddressRefused, due: float) -> None:
        super().__init__(problem, due)
        self.problem = problem
        self.due = due


class Fetcher:
    """Fetches URLs over HTTP: at most `most` at once, 6 per host.

    Only public IP addresses and those in `allow` (hosts or CIDRs) are fetched. `timeout_s` covers
    one URL with all its redirects; `max_bytes` is enforced while reading. `outcomes`, which
    fetchers may share, counts fetches: `fetched`, `unchanged`, or the slug of the problem.
    """

    def __init__(
        self,
        *,
        allow: Sequence[str],
        timeout_s: float,
        max_bytes: int,
        most: int = MOST_FETCHES,
        outcomes: Counter[str] | None = None,
    ) -> None:
        self._allowed_hosts = {entry.lower() for entry in allow if "/" not in entry}
        self._allowed_networks = [ipaddress.ip_network(entry) for entry in allow if "/" in entry]
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._fetches = asyncio.Semaphore(most)
        self.outcomes: Counter[str] = Counter() if outcomes is None else outcomes
        self._hosts: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._client: HttpClient | None = None

    async def _opened(self) -> "HttpClient":
        """Return the client, created at the first fetch, as loading it would delay startup."""
        if self._client is not None:
            return self._client
        module = await asyncio.to_thread(import_module, "app.indexing.http_client")
        # Another fetch may have been here meanwhile.
        made: HttpClient = self._client or module.HttpClient(
            may_fetch=self._may_fetch, resolve=self._resolve
        )
        self._client = made
        return made

    async def fetch(self, url: str) -> bytes:
        """Fetch a URL and return its body.

        Raises a `FetchProblem` or `PictureTooLarge`; every refused IP address, and every name that
        does not exist, gives the same `AddressRefused`, half a second after it was asked or later.
        """
        async with self.fetched(url) as answer:
            return answer.data or b""

    @asynccontextmanager
    async def fetched(
        self,
        url: str,
        credentials: str | None = None,
        etag: str | None = None,
        last_modified: str | None = None,
        *,
        max_bytes: int | None = None,
    ) -> AsyncGenerator[Fetched]:
        """Fetch a URL, or learn from its validators that it has not changed.

        `credentials` are a `user:password` as written in URLs; those in the URL itself take
        precedence. They are sent only to the URL's own host. `max_bytes` overrides the fetcher's.

        The fetch keeps its slot until the context ends, so that no more responses are held than the
        caller can process. Raises what `fetch` raises.
        """
        bare, own = split_credentials(url)
        if len(url) + len(credentials or "") > LONGEST_URL:
            raise BadUrl(URL_TOO_LONG)
        try:
            host = target_of(bare).host
        except AddressRefused as problem:
            self.outcomes[problem.slug()] += 1
            await asyncio.sleep(REFUSAL_S)
            raise
        per_host = self._hosts.get(host) or asyncio.Semaphore(MOST_FETCHES_PER_HOST)
        self._hosts[host] = per_host
        given = {"If-None-Match": validator(etag), "If-Modified-Since": validator(last_modified)}
        headers = {name: value for name, value in given.items() if value}
        if known := own or credentials:
            headers["Authorization"] = _basic(known)
        try:
            # In this order, so that many URLs of one slow host do not take the slots of others.
            async with per_host, self._fetches:
                yield await self._fetch(bare, headers, max_bytes or self._max_bytes)
        except _Refused as exc:
            # Without the slots, which others wait for.
            await asyncio.sleep(exc.due - monotonic())
            raise exc.problem from exc

    async def _fetch(self, url: str, headers: Mapping[str, str], max_bytes: int) -> Fetched:
        """Fetch a URL and count how it ended; raises what `_ask` raises."""
        try:
            answer = await self._ask(url, headers, max_bytes)
        except (Problem, _Refused) as exc:
            problem = exc.problem if isinstance(exc, _Refused) else exc
            self.outcomes[problem.slug()] += 1
            raise
        self.outcomes["unchanged" if answer.data is None else "fetched"] += 1
        return answer

    async def _ask(self, url: str, headers: Mapping[str, str], max_bytes: int) -> Fetched:
        """Fetch a URL; whatever its servers do raises a `Problem` and nothing else."""
        client = await self._opened()
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._follow(client, url, headers, max_bytes)
        except (Problem, _Refused):
            raise
        except TimeoutError as exc:
            raise FetchTimedOut(f"No complete answer within {self._timeout_s:g} s.") from exc
        except client.failures as exc:
            raise FetchFailed from exc
        except ValueError as exc:
            raise BadUrl from exc
        except Exception as exc:
            # Nothing the libraries document: a bug of theirs or of ours.
            logger.exception("unexpected error", extra=fields(url=loggable(url)))
            raise FetchFailed from exc

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()

    async def _follow(
        self, client: "HttpClient", url: str, headers: Mapping[str, str], max_bytes: int
    ) -> Fetched:
        conditional = "If-None-Match" in headers or "If-Modified-Since" in headers
        for _ in range(MOST_REDIRECTS + 1):
            async with await self._answer(client, url, headers) as response:
                location = header(response, "Location")
                if location is None or response.status not in REDIRECTS:
                    return Fetched(
                        await read_body(response, max_bytes=max_bytes, conditional=conditional),
                        validator(header(response, "ETag")),
                        validator(header(response, "Last-Modified")),
                        header(response, "Content-Type") or "",
                    )
            url, headers = _redirected(url, headers, location)
        raise TooManyRedirects(f"The URL redirects more than {MOST_REDIRECTS} times.")

    async def _answer(
        self, client: "HttpClient", url: str, headers: Mapping[str, str]
    ) -> "ClientResponse":
        started = monotonic()
        try:
            target = target_of(url)
            # Each time, although the client asks again for a new connection: a name that is
            # refused now is refused, whatever connection is open.
            await self._resolve(target.host, target.port)
            return await client.get(target, headers)
        except AddressRefused as exc:
            raise _Refused(exc, started + REFUSAL_S) from exc

    async def _resolve(self, host: str, port: int) -> list[str]:
        """Return the IP addresses of a host.

        Raises `AddressRefused` if it does not exist or has an address that is refused.
        """
        with suppress(ValueError):
            if not self._may_fetch(host, ipaddress.ip_address(host)):
                raise AddressRefused
            return [host]
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as exc:
            if isinstance(exc, socket.gaierror) and exc.errno == socket.EAI_AGAIN:
                # No answer, which says nothing about the name.
                raise FetchFailed("The URL's host name cannot be resolved.") from exc
            # As if it were refused: otherwise clients could learn which internal names there are.
            problem = AddressRefused()
            problem.is_gone = True
            raise problem from exc
        addresses = [str(address[0]) for *_, address in found]
        for address in addresses:
            if not self._may_fetch(host, ipaddress.ip_address(address.partition("%")[0])):
                raise AddressRefused
        return addresses

    def _may_fetch(self, host: str, ip: Address) -> bool:
        if host.lower().strip("[]") in self._allowed_hosts or str(ip) in self._allowed_hosts:
            return True
        return is_public(ip) or any(ip in network for network in self._allowed_networks)


def _redirected(
    url: str, headers: Mapping[str, str], location: str
) -> tuple[str, Mapping[str, str]]:
    """Return the target of a redirect, and the headers that may be sent to it."""
    if len(location) > LONGEST_URL:
        raise BadUrl(f"The URL redirects to a URL longer than {LONGEST_URL:,} characters.")
    location = location.strip()
    try:
        target, credentials = split_credentials(urljoin(url, location))
        # Whether the address is refused is said when it is asked.
        with suppress(AddressRefused):
            target_of(target)
    except (ValueError, BadUrl) as exc:
        raise BadUrl(NO_WEB_URL) from exc
    if _WITHOUT_HOST.match(location):
        raise BadUrl(NO_WEB_URL)
    headers = dict(headers)
    if _origin(target) not in (_origin(url), _upgraded(url)):
        headers.pop("Authorization", None)
    if credentials:
        headers["Authorization"] = _basic(credentials)
    return target, headers


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or USUAL_PORTS.get(parts.scheme)


def _upgraded(url: str) -> tuple[str, str | None, int | None] | None:
    """Return the https origin of an http URL at its default port."""
    scheme, host, port = _origin(url)
    return ("https", host, 443) if (scheme, port) == ("http", 80) else None


def _basic(credentials: str) -> str:
    """Return the Authorization header for a percent-encoded `user:password` (RFC 7617)."""
    user, _, password = credentials.encode("utf-8", "surrogatepass").partition(b":")
    said = unquote_to_bytes(user) + b":" + unquote_to_bytes(password)
    return f"Basic {b64encode(said).decode()}"
