"""
What becomes of port mappings in time: renewal, restarts, silence, other networks, the end.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError

from p2ptwist.core.address import HostPort
from p2ptwist.core.portmapping import pcp
from p2ptwist.core.portmapping.grant import MappingRequest
from p2ptwist.errors import (
    PortMappingError,
    PortMappingRefused,
)
from p2ptwist.interfaces import IPortMapping
from p2ptwist.net.portmapper import pcpMapper
from p2ptwist.testing import NAT
from p2ptwist.testing.portmapper import PortMapper
from tests.sim.mapping import EXTERNAL, ONE_PROTOCOL, PORT, SECRET, PortMappingCase


class LeaseTests(PortMappingCase):
    """
    What becomes of a mapping in time.
    """

    def test_renewal(self) -> None:
        """
        A mapping is renewed at half its lease, and so stays for ever.
        """
        self.build(PortMapper(maxLifetime=600))
        mapping = self.wait(self.mappings().map("udp", PORT))
        for _ in range(8):
            self.assertAlmostEqual(mapping.expiry - mapping.renewal, 300)
            left = mapping.expiry - self.internet.seconds()
            self.assertGreater(left, 299.9)
            self.internet.advance(300.0)
            self.assertTrue(self.reaches(mapping.external))

    def test_killed(self) -> None:
        """
        The mapping of a program that ended without a word is gone at the end of its lease.
        """
        self.build(PortMapper(minLifetime=60))
        mapping = self.wait(self.mappings(lifetime=60.0).map("udp", PORT))
        self.host.kill()
        self.internet.advance(50.0)
        self.assertTrue(self.reaches(mapping.external))
        self.internet.advance(10.0)
        self.assertFalse(self.reaches(mapping.external))
        self.assertEqual(self.home.forwards(), [])

    def test_stop(self) -> None:
        """
        A program that ends takes its mappings back at once.
        """
        self.build(PortMapper())
        mappings = self.mappings()
        self.wait(mappings.map("udp", PORT))
        self.wait(mappings.map("tcp", PORT))
        start = self.internet.seconds()
        self.wait(mappings.stopService())
        self.assertLess(self.internet.seconds() - start, 0.1)
        self.assertEqual(self.home.forwards(), [])
        self.assertEqual(self.internet.delayedCalls(), [])

    def test_stopEarly(self) -> None:
        """
        Also one that ends while it is being asked.
        """
        self.build(PortMapper(delay=0.05))
        mappings = self.mappings()
        wanted = mappings.map("udp", PORT)
        self.internet.advance(0.01)
        self.wait(mappings.stopService())
        self.failureResultOf(wanted, CancelledError)
        self.internet.advance(1.0)
        self.assertEqual(self.home.forwards(), [])

    def test_stopCancelled(self) -> None:
        """
        Who does not want to wait for answers need not: all is taken back and closed all the same.
        """
        self.build(PortMapper(delay=0.05))
        mappings = self.mappings()
        self.wait(mappings.map("udp", PORT))
        mappings.map("udp", PORT + 1).addErrback(lambda _: None)
        stopped = mappings.stopService()
        stopped.cancel()
        self.internet.advance(0.01)
        self.successResultOf(stopped)
        self.assertEqual(self.internet.delayedCalls(), [])
        self.internet.advance(0.1)
        self.assertEqual([each.inside[1] for each in self.home.forwards()], [PORT + 1])

    def test_stopSilent(self) -> None:
        """
        A router that has fallen silent does not hold up the end for more than three seconds.
        """
        self.build(PortMapper())
        mappings = self.mappings()
        for port in range(PORT, PORT + 5):
            self.wait(mappings.map("udp", port))
        self.host.link.cut()
        start = self.internet.seconds()
        self.wait(mappings.stopService())
        self.assertLess(self.internet.seconds() - start, 3.01)
        self.assertEqual(self.internet.delayedCalls(), [])

    def test_startAgain(self) -> None:
        """
        A service that was stopped can start again.
        """
        self.build(PortMapper())
        mappings = self.mappings()
        self.wait(mappings.map("udp", PORT))
        self.wait(mappings.stopService())
        mappings.startService()
        self.assertEqual(self.wait(mappings.map("udp", PORT)).external, (EXTERNAL, PORT))

    def test_takenBack(self) -> None:
        """
        A program that was killed and started again has its mapping again, which the router guards
        against others by the nonce: it follows from the program's secret.
        """
        self.build(PortMapper(natPMP=False))
        neighbor = self.home.host("neighbor")
        self.wait(self.mappings(neighbor).map("udp", PORT))
        first = self.wait(self.mappings(secret=SECRET).map("udp", PORT)).external
        self.host.kill()
        again = self.wait(self.mappings(secret=SECRET).map("udp", PORT)).external
        self.assertEqual(again, first)
        self.host.kill()
        wanted = self.mappings().map("udp", PORT)
        self.assertIsInstance(self.failureOf(wanted), PortMappingRefused)

    def test_routerRestart(self) -> None:
        """
        A router that has restarted is noticed in half a minute, and the mapping is back in two
        seconds from then, at the same port.
        """
        for mapper in ONE_PROTOCOL:
            self.build(mapper)
            mappings = self.mappings()
            mapping = self.wait(mappings.map("udp", PORT))
            told: list[object] = []
            mappings.observe(told.append)
            self.internet.advance(100.0)
            self.home.reboot()
            self.assertEqual(self.home.forwards(), [])
            self.internet.advance(32.0)
            self.assertEqual(mapping.external, (EXTERNAL, PORT))
            self.assertTrue(self.reaches(mapping.external))
            self.assertEqual(told, [])

    def test_announced(self) -> None:
        """
        A router that announces its restart has the mapping back in a second; what others announce
        is nothing.
        """
        for mapper in ONE_PROTOCOL:
            self.build(mapper)
            mappings = self.mappings()
            self.wait(mappings.map("udp", PORT))
            self.internet.advance(100.0)
            self.home.reboot()
            announce = pcp.encodeResponse(pcp.Response(pcp.Opcode.ANNOUNCE, 0, 0, 0))
            for source in ("192.168.1.9", "192.168.1.1"):
                mappings._announcements.datagramReceived(announce, (source, 5351))
                self.internet.advance(1.1)
                restored = len(self.home.forwards()) == 1
                self.assertEqual(restored, source == "192.168.1.1")

    def test_noSocket(self) -> None:
        """
        A host whose address is gone asks nobody, and says why.
        """
        self.build(PortMapper())
        router = pcpMapper(self.host, "192.168.1.1", "192.168.1.77")
        assert router is not None
        wanted = MappingRequest("udp", "192.168.1.77", PORT, None, 3600.0, bytes(12))
        error = self.failureOf(router.request(wanted), 0.1)
        self.assertIsInstance(error, PortMappingError)
        self.wait(router.stop())
        router = pcpMapper(self.host, "192.168.1.1", "192.168.1.2")
        assert router is not None
        self.wait(router.stop())
        self.assertIn("stopped", str(self.failureOf(router.request(wanted), 0.1)))

    def test_newAddress(self) -> None:
        """
        A router that was given another address has its mappings asked for anew.
        """
        self.build(PortMapper(pcp=False))
        mappings = self.mappings()
        mapping = self.wait(mappings.map("udp", PORT))
        told: list[HostPort] = []
        mappings.observe(lambda changed: told.append(changed.external))
        self.home.changeExternal("203.0.113.99")
        self.internet.advance(35.0)
        self.assertEqual(mapping.external, ("203.0.113.99", PORT))
        self.assertEqual(told, [("203.0.113.99", PORT)])

    def test_silence(self) -> None:
        """
        A mapping lives on while its router is silent, is asked for again and again, and is gone at
        the end of its lease; when the router is back, so is the mapping.
        """
        self.build(PortMapper(maxLifetime=600))
        mappings = self.mappings()
        mapping = self.wait(mappings.map("udp", PORT))
        told: list[tuple[HostPort, ...]] = []
        mappings.observe(lambda changed: told.append(changed.externals))
        self.host.link.cut()
        self.internet.advance(595.0)
        self.assertEqual(told, [])
        self.internet.advance(10.0)
        self.assertEqual(told, [()])
        for name in ("external", "mapper", "renewal", "expiry"):
            self.assertRaises(PortMappingError, getattr, mapping, name)
        self.host.link.restore()
        self.internet.advance(60.0)
        self.assertEqual(told, [(), ((EXTERNAL, PORT),)])

    def test_hiccup(self) -> None:
        """
        A router that was silent when the mapping was to be renewed is asked again in time.
        """
        self.build(PortMapper(maxLifetime=600))
        mapping = self.wait(self.mappings().map("udp", PORT))
        self.internet.advance(290.0)
        self.host.link.cut()
        self.internet.advance(60.0)
        self.host.link.restore()
        self.internet.advance(400.0)
        self.assertTrue(self.reaches(mapping.external))

    def test_refusedRenewal(self) -> None:
        """
        A mapping that the router will not renew is gone, whatever was left of it.
        """
        self.build(PortMapper(maxLifetime=600))
        mappings = self.mappings()
        self.wait(mappings.map("udp", PORT))
        told: list[tuple[HostPort, ...]] = []
        mappings.observe(lambda changed: told.append(changed.externals))
        self.home.reboot(NAT(portMapping=PortMapper(refuses=2)))
        self.internet.advance(310.0)
        self.assertEqual(told, [()])

    def test_newNetwork(self) -> None:
        """
        A host that is somewhere else has its port mapped by the router there.
        """
        self.build(PortMapper())
        office = self.internet.router(
            "office", "203.0.113.50", nat=NAT(portMapping=PortMapper()), lan="192.168.7.0/24"
        )
        mappings = self.mappings()
        mapping = self.wait(mappings.map("udp", PORT))
        told: list[tuple[HostPort, ...]] = []
        mappings.observe(lambda changed: told.append(changed.externals))
        office.attach(self.host, "192.168.7.2")
        self.host.removeAddress("192.168.1.2")
        mappings.networkChanged()
        self.internet.advance(1.0)
        self.assertEqual(mapping.external, ("203.0.113.50", PORT))
        self.assertEqual(told[-1], (("203.0.113.50", PORT),))
        self.assertEqual({each.gateway for each in mappings.reports()}, {"192.168.7.1"})
        self.internet.advance(10.0)
        self.wait(mappings.stopService())
        self.assertEqual(office.forwards(), [])


class ObserverTests(PortMappingCase):
    """
    Who is told.
    """

    def test_failing(self) -> None:
        """
        An observer with a bug hurts nobody else.
        """
        self.build(PortMapper())
        mappings = self.mappings()
        told: list[IPortMapping] = []

        def fail(mapping: IPortMapping) -> None:
            raise ZeroDivisionError

        mappings.observe(fail)
        mappings.observe(told.append)
        self.wait(mappings.map("udp", PORT))
        self.internet.advance(1.0)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), len(told))
        self.assertGreater(len(told), 0)
