"""Which IP addresses may be fetched: public ones, in the usual notation."""

import ipaddress
import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from urllib.parse import urlsplit

import httpx

from app.problems import AddressRefused, BadUrl
from app.store.urls import LONGEST_URL, URL_TOO_LONG

Address = IPv4Address | IPv6Address

# All of IANA's registry of special-purpose addresses, including the parts that are globally
# reachable, as no web site is there; multicast; and the host of every virtual machine in Azure.
_REFUSED_IPV4 = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",
            "127.0.0.0/8",
            "168.63.129.16/32",
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.31.196.0/24",
            "192.52.193.0/24",
            "192.88.99.0/24",
            "192.168.0.0/16",
            "192.175.48.0/24",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",
            "240.0.0.0/4",
        ),
    )
)

# All that is assigned as global unicast, and within it the special purposes.
_GLOBAL_IPV6 = IPv6Network("2000::/3")
_REFUSED_IPV6 = tuple(
    map(
        IPv6Network,
        ("2001::/23", "2001:db8::/32", "2620:4f:8000::/48", "3fff::/20"),
    )
)
# IPv6 addresses that stand for the IPv4 address in their last 32 bits: mapped (RFC 4291), and
# what DNS64 makes of a name that has no other (RFC 6052).
_STANDING_FOR_IPV4 = (IPv6Network("::ffff:0:0/96"), IPv6Network("64:ff9b::/96"))
_SIX_TO_FOUR = IPv6Network("2002::/16")
# RFC 5214, 6.1: the second half of an ISATAP address, before the IPv4 address; bit 6 says whether
# that is unique.
_ISATAP = (b"\x00\x00\x5e\xfe", b"\x02\x00\x5e\xfe")


def is_public(ip: Address) -> bool:
    """Return whether an address is global unicast, and any IPv4 address embedded in it, too.

    What no standard says of an address cannot be seen: the prefixes that a network chose itself
    for NAT64 or 6rd.
    """
    if isinstance(ip, IPv4Address):
        return not any(ip in network for network in _REFUSED_IPV4)
    if any(ip in network for network in _STANDING_FOR_IPV4):
        return is_public(IPv4Address(ip.packed[12:]))
    if ip not in _GLOBAL_IPV6 or any(ip in network for network in _REFUSED_IPV6):
        return False
    if ip in _SIX_TO_FOUR and not is_public(IPv4Address(ip.packed[2:6])):
        return False
    return ip.packed[8:12] not in _ISATAP or is_public(IPv4Address(ip.packed[12:]))


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
