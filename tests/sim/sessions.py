"""
Peers with sessions on a simulated Internet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any

from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.interfaces import IAddress, IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from p2ptwist.peer.identity import Identity, generateIdentity
from p2ptwist.peer.service import PathEvent, PeerService
from p2ptwist.peer.stream import Stream
from p2ptwist.rendezvous.linkclient import RendezvousLink
from p2ptwist.rendezvous.service import NodeService
from p2ptwist.testing import NAT, Host, Link, Router
from p2ptwist.testing.packet import Packet
from p2ptwist.testing.packet import Protocol as PacketProtocol
from tests.sim.neighborhood import LINK_PORT, NODE, NODE_LATENCY, STUN_PORT
from tests.sim.test_pairs import A_EXTERNAL, B_EXTERNAL, SITE_LINK, Pairs

OTHER_NODE = "192.0.2.3"
# A signature of each peer of each seed would be most of a test's time, and says nothing new.
IDENTITIES = [generateIdentity() for _ in range(4)]


class Talk(Protocol):
    """
    A protocol that keeps what happens to it.

    @ivar received: what came, with its times.
    @ivar lost: why it ended.
    @ivar losses: how often it was told of the end.
    """

    transport: Stream

    def __init__(self, clock: Host, echo: bool = False, keep: bool = True) -> None:
        self.received: list[tuple[float, bytes]] = []
        self.count = 0
        self.digest = sha256()
        self.lost: Failure | None = None
        self.lostAt = 0.0
        self.losses = 0
        self.clock = clock
        self._echo = echo
        self._keep = keep

    @property
    def data(self) -> bytes:
        """
        All that came.
        """
        return b"".join(data for _, data in self.received)

    def dataReceived(self, data: bytes) -> None:
        """
        Keep it, and send it back if that was asked for.
        """
        self.count += len(data)
        self.digest.update(data)
        if self._keep:
            self.received.append((self.clock.seconds(), data))
        if self._echo:
            self.transport.write(data)

    def connectionLost(self, reason: Failure | None = None) -> None:
        """
        Keep the reason.
        """
        self.lost = reason
        self.lostAt = self.clock.seconds()
        self.losses += 1


@implementer(IHalfCloseableProtocol)
class HalfTalk(Talk):
    """
    One that hears of each direction's end.
    """

    def __init__(self, clock: Host) -> None:
        super().__init__(clock)
        self.ends: list[str] = []

    def readConnectionLost(self) -> None:
        """
        Keep it.
        """
        self.ends.append("read")

    def writeConnectionLost(self) -> None:
        """
        Keep it.
        """
        self.ends.append("write")


class Talks(Factory):
    """
    Makes protocols, and keeps them.
    """

    def __init__(self, make: Callable[[], Protocol]) -> None:
        self.made: list[Any] = []
        self._make = make

    def buildProtocol(self, address: IAddress | None) -> Protocol:
        """
        @return: one more.
        """
        protocol = self._make()
        self.made.append(protocol)
        return protocol


class Caller:
    """
    A peer with its host.

    @ivar events: the paths that it was told of, with their times.
    """

    def __init__(self, host: Host, identity: Identity, pairs: Pairs, **options: Any) -> None:
        self.host = host
        self.identity = identity
        nodes = (NODE, OTHER_NODE)[: options.pop("nodes", 1)]
        links = [
            RendezvousLink.fromString(
                host, f"tcp:{node}:{LINK_PORT}", identity, jitter=pairs.random
            )
            for node in nodes
        ]
        options.setdefault("randomBytes", pairs.random.randbytes)
        self.peer = PeerService(host, identity, links, **options)
        self.events: list[tuple[float, PathEvent]] = []
        self.peer.observe(lambda event: self.events.append((host.seconds(), event)))

    @property
    def peerID(self) -> str:
        """
        What others call it by.
        """
        return self.peer.peerID

    def echoes(self, service: str = "echo") -> Talks:
        """
        Offer a service that echoes.
        """
        return self.offers(service, lambda: Talk(self.host, echo=True))

    def offers(self, service: str, make: Callable[[], Protocol]) -> Talks:
        """
        Offer a service.

        @return: its factory.
        """
        talks = Talks(make)
        self.peer.listen(service, talks)
        return talks


class SessionPairs(Pairs):
    """
    A neighborhood of peers with sessions.
    """

    def __init__(self, seed: int = 1) -> None:
        super().__init__(seed)
        other = self.internet.host("other-node", OTHER_NODE, link=Link(latency=NODE_LATENCY))
        endpoint = TCP4ServerEndpoint(other, LINK_PORT, 50, OTHER_NODE)
        self.otherService = NodeService(other, "other", [("tcp", endpoint)], stunServers=())
        self.otherService.startService()
        self.callers: list[Caller] = []

    def caller(self, host: Host, identity: Identity | None = None, **options: Any) -> Caller:
        """
        Put a peer on C{host}, and start it.
        """
        identity = identity or IDENTITIES[len(self.callers)]
        caller = Caller(host, identity, self, **options)
        self.callers.append(caller)
        caller.peer.startService()
        return caller

    def ready(self) -> None:
        """
        Wait until all are ready and have measured their NATs.
        """
        for caller in self.callers:
            self.internet.runUntil(caller.peer.whenReady(), timeout=60.0)
        self.internet.advance(5.0)

    def twoRouters(
        self, natA: NAT | None = None, natB: NAT | None = None, link: Link = SITE_LINK
    ) -> tuple[Router, Router]:
        """
        @return: a router for each of two peers.
        """
        return (
            self.site("a-router", A_EXTERNAL, natA or NAT(), link),
            self.site("b-router", B_EXTERNAL, natB or NAT(), link),
        )

    def two(
        self, link: Link = SITE_LINK, blockUDP: bool = False, **options: Any
    ) -> tuple[Caller, Caller]:
        """
        @param blockUDP: whether nothing but TCP passes.
        @return: two peers, each behind a NAT of its own, ready.
        """
        hosts = [
            router.host(name) for name, router in zip("ab", self.twoRouters(link=link), strict=True)
        ]
        if blockUDP:
            for host in hosts:
                block(host, PacketProtocol.UDP)
        a, b = (self.caller(host, **options) for host in hosts)
        self.ready()
        return a, b

    def talk(
        self, caller: Caller, callee: Caller, service: str = "echo", protocol: Talk | None = None
    ) -> Talk:
        """
        @return: the protocol of a new stream.
        """
        talk = protocol or Talk(caller.host)
        factory = Talks(lambda: talk)
        connecting = caller.peer.connect(callee.peerID, service, factory)
        self.internet.runUntil(connecting, timeout=30.0)
        return talk

    def killNode(self) -> None:
        """
        The node's program dies at once, as by SIGKILL.
        """
        self.node.kill()

    def startNode(self) -> None:
        """
        The node's program is there again, and remembers nothing.
        """
        endpoint = TCP4ServerEndpoint(self.node, LINK_PORT, 50, NODE)
        self.service = NodeService(
            self.node, "node", [("tcp", endpoint)], stunServers=(("", STUN_PORT),)
        )
        self.service.startService()

    def close(self) -> None:
        """
        Stop everything and see that nothing was left behind.
        """
        for caller in self.callers:
            self.internet.runUntil(caller.peer.stopService(), timeout=30.0)
        self.internet.advance(1.0)
        for caller in self.callers:
            left = caller.host.getDelayedCalls()
            assert not left, f"left behind on {caller.host.name}: {left}"


def block(host: Host, protocol: PacketProtocol) -> Callable[[], None]:
    """
    Let no packet of a protocol leave C{host} any more.

    @return: undoes it.
    """
    wire = host.link
    sendUp = wire.sendUp

    def sift(packet: Packet) -> None:
        if packet.protocol is not protocol:
            sendUp(packet)

    wire.sendUp = sift  # type: ignore[method-assign]
    return lambda: setattr(wire, "sendUp", sendUp)


class SessionCase(SynchronousTestCase):
    """
    What the tests of sessions share.
    """

    def pairs(self, seed: int = 1) -> SessionPairs:
        """
        @return: a fresh neighborhood, whose trace is shown if the test fails.
        """
        pairs = SessionPairs(seed)
        pairs.internet.showOnFailure(self)
        return pairs

    def kinds(self, events: Sequence[tuple[float, PathEvent]]) -> list[str]:
        """
        @return: the kinds of paths in the order in which they were told.
        """
        return [event.kind for _, event in events]
