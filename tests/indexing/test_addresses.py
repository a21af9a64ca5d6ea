"""Which addresses may be fetched, against IANA's registries, typed here a second time."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.indexing.addresses import is_public

# IANA IPv4 Special-Purpose Address Registry, with multicast and Azure's host.
IPV4 = {
    "0.0.0.0/8": "this network",
    "10.0.0.0/8": "private use",
    "100.64.0.0/10": "shared by providers",
    "127.0.0.0/8": "loopback",
    "169.254.0.0/16": "link local",
    "172.16.0.0/12": "private use",
    "192.0.0.0/24": "protocol assignments",
    "192.0.2.0/24": "documentation",
    "192.31.196.0/24": "AS112",
    "192.52.193.0/24": "AMT",
    "192.88.99.0/24": "6to4 relay",
    "192.168.0.0/16": "private use",
    "192.175.48.0/24": "AS112",
    "198.18.0.0/15": "benchmarking",
    "198.51.100.0/24": "documentation",
    "203.0.113.0/24": "documentation",
    "224.0.0.0/4": "multicast",
    "240.0.0.0/4": "reserved, and limited broadcast",
    "168.63.129.16/32": "the host of virtual machines in Azure",
}
# IANA IPv6 Special-Purpose Address Registry, and what else is not global unicast. Those that
# embed IPv4 addresses, and may be fetched if those may, are tested below.
IPV6 = {
    "::/96": "unspecified, loopback, IPv4-compatible",
    "::ffff:0:0:0/96": "IPv4-translated",
    "64:ff9b:1::/48": "NAT64 of local use",
    "100::/64": "discard only",
    "100:0:0:1::/64": "dummy prefix",
    "200::/7": "reserved",
    "400::/6": "reserved",
    "800::/5": "reserved",
    "1000::/4": "reserved",
    "2001::/23": "protocol assignments: Teredo, benchmarking, AMT, ORCHID, DRIP",
    "2001:2::/48": "benchmarking",
    "2001:db8::/32": "documentation",
    "2620:4f:8000::/48": "AS112",
    "3fff::/20": "documentation",
    "4000::/2": "reserved",
    "5f00::/16": "segment routing",
    "8000::/2": "reserved",
    "fc00::/7": "unique local",
    "fe80::/10": "link local",
    "fec0::/10": "site local",
    "ff00::/8": "multicast",
}

REFUSED_IPV4 = [IPv4Network(network) for network in IPV4]
REFUSED_IPV6 = [IPv6Network(network) for network in IPV6]


def within(network: IPv4Network | IPv6Network) -> st.SearchStrategy[Any]:
    first, last = int(network.network_address), int(network.broadcast_address)
    kind = IPv4Address if network.version == 4 else IPv6Address
    return st.integers(first, last).map(kind)


refused_ipv4 = st.sampled_from(REFUSED_IPV4).flatmap(within)
REFUSED_RANGES = sorted(
    (int(network.network_address), int(network.broadcast_address)) for network in REFUSED_IPV4
)
# None is inside another. What is between them is all that may be public.
BETWEEN = [
    (last + 1, first - 1) for (_, last), (first, _) in pairwise(REFUSED_RANGES) if last + 1 < first
]
public_ipv4 = st.sampled_from(BETWEEN).flatmap(lambda ends: st.integers(*ends)).map(IPv4Address)


def embed(prefix: str, ip: IPv4Address, shift: int = 0) -> IPv6Address:
    return IPv6Address(int(IPv6Address(prefix)) | int(ip) << shift)


@pytest.mark.parametrize("network", [*IPV4, *IPV6])
def test_the_first_and_the_last_address_of_every_special_purpose_are_refused(network: str) -> None:
    known = (IPv4Network if ":" not in network else IPv6Network)(network)
    assert not is_public(known.network_address)
    assert not is_public(known.broadcast_address)


@given(ip=refused_ipv4)
def test_no_special_ipv4_address_is_public(ip: IPv4Address) -> None:
    assert not is_public(ip)


@given(ip=st.sampled_from(REFUSED_IPV6).flatmap(within))
def test_no_special_ipv6_address_is_public(ip: IPv6Address) -> None:
    assert not is_public(ip)


@given(ip=public_ipv4)
@example(ip=IPv4Address("93.184.216.34"))
@example(ip=IPv4Address("168.63.129.15"))
@example(ip=IPv4Address("9.255.255.255"))
@example(ip=IPv4Address("172.32.0.0"))
def test_every_other_ipv4_address_is(ip: IPv4Address) -> None:
    assert is_public(ip)


@given(prefix=st.integers(0x2002_0000 + 0x10000, 0x3FFE_FFFF), rest=st.integers(0, 2**96 - 1))
def test_every_other_global_unicast_ipv6_address_is(prefix: int, rest: int) -> None:
    ip = IPv6Address(prefix << 96 | rest)
    special = any(ip in network for network in REFUSED_IPV6)
    isatap = ip.packed[8:12] in (b"\0\0\x5e\xfe", b"\2\0\x5e\xfe")
    assert special or isatap or is_public(ip)


@given(ip=st.integers(0, 2**128 - 1).map(IPv6Address))
def test_nothing_else_is(ip: IPv6Address) -> None:
    assert not is_public(ip) or ip in IPv6Network("2000::/3") or ip.ipv4_mapped is not None


# Prefix and the place of the IPv4 address, in bits from the right.
FORMS = [
    ("::ffff:0:0", 0),  # mapped
    ("64:ff9b::", 0),  # NAT64
    ("2002::", 80),  # 6to4
    ("2606:2800:220:1:0:5efe::", 0),  # ISATAP
    ("2606:2800:220:1:200:5efe::", 0),  # ISATAP, of a unique IPv4 address
]
ALWAYS_REFUSED_FORMS = [
    ("::", 0),  # IPv4-compatible
    ("::ffff:0:0:0", 0),  # IPv4-translated
    ("64:ff9b:1::", 0),  # NAT64 of local use
    ("2001::", 64),  # Teredo: its server
    ("fe80::5efe:0:0", 0),  # ISATAP, link local
]


@pytest.mark.parametrize(("prefix", "shift"), [*FORMS, *ALWAYS_REFUSED_FORMS])
@given(ip=refused_ipv4)
def test_no_ipv6_address_that_embeds_a_refused_one_is_public(
    prefix: str, shift: int, ip: IPv4Address
) -> None:
    assert not is_public(embed(prefix, ip, shift))


@pytest.mark.parametrize(("prefix", "shift"), FORMS)
@given(ip=public_ipv4)
def test_one_that_embeds_a_public_one_is(prefix: str, shift: int, ip: IPv4Address) -> None:
    assert is_public(embed(prefix, ip, shift))


@pytest.mark.parametrize(("prefix", "shift"), ALWAYS_REFUSED_FORMS)
@given(ip=public_ipv4)
def test_forms_that_no_web_site_has_are_refused(prefix: str, shift: int, ip: IPv4Address) -> None:
    assert not is_public(embed(prefix, ip, shift))


@pytest.mark.parametrize(
    "address",
    [
        "::10.0.0.1",
        "::ffff:0:10.0.0.1",
        "::ffff:0:8.8.8.8",
        "2606:4700::5efe:10.0.0.1",
        "2606:4700::200:5efe:169.254.169.254",
        "64:ff9b:1::a00:1",
        "fec0::1",
        "3fff::1",
        "5f00::1",
        "192.88.99.1",
        "192.0.0.8",
        "192.0.0.192",
        "168.63.129.16",
        "fd00:ec2::254",
        "100.100.100.200",
    ],
)
def test_what_once_got_through_and_where_clouds_keep_their_secrets(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1", "2a00:1450:4001::200e"])
def test_web_sites_are_public(address: str) -> None:
    assert is_public(ip_address(address))
