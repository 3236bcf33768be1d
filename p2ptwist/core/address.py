"""
Transport addresses, as the protocols of this room mean them.

An address is the tuple C{(host, port)}: the host in canonical text (RFC 5952 for IPv6, and an
IPv4-mapped IPv6 address written as the IPv4 address that it stands for), the port in 0..65535.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TypeAlias

from p2ptwist.core.errors import LocalUsageError

HostPort: TypeAlias = tuple[str, int]

# Enough for every peer, server and prefix a busy process talks to at once; a miss costs 2 us.
_CACHED_HOSTS = 4096


def parseHost(host: str) -> IPv4Address | IPv6Address:
    """
    Read a literal IP address; an IPv4-mapped IPv6 address becomes the IPv4 address.

    @raise LocalUsageError: for anything that is not a literal address.
    """
    try:
        parsed = ip_address(host)
    except ValueError:
        raise LocalUsageError(f"{host!r} is not an IP address") from None
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        return parsed.ipv4_mapped
    return parsed


@lru_cache(_CACHED_HOSTS)
def canonicalHost(host: str) -> str:
    """
    @return: C{host} in the one text form that the same address always has.
    @raise LocalUsageError: for anything that is not a literal address.
    """
    return str(parseHost(host))


@lru_cache(_CACHED_HOSTS)
def isIPv6(host: str) -> bool:
    """
    @return: whether the canonical literal C{host} is an IPv6 address.
    """
    return parseHost(host).version == 6


@lru_cache(_CACHED_HOSTS)
def prefixOf(host: str, ipv4Bits: int, ipv6Bits: int) -> str:
    """
    The network that C{host} is in, as the key of a limit that a whole site shares.

    @param ipv4Bits: prefix length for IPv4, 0..32.
    @param ipv6Bits: prefix length for IPv6, 0..128.
    """
    parsed = parseHost(host)
    bits = ipv4Bits if parsed.version == 4 else ipv6Bits
    return str(ip_network((parsed, bits), strict=False))


def formatAddress(address: HostPort) -> str:
    """
    @return: C{"192.0.2.1:3478"} or C{"[2001:db8::1]:3478"}.
    """
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
