"""
Twisted's own transports, on simulated sockets.

Nothing of what Twisted's UDP ports and TCP connections do is imitated: only the sockets below them
are.  So buffering, producers, half-close, TLS, errors and logging are the real ones.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, cast

from twisted.internet import tcp, udp
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import DatagramProtocol

from p2ptwist.testing.stack import Stack
from p2ptwist.testing.streamsocket import StreamSocket
from p2ptwist.testing.udp import DatagramSocket

if TYPE_CHECKING:
    from p2ptwist.testing.host import Host

# A simulated socket has all the methods of a socket.socket that Twisted calls, hence the casts.


class UDPPort(udp.Port):
    """
    A UDP port of a simulated host.
    """

    def __init__(
        self,
        host: Host,
        stack: Stack,
        port: int,
        protocol: DatagramProtocol,
        interface: str,
        maxPacketSize: int,
    ) -> None:
        """
        @param host: the reactor.
        @param stack: the host's.
        @param port: see C{udp.Port}, as are the rest.
        """
        super().__init__(port, protocol, interface, maxPacketSize, host)
        self._stack = stack

    def createInternetSocket(self) -> socket.socket:
        """
        Make a simulated socket.
        """
        return cast(socket.socket, DatagramSocket(self._stack, self.addressFamily))


class TCPPort(tcp.Port):
    """
    A listening TCP port of a simulated host.
    """

    def __init__(
        self,
        host: Host,
        stack: Stack,
        port: object,
        factory: IProtocolFactory,
        backlog: int,
        interface: str,
    ) -> None:
        """
        @param host: the reactor.
        @param stack: the host's.
        @param port: see C{tcp.Port}, as are the rest.
        """
        super().__init__(cast(int, port), factory, backlog, interface, host)
        self._stack = stack

    def createInternetSocket(self) -> socket.socket:
        """
        Make a simulated socket with the options that Twisted gives a listener.
        """
        listener = StreamSocket(self._stack, self.addressFamily)
        # Set from the binding by Twisted, which does not declare them.
        if self._reuseAddress:  # type: ignore[attr-defined]
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self._reusePort:  # type: ignore[attr-defined]
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        return cast(socket.socket, listener)


class TCPClient(tcp.Client):
    """
    An outgoing TCP connection of a simulated host.
    """

    connector: TCPConnector

    def createInternetSocket(self) -> socket.socket:
        """
        Make a simulated socket.
        """
        return cast(socket.socket, StreamSocket(self.connector.stack, self.addressFamily))


class TCPConnector(tcp.Connector):
    """
    Makes outgoing TCP connections of a simulated host.

    @ivar stack: the host's.
    """

    stack: Stack

    def _makeTransport(self) -> tcp.Client:
        return TCPClient(self.host, self.port, self.bindAddress, self, self.reactor)
