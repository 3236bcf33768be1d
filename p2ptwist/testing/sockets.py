"""
What all simulated sockets have in common: their options, and their addresses.

Simulated sockets have the parts of the interface of C{socket.socket} that Twisted's transports and
their applications use.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import Protocol, TypeAlias

from p2ptwist.core.address import HostPort, canonicalHost
from p2ptwist.core.errors import LocalUsageError

# What a socket of each family says that it is bound to, before it is or for all addresses.
ANY = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}

SocketAddress: TypeAlias = tuple[str, int] | tuple[str, int, int, int]


def osError(number: int) -> OSError:
    """
    @return: the error that the kernel reports with C{number}.
    """
    return OSError(number, os.strerror(number))


class SocketState:
    """
    The common part of a datagram and a stream socket.

    @ivar family: C{AF_INET} or C{AF_INET6}.
    @ivar kind: C{SOCK_DGRAM} or C{SOCK_STREAM}.
    @ivar local: where it is bound; the host is empty for all addresses; C{None} when unbound.
    @ivar remote: where it is connected to, if it is.
    @ivar isListening: whether it waits for connections.
    @ivar options: what was set.
    @ivar number: its file descriptor; -1 once it is closed.
    """

    def __init__(self, family: socket.AddressFamily, kind: socket.SocketKind, number: int) -> None:
        """
        @param family: C{AF_INET} or C{AF_INET6}.
        @param kind: C{SOCK_DGRAM} or C{SOCK_STREAM}.
        @param number: its file descriptor.
        """
        self.family = family
        self.kind = kind
        self.number = number
        self.local: HostPort | None = None
        self.remote: HostPort | None = None
        self.isListening = False
        self.options: dict[tuple[int, int], int] = {}

    # Options

    def setblocking(self, flag: bool) -> None:
        """
        Do nothing: a simulated socket never blocks.
        """

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        """
        Set an option.  Those that mean something here: C{SO_REUSEADDR}, C{SO_REUSEPORT},
        C{SO_BROADCAST}, C{SO_LINGER}, C{IP_TTL}, C{IPV6_UNICAST_HOPS}, C{IPV6_V6ONLY}.  All are
        remembered.
        """
        if isinstance(value, bytes):
            value = int.from_bytes(value[:4], "little")
        self.options[level, option] = int(value)

    def getsockopt(self, level: int, option: int) -> int:
        """
        @return: what was set, or 0.
        """
        return self.options.get((level, option), 0)

    @property
    def ttl(self) -> int | None:
        """
        The time to live that was set for packets of this socket, if any.
        """
        options = self.options
        if not options:
            return None
        if self.family == socket.AF_INET6:
            return options.get((socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS))
        return options.get((socket.IPPROTO_IP, socket.IP_TTL))

    @property
    def reusesAddress(self) -> bool:
        """
        Whether C{SO_REUSEADDR} is set.
        """
        return bool(self.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR))

    @property
    def reusesPort(self) -> bool:
        """
        Whether C{SO_REUSEPORT} is set.
        """
        return bool(self.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT))

    @property
    def isDualStack(self) -> bool:
        """
        Whether this IPv6 socket also speaks IPv4.
        """
        return self.family == socket.AF_INET6 and not self.getsockopt(
            socket.IPPROTO_IPV6, socket.IPV6_V6ONLY
        )

    # Addresses

    def fileno(self) -> int:
        """
        @return: a number that stands for this socket on its host, -1 once it is closed.
        """
        return self.number

    def bindable(self, address: SocketAddress) -> HostPort:
        """
        @return: an application's address to bind to, with an empty host for all addresses.
        @raise OSError: C{EINVAL} when it is bound already.
        """
        if self.local is not None:
            raise osError(errno.EINVAL)
        host, port = address[:2]
        if not 0 <= port <= 65_535:
            raise OverflowError("bind(): port must be 0-65535.")
        return ("" if host == ANY[self.family] else host, port)

    def getsockname(self) -> SocketAddress:
        """
        @return: the local address, in the form of the family.
        """
        host, port = self.local or ("", 0)
        return self.outward((host or ANY[self.family], port))

    def getpeername(self) -> SocketAddress:
        """
        @return: the remote address, in the form of the family.
        @raise OSError: C{ENOTCONN}.
        """
        if self.remote is None:
            raise osError(errno.ENOTCONN)
        return self.outward(self.remote)

    def outward(self, address: HostPort) -> SocketAddress:
        """
        @return: C{address} as Python's socket module shows it to an application.
        """
        if self.family == socket.AF_INET:
            return address
        host, port = address
        return (f"::ffff:{host}" if ":" not in host else host, port, 0, 0)

    def inward(self, address: SocketAddress) -> HostPort:
        """
        @return: an application's address in canonical form.
        @raise OSError: when it is not of this socket's family.
        """
        host, port = address[:2]
        try:
            canonical = canonicalHost(host.partition("%")[0])
        except LocalUsageError:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known") from None
        if (":" in host) != (self.family == socket.AF_INET6):
            raise socket.gaierror(socket.EAI_ADDRFAMILY, "Address family not supported")
        if not 0 <= port <= 65_535:
            raise OverflowError("port must be 0-65535.")
        if ":" not in canonical and ":" in host and not self.isDualStack:
            raise osError(errno.ENETUNREACH)
        return canonical, port


class Bindable(Protocol):
    """
    A socket, as far as port numbers are concerned.
    """

    @property
    def state(self) -> SocketState:
        """
        Its addresses and options.
        """
