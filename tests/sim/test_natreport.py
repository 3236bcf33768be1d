"""
The lifetime of mappings, and everything at once, on the simulated Internet.
"""

from __future__ import annotations

from itertools import product

from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.nat import NATBehavior, NATMapping
from p2ptwist.errors import LocalUsageError
from p2ptwist.net.lifetime import measureLifetime
from p2ptwist.net.natreport import measureNAT
from p2ptwist.testing import NAT, Filtering, Mapping
from p2ptwist.testing.packet import Protocol
from tests.sim.natworld import (
    ALTERNATE6,
    PRIMARY,
    PRIMARY6,
    SILENT,
    Liar,
    World,
)
from tests.sim.sessions import block


class LifetimeTests(SynchronousTestCase):
    """
    How long mappings live.
    """

    def lifetime(self, nat: NAT, loss: float = 0.0, seed: int = 1) -> float | None:
        """
        @return: what is measured.
        """
        world = World(self, nat, None, loss=loss, seed=seed)
        measuring = measureLifetime(world.host, world.openPort, PRIMARY)
        return world.internet.runUntil(measuring, timeout=1000.0)

    def test_everyNAT(self) -> None:
        """
        Whatever the mapping and the filter: at most the lifetime, and at least nine tenths of it.
        """
        for mapping, filtering, seconds in product(Mapping, Filtering, (20.0, 30.0, 60.0)):
            lifetime = self.lifetime(NAT(mapping=mapping, filtering=filtering, udpTimeout=seconds))
            assert lifetime is not None
            self.assertTrue(0.9 * seconds <= lifetime <= seconds, (lifetime, seconds))

    def test_bounds(self) -> None:
        """
        What lives longer than is looked for is known to live so long; what lives shorter is not
        known.
        """
        self.assertEqual(self.lifetime(NAT(udpTimeout=300.0)), 120.0)
        self.assertIsNone(self.lifetime(NAT(udpTimeout=4.0)))

    def test_loss(self) -> None:
        """
        Loss does not make a mapping live longer.
        """
        for seed in range(30):
            lifetime = self.lifetime(NAT(udpTimeout=30.0), loss=0.1, seed=seed)
            self.assertTrue(lifetime is None or lifetime <= 30.0, (seed, lifetime))

    def test_unwilling(self) -> None:
        """
        A server that is not there, or answers to the port that asked, tells nothing.
        """
        for server, lie in (
            (("192.0.2.1", 4478), lambda responder, *request: responder.answer(*request)),
            (SILENT, lambda *_: None),
        ):
            world = World(self, NAT(udpTimeout=30.0))
            Liar(world.node, lie)
            measuring = measureLifetime(world.host, world.openPort, server)
            self.assertIsNone(world.internet.runUntil(measuring, timeout=100.0))

    def test_cancelled(self) -> None:
        """
        It can be given up.
        """
        world = World(self, NAT())
        measuring = measureLifetime(world.host, world.openPort, PRIMARY)
        world.internet.advance(7.0)
        measuring.cancel()
        world.internet.advance(0.1)
        self.failureResultOf(measuring, CancelledError)
        self.assertEqual(world.host.getDelayedCalls(), [])


class ReportTests(SynchronousTestCase):
    """
    L{measureNAT}.
    """

    def test_everything(self) -> None:
        """
        Both families, TCP, and the lifetime.
        """
        nat = NAT(
            mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT,
            tcpMapping=Mapping.ENDPOINT_INDEPENDENT,
            udpTimeout=30.0,
        )
        world = World(self, nat)
        world.serveStreams()
        report = world.report(PRIMARY, PRIMARY6, lifetime=60.0)
        assert report.ipv4 is not None and report.ipv6 is not None
        self.assertTrue(report.udp)
        self.assertIs(report.behavior, report.ipv4.behavior)
        self.assertIs(report.behavior.mapping, NATMapping.ADDRESS_AND_PORT_DEPENDENT)
        self.assertIs(report.behavior.tcpMapping, NATMapping.ENDPOINT_INDEPENDENT)
        assert report.behavior.lifetime is not None
        self.assertTrue(27.0 <= report.behavior.lifetime <= 30.0)
        self.assertEqual(report.ipv4.server, PRIMARY)
        self.assertTrue(report.ipv4.translated)
        self.assertEqual(len(report.ipv4.tcpAddresses), 1)
        self.assertFalse(report.ipv6.udp)
        self.assertEqual(report.addresses, report.ipv4.addresses)
        self.assertEqual((report.classic, report.ourClassic), (None, "Symmetric NAT"))
        self.assertFalse(report.classicDiffers)

    def test_everyTCPMapping(self) -> None:
        """
        The mapping of TCP is found out as that of UDP, with four addresses, and in five seconds.
        """
        for mapping in Mapping:
            world = World(self, NAT(tcpMapping=mapping))
            world.serveStreams()
            report = world.report()
            self.assertEqual(report.behavior.tcpMapping, mapping.value)
            self.assertLess(world.host.seconds(), 5.0)

    def test_silentStreams(self) -> None:
        """
        A server that is silent on TCP does not take away what another one tells; and the other
        addresses of one are learned over TCP where UDP does not pass.
        """
        for blocked in (False, True):
            world = World(self, NAT(tcpMapping=Mapping.ADDRESS_DEPENDENT))
            world.serveStreams()
            if blocked:
                block(world.host, Protocol.UDP)
            report = world.report(PRIMARY, SILENT)
            self.assertIs(report.udp, not blocked)
            self.assertIs(report.behavior.tcpMapping, NATMapping.ADDRESS_DEPENDENT)
            self.assertLess(world.host.seconds(), 5.0)

    def test_noStreams(self) -> None:
        """
        Without servers on TCP its mapping is unknown.
        """
        world = World(self, NAT())
        self.assertIsNone(world.report().behavior.tcpMapping)
        self.assertLess(world.host.seconds(), 5.0)

    def test_blocked(self) -> None:
        """
        Where nobody answers, nothing is known, within the time limit.
        """
        world = World(self, NAT())
        report = world.report(SILENT)
        self.assertFalse(report.udp)
        self.assertEqual((report.behavior, report.addresses), (NATBehavior(), ()))
        assert report.ipv4 is not None
        self.assertIsNone(report.ipv4.translated)
        self.assertEqual(report.ourClassic, "Blocked")
        self.assertLess(world.host.seconds(), 5.0)

    def test_ipv6Alone(self) -> None:
        """
        Without IPv4 servers it is about IPv6.
        """
        world = World(self)
        world.serve(world.node, PRIMARY6, ALTERNATE6)
        world.host = world.internet.host("bob", "2001:db8::9")
        report = world.report(PRIMARY6)
        self.assertIsNone(report.ipv4)
        self.assertIs(report.behavior.mapping, NATMapping.ENDPOINT_INDEPENDENT)
        self.assertIsNone(report.ourClassic)

    def test_untranslated(self) -> None:
        """
        A host that is seen at its own address has one for every destination: no second address of a
        server is needed to say so.
        """
        world = World(self)
        alone = ("11.0.0.8", 3478)
        world.serve(world.internet.host("alone", alone[0]), alone)
        world.host = world.internet.host("bob", "11.0.0.9")
        report = world.report(alone)
        self.assertIs(report.behavior.mapping, NATMapping.ENDPOINT_INDEPENDENT)
        self.assertIsNone(report.behavior.tcpMapping)

    def test_usage(self) -> None:
        """
        Without servers nothing can be found out.
        """
        world = World(self)
        self.failureResultOf(measureNAT(world.host, []), LocalUsageError)

    def test_cancelled(self) -> None:
        """
        It can be given up, and leaves nothing.
        """
        for moment in (0.0, 0.07, 0.5, 1.5, 20.0):
            world = World(self, NAT())
            world.serveStreams()
            measuring = measureNAT(world.host, [PRIMARY, SILENT], lifetime=60.0)
            world.internet.advance(moment)
            measuring.cancel()
            world.internet.advance(0.1)
            self.failureResultOf(measuring, CancelledError)
            self.assertEqual(world.host.getDelayedCalls(), [], moment)
