"""
What the streams of the command do: echo, and ping.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from p2ptwist.cli.journal import Journal, PathWatch
from p2ptwist.cli.options import PING_INTERVAL
from p2ptwist.peer.address import PeerAddress
from p2ptwist.peer.ping import Echo

_PING_LENGTH = 8  # bytes: the number of the ping


def shortReason(reason: Failure) -> str:
    """
    @return: why a stream ended, without the full stop of Twisted's messages.
    """
    return reason.getErrorMessage().rstrip(".")


class Told(Protocol):
    """
    A protocol, and a journal that is told when it begins and ends.
    """

    transport: Any

    def __init__(self, inner: Protocol, journal: Journal, paths: PathWatch) -> None:
        self._inner = inner
        self._journal = journal
        self._paths = paths
        self._peerID = ""

    def connectionMade(self) -> None:
        """
        Say so, and begin.
        """
        address: PeerAddress = self.transport.getPeer()
        self._peerID = address.peerID
        self._journal.connected(address.peerID, address.service)
        self._paths.opened(address.peerID)
        self._inner.makeConnection(self.transport)

    def dataReceived(self, data: bytes) -> None:
        """
        Pass it on.
        """
        self._inner.dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        End, and say so.
        """
        self._inner.connectionLost(reason)
        self._paths.closed(self._peerID)
        self._journal.lost(self._peerID, shortReason(reason))


class ToldEchoes(Factory):
    """
    Makes an echo of each stream.
    """

    noisy = False

    def __init__(self, journal: Journal, paths: PathWatch) -> None:
        self._journal = journal
        self._paths = paths

    def buildProtocol(self, addr: object) -> Told:
        """
        @return: an echo.
        """
        return Told(Echo(), self._journal, self._paths)


class Once(Factory):
    """
    Hands out one protocol to the first who wants one, and nothing after that.
    """

    noisy = False

    def __init__(self, protocol: Protocol, taken: Callable[[PeerAddress], object]) -> None:
        """
        @param taken: called with the address of the first.
        """
        self._protocol: Protocol | None = protocol
        self._taken = taken

    def buildProtocol(self, addr: Any) -> Protocol | None:
        """
        @return: the protocol, the first time.
        """
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            self._taken(addr)
        return protocol


class Pinger(Protocol):
    """
    Asks for an echo, once a second.

    @ivar replies: how many came.
    @ivar done: fires when all that were wanted came; fails when the stream is lost, or whoever is
        told of replies does.
    """

    transport: Any

    def __init__(
        self, clock: IReactorTime, count: int | None, replied: Callable[[int, float], object]
    ) -> None:
        """
        @param count: how many replies are wanted; C{None} for no end.
        @param replied: called with the number of each ping, from 1, and its seconds.
        """
        self.replies = 0
        self.done: Deferred[None] = Deferred()
        self._clock = clock
        self._count = count
        self._replied = replied
        self._sentAt = 0.0
        self._received = b""
        self._next: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """
        Ask.
        """
        self._ping()

    def dataReceived(self, data: bytes) -> None:
        """
        A reply, or a part of one.
        """
        self._received += data
        if self._received != self._expected()[: len(self._received)]:
            self.transport.abortConnection()
        elif len(self._received) == _PING_LENGTH:
            self._reply()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        There will be no more replies.
        """
        if self._next is not None:
            self._next.cancel()
            self._next = None
        if not self.done.called:
            self.done.errback(reason)

    def _expected(self) -> bytes:
        return (self.replies + 1).to_bytes(_PING_LENGTH, "big")

    def _ping(self) -> None:
        self._next = None
        self._received = b""
        self._sentAt = self._clock.seconds()
        self.transport.write(self._expected())

    def _reply(self) -> None:
        seconds = self._clock.seconds() - self._sentAt
        self.replies += 1
        try:
            self._replied(self.replies, seconds)
        except Exception:  # whoever waits for them all can tell why
            self.done.errback()
            self.transport.abortConnection()
            return
        if self.replies == self._count:
            self.done.callback(None)
            self.transport.loseConnection()
        else:
            self._next = self._clock.callLater(max(0.0, PING_INTERVAL - seconds), self._ping)
