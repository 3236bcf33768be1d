"""
A STUN server on TCP (RFC 8489 section 6.2.2), beside the one on UDP and on the same addresses: so
that peers can find out how their NAT maps TCP, and their address where UDP is blocked.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, cast

from twisted.application.service import Service
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort, ITCPTransport
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.logger import Logger
from twisted.protocols.policies import TimeoutMixin

from p2ptwist.core.address import HostPort, canonicalHost, formatAddress
from p2ptwist.core.errors import MalformedDatagram
from p2ptwist.core.stun.framing import MessageSplitter
from p2ptwist.core.stun.limits import SourceLimits, STUNLimits
from p2ptwist.core.stun.server import Responder, ServerAddresses, STUNCounters

CONNECTION_LIMIT = 512  # connections at a time; the node's unauthenticated links have as many
# A client asks once or twice; whoever holds a connection for longer holds it against others.
REQUEST_LIMIT = 8
LIFETIME = 10.0  # seconds of one connection, whatever it does

_log = Logger()

# A reactor with IReactorTime and IReactorTCP; types have no word for both.
_StreamReactor = Any


class _Stream(Protocol, TimeoutMixin):
    """
    One connection.
    """

    def __init__(self, factory: _Streams, source: HostPort) -> None:
        self._factory = factory
        self._source = source
        self._splitter = MessageSplitter()
        self._requests = 0

    def callLater(self, period: float, func: Any) -> Any:
        """
        What C{TimeoutMixin} takes its time from.
        """
        return self._factory.reactor.callLater(period, func)

    def connectionMade(self) -> None:
        """
        Give it its time.
        """
        self.setTimeout(LIFETIME)

    def dataReceived(self, data: bytes) -> None:
        """
        Answer what is whole.
        """
        try:
            messages = self._splitter.feed(data)
        except MalformedDatagram:
            self._factory.responder.counters.malformed += 1
            self._abort()
            return
        for message in messages:
            if not self._answer(message):
                self._abort()
                return

    def _answer(self, message: bytes) -> bool:
        """
        @return: whether more may come.
        """
        factory = self._factory
        counters = factory.responder.counters
        counters.received += 1
        self._requests += 1
        if self._requests > REQUEST_LIMIT or not factory.admit(self._source):
            counters.limited += 1
            return False
        reply = factory.responder.answer(message, self._source, factory.local)
        # A stream has two ends: an answer from elsewhere, or to elsewhere, cannot be.
        if reply is None or reply.origin != factory.local or reply.port is not None:
            return False
        assert self.transport is not None
        self.transport.write(reply.data)
        counters.answered += 1
        return True

    def timeoutConnection(self) -> None:
        """
        Its time is over.
        """
        self._abort()

    def connectionLost(self, reason: object = None) -> None:
        """
        Make room.
        """
        self.setTimeout(None)
        self._factory.lost(self)

    def _abort(self) -> None:
        cast(ITCPTransport, self.transport).abortConnection()


class _Streams(ServerFactory):
    """
    The connections to one address.
    """

    noisy = False

    def __init__(
        self,
        reactor: _StreamReactor,
        responder: Responder,
        local: HostPort,
        limits: SourceLimits,
        connections: set[_Stream],
    ) -> None:
        self.reactor = reactor
        self.responder = responder
        self.local = local
        self._limits = limits
        self._connections = connections

    def admit(self, source: HostPort) -> bool:
        """
        @return: whether the source may ask now.
        """
        return self._limits.admitHost(source[0], self.reactor.seconds())

    def buildProtocol(self, addr: IAddress | None) -> _Stream | None:
        """
        @return: C{None}, which closes the connection, when there are too many, or too many from
            there.
        """
        address = cast(IPv4Address | IPv6Address, addr)
        source = (canonicalHost(address.host), address.port)
        if len(self._connections) >= CONNECTION_LIMIT or not self.admit(source):
            self.responder.counters.limited += 1
            return None
        stream = _Stream(self, source)
        self._connections.add(stream)
        return stream

    def lost(self, stream: _Stream) -> None:
        """
        A connection is gone.
        """
        self._connections.discard(stream)


class STUNStreamService(Service):
    """
    Answers STUN requests over TCP while it runs.  A port that somebody else has is left out, with
    a line in the log: UDP is what most peers need.

    @ivar counters: what it has done since it was made.
    """

    def __init__(
        self,
        reactor: _StreamReactor,
        primary: HostPort,
        alternate: HostPort | None = None,
        limits: STUNLimits | None = None,
    ) -> None:
        """
        @param primary: the address to serve; a host of C{"0.0.0.0"} or C{"::"} stands for all
            addresses of this machine.
        @param alternate: a second address, as for L{p2ptwist.net.stunserver.STUNService}.
        @param limits: how much it takes from whom: connections and requests each count as one.
        @raise LocalUsageError: for addresses that cannot be served together.
        """
        self._reactor = reactor
        self._addresses = ServerAddresses(primary, alternate)
        self._limits = SourceLimits(limits or STUNLimits(), int.from_bytes(os.urandom(8), "big"))
        self._ports: list[IListeningPort] = []
        self._connections: set[_Stream] = set()
        self.counters = STUNCounters()

    @property
    def addresses(self) -> Sequence[HostPort]:
        """
        The addresses that are being served.
        """
        bound = (cast(IPv4Address | IPv6Address, port.getHost()) for port in self._ports)
        return [(canonicalHost(each.host), each.port) for each in bound]

    def privilegedStartService(self) -> None:
        """
        Open the ports while that is still allowed.
        """
        super().privilegedStartService()
        self._open()

    def startService(self) -> None:
        """
        Open the ports, unless L{privilegedStartService} did.
        """
        self._open()
        super().startService()

    def stopService(self) -> Deferred[None]:
        """
        @return: a Deferred that fires when the ports and connections are closed.
        """
        super().stopService()
        ports, self._ports = self._ports, []
        for stream in tuple(self._connections):
            stream.timeoutConnection()
        closing = [maybeDeferred(port.stopListening) for port in ports]
        return gatherResults(closing, consumeErrors=True).addCallback(lambda _: None)

    def _open(self) -> None:
        if self._ports:
            return
        responder = Responder(self._addresses, counters=self.counters)
        for address in self._addresses.all():
            self._listen(responder, address)

    def _listen(self, responder: Responder, address: HostPort) -> None:
        streams = _Streams(self._reactor, responder, address, self._limits, self._connections)
        host, port = address
        try:
            self._ports.append(self._reactor.listenTCP(port, streams, interface=host))
        except CannotListenError as error:
            _log.warn(
                "p2ptwist: no STUN on tcp:{address}: {error}",
                address=formatAddress(address),
                error=error.socketError,
            )
