"""
Port mappings in virtual time: simulated routers of all kinds, and what becomes of a mapping there.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol, ServerFactory

from p2ptwist.core.errors import LocalUsageError
from p2ptwist.errors import (
    NoGateway,
    PortMapperSilent,
    PortMappingError,
    PortMappingRefused,
)
from p2ptwist.interfaces import IPortMapping
from p2ptwist.net.mapperprobe import probeMappers
from p2ptwist.net.portmapping import MAX_MAPPINGS, PortMappings
from p2ptwist.testing import NAT, Internet
from p2ptwist.testing.portmapper import PortMapper, Trouble
from tests.sim.mapping import ASKED, EXTERNAL, ONE_PROTOCOL, PORT, PortMappingCase


class GrantTests(PortMappingCase):
    """
    Mappings that are made.
    """

    def test_pcp(self) -> None:
        """
        A router that speaks PCP alone maps the port, within a few milliseconds.
        """
        self.build(PortMapper(natPMP=False))
        mappings = self.mappings()
        mapping = self.wait(mappings.map("udp", PORT), 0.1)
        self.assertEqual(mapping.external, (EXTERNAL, PORT))
        self.assertEqual((mapping.mapper, mapping.doubleNAT), ("pcp", False))
        self.assertAlmostEqual(mapping.expiry - mapping.renewal, 1800)
        self.internet.advance(3.0)
        report = self.sole(mappings, "pcp")
        self.assertEqual((report.external, report.lifetime), ((EXTERNAL, PORT), 3600))
        # The others are left alone.
        self.assertEqual([each.mapper for each in mappings.reports()], ["pcp"])
        self.assertTrue(self.reaches(mapping.external))

    def test_natpmp(self) -> None:
        """
        So does one that speaks NAT-PMP alone.
        """
        self.build(PortMapper(pcp=False))
        mappings = self.mappings()
        mapping = self.wait(mappings.map("udp", PORT), 0.1)
        self.assertEqual((mapping.external, mapping.mapper), ((EXTERNAL, PORT), "nat-pmp"))
        error = self.sole(mappings, "pcp").error
        assert isinstance(error, PortMappingRefused)
        self.assertEqual((error.code, error.why), (1, "UNSUPP_VERSION"))
        self.assertTrue(self.reaches(mapping.external))

    def test_both(self) -> None:
        """
        PCP is kept where both would do, whoever answers first; nothing else is left at the router.
        """
        for checks in (True, False):
            self.build(PortMapper(checksNonce=checks))
            mapping = self.wait(self.mappings().map("udp", PORT), 0.1)
            self.internet.advance(5.0)
            self.assertEqual((mapping.mapper, mapping.external), ("pcp", (EXTERNAL, PORT)))
            self.assertEqual(len(self.home.forwards()), 1)
            self.assertTrue(self.reaches(mapping.external))

    def test_tcp(self) -> None:
        """
        A TCP port is mapped as well, by either.
        """
        for mapper in ONE_PROTOCOL:
            self.build(mapper)
            mapping = self.wait(self.mappings().map("tcp", PORT), 0.1)
            listening: Any = ServerFactory()
            listening.protocol = Protocol
            self.host.listenTCP(PORT, listening)
            host, port = mapping.external
            connecting = TCP4ClientEndpoint(self.far, host, port).connect(
                Factory.forProtocol(Protocol)
            )
            self.wait(connecting)

    def test_otherPort(self) -> None:
        """
        Where the port is taken already, another is granted.
        """
        self.build(PortMapper())
        neighbor = self.home.host("neighbor")
        self.wait(self.mappings(neighbor).map("udp", PORT))
        mapping = self.wait(self.mappings().map("udp", PORT))
        self.assertNotEqual(mapping.external, (EXTERNAL, PORT))
        self.assertTrue(self.reaches(mapping.external))

    def test_pinhole(self) -> None:
        """
        PCP opens the firewall for IPv6 (and the NAT for IPv4).
        """
        self.build(PortMapper(), prefix6="2001:db8:1::/64")
        mapping = self.wait(self.mappings().map("udp", PORT))
        self.internet.advance(1.0)
        own = next(each for each in self.host.hostAddresses() if each.startswith("2001:db8:1:"))
        self.assertEqual(mapping.externals, ((EXTERNAL, PORT), (own, PORT)))
        self.assertFalse(mapping.doubleNAT)
        self.assertTrue(self.reaches((own, PORT)))
        self.wait(mapping.release())
        self.assertFalse(self.reaches((own, PORT)))

    def test_again(self) -> None:
        """
        Whoever asks for the same port has the same mapping.
        """
        self.build(PortMapper())
        mappings = self.mappings()
        first, second = mappings.map("udp", PORT), mappings.map("udp", PORT)
        mapping = self.wait(first)
        self.assertIs(self.wait(second), mapping)
        self.assertIs(self.successResultOf(mappings.map("udp", PORT)), mapping)

    def test_beforeStart(self) -> None:
        """
        What is wanted before the service starts is asked for when it does.
        """
        self.build(PortMapper())
        mappings = PortMappings(self.host)
        wanted = mappings.map("udp", PORT)
        self.internet.advance(10.0)
        self.assertNoResult(wanted)
        mappings.startService()
        self.assertEqual(self.wait(wanted).external, (EXTERNAL, PORT))

    def test_interface(self) -> None:
        """
        An application that uses one address only has that mapped alone.
        """
        self.build(PortMapper(), prefix6="2001:db8:1::/64")
        mapping = self.wait(self.mappings(interface=self.host.address).map("udp", PORT))
        self.internet.advance(5.0)
        self.assertEqual(mapping.externals, ((EXTERNAL, PORT),))
        self.build(PortMapper())
        wanted = self.mappings(interface="127.0.0.1").map("udp", PORT)
        self.assertIsInstance(self.failureOf(wanted), NoGateway)

    def test_misuse(self) -> None:
        """
        Ports of the system, other transports, and too many ports are refused at once.
        """
        self.build(PortMapper())
        mappings = self.mappings()
        self.assertRaises(LocalUsageError, mappings.map, "udp", 80)
        self.assertRaises(LocalUsageError, mappings.map, "sctp", PORT)
        for port in range(MAX_MAPPINGS):
            self.wait(mappings.map("udp", PORT + port))
        self.assertRaises(LocalUsageError, mappings.map, "tcp", PORT)
        self.wait(mappings.unmap("udp", PORT))
        self.wait(mappings.unmap("udp", PORT))
        self.wait(mappings.map("tcp", PORT))


class RefusalTests(PortMappingCase):
    """
    Mappings that are not made.
    """

    def test_none(self) -> None:
        """
        A router that maps no ports costs three seconds, in which nobody waits for it but who asks.
        """
        self.build()
        mappings = self.mappings()
        error = self.failureOf(mappings.map("udp", PORT), 3.01)
        self.assertIsInstance(error, PortMapperSilent)
        self.assertIn("192.168.1.1", str(error))
        problems = [each.problem or "" for each in mappings.reports()]
        self.assertEqual(["does not answer" in each for each in problems], [True] * len(problems))

    def test_noGateway(self) -> None:
        """
        A host with no router in front asks nobody.
        """
        self.build()
        error = self.failureOf(self.mappings(self.far).map("udp", PORT), 0.1)
        self.assertIsInstance(error, NoGateway)

    def test_refused(self) -> None:
        """
        A router that refuses says why; it is asked again when its word is over, or when somebody
        wants the port again.
        """
        self.build(PortMapper(refuses=2))
        mappings = self.mappings()
        error = self.failureOf(mappings.map("udp", PORT), 0.1)
        assert isinstance(error, PortMappingRefused)
        self.assertEqual((error.code, error.why), (2, "NOT_AUTHORIZED"))
        self.home.reboot(NAT(portMapping=PortMapper()))
        told: list[IPortMapping] = []
        mappings.observe(told.append)
        self.internet.advance(1700.0)
        self.assertEqual(told, [])
        self.internet.advance(200.0)
        self.assertEqual(told[0].external, (EXTERNAL, PORT))

    def test_refusedAgain(self) -> None:
        """
        A port that is wanted again is asked for at once.
        """
        self.build(PortMapper(refuses=2))
        mappings = self.mappings()
        self.failureOf(mappings.map("udp", PORT), 0.1)
        self.home.reboot(NAT(portMapping=PortMapper()))
        self.assertEqual(self.wait(mappings.map("udp", PORT), 0.1).external, (EXTERNAL, PORT))

    def test_troubles(self) -> None:
        """
        Answers that are wrong in any way are none: silence after three seconds, no exception, no
        mapping, and the port of the router is the only one that was ever asked.
        """
        for trouble in Trouble:
            if trouble is Trouble.FORGETFUL:
                continue
            for mapper in (*ONE_PROTOCOL, PortMapper()):
                if trouble is Trouble.WRONG_NONCE and mapper.natPMP:
                    continue  # NAT-PMP has none
                self.build(replace(mapper, trouble=trouble))
                mappings = self.mappings()
                error = self.failureOf(mappings.map("udp", PORT), 3.01)
                self.assertIsInstance(error, PortMappingError, trouble)
                self.assertEqual(self.flushLoggedErrors(), [])
                self.wait(mappings.stopService())

    def test_forgetful(self) -> None:
        """
        A router that always says that it has just restarted is not asked without end.
        """
        self.build(PortMapper(trouble=Trouble.FORGETFUL))
        mapping = self.wait(self.mappings(lifetime=3600.0).map("udp", PORT))
        before = self.host.counters.packetsSent
        self.internet.advance(3600.0)
        self.assertEqual(mapping.external, (EXTERNAL, PORT))
        # Each half a minute a check and what follows from it.
        self.assertLess(self.host.counters.packetsSent - before, 3600 / 30 * 12)

    def test_slow(self) -> None:
        """
        A router that answers after two seconds is in time, also one that answers twice.
        """
        self.build(PortMapper(natPMP=False, delay=2.0, copies=2))
        mapping = self.wait(self.mappings().map("udp", PORT), 2.1)
        self.assertEqual(mapping.external, (EXTERNAL, PORT))

    def test_nonsenseAddress(self) -> None:
        """
        An external address that nobody can have is a refusal.
        """
        self.build(PortMapper(announces="127.0.0.1"))
        mappings = self.mappings()
        self.assertIsInstance(self.failureOf(mappings.map("udp", PORT)), PortMappingRefused)

    def test_cancel(self) -> None:
        """
        Who wants none any more has none: neither here nor at the router.
        """
        self.build(PortMapper(delay=0.15))
        mappings = self.mappings()
        wanted = mappings.map("udp", PORT)
        self.internet.advance(0.1)
        wanted.cancel()
        self.failureResultOf(wanted, CancelledError)
        self.internet.advance(5.0)
        self.assertEqual(self.home.forwards(), [])


class ProbeTests(PortMappingCase):
    """
    Reports of each protocol.
    """

    def probe(self, mapper: PortMapper | None, **options: Any) -> dict[tuple[str, bool], Any]:
        """
        @return: the reports of a router that maps ports like C{mapper}, by protocol and whether it
            is the one of IPv6.
        """
        self.build(mapper, prefix6="2001:db8:1::/64")
        asked = probeMappers(self.host, mappers=ASKED, random=Random(3), **options)
        reports = self.wait(asked, 3.1)
        self.internet.advance(3.1)
        self.assertEqual((self.home.forwards(), self.internet.delayedCalls()), ([], []))
        return {(each.mapper, ":" in each.gateway): each for each in reports}

    def test_both(self) -> None:
        """
        A router that speaks both is reported to do so, and nothing is left of that.
        """
        reports = self.probe(PortMapper(), seen=[EXTERNAL])
        self.assertEqual(set(reports), {("pcp", False), ("pcp", True), ("nat-pmp", False)})
        for report in reports.values():
            self.assertIsNotNone(report.external)
            self.assertIsNone(report.problem)
            self.assertFalse(report.doubleNAT)

    def test_one(self) -> None:
        """
        So is one that speaks one of them, and what STUN servers see is compared.
        """
        reports = self.probe(PortMapper(pcp=False), seen=["203.0.113.80"])
        self.assertTrue(reports["nat-pmp", False].doubleNAT)
        self.assertIsNone(reports["pcp", False].external)
        self.assertIn("UNSUPP_VERSION", reports["pcp", False].problem)

    def test_none(self) -> None:
        """
        One that speaks none is reported in three seconds.
        """
        for report in self.probe(None).values():
            self.assertIsInstance(report.error, PortMapperSilent)

    def test_noGateway(self) -> None:
        """
        Where there is no router there are no reports.
        """
        self.build()
        self.assertEqual(self.wait(probeMappers(self.far), 0.1), ())


class DoubleNATTests(PortMappingCase):
    """
    Routers behind routers.
    """

    def test_private(self) -> None:
        """
        An external address that is private, or shared with a carrier, is not reached by anybody.
        """
        for lan in ("10.0.0.0/24", "100.64.0.0/24"):
            internet = Internet(seed=3)
            carrier = internet.router("carrier", "203.0.113.8", lan=lan)
            home = carrier.router("home", nat=NAT(portMapping=PortMapper()))
            mappings = self.mappings(home.host("host"))
            self.internet = internet
            mapping = self.wait(mappings.map("udp", PORT))
            self.assertTrue(mapping.doubleNAT)
            self.assertTrue(self.sole(mappings, "pcp").doubleNAT)

    def test_seen(self) -> None:
        """
        Nor is one that STUN servers do not see, however public it looks.
        """
        self.build(PortMapper(announces="203.0.113.200"))
        mappings = self.mappings()
        mapping = self.wait(mappings.map("udp", PORT))
        self.assertFalse(mapping.doubleNAT)
        mappings.seen(["2001:db8:1::5"])
        self.assertFalse(mapping.doubleNAT)
        mappings.seen([EXTERNAL, "2001:db8:1::5"])
        self.assertTrue(mapping.doubleNAT)
        mappings.seen([EXTERNAL, "203.0.113.200"])
        self.assertFalse(mapping.doubleNAT)
