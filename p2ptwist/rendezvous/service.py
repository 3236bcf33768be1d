"""
The rendezvous node as a Twisted service: it listens, serves, and drains.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial

from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IListeningPort,
    IReactorTime,
    IStreamServerEndpoint,
)
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2ptwist.core.address import HostPort, formatAddress
from p2ptwist.core.errors import LocalUsageError
from p2ptwist.core.link.limits import Counters, Limits
from p2ptwist.core.link.messages import UNKNOWN_ADDRESS
from p2ptwist.core.link.node import Node
from p2ptwist.errors import PortUnusable
from p2ptwist.net.signatures import verifySignature
from p2ptwist.rendezvous.connections import NodeConnections, addressOf

DRAIN_DELAY = 2.0  # seconds that peers have to read their goodbye when the node stops

_log = Logger()


class NodeService(Service):
    """
    A rendezvous node on some endpoints.  It can be started again when what L{stopService} returned
    has fired.

    @ivar endpoints: where it listens, each with the description that errors name it by.
    @ivar addresses: where it does listen, once it does.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        name: str,
        endpoints: Sequence[tuple[str, IStreamServerEndpoint]],
        *,
        limits: Limits | None = None,
        stunServers: tuple[HostPort, ...] = (),
    ) -> None:
        """
        @param reactor: where time comes from.
        @param name: what peers sign for: not empty, at most 64 bytes of UTF-8.
        @param endpoints: descriptions and endpoints to listen on.
        @param limits: the bounds; the defaults when left out.
        @param stunServers: what peers are told to use, at most 4; an empty host stands for the
            host that a peer's link goes to.
        @raise LocalUsageError: when the name is too long, or a STUN server is not an address.
        """
        self._makeNode = partial(Node, name, verifySignature, os.urandom, limits=limits)
        self.endpoints = list(endpoints)
        self.addresses: list[IAddress] = []
        self._clock = reactor
        self._stunServers = stunServers
        self._connections = self._makeConnections()
        self._ports: list[IListeningPort] = []
        self._listening = False
        self._stopping = False
        self._drained = False
        self._failure: PortUnusable | None = None

    @property
    def counters(self) -> Counters:
        """
        What the node has done since it was started last.
        """
        return self._connections.node.counters

    def announce(self, stunServers: tuple[HostPort, ...]) -> None:
        """
        Tell peers that come up from now on to use these STUN servers.

        @param stunServers: as for L{NodeService}.
        @raise LocalUsageError: when one is not an address.
        """
        self._connections.node.announce(stunServers)
        self._stunServers = stunServers

    def privilegedStartService(self) -> None:
        """
        Listen, while the process may still open any port.

        @raise PortUnusable: when one of the endpoints cannot be opened; then none is.
        @raise LocalUsageError: when it runs already, or is still stopping.
        """
        if self._stopping:
            raise LocalUsageError(
                "the node is still stopping; start it when what stopService() returned has fired"
            )
        if self._listening:
            raise LocalUsageError("the node runs already; stop its service first")
        super().privilegedStartService()
        self._listening = True
        if self._drained:
            # A node that has drained takes on nobody any more.
            self._connections = self._makeConnections()
            self._drained = False
        for description, endpoint in self.endpoints:
            opened = endpoint.listen(self._connections)
            opened.addCallbacks(self._opened, self._refused, errbackArgs=(description,))
        if self._failure is not None:
            failure, self._failure = self._failure, None
            self._stopListening()
            raise failure

    def startService(self) -> None:
        """
        Serve.

        @raise PortUnusable: when one of the endpoints cannot be opened; then none is.
        @raise LocalUsageError: when it runs already, or is still stopping.
        """
        if self.running or not self._listening:
            self.privilegedStartService()
        super().startService()

    def stopService(self) -> Deferred[None]:
        """
        Drain: accept no more, tell every peer, and close.

        @return: a Deferred that fires when no connection is left, after 2 s at most.
        """
        super().stopService()
        self._stopping = self._drained = True
        closed = self._stopListening()
        self._connections.node.drain(self._clock.seconds())
        self._connections.drain()
        cut = self._clock.callLater(DRAIN_DELAY, self._connections.abortAll)
        done = gatherResults([closed, self._connections.whenIdle()])
        return done.addCallback(self._stopped, cut)

    def _stopped(self, _: object, cut: IDelayedCall) -> None:
        if cut.active():
            cut.cancel()
        self._connections.stop()
        _log.info("p2ptwist: the node has stopped; {counters}", counters=self.counters)
        self._stopping = False

    def _makeConnections(self) -> NodeConnections:
        node = self._makeNode(self._clock.seconds(), stunServers=self._stunServers)
        return NodeConnections(self._clock, node)

    def _stopListening(self) -> Deferred[None]:
        self._listening = False
        self.addresses.clear()
        ports, self._ports = self._ports, []
        closing = [maybeDeferred(port.stopListening) for port in ports]
        return gatherResults(closing, consumeErrors=True).addCallback(lambda _: None)

    def _opened(self, port: IListeningPort) -> None:
        self._ports.append(port)
        self.addresses.append(port.getHost())
        _log.info("p2ptwist: links on {address}", address=describeAddress(port.getHost()))

    def _refused(self, failure: Failure, description: str) -> None:
        error = getattr(failure.value, "socketError", failure.value)
        self._failure = PortUnusable(
            f"cannot listen on {description} ({error}): stop what uses the port, or choose another "
            "with --listen"
        )


def describeAddress(address: IAddress) -> str:
    """
    @return: such as C{"tcp:192.0.2.1:8470"}: what a peer on the same host can write.
    """
    hostPort = addressOf(address)
    if hostPort == UNKNOWN_ADDRESS:
        return str(address)
    return f"tcp:{formatAddress(hostPort)}"
