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
from functools import cached_property
from http.cookiejar import CookieJar, DefaultCookiePolicy
from time import monotonic
from urllib.parse import unquote_to_bytes, urljoin, urlsplit
from weakref import WeakValueDictionary

import httpx
from httpx_secure import SSRFProtectionError, httpx_ssrf_protection

from app.indexing.addresses import Address, host_to_ask, is_public
from app.indexing.answers import ASKED_ENCODING, read_body, validator
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

    @cached_property
    def _client(self) -> httpx.AsyncClient:
        """The client, created at the first fetch, as loading certificates would delay startup."""
        client = httpx.AsyncClient(
            headers={
                "User-Agent": "Lookalike/0.1",
                "Accept": "image/*,*/*;q=0.5",
                "Accept-Encoding": ASKED_ENCODING,
            },
            timeout=self._timeout_s,
            follow_redirects=False,
            trust_env=False,
            # Accept no cookies.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            event_hooks={"response": [_set_location_aside]},
        )
        # This checks the address of each new connection, which defeats DNS rebinding.
        return httpx_ssrf_protection(
            client,
            check_globally_reachable=False,
            custom_validator=lambda host, ip, _port: self._may_fetch(host, ip),
        )

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
            host = host_to_ask(bare)
        except AddressRefused:
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
        except Problem as problem:
            self.outcomes[problem.slug()] += 1
            raise
        self.outcomes["unchanged" if answer.data is None else "fetched"] += 1
        return answer

    async def _ask(self, url: str, headers: Mapping[str, str], max_bytes: int) -> Fetched:
        """Fetch a URL; whatever its servers do raises a `Problem` and nothing else."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._follow(url, headers, max_bytes)
        except (Problem, _Refused):
            raise
        except (TimeoutError, httpx.TimeoutException) as exc:
            raise FetchTimedOut(f"No complete answer within {self._timeout_s:g} s.") from exc
        except httpx.HTTPError as exc:
            raise FetchFailed from exc
        except (httpx.InvalidURL, ValueError) as exc:
            raise BadUrl from exc
        except Exception as exc:
            # Nothing the libraries document: a bug of theirs or of ours.
            logger.exception("unexpected error", extra=fields(url=loggable(url)))
            raise FetchFailed from exc

    async def close(self) -> None:
        """Close the connections."""
        if "_client" in vars(self):
            await self._client.aclose()

    async def _follow(self, url: str, headers: Mapping[str, str], max_bytes: int) -> Fetched:
        conditional = "If-None-Match" in headers or "If-Modified-Since" in headers
        for _ in range(MOST_REDIRECTS + 1):
            async with self._open(url, headers) as response:
                location = response.extensions.get("location")
                if location is None or response.status_code not in REDIRECTS:
                    return Fetched(
                        await read_body(response, max_bytes=max_bytes, conditional=conditional),
                        validator(response.headers.get("ETag")),
                        validator(response.headers.get("Last-Modified")),
                        response.headers.get("Content-Type", ""),
                    )
            url, headers = _redirected(url, headers, location)
        raise TooManyRedirects(f"The URL redirects more than {MOST_REDIRECTS} times.")

    @asynccontextmanager
    async def _open(self, url: str, headers: Mapping[str, str]) -> AsyncGenerator[httpx.Response]:
        started = monotonic()
        try:
            # Resolve and check first: the client's own check happens only after connecting.
            await self._check(host_to_ask(url), urlsplit(url).port or 443)
            async with self._client.stream("GET", url, headers=headers) as response:
                yield response
        except AddressRefused as exc:
            raise _Refused(exc, started + REFUSAL_S) from exc
        except SSRFProtectionError as exc:
            raise _Refused(AddressRefused(), started + REFUSAL_S) from exc

    async def _check(self, host: str, port: int) -> None:
        """Raise `AddressRefused` if the host does not exist or has an address that is refused."""
        with suppress(ValueError):
            if not self._may_fetch(host, ipaddress.ip_address(host)):
                raise AddressRefused
            return
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
        for *_, address in found:
            if not self._may_fetch(host, ipaddress.ip_address(str(address[0]).partition("%")[0])):
                raise AddressRefused

    def _may_fetch(self, host: str, ip: Address) -> bool:
        if host.lower().strip("[]") in self._allowed_hosts or str(ip) in self._allowed_hosts:
            return True
        return is_public(ip) or any(ip in network for network in self._allowed_networks)


async def _set_location_aside(response: httpx.Response) -> None:
    """Hide the Location header from httpx, which fails on some values."""
    locations = response.headers.get_list("Location")
    if locations:
        response.extensions["location"] = locations[0]
        del response.headers["Location"]


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
            host_to_ask(target)
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
    usual = {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, parts.hostname, parts.port or usual


def _upgraded(url: str) -> tuple[str, str | None, int | None] | None:
    """Return the https origin of an http URL at its default port."""
    scheme, host, port = _origin(url)
    return ("https", host, 443) if (scheme, port) == ("http", 80) else None


def _basic(credentials: str) -> str:
    """Return the Authorization header for a percent-encoded `user:password` (RFC 7617)."""
    user, _, password = credentials.encode("utf-8", "surrogatepass").partition(b":")
    said = unquote_to_bytes(user) + b":" + unquote_to_bytes(password)
    return f"Basic {b64encode(said).decode()}"
