"""
The peer's connection: what feeds L{p2ptwist.core.link.client.LinkClient} from a Twisted transport.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from twisted.internet.interfaces import (
    IDelayedCall,
    IProtocol,
    IPushProducer,
    IReactorTime,
    ITransport,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from p2ptwist.core.link.client import Claimant, Ended, LinkClient, LinkEvent
from p2ptwist.core.link.messages import Welcome
from p2ptwist.rendezvous.connections import StreamTransport, prepareSocket

MESSAGE_ROOM = 64 * 1024  # bytes of messages that may wait behind a transport that is full
_TOGETHER = 64 * 1024  # bytes of relayed datagrams that leave together: what fills the transport


@implementer(IProtocol, IPushProducer)
class LinkConnection:
    """
    One connection to a node, from its making to its loss.

    @ivar ended: why the link ended, when the machine said so.
    @ivar full: whether the transport's buffer is full, 64 KiB: no place for datagrams.
    @ivar nodeName: what the node calls itself, as soon as it has said hello.
    @ivar upSince: when the link came up, or C{None}.
    """

    transport: StreamTransport

    def __init__(
        self,
        clock: IReactorTime,
        claimant: Claimant,
        jitter: random.Random,
        deliver: Callable[[LinkConnection, LinkEvent], object],
        lost: Callable[[LinkConnection, Failure], object],
    ) -> None:
        """
        @param deliver: called with each event but the end; must not raise.
        @param lost: called when the connection is gone; must not raise.
        """
        self.ended: Ended | None = None
        self.full = False
        self.nodeName = ""
        self.upSince: float | None = None
        self.closed = False
        self._clock = clock
        self._claimant = claimant
        self._jitter = jitter
        self._deliver = deliver
        self._lost = lost
        self._machine: LinkClient | None = None
        self._timer: IDelayedCall | None = None
        self._draining = False
        self._behind = 0  # bytes of messages written since the transport is full
        self._flush: IDelayedCall | None = None
        self._unflushed = 0  # bytes of relayed datagrams that wait for it

    # IProtocol

    def makeConnection(self, transport: ITransport) -> None:
        """
        Begin: the node speaks first.
        """
        self.transport = transport  # type: ignore[assignment]
        prepareSocket(transport)
        self.transport.registerProducer(self, True)
        now = self._clock.seconds()
        self._machine = LinkClient(self._claimant, now, self._jitter, held=True)
        self._drain()

    def connectionMade(self) -> None:
        """
        Never called by itself; L{makeConnection} does it all.
        """

    def dataReceived(self, data: bytes) -> None:
        """
        Feed the machine.
        """
        if self._machine is not None:
            self._machine.receiveBytes(data, self._clock.seconds())
            self._drain()

    def connectionLost(self, reason: Failure) -> None:
        """
        Free everything and say so.
        """
        self._release()
        self._lost(self, reason)

    # IPushProducer

    def pauseProducing(self) -> None:
        """
        The transport's buffer is full.
        """
        self.full = True

    def resumeProducing(self) -> None:
        """
        The transport's buffer is empty.
        """
        self.full = False
        self._behind = 0

    def stopProducing(self) -> None:
        """
        The transport is gone; L{connectionLost} follows.
        """

    # What the link wants.

    def prove(self, patience: float, known: Welcome | None) -> None:
        """
        Prove the key to the node that said hello: L{LinkClient.prove}.
        """
        if self._machine is not None:
            self._machine.prove(self._clock.seconds(), patience, known)
            self._drain()

    @property
    def hasNoRoom(self) -> bool:
        """
        Whether not even a message may be sent.  Messages have room of their own behind relayed
        datagrams, which fill the transport as a matter of course.
        """
        return self._behind >= MESSAGE_ROOM

    def send(self, to: bytes, payload: bytes) -> None:
        """
        Send a message; the link is up.
        """
        if self._machine is not None:
            self._machine.send(to, payload, self._clock.seconds())
            if self.full:
                self._behind += len(payload)
            self._write(self._machine)  # at once, also from inside a delivery
            self._drain()

    def sendRelayed(self, to: bytes, payload: bytes) -> bool:
        """
        Send a relayed datagram, with all others of this turn of the reactor; the link is up.

        @return: whether it will leave; if not, it was dropped.
        """
        if self._machine is None or self.full:
            return False
        self._machine.sendRelayed(to, payload, self._clock.seconds())
        self._unflushed += len(payload)
        if self._unflushed >= _TOGETHER:
            self._write(self._machine)
        elif self._flush is None and not self._draining:
            self._flush = self._clock.callLater(0, self._flushDue)
        return True

    def probe(self, patience: float) -> None:
        """
        Find out whether the link is alive: it ends if nothing comes for C{patience} seconds.
        """
        if self._machine is not None:
            self._machine.probe(self._clock.seconds(), patience)
            self._drain()

    def close(self) -> None:
        """
        Send what was written and close; deliver nothing more.
        """
        self.closed = True
        if self._machine is not None:
            self._write(self._machine)
        self._release()
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def abort(self) -> None:
        """
        Close at once; deliver nothing more.
        """
        self._release()
        self.transport.abortConnection()

    # The pump.

    def _drain(self) -> None:
        """
        Send, deliver and re-arm.  A call from inside a delivery is left to the one that delivers,
        so that what several deliveries send leaves together.
        """
        if self._draining:
            return
        self._draining = True
        try:
            self._drainAll()
        finally:
            self._draining = False
        self._rearm()

    def _drainAll(self) -> None:
        while (machine := self._machine) is not None:
            self._write(machine)
            event = machine.pollEvent()
            if event is None:
                return
            while event is not None:
                self._take(event)
                event = None if self._machine is None else machine.pollEvent()

    def _take(self, event: LinkEvent) -> None:
        if isinstance(event, Ended):
            self.ended = event
            self.abort()
        else:
            self._deliver(self, event)

    def _write(self, machine: LinkClient) -> None:
        """
        Send all that there is to send, in one piece.
        """
        self._unflushed = 0
        data = machine.pollTransmit()
        if data is not None:
            self.transport.write(data)

    def _flushDue(self) -> None:
        self._flush = None
        self._drain()

    def _rearm(self) -> None:
        deadline = None if self._machine is None else self._machine.deadline()
        if deadline is None:
            return
        delay = max(0.0, deadline - self._clock.seconds())
        if self._timer is None:
            self._timer = self._clock.callLater(delay, self._due)
        else:
            self._timer.reset(delay)

    def _due(self) -> None:
        self._timer = None
        assert self._machine is not None
        # The timer may fire a rounding error early; the machine must see its own deadline.
        deadline = self._machine.deadline()
        now = self._clock.seconds()
        self._machine.handleTimeout(now if deadline is None else max(now, deadline))
        self._drain()

    def _release(self) -> None:
        self._machine = None
        for pending in (self._timer, self._flush):
            if pending is not None:
                pending.cancel()
        self._timer = self._flush = None
