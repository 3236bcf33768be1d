"""
The way to a rendezvous node, from a string.
"""

from __future__ import annotations

import re

from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    clientFromString,
)
from twisted.internet.interfaces import IStreamClientEndpoint

from p2ptwist.core.address import canonicalHost, isIPv6
from p2ptwist.errors import LocalUsageError

CONNECT_DELAY = 15.0  # seconds for name resolution, TCP and TLS; Linux sends its SYN four times

# tcp:HOST:PORT, with a colon in HOST escaped as Twisted does, or in brackets as a URL has it.
_TCP = re.compile(r"tcp:(\[[0-9A-Fa-f:.]+\]|(?:[^:\\\[\]]|\\:)+):([0-9]{1,5})")


def rendezvousEndpoint(reactor: object, description: str) -> IStreamClientEndpoint:
    """
    The endpoint of a node, from a string such as C{"tcp:rendezvous.example:8470"}.

    A C{tcp:} name is tried on all its IPv6 and IPv4 addresses (RFC 8305); what is not
    C{tcp:HOST:PORT} goes to C{twisted.internet.endpoints.clientFromString}.

    @raise LocalUsageError: when C{description} is not an endpoint.
    """
    try:
        return _endpoint(reactor, description)
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise LocalUsageError(
            f"{description!r} is not the endpoint of a rendezvous node ({error}): write "
            "tcp:HOST:PORT"
        ) from None


def namedHost(description: str) -> str:
    """
    @return: the name in C{"tcp:NAME:PORT"}; empty for a literal address, and for what is not of
        that form.
    """
    tcp = _TCP.fullmatch(description)
    if tcp is None:
        return ""
    host = tcp[1].strip("[]").replace("\\:", ":")
    try:
        canonicalHost(host)
    except LocalUsageError:
        return host
    return ""


def _endpoint(reactor: object, description: str) -> IStreamClientEndpoint:
    tcp = _TCP.fullmatch(description)
    if tcp is None:
        endpoint: IStreamClientEndpoint = clientFromString(reactor, description)
        return endpoint
    host, port = tcp[1].strip("[]").replace("\\:", ":"), int(tcp[2])
    if not 0 < port < 65536:
        raise ValueError("a port is a number from 1 to 65535")
    try:
        literal = TCP6ClientEndpoint if isIPv6(host) else TCP4ClientEndpoint
    except LocalUsageError:
        return HostnameEndpoint(reactor, host, port, timeout=CONNECT_DELAY)
    return literal(reactor, host, port, timeout=CONNECT_DELAY)
