"""
One attempt at a link: a connection on which the node has said hello.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from p2ptwist.core.link.client import Greeted, LinkEvent
from p2ptwist.rendezvous.linkconnection import LinkConnection
from p2ptwist.rendezvous.linkendpoint import CONNECT_DELAY
from p2ptwist.rendezvous.linkreasons import outOfTime

# What a connection delivers its events to, and what it is told to when it is lost.
Deliver = Callable[[LinkConnection, LinkEvent], object]
Lost = Callable[[LinkConnection, Failure], object]


@implementer(IProtocolFactory)
class _LinkConnections:
    """
    What an endpoint makes a connection with.
    """

    def __init__(self, build: Callable[[], LinkConnection]) -> None:
        self._build = build

    def doStart(self) -> None: ...

    def doStop(self) -> None: ...

    def buildProtocol(self, addr: IAddress | None) -> LinkConnection:
        return self._build()


class LinkAttempt:
    """
    One connection, which proves nothing before the node has greeted it and somebody wants it to.

    @ivar result: fires with the connection when the node has said hello; fails when there is no
        connection, or it is lost before.  Cancelling it closes the connection.
    """

    def __init__(
        self,
        clock: IReactorTime,
        endpoint: IStreamClientEndpoint,
        build: Callable[[Deliver, Lost], LinkConnection],
        deliver: Deliver,
        lost: Lost,
        explain: Callable[[LinkConnection, Failure], Exception],
    ) -> None:
        """
        Begin.

        @param build: makes a connection.
        @param deliver: is given what comes after the hello.
        @param lost: is told when the connection is lost after the hello.
        @param explain: says why a connection was lost before.
        """
        self.result: Deferred[LinkConnection] = Deferred(self._cancelled)
        self._build = build
        self._deliver = deliver
        self._lost = lost
        self._explain = explain
        self._connection: LinkConnection | None = None
        connecting = endpoint.connect(_LinkConnections(self._built))
        self._connecting = connecting.addTimeout(CONNECT_DELAY, clock, onTimeoutCancel=outOfTime)
        connecting.addErrback(self._failed)

    def _built(self) -> LinkConnection:
        self._connection = self._build(self._eventReceived, self._connectionLost)
        return self._connection

    def _failed(self, failure: Failure) -> None:
        if not self.result.called:
            self.result.errback(failure)

    def _eventReceived(self, connection: LinkConnection, event: LinkEvent) -> None:
        if isinstance(event, Greeted):
            connection.nodeName = event.nodeName
            self.result.callback(connection)
        else:
            self._deliver(connection, event)

    def _connectionLost(self, connection: LinkConnection, failure: Failure) -> None:
        if self.result.called:
            self._lost(connection, failure)
        else:
            self.result.errback(self._explain(connection, failure))

    def _cancelled(self, result: Deferred[LinkConnection]) -> None:
        self._connecting.cancel()
        if self._connection is not None:
            self._connection.abort()
