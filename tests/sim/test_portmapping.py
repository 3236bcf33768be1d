"""
Port mappings in virtual time: simulated routers of all kinds, and what becomes of a mapping there.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol, ServerFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.address import HostPort
from p2ptwist.core.errors import LocalUsageError
from p2ptwist.errors import (
    NoGateway,
    PortMapperSilent,
    PortMappingError,
    PortMappingRefused,
)
from p2ptwist.interfaces import IPortMapping
from p2ptwist.net.mappedport import MapperReport
from p2ptwist.net.portmapping import MAX_MAPPINGS, PortMappings
from p2ptwist.testing import NAT, Host, Internet
from p2ptwist.testing.portmapper import PortMapper, Trouble

EXTERNAL = "203.0.113.7"
FAR = "203.0.113.9"
PORT = 5000
SECRET = bytes(32)
ONE_PROTOCOL = (PortMapper(natPMP=False), PortMapper(pcp=False))


class Heard(DatagramProtocol):
    """
    Keeps what comes to a UDP port.
    """

    noisy = False

    def __init__(self) -> None:
        self.received: list[bytes] = []

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """
        Keep it.
        """
        self.received.append(datagram)


class PortMappingCase(SynchronousTestCase):
    """
    A host behind a router that may map ports, and another far away.
    """

    def build(self, mapper: PortMapper | None = None, prefix6: str | None = None) -> None:
        """
        @param mapper: how the router maps ports, if it does.
        @param prefix6: the LAN's IPv6 network, if it has one.
        """
        self.internet = Internet(seed=5)
        self.internet.showOnFailure(self)
        nat = NAT(portMapping=mapper)
        self.home = self.internet.router("home", EXTERNAL, nat=nat, prefix6=prefix6)
        self.host = self.home.host("host")
        self.far = self.internet.host("far", FAR, "2001:db8:9::1")

    def mappings(self, host: Host | None = None, **options: Any) -> PortMappings:
        """
        @return: a service that has started on a host behind the router.
        """
        made = PortMappings(host or self.host, random=Random(1), **options)
        made.startService()
        return made

    def wait(self, waiting: Deferred[Any], seconds: float = 3.5) -> Any:
        """
        @return: what C{waiting} fires with in C{seconds}.
        """
        return self.internet.runUntil(waiting, timeout=seconds)

    def failureOf(self, waiting: Deferred[Any], seconds: float = 3.5) -> Any:
        """
        @return: what C{waiting} fails with in C{seconds}.
        """
        failures: list[Failure] = []
        waiting.addErrback(failures.append)
        self.internet.advance(seconds)
        (failure,) = failures
        return failure.value

    def reaches(self, address: HostPort, port: int = PORT) -> bool:
        """
        @return: whether a datagram from far away to C{address} comes to the host's C{port}.
        """
        heard = Heard()
        interface = "::" if ":" in address[0] else ""
        listening = self.host.listenUDP(port, heard, interface, 8192)
        sending = self.far.listenUDP(0, DatagramProtocol(), interface, 8192)
        transport: Any = sending
        transport.write(b"knock", address)
        self.internet.advance(1.0)
        for each in (listening, sending):
            each.stopListening()
        self.internet.advance(0.1)
        return bool(heard.received)

    def sole(self, mappings: PortMappings, name: str) -> MapperReport:
        """
        @return: what is reported of the protocol C{name} over IPv4.
        """
        (report,) = [
            each for each in mappings.reports() if each.mapper == name and ":" not in each.gateway
        ]
        return report


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
        self.build(PortMapper(delay=0.2))
        mappings = self.mappings()
        wanted = mappings.map("udp", PORT)
        self.internet.advance(0.1)
        wanted.cancel()
        self.failureResultOf(wanted, CancelledError)
        self.internet.advance(5.0)
        self.assertEqual(self.home.forwards(), [])


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
