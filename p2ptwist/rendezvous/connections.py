"""
The node's connections: what feeds L{p2ptwist.core.link.node.Node} from Twisted transports.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Protocol, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IProtocol,
    IProtocolFactory,
    IPushProducer,
    IReactorTime,
    ITCPTransport,
    ITransport,
)
from twisted.internet.tcp import Connection as SocketConnection
from twisted.python.failure import Failure
from zope.interface import implementer

from p2ptwist.core.address import HostPort, canonicalHost
from p2ptwist.core.errors import LocalUsageError
from p2ptwist.core.link.links import Action
from p2ptwist.core.link.messages import UNKNOWN_ADDRESS
from p2ptwist.core.link.node import Node
from p2ptwist.core.link.nodelink import NodeLink

#: Bytes that a kernel takes, about, beyond those that are on their way.  Much less would wake the
#: process too often on a fast path; 32 KiB are a quarter of a second of a path of 1 Mbit/s.
UNSENT_LIMIT = 32 * 1024

_NEVER = float("inf")
_NOTSENT_LOWAT: int | None = getattr(socket, "TCP_NOTSENT_LOWAT", None)  # Linux, macOS


class StreamTransport(Protocol):
    """
    What a link needs of a transport; TCP, TLS and Unix sockets all have it.
    """

    def write(self, data: bytes) -> None:
        """
        Send, or buffer.
        """

    def writeSomeData(self, data: bytes) -> int | BaseException:
        """
        Send what the socket takes at once; only a socket's own transport has it.
        """

    def loseConnection(self) -> None:
        """
        Close when everything is sent.
        """

    def abortConnection(self) -> None:
        """
        Close at once.
        """

    def pauseProducing(self) -> None:
        """
        Stop reading.
        """

    def resumeProducing(self) -> None:
        """
        Read again.
        """

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """
        Tell C{producer} when the buffer is full, and when it is empty again.
        """

    def unregisterProducer(self) -> None:
        """
        Tell it no more.
        """

    def getPeer(self) -> IAddress:
        """
        @return: the address of the other end.
        """


def addressOf(address: IAddress | None) -> HostPort:
    """
    @return: the canonical transport address, or L{UNKNOWN_ADDRESS
        <p2ptwist.core.link.messages.UNKNOWN_ADDRESS>} when C{address} is not on IP.
    """
    host = getattr(address, "host", None)
    if not isinstance(host, str):
        return UNKNOWN_ADDRESS
    try:
        return canonicalHost(host.partition("%")[0]), int(getattr(address, "port", 0))
    except LocalUsageError:
        return UNKNOWN_ADDRESS


def prepareSocket(transport: object) -> None:
    """
    Where the transport is on TCP: send small frames at once, and keep what cannot be sent yet out
    of the kernel, which would take megabytes of it.  There it could be neither overtaken nor
    dropped.
    """
    if not ITCPTransport.providedBy(transport):
        return
    transport.setTcpNoDelay(True)
    handle = getattr(transport, "socket", None)  # TLS transports pass this on to what is below
    if handle is not None and _NOTSENT_LOWAT is not None:
        with suppress(OSError):  # Unix sockets say that they are on TCP
            handle.setsockopt(socket.IPPROTO_TCP, _NOTSENT_LOWAT, UNSENT_LIMIT)


@implementer(IProtocol, IPushProducer)
class NodeConnection:
    """
    One connection at the node.  As small as it can be: an idle node is made of these.
    """

    __slots__ = ("_connections", "_direct", "link", "transport")

    transport: StreamTransport

    def __init__(self, connections: NodeConnections, link: NodeLink) -> None:
        self._connections = connections
        self._direct = False
        self.link = link
        link.connection = self

    def makeConnection(self, transport: ITransport) -> None:
        """
        Say hello.
        """
        self.transport = transport  # type: ignore[assignment]
        prepareSocket(transport)
        # By type: a TLS transport answers to every name of the socket beneath it.
        self._direct = isinstance(transport, SocketConnection)
        if not self._direct:
            self.transport.registerProducer(self, True)
        self._connections.drain()

    def connectionMade(self) -> None:
        """
        Never called by itself; L{makeConnection} does it all.
        """

    def dataReceived(self, data: bytes) -> None:
        """
        Feed the node.
        """
        connections = self._connections
        connections.node.receiveBytes(self.link, data, connections.clock.seconds())
        connections.drain()

    def connectionLost(self, reason: Failure) -> None:
        """
        Tell the node.
        """
        self._connections.node.connectionLost(self.link)
        self._connections.lost()

    def write(self, data: bytes) -> None:
        """
        Send.  A socket gets the data at once: going through the reactor's next turn, as a
        transport's C{write} does, costs more than all the rest of forwarding a message.
        """
        if not self._direct:
            self.transport.write(data)
            return
        sent = self.transport.writeSomeData(data)
        # What is no number is an error, which the reactor finds at its next turn as well.
        if sent != len(data) and isinstance(sent, int):
            self._leaveRest(data[sent:])

    def _leaveRest(self, data: bytes) -> None:
        """
        The socket is full: leave what remains to the transport, and wait until it is gone.
        """
        self.transport.write(data)
        self.transport.registerProducer(self, False)
        self._connections.node.setBlocked(self.link, True)

    def pauseProducing(self) -> None:
        """
        The transport takes no more for now.
        """
        self._connections.node.setBlocked(self.link, True)

    def resumeProducing(self) -> None:
        """
        The transport takes more again.
        """
        if not self.link.outbox.blocked:
            return  # a transport says so as well when it gets a pull producer
        if self._direct:
            self.transport.unregisterProducer()
        self._connections.node.setBlocked(self.link, False)
        self._connections.drain()

    def stopProducing(self) -> None:
        """
        The transport is gone; L{connectionLost} follows.
        """

    def act(self, action: Action) -> None:
        """
        Do what the node wants done.
        """
        if action is Action.PAUSE:
            self.transport.pauseProducing()
        elif action is Action.RESUME:
            self.transport.resumeProducing()
        elif action is Action.CLOSE:
            # A TLS transport never closes while it has a producer.
            self.transport.unregisterProducer()
            self.transport.loseConnection()
        else:
            self.transport.abortConnection()


@implementer(IProtocol)
class _Ignored:
    """
    A connection that is closed without a word.  (A factory that returns no protocol at all breaks
    Twisted's TLS wrapper.)
    """

    __slots__ = ()

    def makeConnection(self, transport: ITransport) -> None:
        transport.abortConnection()  # type: ignore[attr-defined]

    def connectionMade(self) -> None: ...

    def dataReceived(self, data: bytes) -> None: ...

    def connectionLost(self, reason: Failure) -> None: ...


_IGNORED = _Ignored()


@implementer(IProtocolFactory)
class NodeConnections:
    """
    Every connection of one node, the one timer that they share, and the one place that writes.

    @ivar node: the machine.
    @ivar clock: where time comes from.
    @ivar noisy: read by Twisted's ports: whether they log that they start.
    """

    noisy = False

    def __init__(self, clock: IReactorTime, node: Node) -> None:
        self.clock = clock
        self.node = node
        self._timer: IDelayedCall | None = None
        self._armedAt = _NEVER
        self._draining = False
        self._idle: list[Deferred[None]] = []

    def doStart(self) -> None:
        """
        A port begins to listen.
        """

    def doStop(self) -> None:
        """
        A port has stopped listening.
        """

    def buildProtocol(self, addr: IAddress | None) -> IProtocol:
        """
        Take on a connection, if the node will have it.
        """
        link = self.node.accept(addressOf(addr), self.clock.seconds())
        return _IGNORED if link is None else NodeConnection(self, link)

    def drain(self) -> None:
        """
        Send and do what the node has queued, and re-arm the timer.
        """
        if self._draining:
            return
        self._draining = True
        try:
            self._drainAll()
        finally:
            self._draining = False
        self._rearm()

    def whenIdle(self) -> Deferred[None]:
        """
        @return: a Deferred that fires when the last connection is gone.
        """
        waiter: Deferred[None] = Deferred()
        self._idle.append(waiter)
        self.lost()
        return waiter

    def lost(self) -> None:
        """
        A connection is gone, perhaps the last one.
        """
        if not len(self.node):
            waiters, self._idle = self._idle, []
            for waiter in waiters:
                waiter.callback(None)

    def abortAll(self) -> None:
        """
        Cut every connection that is left.
        """
        for link in self.node.links():
            _connectionOf(link).act(Action.ABORT)

    def stop(self) -> None:
        """
        Free the timer.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._armedAt = _NEVER

    def _drainAll(self) -> None:
        node = self.node
        while True:
            if (transmit := node.pollTransmit()) is not None:
                _connectionOf(transmit[0]).write(transmit[1])
            elif (todo := node.pollAction()) is not None:
                _connectionOf(todo[0]).act(todo[1])
            else:
                return

    def _rearm(self) -> None:
        # A deadline that was put off leaves the timer as it is: it finds nothing due and arms anew.
        deadline = self.node.deadline()
        if deadline is None or deadline >= self._armedAt:
            return
        delay = max(0.0, deadline - self.clock.seconds())
        if self._timer is None:
            self._timer = self.clock.callLater(delay, self._due)
        else:
            self._timer.reset(delay)
        self._armedAt = deadline

    def _due(self) -> None:
        # The timer may fire a rounding error early; the node must see its own deadline.
        now = max(self.clock.seconds(), self._armedAt)
        self._timer = None
        self._armedAt = _NEVER
        self.node.handleTimeout(now)
        self.drain()


def _connectionOf(link: NodeLink) -> NodeConnection:
    return cast(NodeConnection, link.connection)
