"""Who may read the index and who may change it: keys, this machine, READ_ACCESS."""

from collections.abc import Collection, Sequence
from typing import Literal
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.problems import KeyRequired, NotAllowed, Problem, ScopeMissing
from app.settings import Settings
from app.store.keys import KeyScope, implied
from app.web.clients import (
    Client,
    address_of,
    client_of,
    credential,
    host_of,
    is_bearer,
    is_direct,
    is_loopback,
)
from app.web.keyring import KeyRing

# Anyone may ask these, and they need no database.
HEALTH = frozenset({"/healthz", "/readyz"})
STATIC = "/static/"
# In CORS_ORIGINS: pages of all sites.
ANY_ORIGIN = "*"
# Has a rule of its own, which is stricter.
METRICS = "/metrics"

_DOING: dict[KeyScope, str] = {
    "read": "Reading the index",
    "write": "Changing the index",
    "admin": "This",
    "faces": "This",
}


class Identification:
    """Decides who sends a request and what it may do, for all that comes after.

    READ_ACCESS decides who may read without a key: with `public` everyone, with `key` no one. With
    `auto` everyone, too, unless the server has no keys and listens on loopback only; then those on
    this machine that name a loopback host or one of TRUSTED_HOSTS, as pages of other sites can
    point names of their own at this machine. Health is for everyone, static files need no key.
    Without keys, clients on this machine may do all, unless READ_ACCESS is `key`; `faces` only if
    FACES is on.
    """

    def __init__(self, app: ASGIApp, *, keyring: KeyRing, settings: Settings) -> None:
        self.app = app
        self._keyring = keyring
        self._mode: Literal["auto", "public", "key"] = settings.read_access
        self._bound_to_loopback = is_loopback(settings.bind)
        self._trusted = settings.trusted_hosts
        self._faces = settings.faces != "off"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request (ASGI)."""
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            client = Client(address_of(scope), is_local=_is_local(scope, headers))
            if scope["path"] not in HEALTH:
                client = await self._identified(client, scope, headers)
            scope.setdefault("state", {})["client"] = client
        await self.app(scope, receive, send)

    async def _identified(self, client: Client, scope: Scope, headers: Headers) -> Client:
        secret = credential(headers)
        key = await self._keyring.find(secret) if secret else None
        has_keys = await self._keyring.has_keys()
        scopes = set(key.scopes if key else ())
        if client.is_local and not has_keys and self._mode != "key":
            scopes |= implied(["admin"])
            # Who asked for faces on a machine of their own may see them there.
            scopes |= {"faces"} if self._faces else set[KeyScope]()
        if self._is_open(scope, headers, has_keys=has_keys):
            scopes.add("read")
        return Client(
            client.address,
            is_local=client.is_local,
            key=key.name if key else None,
            scopes=frozenset(scopes),
            may_use_key=has_keys or self._mode == "key",
        )

    def _is_open(self, scope: Scope, headers: Headers, *, has_keys: bool) -> bool:
        """Return whether a client may read without a key."""
        if self._mode != "auto":
            return self._mode == "public"
        if has_keys or not self._bound_to_loopback:
            return True
        host = host_of(headers)
        named = is_loopback(host) or is_trusted(host, self._trusted)
        return named and is_direct(scope, headers)


class ReadAccess:
    """Admits only clients that may read, except to health checks and, for want of a key, to styles.

    Raises `KeyRequired`, `ScopeMissing` or `NotAllowed`.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request (ASGI)."""
        if scope["type"] == "http" and scope["path"] not in (*HEALTH, METRICS):
            client = client_of(scope)
            needs_no_key = scope["path"].startswith(STATIC) and client.may_use_key
            if not needs_no_key:
                require(client, "read")
        await self.app(scope, receive, send)


class WriteAccess:
    """Admits only clients that may change the index.

    Pages of other sites are none, unless CORS_ORIGINS allows them and they send a key of their own,
    as a bearer token: what a browser adds by itself (a password of Basic, an address on this
    machine) is not a page's. Raises `KeyRequired`, `ScopeMissing` or `NotAllowed`.
    """

    def __init__(self, app: ASGIApp, *, origins: Collection[str] = ()) -> None:
        self.app = app
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request (ASGI)."""
        headers = Headers(scope=scope)
        client = client_of(scope)
        if _is_of_other_site(headers):
            if not is_allowed(headers.get("origin", ""), self._origins):
                raise NotAllowed("Pages of other sites may not change the index.")
            if client.key is None or not is_bearer(headers):
                raise KeyRequired("A page of another site must send its key as a bearer token.")
        require(client, "write")
        await self.app(scope, receive, send)


def require(client: Client, needed: KeyScope) -> None:
    """Raise `KeyRequired`, `ScopeMissing` or `NotAllowed` for a client without a scope."""
    if needed not in client.scopes:
        raise refusal(client, needed)


def refusal(client: Client, needed: KeyScope) -> Problem:
    """Return the problem of a client that lacks a scope."""
    if client.key is not None:
        return ScopeMissing(f"{_DOING[needed]} requires an API key with the scope `{needed}`.")
    if client.may_use_key:
        return KeyRequired(f"{_DOING[needed]} requires an API key.")
    if needed == "read":
        return NotAllowed(
            "This server shows its index to clients on its own machine only, under a local host "
            "name. READ_ACCESS, TRUSTED_HOSTS and API keys change that."
        )
    if needed == "faces":
        return NotAllowed(
            "Without API keys, only clients on the server's own machine may see faces, where FACES "
            "is on."
        )
    return NotAllowed(
        "Without API keys, only clients on the server's own machine may change the index."
    )


def is_trusted(host: str, trusted: Collection[str]) -> bool:
    """Return whether a host name is one of TRUSTED_HOSTS; `*.example.com` is for all below it."""
    return any(host == one or (one.startswith("*.") and host.endswith(one[1:])) for one in trusted)


def is_allowed(origin: str, origins: Collection[str]) -> bool:
    """Return whether pages of an origin may use the API; `null`, which anyone can be, never."""
    return bool(origin) and origin != "null" and (ANY_ORIGIN in origins or origin in origins)


def read_warnings(settings: Settings) -> Sequence[str]:
    """Return what the operator is told at each start about who may read."""
    if settings.read_access == "auto" and not is_loopback(settings.bind):
        return (
            "Warning: everyone who can reach this server can search its index. READ_ACCESS=key "
            "requires a key for that; READ_ACCESS=public says that it is meant.",
        )
    return ()


def _is_of_other_site(headers: Headers) -> bool:
    origin = headers.get("origin")
    foreign = origin is not None and _netloc(origin) != headers.get("host")
    return foreign or headers.get("sec-fetch-site") in ("cross-site", "same-site")


def _netloc(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def _is_local(scope: Scope, headers: Headers) -> bool:
    # The host name, too: another site may have pointed its own name at this machine.
    return is_direct(scope, headers) and is_loopback(host_of(headers))
