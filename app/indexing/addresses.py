"""Which IP addresses may be fetched: public ones, in the usual notation."""

import ipaddress
import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from urllib.parse import urlsplit

import httpx

from app.problems import AddressRefused, BadUrl
from app.store.urls import LONGEST_URL, URL_TOO_LONG

Address = IPv4Address | IPv6Address

# RFC 6052: the last 32 bits are an IPv4 address.
NAT64 = IPv6Network("64:ff9b::/96")


def is_public(ip: Address) -> bool:
    """Return whether an address, and any IPv4 address embedded in it, is public."""
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
    """Return whether a host is an IPv4 address in octal, hexadecimal, decimal or short form."""
    try:
        socket.inet_aton(host)
        ipaddress.IPv4Address(host)
    except ipaddress.AddressValueError:
        return True
    except OSError:
        return False
    return False


def host_to_ask(url: str) -> str:
    """Return the URL's host; raises `BadUrl` unless it is a complete http(s) URL."""
    if len(url) > LONGEST_URL:
        raise BadUrl(URL_TOO_LONG)
    try:
        parts = urlsplit(url)
        if _is_disguised(parts.hostname or ""):
            raise AddressRefused
        # As httpx sends it: international names in ASCII.
        host = httpx.URL(url).raw_host.decode()
        if _is_disguised(host):
            raise AddressRefused
        # The codec checks the length of each label.
        valid = parts.scheme in ("http", "https") and parts.hostname and host.encode("idna")
        valid = valid and parts.port != 0
    except (ValueError, httpx.InvalidURL) as exc:
        raise BadUrl from exc
    if not valid:
        raise BadUrl
    return host
