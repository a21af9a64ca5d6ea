"""Who sends a request: decided once, and kept in the request's state.

client_of(scope).key          the name of the API key, for logs
client_of(scope).scopes       what the client may do
client_of(scope).counted_as   whom limits and caps count it for
"""

import base64
import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

from app.store.keys import KeyScope

# What proxies add to what they pass on, also where no one has told them to.
FORWARDING = frozenset(
    {
        "cdn-loop",
        "cf-connecting-ip",
        "fastly-client-ip",
        "fly-client-ip",
        "forwarded",
        "true-client-ip",
        "via",
        "x-client-ip",
        "x-cluster-client-ip",
        "x-envoy-external-address",
        "x-original-host",
        "x-real-ip",
    }
)
FORWARDING_PREFIX = "x-forwarded-"


@dataclass(frozen=True, slots=True)
class Client:
    """The sender of a request.

    `address` is its IP address, behind proxies that FORWARDED_ALLOW_IPS trusts; "" if unknown.
    `is_local`: it is on this machine, connects directly and names this machine as the host.
    `key` is the name of the API key that it sent, None without a valid one. `scopes` are all that
    it may do, with a key or without. `may_use_key`: what it may not do, it could with a key.
    """

    address: str
    is_local: bool = False
    key: str | None = None
    scopes: frozenset[KeyScope] = frozenset()
    may_use_key: bool = False

    @property
    def counted_as(self) -> str:
        """Whom limits and caps count it for: its key, or else its network.

        That is an IPv4 address, or the /64 of an IPv6 address, all of which one client can use.
        """
        return f"key {self.key}" if self.key is not None else network_of(self.address)


def client_of(scope: Scope) -> Client:
    """Return the client of a request; before `Identification`, one that may do nothing."""
    known = scope.get("state", {}).get("client")
    return known if isinstance(known, Client) else Client(address_of(scope))


def address_of(scope: Scope) -> str:
    """Return the IP address of a request's client, "" if it is unknown."""
    client = scope.get("client")
    return client[0] if client else ""


def network_of(address: str) -> str:
    """Return an IPv4 address as it is, the /64 of an IPv6 address, and "" for anything else."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.ip_network((ip, 64), strict=False))


def credential(headers: Headers) -> bytes | None:
    """Return the key that a request carries: a bearer token, or the password of Basic."""
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        # Headers are bytes; Starlette decodes them as Latin-1.
        return value.strip().encode("latin-1")
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).partition(b":")[2]
        except ValueError:
            return None
    return None


def is_bearer(headers: Headers) -> bool:
    """Return whether a request carries a bearer token, which no browser adds by itself."""
    return headers.get("authorization", "").partition(" ")[0].lower() == "bearer"


def is_direct(scope: Scope, headers: Headers) -> bool:
    """Return whether a request comes from this machine, and through no proxy that can be told.

    HTTP/1.0 is what nginx speaks if its configuration says nothing, and no client of today does.
    """
    forwarded = any(name in FORWARDING or name.startswith(FORWARDING_PREFIX) for name in headers)
    current = scope.get("http_version") != "1.0"
    return current and not forwarded and is_loopback(address_of(scope))


def host_of(headers: Headers) -> str:
    """Return the name of the host that a request is for, without its port, in lower case."""
    try:
        return urlsplit(f"//{headers.get('host', '')}").hostname or ""
    except ValueError:
        return ""


def is_loopback(host: str) -> bool:
    """Return whether a host, a name or an address, is this machine."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_loopback
