"""What may be fetched: which URLs, as they are sent, and which IP addresses, public ones."""

import ipaddress
import re
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from urllib.parse import urlsplit

from app.problems import AddressRefused, BadUrl
from app.store.urls import LONGEST_URL, URL_TOO_LONG, is_web

Address = IPv4Address | IPv6Address

USUAL_PORTS = {"http": 80, "https": 443}

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")
_HOST = re.compile(r"[a-z0-9._-]+")
# What a path or a query cannot hold as it is: https://url.spec.whatwg.org/#percent-encoded-bytes.
# A percent sign that escapes nothing stays, as in browsers.
_UNSAFE_IN_PATH = re.compile(r"[^!$-;=@-_a-z|~]")
_UNSAFE_IN_QUERY = re.compile(r"[^!$-;=?-~]")

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


@dataclass(frozen=True, slots=True)
class Target:
    """What is asked for a URL: `url` as it is sent, in ASCII; its host without brackets; its port.

    `url` consists of nothing but characters that every parser of URLs reads alike.
    """

    url: str
    host: str
    port: int


def target_of(url: str) -> Target:
    """Return what to ask for a URL; raises `BadUrl` unless it is a complete http(s) URL.

    Escapes stay as they are written, since servers tell them apart; what cannot be sent is escaped.
    Raises `AddressRefused` if the host is an IP address in disguise.
    """
    if len(url) > LONGEST_URL:
        raise BadUrl(URL_TOO_LONG)
    if not is_web(url) or _UNPRINTABLE.search(url):
        raise BadUrl
    try:
        parts = urlsplit(url)
        host, port = _ascii_host(parts.hostname or ""), parts.port
        if "[" in parts.netloc and ":" not in host:
            raise BadUrl
    except ValueError as exc:
        raise BadUrl from exc
    usual = USUAL_PORTS[parts.scheme]
    if port == 0:
        raise BadUrl
    shown = f"[{host}]" if ":" in host else host
    origin = shown if port in (None, usual) else f"{shown}:{port}"
    path = _UNSAFE_IN_PATH.sub(_escaped, _without_dots(parts.path)) or "/"
    query = _UNSAFE_IN_QUERY.sub(_escaped, parts.query)
    asked = f"{parts.scheme}://{origin}{path}" + (f"?{query}" if query else "")
    return Target(asked, host, port or usual)


def _ascii_host(name: str) -> str:
    """Return a host in ASCII and lower case; raises `ValueError` if it is none."""
    if _is_disguised(name):
        raise AddressRefused
    if ":" in name:
        # A zone names an interface of this machine.
        if "%" in name:
            raise AddressRefused
        return str(IPv6Address(name))
    if not name.isascii():
        # Imported here because few names need its tables.
        import idna

        name = idna.encode(name.lower()).decode()
        if _is_disguised(name):
            raise AddressRefused
    # The codec checks the length of each label.
    if not _HOST.fullmatch(name) or not name.encode("idna"):
        raise ValueError(name)
    return name


def _without_dots(path: str) -> str:
    """Return a path without its segments `.` and `..` (RFC 3986, 5.2.4)."""
    if "/." not in path:
        return path
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == ".." and len(kept) > 1:
            kept.pop()
        elif segment not in (".", ".."):
            kept.append(segment)
    if path.endswith(("/.", "/..")):
        kept.append("")
    return "/".join(kept)


def _escaped(found: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in found[0].encode())
