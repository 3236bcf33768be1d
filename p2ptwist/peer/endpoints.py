"""
Endpoints: a service of a peer, for whatever takes Twisted's endpoints.
"""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from zope.interface import implementer

from p2ptwist.core.peerid import decodePeerID
from p2ptwist.peer.streamtable import encodeHeader


class PeerProvider(Protocol):
    """
    What connects and listens: a L{p2ptwist.peer.service.PeerService} that runs, or a
    L{p2ptwist.peer.shared.SharedPeer} that starts one when it is needed.
    """

    def connect(self, peerID: str, service: str, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        See L{PeerService.connect<p2ptwist.peer.service.PeerService.connect>}.
        """

    def listen(self, service: str, factory: IProtocolFactory) -> Any:
        """
        @return: an C{IListeningPort}, or a Deferred that fires with one.
        """


@implementer(IStreamClientEndpoint)
class PeerClientEndpoint:
    """
    A service of another peer.

    @ivar peerID: the peer.
    @ivar service: the name of the service.
    """

    def __init__(self, peer: PeerProvider, peerID: str, service: str) -> None:
        """
        @param peer: this program's own peer.
        @raise LocalUsageError: when C{peerID} is no peer ID, or C{service} no name.
        """
        decodePeerID(peerID)
        encodeHeader(service)
        self.peerID = peerID
        self.service = service
        self._peer = peer

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        Open a stream.

        @return: a Deferred that fires with the connected protocol; fails with
            L{p2ptwist.errors.PeerUnreachable}, L{p2ptwist.errors.SessionRefused}, or why there is
            no link.  It can be cancelled.
        """
        return maybeDeferred(self._peer.connect, self.peerID, self.service, protocolFactory)

    def __repr__(self) -> str:
        return f"<p2p:{self.peerID}:service={self.service}>"


@implementer(IStreamServerEndpoint)
class PeerServerEndpoint:
    """
    A service that this program's own peer offers.

    @ivar service: its name.
    """

    def __init__(self, peer: PeerProvider, service: str) -> None:
        """
        @param peer: this program's own peer.
        @raise LocalUsageError: when C{service} is no name.
        """
        encodeHeader(service)
        self.service = service
        self._peer = peer

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """
        Offer the service.  Others reach it as soon as a rendezvous node does, which this does not
        wait for.

        @return: a Deferred that fires with the port, whose C{getHost} has the peer ID; fails with
            C{CannotListenError} when the peer offers a service of that name.
        """
        return maybeDeferred(self._peer.listen, self.service, protocolFactory)

    def __repr__(self) -> str:
        return f"<p2p:service={self.service}>"
