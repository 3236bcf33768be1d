"""
A simulated Internet with a rendezvous node, and peers behind routers of all kinds.
"""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer

from p2ptwist.errors import RendezvousUnreachable
from p2ptwist.interfaces import IIncomingPaths, IPathReceiver
from p2ptwist.net.puncher import Punch
from p2ptwist.net.stunserver import STUNService
from p2ptwist.peer.datagrams import DatagramPeer
from p2ptwist.peer.identity import Identity, generateIdentity
from p2ptwist.rendezvous.linkclient import RendezvousLink
from p2ptwist.rendezvous.service import NodeService
from p2ptwist.testing import Host, Internet, Link
from p2ptwist.testing.internet import TRANSIT_HOPS

NODE = "192.0.2.1"
NODE_ALTERNATE = "192.0.2.2"
LINK_PORT = 8470
STUN_PORT = 3478
SITE_LATENCY = 0.02  # seconds, one way, of each site's link
NODE_LATENCY = 0.005  # seconds, one way, of the node's link
# Seconds: the round trip from a site to the node, and from one site to the other.
UNIT = 2 * (SITE_LATENCY + NODE_LATENCY) + 4 * SITE_LATENCY

# A signature of each peer of each seed would be most of a test's time, and says nothing new.
_IDENTITIES = [generateIdentity() for _ in range(4)]


@implementer(IPathReceiver)
class Recorder:
    """
    One end of a path in a test.

    @ivar received: the datagrams that came, with their times.
    @ivar lost: the reason, once the path was lost.
    @ivar moves: how often the path moved.
    """

    def __init__(self, clock: Host, path: Punch, echo: bool) -> None:
        self.received: list[tuple[float, bytes]] = []
        self.lost: Failure | None = None
        self.lostAt: float | None = None
        self.moves = 0
        self.path = path
        self._clock = clock
        self._echo = echo

    def datagramReceived(self, data: bytes) -> None:
        """
        Keep it, and send it back if that was asked for.
        """
        self.received.append((self._clock.seconds(), data))
        if self._echo:
            self.path.write(data)

    def pathMoved(self) -> None:
        """
        Count it.
        """
        self.moves += 1

    def pathLost(self, reason: Failure) -> None:
        """
        Keep the reason.
        """
        self.lost = reason
        self.lostAt = self._clock.seconds()


@implementer(IIncomingPaths)
class Party:
    """
    A peer with its host.

    @ivar host: where it runs.
    @ivar peer: the peer itself.
    @ivar paths: one end of each path that others opened to it; they echo.
    @ivar welcome: whether it takes calls.
    """

    def __init__(self, host: Host, identity: Identity, random: Random, **options: Any) -> None:
        self.host = host
        self.paths: list[Recorder] = []
        self.welcome = True
        self.link = RendezvousLink.fromString(host, f"tcp:{NODE}:{LINK_PORT}", identity)
        options.setdefault("randomBytes", random.randbytes)
        self.peer = DatagramPeer(host, identity, self.link, self, **options)

    def accepts(self, peerID: str) -> bool:
        """
        @return: whether it takes calls.
        """
        return self.welcome

    def pathOpened(self, peerID: str, path: Punch) -> None:
        """
        Echo.
        """
        recorder = Recorder(self.host, path, echo=True)
        self.paths.append(recorder)
        path.receiver = recorder


class Neighborhood:
    """
    The Internet, the node, and whoever was put there.

    @ivar internet: the simulated Internet.
    @ivar node: the node's host.
    @ivar service: the node's service.
    """

    def __init__(self, seed: int = 1, transitHops: int = TRANSIT_HOPS) -> None:
        self.internet = Internet(seed=seed, transitHops=transitHops)
        self.random = Random(seed)
        self.node = self.internet.host(
            "node", NODE, NODE_ALTERNATE, link=Link(latency=NODE_LATENCY)
        )
        endpoint = TCP4ServerEndpoint(self.node, LINK_PORT, 50, NODE)
        self.service = NodeService(
            self.node, "node", [("tcp", endpoint)], stunServers=(("", STUN_PORT),)
        )
        self.stun = STUNService(
            self.node, (NODE, STUN_PORT), (NODE_ALTERNATE, STUN_PORT + 1), limits=None
        )
        self.parties: list[Party] = []
        self.service.startService()
        self.stun.startService()

    def party(self, host: Host, **options: Any) -> Party:
        """
        Put a peer on C{host} and start it.
        """
        party = Party(host, _IDENTITIES[len(self.parties)], self.random, **options)
        self.parties.append(party)
        party.peer.startService()
        return party

    def settle(self, seconds: float = 5.0) -> None:
        """
        Wait until all are ready and have measured their NATs.
        """
        for party in self.parties:
            while not self._isReady(party):
                pass
        self.internet.advance(seconds)

    def _isReady(self, party: Party) -> bool:
        """
        Wait for one attempt; on a bad link some fail, and the next one is under way.
        """
        try:
            self.internet.runUntil(party.peer.whenReady(), timeout=120.0)
        except RendezvousUnreachable:
            return False
        return True

    def connect(self, caller: Party, callee: Party, timeout: float = 60.0) -> Recorder:
        """
        @return: the caller's end of a path.
        """
        path = self.internet.runUntil(caller.peer.connect(callee.peer.peerID), timeout=timeout)
        recorder = Recorder(caller.host, path, echo=False)
        path.receiver = recorder
        return recorder

    def close(self) -> None:
        """
        Stop everything and say if anything was left behind.

        @raise AssertionError: when a delayed call of a peer's was.
        """
        for party in self.parties:
            self.internet.runUntil(party.peer.stopService(), timeout=30.0)
        self.internet.advance(1.0)
        for party in self.parties:
            left = party.host.getDelayedCalls()
            assert not left, f"left behind on {party.host.name}: {left}"
