"""
The TCP of one host: which connections there are, and who listens.
"""

from __future__ import annotations

import errno
import socket
from random import Random
from typing import TYPE_CHECKING

from p2ptwist.core.address import HostPort
from p2ptwist.testing.packet import ICMPError, Packet, Protocol, Segment, TCPFlag, resetAbout
from p2ptwist.testing.sockets import osError
from p2ptwist.testing.streamsocket import StreamSocket
from p2ptwist.testing.tcp import TCPConnection, TCPState

if TYPE_CHECKING:
    from p2ptwist.testing.stack import Stack


class TCPStack:
    """
    All TCP connections of one host.
    """

    def __init__(self, stack: Stack, random: Random) -> None:
        """
        @param stack: the host's.
        @param random: chooses initial sequence numbers.
        """
        self._stack = stack
        self._random = random
        self._connections: dict[tuple[HostPort, HostPort], TCPConnection] = {}

    def connect(self, sock: StreamSocket, remote: HostPort) -> None:
        """
        Open a connection from C{sock}.

        @raise OSError: C{ENETUNREACH}, C{EADDRNOTAVAIL}.
        """
        local = sock.bindForConnecting(remote)
        if (local, remote) in self._connections:
            raise osError(errno.EADDRNOTAVAIL)
        sock.state.local, sock.state.remote = local, remote
        self._add(sock, local, remote).open()

    def receive(self, packet: Packet) -> None:
        """
        A segment has come.
        """
        segment = packet.payload
        assert isinstance(segment, Segment)
        key = (packet.destination, packet.source)
        connection = self._connections.get(key)
        isOpening = segment.flags & (TCPFlag.SYN | TCPFlag.ACK | TCPFlag.RST) == TCPFlag.SYN
        if isOpening and connection is not None and connection.state is TCPState.TIME_WAIT:
            connection.vanish()  # the port is used again (RFC 9293 section 3.6.1)
            connection = None
        if connection is not None:
            self._stack.world.trace.note(self._stack.name, "received", packet)
            connection.receive(segment)
            return
        listener = self._listenerFor(packet) if isOpening else None
        if listener is None:
            self._refuse(packet, segment)
        elif not listener.hasRoom:
            self._stack.drop(packet, "the backlog is full")
        else:
            self._stack.world.trace.note(self._stack.name, "received", packet)
            self._accept(listener, packet, segment)

    def receiveError(self, error: ICMPError) -> None:
        """
        An ICMP error about a segment of this host has come.
        """
        connection = self._connections.get((error.source, error.destination))
        if connection is not None:
            connection.refuse()

    def vanish(self) -> None:
        """
        Forget all connections without telling anybody.
        """
        for connection in list(self._connections.values()):
            connection.vanish()

    def _refuse(self, packet: Packet, segment: Segment) -> None:
        self._stack.drop(packet, "no connection, and nobody listens on this port")
        if not segment.flags & TCPFlag.RST:
            self._stack.send(Protocol.TCP, packet.destination, packet.source, resetAbout(packet))

    def _listenerFor(self, packet: Packet) -> StreamSocket | None:
        found = self._stack.ports.receiver(
            socket.SOCK_STREAM, packet.destination, packet.source, listening=True
        )
        return found if isinstance(found, StreamSocket) else None

    def _accept(self, listener: StreamSocket, packet: Packet, segment: Segment) -> None:
        child = StreamSocket(self._stack, listener.state.family)
        child.state.local, child.state.remote = packet.destination, packet.source
        child.state.options.update(listener.state.options)
        self._stack.ports.adopt(child)
        listener.opening += 1
        self._add(child, packet.destination, packet.source, listener).accept(segment)

    def _offer(self, sock: StreamSocket, listener: StreamSocket) -> None:
        """
        The handshake of a connection to C{listener} is over.
        """
        assert sock.connection is not None
        if listener.state.isListening and sock.connection.isOpen:
            listener.offer(sock)
        else:
            sock.reset()

    def _add(
        self,
        sock: StreamSocket,
        local: HostPort,
        remote: HostPort,
        listener: StreamSocket | None = None,
    ) -> TCPConnection:
        def transmit(segment: Segment) -> None:
            self._stack.send(Protocol.TCP, local, remote, segment, sock.state.ttl)

        def changed() -> None:
            nonlocal listener
            if listener is not None:
                # The first change is the end of the handshake, in one way or the other.
                listener.opening -= 1
                self._offer(sock, listener)
                listener = None
            sock.changed()

        def ended() -> None:
            del self._connections[local, remote]
            if sock.state.number < 0:
                self._stack.ports.release(sock)  # nobody has the socket any more

        connection = TCPConnection(
            self._stack.world.clock, transmit, changed, ended, self._random.getrandbits(32)
        )
        sock.connection = connection
        self._connections[local, remote] = connection
        return connection
