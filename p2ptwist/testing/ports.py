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
from p2ptwist.testing.sockets import Bindable, SocketState, osError

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
        self._bound: dict[tuple[socket.SocketKind, int], list[Bindable]] = {}

    def bind(self, sock: Bindable, host: str, port: int) -> None:
        """
        Bind C{sock}.

        @param sock: what to bind; its C{state.local} is set.
        @param host: one of the host's addresses, or empty for all.
        @param port: a port number, or 0 for a free one.
        @raise OSError: C{EADDRNOTAVAIL} or C{EADDRINUSE}.
        """
        state = sock.state
        if host:
            host = self._ownAddress(state, host)
        if port == 0:
            port = self._freePort(state)
        elif not self._isFree(state, host, port):
            raise osError(errno.EADDRINUSE)
        state.local = (host, port)
        self._bound.setdefault((state.kind, port), []).append(sock)

    def adopt(self, sock: Bindable) -> None:
        """
        Have C{sock} share the port of the listener that accepted it.
        """
        assert sock.state.local is not None
        self._bound.setdefault((sock.state.kind, sock.state.local[1]), []).append(sock)

    def requireListenable(self, sock: Bindable) -> None:
        """
        @raise OSError: C{EADDRINUSE} when another socket listens where C{sock} is bound, and they
            do not both reuse the port.
        """
        state = sock.state
        assert state.local is not None
        host, port = state.local
        for other in self._bound[state.kind, port]:
            isShared = state.reusesPort and other.state.reusesPort
            isOther = other is not sock and other.state.isListening
            if isOther and not isShared and _overlaps(state, host, other.state):
                raise osError(errno.EADDRINUSE)

    def release(self, sock: Bindable) -> None:
        """
        C{sock} is no longer bound, if it was.
        """
        local = sock.state.local
        if local is None:
            return
        key = (sock.state.kind, local[1])
        sharing = self._bound.get(key, [])
        if sock in sharing:
            sharing.remove(sock)
            if not sharing:
                del self._bound[key]

    def receiver(
        self, kind: socket.SocketKind, local: HostPort, remote: HostPort, listening: bool = False
    ) -> Bindable | None:
        """
        @param listening: whether to look at those only that listen for connections.
        @return: the socket that a packet from C{remote} to C{local} is for: one connected to
            C{remote}, else one bound to just C{local}, else one bound to all addresses.
        """
        best, bestScore = None, 0
        for sock in self._bound.get((kind, local[1]), ()):
            score = _score(sock.state, local[0], remote)
            if score > bestScore and (sock.state.isListening or not listening):
                best, bestScore = sock, score
        return best

    def _ownAddress(self, state: SocketState, host: str) -> str:
        try:
            canonical = canonicalHost(host.partition("%")[0])
        except LocalUsageError:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known") from None
        if (":" in host) != (state.family == socket.AF_INET6):
            raise socket.gaierror(socket.EAI_ADDRFAMILY, "Address family not supported")
        if not self._hasAddress(canonical):
            raise osError(errno.EADDRNOTAVAIL)
        return canonical

    def _freePort(self, state: SocketState) -> int:
        count = LAST_EPHEMERAL - FIRST_EPHEMERAL + 1
        start = self._random.randrange(count)
        for offset in range(count):
            port = FIRST_EPHEMERAL + (start + offset) % count
            if (state.kind, port) not in self._bound:
                return port
        raise osError(errno.EADDRINUSE)

    def _isFree(self, state: SocketState, host: str, port: int) -> bool:
        return all(
            _mayShare(state, other.state) or not _overlaps(state, host, other.state)
            for other in self._bound.get((state.kind, port), ())
        )


def _score(state: SocketState, localHost: str, remote: HostPort) -> int:
    """
    @return: how well a packet matches a bound socket; 0 for not at all.
    """
    assert state.local is not None
    bound = state.local[0]
    if bound:
        if bound != localHost:
            return 0
    elif (6 if ":" in localHost else 4) not in _versions(state, ""):
        return 0
    if state.remote is None:
        return 2 if bound else 1
    return 3 if state.remote == remote else 0


def _overlaps(state: SocketState, host: str, other: SocketState) -> bool:
    """
    @return: whether a packet could be for both a socket that is bound to C{host}, and another one.
    """
    assert other.local is not None
    otherHost = other.local[0]
    if host and otherHost:
        return host == otherHost
    return bool(_versions(state, host) & _versions(other, otherHost))


_VERSION_4, _VERSION_6, _BOTH = frozenset({4}), frozenset({6}), frozenset({4, 6})


def _versions(state: SocketState, host: str) -> frozenset[int]:
    """
    @return: the versions of IP that a socket gets when it is bound to C{host}.
    """
    if host:
        return _VERSION_6 if ":" in host else _VERSION_4
    if state.family == socket.AF_INET:
        return _VERSION_4
    return _BOTH if state.isDualStack else _VERSION_6


def _mayShare(state: SocketState, other: SocketState) -> bool:
    """
    @return: whether two sockets may be bound to one address, by the rules of Linux.
    """
    if state.reusesPort and other.reusesPort:
        return True
    reuse = state.reusesAddress and other.reusesAddress
    return reuse and not (state.isListening or other.isListening)
