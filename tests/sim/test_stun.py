"""
STUN on the simulated Internet: the very code of an application, its server included.
"""

from __future__ import annotations

from typing import cast

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.protocol import DatagramProtocol
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.address import HostPort
from p2ptwist.errors import STUNTimeout
from p2ptwist.net.stunclient import STUNClient
from p2ptwist.net.stunserver import STUNService
from p2ptwist.testing import NAT, Host, Internet, Link, PortAllocation

PRIMARY = ("192.0.2.1", 3478)
ALTERNATE = ("192.0.2.2", 3479)
OTHER_PORT = ("192.0.2.1", 3479)
OTHER_HOST = ("192.0.2.2", 3478)


class Application(DatagramProtocol):
    """
    A program with a UDP port of its own.

    @ivar received: what it got that was not STUN's.
    """

    noisy = False

    def __init__(self, host: Host) -> None:
        self.host = host
        self.received: list[bytes] = []
        self.client = STUNClient(host, self.write)
        bound = cast(IPv4Address, host.listenUDP(0, self).getHost())
        self.localPort = bound.port

    def write(self, data: bytes, address: HostPort) -> None:
        """
        Send a datagram.
        """
        assert self.transport is not None
        self.transport.write(data, address)

    def datagramReceived(self, datagram: bytes, addr: HostPort) -> None:
        """
        Offer each datagram to STUN first.
        """
        if not self.client.datagramReceived(datagram, addr):
            self.received.append(datagram)


class World:
    """
    A STUN server and one application behind one NAT.
    """

    def __init__(
        self,
        test: SynchronousTestCase,
        nat: NAT | None = None,
        alternate: HostPort | None = ALTERNATE,
        loss: float = 0.0,
        seed: int = 1,
    ) -> None:
        self.internet = Internet(seed=seed)
        self.internet.showOnFailure(test)
        self.node = self.internet.host("node", PRIMARY[0], ALTERNATE[0], link=Link(latency=0.005))
        self.server = STUNService(self.node, PRIMARY, alternate)
        self.server.startService()
        test.addCleanup(self.server.stopService)
        link = Link(latency=0.02, loss=loss)
        if nat is None:
            self.host = self.internet.host("alice", "198.51.100.9", link=link)
        else:
            self.host = self.internet.router("home", "203.0.113.7", nat=nat, link=link).host(
                "alice"
            )
        self.application = Application(self.host)


class BindingTests(SynchronousTestCase):
    """
    The client and the server, on hosts of the simulated Internet.
    """

    def test_reflexive(self) -> None:
        """
        The client learns its mapping, on the port that the application uses anyway.
        """
        world = World(self, NAT(allocation=PortAllocation.SEQUENTIAL))
        address = world.internet.runUntil(world.application.client.bind(PRIMARY), timeout=5.0)
        peer = Application(world.node)
        world.application.write(b"open", (PRIMARY[0], peer.localPort))
        world.internet.advance(1.0)
        peer.write(b"hello", address)
        world.internet.advance(1.0)
        self.assertEqual(world.application.received, [b"hello"])

    def test_everyAddress(self) -> None:
        """
        All four addresses of the server answer, from where they were asked.
        """
        world = World(self)
        client = world.application.client
        for address in (PRIMARY, ALTERNATE, OTHER_PORT, OTHER_HOST):
            seen = world.internet.runUntil(client.bind(address), timeout=5.0)
            self.assertEqual(seen[0], "198.51.100.9")
        self.assertEqual(world.server.addresses, (PRIMARY, OTHER_PORT, OTHER_HOST, ALTERNATE))
        self.assertEqual(world.server.counters.answered, 4)

    def test_limited(self) -> None:
        """
        A host that asks too often is dropped unread, until its bucket has filled again.
        """
        world = World(self)
        client = world.application.client
        results = [client.bind(PRIMARY, timeout=0.25) for _ in range(62)]
        world.internet.advance(0.5)
        outcomes = [self.outcome(each) for each in results]
        self.assertEqual(outcomes.count(None), 2)
        self.assertEqual(outcomes[60:], [None, None])
        self.assertEqual(world.server.counters.limited, 2)
        self.assertEqual(world.server.counters.received, 62)
        world.internet.runUntil(client.bind(PRIMARY), timeout=5.0)

    def outcome(self, result: Deferred[HostPort]) -> object:
        """
        @return: the address, or nothing for a timeout.
        """
        result.addErrback(lambda failure: bool(failure.trap(STUNTimeout)) and None)
        return self.successResultOf(result)

    def test_stopped(self) -> None:
        """
        A stopped server is silent, and can start again.
        """
        world = World(self)
        world.internet.runUntil(world.server.stopService(), timeout=1.0)
        self.assertEqual(world.server.addresses, ())
        result = world.application.client.bind(PRIMARY, timeout=1.0)
        world.internet.advance(1.5)
        self.failureResultOf(result, STUNTimeout)
        world.server.startService()
        world.internet.runUntil(world.application.client.bind(PRIMARY), timeout=5.0)
