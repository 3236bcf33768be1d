"""
Candidates: the addresses at which a peer may be reached (RFC 8445 section 5.1).
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network

from p2ptwist.core.address import HostPort, isIPv6, parseHost
from p2ptwist.core.errors import LocalUsageError

COMPONENT = 1  # an agent has one component; RFC 8445 section 5.1.2.1 numbers from 1
CANDIDATE_LIMIT = 24  # remote addresses a peer may make us check, so that it cannot aim a scan
OFFERED_LIMIT = 20  # addresses that are offered: the rest of the 24 is for peer-reflexive ones
LOWEST_PORT = 1024  # below are services that an attacker would aim checks at
# Ports whose application gateways in routers rewrite or act on what passes: FTP control is below
# LOWEST_PORT; H.323 gatekeeper and call signaling, PPTP, MGCP, SIP, SANE, RTSP's alternate, Amanda.
GATEWAY_PORTS = frozenset({1719, 1720, 1723, 2427, 2727, 5060, 5061, 6566, 8554, 10080})


class CandidateType(enum.IntEnum):
    """
    How a candidate was found; the numbers are those of the wire.
    """

    HOST = 1
    SERVER_REFLEXIVE = 2
    PEER_REFLEXIVE = 3
    RELAYED = 4


# RFC 8445 section 5.1.2.2.
TYPE_PREFERENCE = {
    CandidateType.HOST: 126,
    CandidateType.PEER_REFLEXIVE: 110,
    CandidateType.SERVER_REFLEXIVE: 100,
    CandidateType.RELAYED: 0,
}
_INNER = tuple(
    map(
        IPv4Network,
        ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16"),
    )
)
# RFC 8421 section 4: IPv6 first, as it needs no translation.
LOCAL_PREFERENCE_IPV6 = 65535
LOCAL_PREFERENCE_IPV4 = 65534


def candidatePriority(candidateType: CandidateType, host: str, order: int = 0) -> int:
    """
    @param host: the canonical address, for the preference of its family.
    @param order: 0 for the most preferred interface, counting up; 0..1000.
    @return: the priority, 1..2**31-1.
    @see: RFC 8445 section 5.1.2.1.
    """
    family = LOCAL_PREFERENCE_IPV6 if isIPv6(host) else LOCAL_PREFERENCE_IPV4
    localPreference = family - 2 * order
    return (TYPE_PREFERENCE[candidateType] << 24) | (localPreference << 8) | (256 - COMPONENT)


@dataclass(frozen=True, slots=True)
class Candidate:
    """
    One address at which a peer may be reached.

    @ivar type: how it was found.
    @ivar address: canonical host, and port.
    @ivar priority: 1..2**31-1; higher is better.
    """

    type: CandidateType
    address: HostPort
    priority: int


def makeCandidate(candidateType: CandidateType, address: HostPort, order: int = 0) -> Candidate:
    """
    @return: a candidate of this side, with the priority that its type and family give it.
    @raise LocalUsageError: when C{address} is no literal address with a port from 1 to 65535.
    """
    if not 0 < address[1] < 65536:
        raise LocalUsageError(f"{address[1]} is not the port of a candidate")
    return Candidate(candidateType, address, candidatePriority(candidateType, address[0], order))


def pairPriority(controlling: int, controlled: int) -> int:
    """
    @param controlling: the priority of the controlling side's candidate.
    @param controlled: the priority of the controlled side's candidate.
    @return: the pair's priority, at most 2**63-1.
    @see: RFC 8445 section 6.1.2.3.
    """
    low, high = sorted((controlling, controlled))
    return (low << 32) + 2 * high + (1 if controlling > controlled else 0)


@lru_cache(4096)
def isPrivate(host: str) -> bool:
    """
    @return: whether C{host} means different machines in different networks (RFC 1918, RFC 6598,
        RFC 4193, link-local, loopback).
    """
    return not parseHost(host).is_global


def isCheckable(address: HostPort, *, allowLoopback: bool) -> bool:
    """
    Whether a remote peer may make us send checks to C{address}.

    @param allowLoopback: whether this side offers loopback candidates itself: only then can the
        other side be on this machine.
    """
    host, port = address
    if port < LOWEST_PORT or port in GATEWAY_PORTS:
        return False
    return allowLoopback if isLoopback(host) else not isUnusable(host)


@lru_cache(4096)
def isLoopback(host: str) -> bool:
    """
    @return: whether C{host} is this machine and no other.
    """
    return parseHost(host).is_loopback


@lru_cache(4096)
def isInner(host: str) -> bool:
    """
    @return: whether the IPv4 address C{host} is one of networks behind NATs (RFC 1918, RFC 6598),
        or of a single link: another peer in another network means somebody else by it.
    """
    parsed = parseHost(host)
    return isinstance(parsed, IPv4Address) and any(parsed in network for network in _INNER)


@lru_cache(4096)
def isUnusable(host: str) -> bool:
    """
    @return: whether C{host} cannot be the address of one peer: multicast, unspecified, IPv4's
        0.0.0.0/8 and 240.0.0.0/4, and IPv6 link-local, whose scope the socket API strips.
    """
    parsed = parseHost(host)
    if parsed.version == 6:
        return parsed.is_multicast or parsed.is_unspecified or parsed.is_link_local
    return parsed.is_multicast or parsed.packed[0] == 0 or parsed.packed[0] >= 240


def looksReachable(remote: HostPort, local: Iterable[HostPort]) -> bool:
    """
    Whether C{remote} is likely to answer, so that it is worth one of the first checks: a global
    address, or a private one in a network that this side is in as well.

    Private networks are numbered from few prefixes, so a shared /16 (IPv4) or /64 (IPv6) proves
    nothing: it only decides the order.
    """
    if not isPrivate(remote[0]):
        return True
    return any(_sameNetwork(remote[0], host) for host, _ in local)


def _sameNetwork(first: str, second: str) -> bool:
    a, b = parseHost(first), parseHost(second)
    length = 2 if a.version == 4 else 8
    return a.version == b.version and a.packed[:length] == b.packed[:length]
