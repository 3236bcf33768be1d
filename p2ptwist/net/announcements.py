"""
What routers tell everybody in the network: that they have restarted (RFC 6887 section 14.1.3, RFC
6886 section 3.2.1).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorMulticast
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger

from p2ptwist.core.address import HostPort, canonicalHost
from p2ptwist.core.portmapping.pcp import CLIENT_PORT

GROUP = "224.0.0.1"  # all hosts of the network; RFC 6887 section 14.1.3

_log = Logger()


class Announcements(DatagramProtocol):
    """
    The socket that announcements come to, where the reactor has multicast.  Several programs of one
    host share its port.
    """

    noisy = False

    def __init__(self, reactor: Any, received: Callable[[bytes, HostPort], object]) -> None:
        """
        @param received: called with each datagram and its source; anybody can have sent it.
        """
        self._reactor = reactor
        self._received = received
        self._listening: Any = None

    def listen(self, interface: str) -> None:
        """
        Listen from now on, if that is possible; routers that restart are noticed without it as
        well, but later.

        @param interface: this host's IPv4 address towards the router.
        """
        if self._listening is not None or not IReactorMulticast.providedBy(self._reactor):
            return
        try:
            self._listening = self._reactor.listenMulticast(CLIENT_PORT, self, listenMultiple=True)
        except (CannotListenError, OSError) as error:
            _log.debug("announcements of routers are not heard: {error}", error=error)
            return
        transport: Any = self.transport
        joined: Deferred[None] = transport.joinGroup(GROUP, interface)
        joined.addErrback(
            lambda failure: _log.debug("not joined: {why}", why=failure.getErrorMessage())
        )

    def stop(self) -> Deferred[None]:
        """
        @return: a Deferred that fires when the socket is closed.
        """
        listening, self._listening = self._listening, None
        if listening is None:
            return succeed(None)
        return listening.stopListening() or succeed(None)

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """
        Somebody told something.
        """
        self._received(datagram, (canonicalHost(addr[0]), addr[1]))
