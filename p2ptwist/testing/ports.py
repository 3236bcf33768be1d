"""
The port numbers of one host, and who is bound to them.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from random import Random

from p2ptwist.core.address import HostPort, canonicalHost
from p2ptwist.core.errors import LocalUsageError
from p2ptwist.testing.sockets import SimulatedSocket, osError

# The ephemeral ports of Linux (net.ipv4.ip_local_port_range).
FIRST_EPHEMERAL = 32_768
LAST_EPHEMERAL = 60_999


class Ports:
    """
    Which sockets are bound to which ports of a host.
    """

    def __init__(self, random: Random, hasAddress: Callable[[str], bool]) -> None:
        """
        @param random: chooses ephemeral ports.
        @param hasAddress: tells whether an address is the host's own.
        """
        self._random = random
        self._hasAddress = hasAddress
        self._bound: dict[tuple[socket.SocketKind, int], list[SimulatedSocket]] = {}

    def bind(self, sock: SimulatedSocket, host: str, port: int) -> None:
        """
        Bind C{sock}.

        @param sock: what to bind; its C{local} is set.
        @param host: one of the host's addresses, or empty for all.
        @param port: a port number, or 0 for a free one.
        @raise OSError: C{EADDRNOTAVAIL} or C{EADDRINUSE}.
        """
        if host:
            host = self._ownAddress(sock, host)
        if port == 0:
            port = self._freePort(sock)
        elif not self._isFree(sock, host, port):
            raise osError(errno.EADDRINUSE)
        sock.local = (host, port)
        self._bound.setdefault((sock.type, port), []).append(sock)

    def release(self, sock: SimulatedSocket) -> None:
        """
        C{sock} is no longer bound, if it was.
        """
        if sock.local is None:
            return
        key = (sock.type, sock.local[1])
        sharing = self._bound.get(key, [])
        if sock in sharing:
            sharing.remove(sock)
            if not sharing:
                del self._bound[key]

    def receiver(
        self, kind: socket.SocketKind, local: HostPort, remote: HostPort, listening: bool = False
    ) -> SimulatedSocket | None:
        """
        @param listening: whether to look at those only that listen for connections.
        @return: the socket that a packet from C{remote} to C{local} is for: one connected to
            C{remote}, else one bound to just C{local}, else one bound to all addresses.
        """
        best, bestScore = None, 0
        for sock in self._bound.get((kind, local[1]), ()):
            score = _score(sock, local[0], remote)
            if score > bestScore and (sock.isListening or not listening):
                best, bestScore = sock, score
        return best

    def _ownAddress(self, sock: SimulatedSocket, host: str) -> str:
        try:
            canonical = canonicalHost(host.partition("%")[0])
        except LocalUsageError:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known") from None
        if (":" in host) != (sock.family == socket.AF_INET6):
            raise socket.gaierror(socket.EAI_ADDRFAMILY, "Address family not supported")
        if not self._hasAddress(canonical):
            raise osError(errno.EADDRNOTAVAIL)
        return canonical

    def _freePort(self, sock: SimulatedSocket) -> int:
        count = LAST_EPHEMERAL - FIRST_EPHEMERAL + 1
        start = self._random.randrange(count)
        for offset in range(count):
            port = FIRST_EPHEMERAL + (start + offset) % count
            if not self._bound.get((sock.type, port)):
                return port
        raise osError(errno.EADDRINUSE)

    def _isFree(self, sock: SimulatedSocket, host: str, port: int) -> bool:
        return all(
            _mayShare(sock, other) or not _overlaps(sock, host, other)
            for other in self._bound.get((sock.type, port), ())
        )


def _score(sock: SimulatedSocket, localHost: str, remote: HostPort) -> int:
    """
    @return: how well a packet matches C{sock}; 0 for not at all.
    """
    assert sock.local is not None
    bound = sock.local[0]
    if bound:
        if bound != localHost:
            return 0
    elif (":" in localHost) != (sock.family == socket.AF_INET6) and not sock.isDualStack:
        return 0
    if sock.remote is None:
        return 2 if bound else 1
    return 3 if sock.remote == remote else 0


def _overlaps(sock: SimulatedSocket, host: str, other: SimulatedSocket) -> bool:
    """
    @return: whether a packet could be for both C{sock}, if it is bound to C{host}, and C{other}.
    """
    assert other.local is not None
    otherHost = other.local[0]
    if host and otherHost:
        return host == otherHost
    return bool(_versions(sock, host) & _versions(other, otherHost))


def _versions(sock: SimulatedSocket, host: str) -> set[int]:
    """
    @return: the versions of IP that C{sock} gets when it is bound to C{host}.
    """
    if host:
        return {6 if ":" in host else 4}
    if sock.family == socket.AF_INET:
        return {4}
    return {4, 6} if sock.isDualStack else {6}


def _mayShare(sock: SimulatedSocket, other: SimulatedSocket) -> bool:
    """
    @return: whether two sockets may be bound to one address, by the rules of Linux.
    """
    if sock.reusesPort and other.reusesPort:
        return True
    reuse = sock.reusesAddress and other.reusesAddress
    return reuse and not (sock.isListening or other.isListening)
