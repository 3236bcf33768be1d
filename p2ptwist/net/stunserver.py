"""
A STUN server as a Twisted service: on the real reactor, and on any other with C{listenUDP}.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, cast

from twisted.application.service import Service
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorFDSet
from twisted.internet.protocol import DatagramProtocol

from p2ptwist.core.address import HostPort, canonicalHost, formatAddress, parseHost
from p2ptwist.core.stun.limits import SourceLimits, STUNLimits
from p2ptwist.core.stun.message import HEADER_LENGTH, MAX_MESSAGE_LENGTH
from p2ptwist.core.stun.server import Reply, Responder, ServerAddresses, STUNCounters
from p2ptwist.errors import LocalUsageError, PortUnusable
from p2ptwist.interfaces import IHostAddresses
from p2ptwist.net.batch import BATCH, batchSupported
from p2ptwist.net.stunbatch import BatchPort

Forward: TypeAlias = Callable[[Reply, HostPort], None]


class _Port(Protocol):
    """
    One address of a server, however it is read.
    """

    address: HostPort

    def start(self, responder: Responder, forward: Forward) -> None: ...

    def send(self, data: bytes, address: HostPort) -> None: ...

    def stop(self) -> Deferred[None] | None: ...


# A reactor with IReactorTime and IReactorUDP; types have no word for both.
_STUNReactor: TypeAlias = Any


class _UDPPort(DatagramProtocol):
    """
    One address of a server, by C{listenUDP}.
    """

    noisy = False

    def __init__(self, reactor: _STUNReactor, address: HostPort, limits: SourceLimits) -> None:
        """
        @raise CannotListenError: when the address cannot be used.
        """
        self._reactor = reactor
        self._limits = limits
        host, port = address
        # One byte more than a message may have, so that a longer datagram is seen to be longer.
        self._port = reactor.listenUDP(port, self, host, MAX_MESSAGE_LENGTH + 1)
        # As much as 64 requests a turn: what a stock port takes before others get theirs.
        if hasattr(self._port, "maxThroughput"):
            self._port.maxThroughput = BATCH * HEADER_LENGTH
        bound = cast(IPv4Address | IPv6Address, self._port.getHost())
        self.address: HostPort = (host, bound.port)

    def start(self, responder: Responder, forward: Forward) -> None:
        """
        Answer from now on.
        """
        self._responder = responder
        self._forward = forward

    def stop(self) -> Deferred[None] | None:
        """
        @return: a Deferred that fires when the socket is closed, or C{None} when it is.
        """
        stopping: Deferred[None] | None = self._port.stopListening()
        return stopping

    def send(self, data: bytes, address: HostPort) -> None:
        """
        Send an answer.

        @raise OSError: when the network does not take it.
        """
        if self.transport is not None:
            self.transport.write(data, address)

    def datagramReceived(self, datagram: bytes, addr: HostPort) -> None:
        """
        Answer a request, if it is one.
        """
        responder = self._responder
        counters = responder.counters
        counters.received += 1
        host, port = addr[:2]
        source = (canonicalHost(host), port)
        if not self._limits.admitHost(host, self._reactor.seconds()):
            counters.limited += 1
            return
        reply = responder.answer(datagram, source, self.address)
        if reply is not None:
            # To C{host}, not C{source}: an IPv6 socket writes an IPv4 address in its own way.
            self._forward(reply, (host, reply.port or port))


class STUNService(Service):
    """
    Answers STUN requests while it runs.

    @ivar counters: what it has done since it was made.
    """

    def __init__(
        self,
        reactor: _STUNReactor,
        primary: HostPort,
        alternate: HostPort | None = None,
        software: str | None = None,
        limits: STUNLimits | None = None,
    ) -> None:
        """
        @param primary: the address to serve; a host of C{"0.0.0.0"} or C{"::"} stands for all
            addresses of this machine, a port of 0 for any free one.
        @param alternate: a second address, so that clients can find out how their NAT behaves.
            Where both host and port differ from C{primary}, all four combinations are opened.
        @param software: what the server tells about itself in every answer.
        @param limits: how much it takes from whom; L{STUNLimits} by default.
        @raise LocalUsageError: for addresses that cannot be served together.
        """
        self._reactor = reactor
        self._software = software
        self._addresses = _checkAddresses(primary, alternate)
        self._limits = SourceLimits(limits or STUNLimits(), int.from_bytes(os.urandom(8), "big"))
        self._ports: dict[HostPort, _Port] = {}
        self.counters = STUNCounters()

    @property
    def addresses(self) -> tuple[HostPort, ...]:
        """
        The addresses that are being served, the primary one first; none while stopped.
        """
        return tuple(self._ports)

    @property
    def configuration(self) -> ServerAddresses:
        """
        The primary address and the alternate one; while it runs, with the port that it has.
        """
        configured = self._addresses
        if configured.primary[1] or not self._ports:
            return configured
        return ServerAddresses(next(iter(self._ports)))

    def privilegedStartService(self) -> None:
        """
        Open the ports while that is still allowed.

        @raise PortUnusable: when one cannot be opened.
        """
        super().privilegedStartService()
        self._open()

    def startService(self) -> None:
        """
        Open the ports, unless L{privilegedStartService} did.

        @raise PortUnusable: when one cannot be opened.
        """
        self._open()
        super().startService()

    def stopService(self) -> Deferred[None]:
        """
        @return: a Deferred that fires when the ports are closed.
        """
        super().stopService()
        return self._close()

    def _open(self) -> None:
        if self._ports:
            return
        try:
            self._openAll()
        except PortUnusable:
            self._close()
            raise
        responder = Responder(self.configuration, self._software, self.counters)
        for port in self._ports.values():
            port.start(responder, self._send)

    def _openAll(self) -> None:
        """
        @raise PortUnusable: when one of the addresses cannot be opened.
        """
        fast = _canBatch(self._reactor)
        kind: Callable[[Any, HostPort, SourceLimits], _Port] = BatchPort if fast else _UDPPort
        for address in self._addresses.all():
            port = _openPort(kind, self._reactor, address, self._limits)
            self._ports[port.address] = port
            if fast and address[0] == "::":
                # A batch has one family; elsewhere this socket takes both.
                ipv4 = _openPort(kind, self._reactor, ("0.0.0.0", port.address[1]), self._limits)
                self._ports[ipv4.address] = ipv4

    def _close(self) -> Deferred[None]:
        ports, self._ports = self._ports, {}
        closing = [maybeDeferred(port.stop) for port in ports.values()]
        return gatherResults(closing, consumeErrors=True).addCallback(lambda _: None)

    def _send(self, reply: Reply, address: HostPort) -> None:
        """
        The one way out of answers that do not leave in a batch.
        """
        try:
            self._ports[reply.origin].send(reply.data, address)
        except OSError:
            self.counters.unsent += 1
        else:
            self.counters.answered += 1


def _checkAddresses(primary: HostPort, alternate: HostPort | None) -> ServerAddresses:
    """
    @raise LocalUsageError: for addresses that cannot be served together.
    """
    addresses = ServerAddresses(_canonical(primary), alternate and _canonical(alternate))
    if alternate is None:
        return addresses
    for host, port in (primary, alternate):
        if port == 0 or parseHost(host).is_unspecified:
            raise LocalUsageError(
                f"with an alternate address, {formatAddress((host, port))} must name the very "
                "host and port that clients will be told"
            )
    return addresses


def _canonical(address: HostPort) -> HostPort:
    return canonicalHost(address[0]), address[1]


def _canBatch(reactor: _STUNReactor) -> bool:
    # A reactor that knows its own host's addresses has a network that is not the system's.
    ownNetwork = IHostAddresses.providedBy(reactor)
    return batchSupported() and IReactorFDSet.providedBy(reactor) and not ownNetwork


def _openPort(
    kind: Callable[[Any, HostPort, SourceLimits], _Port],
    reactor: _STUNReactor,
    address: HostPort,
    limits: SourceLimits,
) -> _Port:
    """
    @raise PortUnusable: when that address cannot be opened.
    """
    try:
        return kind(reactor, address, limits)
    except (OSError, CannotListenError) as error:
        reason = error.socketError if isinstance(error, CannotListenError) else error
        raise PortUnusable(
            f"UDP {formatAddress(address)} cannot be opened for STUN "
            f"({getattr(reason, 'strerror', None) or reason}): free it, or choose another address"
        ) from error
