"""
One UDP socket for everything that a peer does: STUN, connectivity checks, data.

Whoever wants datagrams is asked in turn, first come first asked, until one takes it (the order of
RFC 7983: STUN before the rest).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IReactorUDP
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger

from p2ptwist.core.address import HostPort, canonicalHost, isIPv6
from p2ptwist.core.errors import LocalUsageError
from p2ptwist.errors import PortUnusable

# Bytes that are read before timers and other sockets get their turn: about as many full datagrams
# as a burst has, instead of the reactor's default of four times that.
MAX_THROUGHPUT = 64 * 1024
MAX_DATAGRAM = 65535  # bytes; what is cut off would be lost without a word

_log = Logger()


class DatagramPort(DatagramProtocol):
    """
    A UDP socket that several components share.

    On the default interface it serves IPv4 and IPv6 alike, where the host has both; addresses are
    canonical either way.

    @ivar unclaimed: datagrams that nobody took.
    @ivar unsent: datagrams that the operating system refused to send.
    """

    noisy = False

    def __init__(self, reactor: IReactorUDP, interface: str = "", port: int = 0) -> None:
        """
        @param interface: a literal address to bind to; empty for all of them.
        @param port: the local port; 0 for any.
        """
        self.unclaimed = 0
        self.unsent = 0
        self._reactor = reactor
        self._interface = interface
        self._wantedPort = port
        self._listening: IListeningPort | None = None
        self._mapped = False
        self._consumers: list[Callable[[bytes, HostPort], bool]] = []

    def listen(self) -> None:
        """
        Open the socket.

        @raise PortUnusable: when that is impossible, with the reason.
        @raise LocalUsageError: while it is open, or still closing.
        """
        if self.transport is not None:
            raise LocalUsageError("the UDP port is open; close it first, and wait for that")
        interfaces = [self._interface] if self._interface else ["::", "0.0.0.0"]
        for interface in interfaces:
            try:
                self._listening = self._reactor.listenUDP(
                    self._wantedPort, self, interface, MAX_DATAGRAM
                )
            except CannotListenError as error:
                failure = error
            else:
                self._mapped = interface == "::"
                # Of Twisted's ports on POSIX; the others read one datagram at a time.
                self._listening.maxThroughput = MAX_THROUGHPUT  # type: ignore[attr-defined]
                return
        raise PortUnusable(
            f"cannot open UDP port {self._wantedPort} on {self._interface or 'any address'}: "
            f"{failure.socketError}; choose another port, or stop the program that has it"
        )

    def stopListening(self) -> Deferred[None]:
        """
        Close the socket, if it is open.

        @return: a Deferred that fires when it is closed.
        """
        listening, self._listening = self._listening, None
        if listening is None:
            return succeed(None)
        return listening.stopListening() or succeed(None)

    @property
    def localPort(self) -> int:
        """
        The port number of the open socket.

        @raise LocalUsageError: while it is not open.
        """
        if self._listening is None:
            raise LocalUsageError("the UDP port is not open; call listen() first")
        host: Any = self._listening.getHost()
        return int(host.port)

    @property
    def interface(self) -> str:
        """
        The literal address that the socket is bound to; empty for all of them.
        """
        return self._interface

    @property
    def hasIPv6(self) -> bool:
        """
        Whether datagrams can go to IPv6 addresses.
        """
        return self._mapped or ":" in self._interface

    @property
    def hasIPv4(self) -> bool:
        """
        Whether datagrams can go to IPv4 addresses.
        """
        return ":" not in self._interface

    def another(self) -> DatagramPort:
        """
        @return: a port on the same interface with any free number, not yet open.
        """
        return DatagramPort(self._reactor, self._interface)

    def addConsumer(self, consumer: Callable[[bytes, HostPort], bool]) -> None:
        """
        @param consumer: is called with each datagram and its source that nobody before it took;
            says whether it took it.
        """
        # A new list, as a datagram may be on its way through the old one.
        self._consumers = [*self._consumers, consumer]

    def removeConsumer(self, consumer: Callable[[bytes, HostPort], bool]) -> None:
        """
        @param consumer: one that was added.
        """
        self._consumers = [each for each in self._consumers if each != consumer]

    def write(self, data: bytes, address: HostPort) -> bool:
        """
        Send one datagram.  UDP promises nothing, so an error of the operating system (no route, a
        full buffer, a firewall) is the same as a lost datagram: it is counted.

        @return: whether the operating system took it.
        """
        transport: Any = self.transport
        if transport is None:
            self.unsent += 1
            return False
        try:
            transport.write(data, self._outbound(address))
        except Exception as error:
            # OSError of any kind, and Twisted's complaint about an address of the other family.
            self.unsent += 1
            _log.debug("datagram to {address} not sent: {error}", address=address, error=error)
            return False
        return True

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """
        Offer a datagram to the consumers.
        """
        address = (canonicalHost(addr[0]), addr[1])
        for consumer in self._consumers:
            if consumer(datagram, address):
                return
        self.unclaimed += 1

    def _outbound(self, address: HostPort) -> HostPort:
        host, port = address
        if self._mapped and not isIPv6(host):
            return (f"::ffff:{host}", port)
        return address
