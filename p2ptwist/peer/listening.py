"""
The services that a peer offers.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocol, IProtocolFactory
from twisted.logger import Logger
from zope.interface import implementer

from p2ptwist.peer.address import PeerAddress

_log = Logger()


@implementer(IListeningPort)
class Listening:
    """
    A service that this peer offers.
    """

    def __init__(
        self, services: Services, peerID: str, service: str, factory: IProtocolFactory
    ) -> None:
        """
        @param services: all that the peer offers.
        @param peerID: the peer's own.
        """
        self.service = service
        self.factory = factory
        self._services = services
        self._peerID = peerID

    def startListening(self) -> None:
        """
        Offer it.

        @raise CannotListenError: when the peer offers a service of that name already.
        """
        self._services.offer(self)
        self.factory.doStart()

    def stopListening(self) -> Deferred[None] | None:
        """
        Offer it no more.  Streams that are open go on.
        """
        if self._services.withdraw(self):
            self.factory.doStop()
        return None

    def getHost(self) -> PeerAddress:
        """
        @return: this peer, and the service.
        """
        return PeerAddress(self._peerID, self.service)


class Services:
    """
    All services that a peer offers, by name.
    """

    def __init__(self) -> None:
        self._offered: dict[str, Listening] = {}

    def __len__(self) -> int:
        return len(self._offered)

    def offer(self, listening: Listening) -> None:
        """
        See L{Listening.startListening}.
        """
        if listening.service in self._offered:
            taken = OSError(f"this peer offers a service {listening.service!r} already")
            raise CannotListenError(None, listening.service, taken)
        self._offered[listening.service] = listening

    def withdraw(self, listening: Listening) -> bool:
        """
        See L{Listening.stopListening}.

        @return: whether it was offered.
        """
        if self._offered.get(listening.service) is not listening:
            return False
        del self._offered[listening.service]
        return True

    def build(self, service: str, address: PeerAddress) -> IProtocol | None:
        """
        @param address: of the other peer.
        @return: the protocol for a stream to a service; C{None} when there is no such service, or
            its factory would not.
        """
        listening = self._offered.get(service)
        if listening is None:
            return None
        try:
            return listening.factory.buildProtocol(address)
        except Exception:
            _log.failure("the factory of {service} failed", service=service)
            return None
