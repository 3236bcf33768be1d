"""
One UDP socket for everything that a peer does: STUN, connectivity checks, data.

Whoever wants datagrams is asked in turn, first come first asked, until one takes it (the order of
RFC 7983: STUN before the rest).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IReactorFDSet, IReactorUDP
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger

from p2ptwist.core.address import HostPort, canonicalHost, isIPv6
from p2ptwist.core.errors import LocalUsageError
from p2ptwist.errors import PortUnusable
from p2ptwist.interfaces import IHostAddresses
from p2ptwist.net.offload import SegmentReader, SegmentSender, Source, offloadSupported

# Bytes that are read before timers and other sockets get their turn: about as many full datagrams
# as a burst has, instead of the reactor's default of four times that.
MAX_THROUGHPUT = 64 * 1024
MAX_DATAGRAM = 65535  # bytes; what is cut off would be lost without a word

Consumer = Callable[[bytes, HostPort], bool]
BatchConsumer = Callable[[Sequence[bytes], HostPort], Sequence[bytes]]

_log = Logger()


@dataclass(frozen=True, slots=True)
class _Entry:
    """
    A consumer, for one datagram and for all that came together.
    """

    one: Consumer
    all: BatchConsumer | None


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
        self._reader: SegmentReader | None = None
        self._sender: SegmentSender | None = None
        self._consumers: list[_Entry] = []
        self._firstTakesMany: BatchConsumer | None = None

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
                self._offload(self._listening)
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
        if self._reader is not None:
            self._reader.stop()
        self._reader = self._sender = None
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

    def addConsumer(self, consumer: Consumer, batchConsumer: BatchConsumer | None = None) -> None:
        """
        @param consumer: is called with each datagram and its source that nobody before it took;
            says whether it took it.
        @param batchConsumer: is called instead, where the port reads many datagrams at a time,
            with all that came together from one source; returns those that it did not take.  Only
            the first consumer is.
        """
        # A new list, as datagrams may be on their way through the old one.
        self._setConsumers([*self._consumers, _Entry(consumer, batchConsumer)])

    def removeConsumer(self, consumer: Consumer) -> None:
        """
        @param consumer: one that was added.
        """
        self._setConsumers([each for each in self._consumers if each.one != consumer])

    def write(self, data: bytes, address: HostPort) -> bool:
        """
        Send one datagram.  UDP promises nothing, so an error of the operating system (no route, a
        full buffer, a firewall) is the same as a lost datagram: it is counted.

        @return: whether the operating system took it.
        """
        return self.writeMany((data,), address) == 1

    def writeMany(self, datagrams: Sequence[bytes], address: HostPort) -> int:
        """
        Send datagrams to one address, in as few system calls as the machine needs for that.

        @return: how many the operating system took.
        """
        sender = self._sender
        if sender is not None:
            sent = sender.send(datagrams, self._outbound(address) if self._mapped else address)
        elif self.transport is None:
            sent = 0
        else:
            sent = sum(self._writeOne(data, address) for data in datagrams)
        self.unsent += len(datagrams) - sent
        return sent

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """
        Offer a datagram to the consumers.
        """
        self._offer(self._consumers, datagram, (canonicalHost(addr[0]), addr[1]))

    def _setConsumers(self, consumers: list[_Entry]) -> None:
        self._consumers = consumers
        self._firstTakesMany = consumers[0].all if consumers else None

    def _writeOne(self, data: bytes, address: HostPort) -> bool:
        transport: Any = self.transport
        try:
            transport.write(data, self._outbound(address))
        except Exception as error:
            # OSError of any kind, and Twisted's complaint about an address of the other family.
            _log.debug("datagram to {address} not sent: {error}", address=address, error=error)
            return False
        return True

    def _offload(self, listening: Any) -> None:
        """
        Move many datagrams at a time, where the reactor uses the system's sockets and they can.
        """
        reactor: Any = self._reactor
        # A reactor that knows its own addresses has a network of its own.
        if not IReactorFDSet.providedBy(reactor) or IHostAddresses.providedBy(reactor):
            return
        if offloadSupported(listening.socket):
            self._reader = SegmentReader(
                reactor, listening, MAX_THROUGHPUT, self._datagramsReceived
            )
            self._sender = SegmentSender(listening.socket)

    def _datagramsReceived(self, datagrams: Sequence[bytes], addr: Source) -> None:
        address = (canonicalHost(addr[0]), addr[1])
        consumers, takesMany = self._consumers, self._firstTakesMany
        if takesMany is not None:
            try:
                datagrams = takesMany(datagrams, address)
            except Exception:
                _log.failure("a consumer of datagrams failed, and they are lost")
                return
            if not datagrams:
                return
            consumers = consumers[1:]
        for datagram in datagrams:
            self._offer(consumers, datagram, address)

    def _offer(self, consumers: Sequence[_Entry], datagram: bytes, address: HostPort) -> None:
        for consumer in consumers:
            try:
                taken = consumer.one(datagram, address)
            except Exception:
                _log.failure("a consumer of datagrams failed, and its datagram is lost")
                return
            if taken:
                return
        self.unclaimed += 1

    def _outbound(self, address: HostPort) -> HostPort:
        host, port = address
        if self._mapped and not isIPv6(host):
            return (f"::ffff:{host}", port)
        return address
