"""
A rendezvous node and its peers on the simulated Internet, for the tests of both.
"""

from __future__ import annotations

import random
from typing import Any

from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from p2ptwist.core.link.limits import Limits
from p2ptwist.core.tokenbucket import Rate
from p2ptwist.interfaces import ILinkReceiver, IWelcome
from p2ptwist.peer.identity import Identity, generateIdentity
from p2ptwist.rendezvous.linkclient import RendezvousLink
from p2ptwist.rendezvous.service import NodeService
from p2ptwist.testing import Host, Internet, Link

NODE = "192.0.2.1"
PORT = 8470
ENDPOINT = f"tcp:{NODE}:{PORT}"
# Peers of one test come from everywhere; what a site may do is tested elsewhere.
GENEROUS = Rate(1e6, 1e6)
LIMITS = Limits(siteAcceptRate=GENEROUS, regionAcceptRate=GENEROUS)


@implementer(ILinkReceiver)
class Peer:
    """
    A peer that writes down what its link says.

    @ivar host: where it runs.
    @ivar link: its link.
    @ivar told: what it was told, and when.
    """

    def __init__(self, host: Host, identity: Identity, seed: int, **options: Any) -> None:
        self.host = host
        self.key = identity.publicKey
        self.told: list[tuple[str, float, object]] = []
        endpoint = options.pop("endpoint", ENDPOINT)
        self.link = RendezvousLink.fromString(
            host, endpoint, identity, jitter=random.Random(seed), **options
        )
        self.link.receiver = self

    def linkUp(self, welcome: IWelcome) -> None:
        """
        Write it down.
        """
        self._tell("up", welcome)

    def linkDown(self, reason: Failure) -> None:
        """
        Write it down.
        """
        self._tell("down", reason.value)

    def messageReceived(self, sender: bytes, payload: bytes) -> None:
        """
        Write it down.
        """
        self._tell("message", (sender, payload))

    def relayedReceived(self, sender: bytes, payload: bytes) -> None:
        """
        Write it down.
        """
        self._tell("relayed", (sender, payload))

    def peerUnreachable(self, peer: bytes) -> None:
        """
        Write it down.
        """
        self._tell("unreachable", peer)

    def times(self, word: str) -> list[float]:
        """
        @return: when it was told C{word}.
        """
        return [when for said, when, _ in self.told if said == word]

    def last(self, word: str) -> Any:
        """
        @return: what it was told last with C{word}.
        """
        return [what for said, _, what in self.told if said == word][-1]

    def _tell(self, word: str, what: object) -> None:
        self.told.append((word, self.host.seconds(), what))


class RendezvousCase(SynchronousTestCase):
    """
    A simulated Internet with one node.
    """

    def setUp(self) -> None:
        """
        Start the node.
        """
        self.internet = Internet(seed=1)
        self.internet.showOnFailure(self)
        self.node = self.internet.host("node", NODE, link=Link(latency=0.005))
        self.peers: list[Peer] = []
        self.serve()

    def serve(self, limits: Limits = LIMITS, name: str = "node") -> None:
        """
        Start a node, perhaps anew.
        """
        endpoint = TCP4ServerEndpoint(self.node, PORT, 1024, NODE)
        self.service = NodeService(
            self.node, name, [("tcp", endpoint)], limits=limits, stunServers=(("", 3478),)
        )
        self.service.startService()

    def peer(
        self, identity: Identity | None = None, host: Host | None = None, **options: Any
    ) -> Peer:
        """
        @return: a peer behind a NAT of its own, as a rule; not started.
        """
        number = len(self.peers)
        if host is None:
            home = self.internet.router(
                f"home{number}",
                f"203.0.{number // 250}.{1 + number % 250}",
                link=Link(latency=0.02),
            )
            host = home.host(f"peer{number}")
        peer = Peer(host, identity or generateIdentity(), number, **options)
        self.peers.append(peer)
        return peer

    def started(self, **options: Any) -> Peer:
        """
        @return: a peer whose link is up.
        """
        peer = self.peer(**options)
        peer.link.startService()
        self.internet.runUntil(peer.link.whenUp())
        return peer

    def stopAll(self) -> None:
        """
        Stop everything, and check that nothing is left.
        """
        for peer in self.peers:
            self.internet.runUntil(peer.link.stopService())
        if self.service.running:
            self.internet.runUntil(self.service.stopService())
        self.assertEqual(self.internet.delayedCalls(), [])
