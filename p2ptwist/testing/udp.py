"""
Simulated UDP sockets.
"""

from __future__ import annotations

import errno
import socket
from collections import deque
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IReadDescriptor, IWriteDescriptor

from p2ptwist.core.address import HostPort
from p2ptwist.testing.packet import MAX_UDP_PAYLOAD, Packet, Protocol
from p2ptwist.testing.sockets import SocketAddress, SocketState, osError

if TYPE_CHECKING:
    from p2ptwist.testing.stack import Stack

# What Linux gives a socket by default (net.core.rmem_default), for payloads alone.
RECEIVE_BUFFER = 212_992  # octets

_BROADCAST = ("<broadcast>", "255.255.255.255")


class DatagramSocket:
    """
    A UDP socket that never blocks.

    @ivar state: its addresses and options.
    @ivar reader: told when there is something to read, if anybody wants to know.
    @ivar writer: told that there is room to write, if anybody wants to know.
    """

    def __init__(self, stack: Stack, family: socket.AddressFamily) -> None:
        """
        @param stack: the host's.
        @param family: C{AF_INET} or C{AF_INET6}.
        """
        self.state = state = SocketState(family, socket.SOCK_DGRAM, stack.poller.open(self))
        self.reader: IReadDescriptor | None = None
        self.writer: IWriteDescriptor | None = None
        self._stack = stack
        # What is the same for every socket.
        self.setblocking = state.setblocking
        self.fileno = state.fileno
        self.getsockname = state.getsockname
        self.getpeername = state.getpeername
        self.setsockopt = state.setsockopt
        self.getsockopt = state.getsockopt
        self._received: deque[tuple[bytes, HostPort]] = deque()
        self._buffered = 0
        self._error = 0

    def bind(self, address: SocketAddress) -> None:
        """
        Take a local address.  Host C{""} is all addresses, port 0 any free one.

        @raise OSError: C{EADDRINUSE}, C{EADDRNOTAVAIL} or C{EINVAL}.
        """
        self._stack.ports.bind(self, *self.state.bindable(address))

    def close(self) -> None:
        """
        Free everything.
        """
        self._stack.poller.close(self.state.number)
        self._stack.ports.release(self)
        self.state.number = -1

    def connect(self, address: SocketAddress) -> None:
        """
        Exchange datagrams with C{address} alone.

        @raise OSError: when there is no route to it.
        """
        remote = self.state.inward(address)
        host, port = self._ensureBound()
        self.state.local = (self._stack.sourceFor(remote[0], host), port)
        self.state.remote = remote

    def send(self, data: bytes) -> int:
        """
        Send a datagram to where this socket is connected to.

        @raise OSError: C{ECONNREFUSED} when an earlier one was answered with an ICMP port
            unreachable; else as L{sendto}.
        """
        if self.state.remote is None:
            raise osError(errno.EDESTADDRREQ)
        self._raiseError()
        self._send(data, self.state.remote)
        return len(data)

    def sendto(self, data: bytes, address: SocketAddress) -> int:
        """
        Send a datagram to C{address}.

        @raise OSError: C{EMSGSIZE}, C{ENETUNREACH}, C{EACCES}, C{EINVAL}.
        """
        if address[0] not in _BROADCAST:
            self._send(data, self.state.inward(address))
        elif not self.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST):
            raise osError(errno.EACCES)
        # Broadcasts are allowed, and reach nobody.
        return len(data)

    def recvfrom(self, size: int) -> tuple[bytes, SocketAddress]:
        """
        @return: the first C{size} octets of the oldest datagram, and where it came from.
        @raise OSError: C{EAGAIN} when there is none; C{ECONNREFUSED} as in L{send}.
        """
        if self._error:
            self._raiseError()
        if not self._received:
            raise osError(errno.EAGAIN)
        data, source = self._received.popleft()
        self._buffered -= len(data)
        return data[:size], self.state.outward(source)

    def deliver(self, packet: Packet) -> bool:
        """
        A datagram has come for this socket.

        @return: whether there was room for it.
        """
        data = packet.payload
        assert isinstance(data, bytes)
        if self._buffered + len(data) > RECEIVE_BUFFER:
            return False
        self._buffered += len(data)
        self._received.append((data, packet.source))
        self._stack.poller.wake(self)
        return True

    def refused(self) -> None:
        """
        The other side, or its host, answered with an ICMP port unreachable.
        """
        self._error = errno.ECONNREFUSED
        self._stack.poller.wake(self)

    def isReadable(self) -> bool:
        """
        @return: whether there is a datagram.
        """
        return bool(self._received)

    def isHungUp(self) -> bool:
        """
        @return: whether the other side refused, and there is no datagram.
        """
        return bool(self._error) and not self._received

    def isWritable(self) -> bool:
        """
        @return: C{True}; sending never waits.
        """
        return True

    def _raiseError(self) -> None:
        number, self._error = self._error, 0
        if number:
            raise osError(number)

    def _ensureBound(self) -> HostPort:
        """
        @return: the local address, with an empty host for all addresses.
        """
        if self.state.local is None:
            self._stack.ports.bind(self, "", 0)
        assert self.state.local is not None
        return self.state.local

    def _send(self, data: bytes, remote: HostPort) -> None:
        if len(data) > MAX_UDP_PAYLOAD:
            raise osError(errno.EMSGSIZE)
        if remote[1] == 0:
            raise osError(errno.EINVAL)
        bound, port = self._ensureBound()
        source = (self._stack.sourceFor(remote[0], bound), port)
        self._stack.send(Protocol.UDP, source, remote, bytes(data), self.state.ttl)
