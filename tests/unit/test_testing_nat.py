"""
The table of a simulated NAT: mapping, filtering, allocation, timeouts.
"""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.address import HostPort
from p2ptwist.errors import LocalUsageError
from p2ptwist.testing import NAT, Filtering, Firewall, Mapping, PortAllocation, Uninvited
from p2ptwist.testing.allocation import IdentityAllocator, PortAllocator
from p2ptwist.testing.nattable import MAX_SESSIONS, NATTable
from p2ptwist.testing.packet import Payload, Protocol, Segment, TCPFlag

EXTERNAL = "203.0.113.1"
ALICE: HostPort = ("192.168.1.2", 5000)
CAROL: HostPort = ("192.168.1.3", 5000)
# The same address with two ports, and another address.
FIRST: HostPort = ("192.0.2.1", 1000)
SECOND: HostPort = ("192.0.2.1", 2000)
OTHER: HostPort = ("192.0.2.9", 1000)
UDP, TCP = Protocol.UDP, Protocol.TCP

EI, AD, APD = Mapping
EIF, ADF, APDF = Filtering


def segment(flags: int) -> Segment:
    """
    @return: a segment with these flags.
    """
    return Segment(flags, 1, 1, 1000)


SYN, ACK, FIN, RST = (
    segment(flag) for flag in (TCPFlag.SYN, TCPFlag.ACK, TCPFlag.FIN, TCPFlag.RST)
)


class Bench:
    """
    A table with shorter verbs.
    """

    def __init__(self, nat: NAT, seed: int = 1) -> None:
        self.table = NATTable(nat, PortAllocator(nat, [EXTERNAL], Random(seed)), Random(seed))

    def out(self, inside: HostPort, remote: HostPort, now: float = 0.0) -> HostPort | None:
        """
        @return: where a datagram from inside seems to come from.
        """
        return self.send(inside, remote, b"", now, UDP)

    def into(
        self, external: HostPort | None, remote: HostPort, now: float = 0.0
    ) -> HostPort | None:
        """
        @return: where a datagram from outside goes to.
        """
        assert external is not None
        return self.receive(external, remote, b"", now, UDP)

    def send(
        self, inside: HostPort, remote: HostPort, what: Payload, now: float, protocol: Protocol
    ) -> HostPort | None:
        """
        @return: where a packet from inside seems to come from.
        """
        entry = self.table.outbound(protocol, inside, remote, what, now)
        return entry.external if entry else None

    def receive(
        self, external: HostPort, remote: HostPort, what: Payload, now: float, protocol: Protocol
    ) -> HostPort | None:
        """
        @return: where a packet from outside goes to.
        """
        entry = self.table.inbound(protocol, external, remote, what, now)
        return entry.inside if entry else None


class MappingTests(SynchronousTestCase):
    """
    RFC 4787 section 4.
    """

    def ports(self, mapping: Mapping) -> list[bool]:
        """
        @return: whether the second port of one host, and another host, see the same external
            address as the first port.
        """
        bench = Bench(NAT(mapping=mapping, allocation=PortAllocation.RANDOM))
        first = bench.out(ALICE, FIRST)
        self.assertEqual(bench.out(ALICE, FIRST), first)
        return [bench.out(ALICE, remote) == first for remote in (SECOND, OTHER)]

    def test_behaviours(self) -> None:
        """
        Mappings depend on nothing, the address, or address and port of the destination.
        """
        self.assertEqual(self.ports(EI), [True, True])
        self.assertEqual(self.ports(AD), [True, False])
        self.assertEqual(self.ports(APD), [False, False])

    def test_tcpApart(self) -> None:
        """
        TCP may be mapped in another way than UDP.
        """
        nat = NAT(mapping=EI, tcpMapping=APD, allocation=PortAllocation.RANDOM)
        bench = Bench(nat)
        self.assertEqual(bench.out(ALICE, FIRST), bench.out(ALICE, OTHER))
        externals = {bench.send(ALICE, to, SYN, 0.0, TCP) for to in (FIRST, OTHER)}
        self.assertEqual(len(externals), 2)

    def test_protocolsApart(self) -> None:
        """
        UDP and TCP have port numbers of their own.
        """
        bench = Bench(NAT())
        self.assertEqual(bench.out(ALICE, FIRST), (EXTERNAL, 5000))
        self.assertEqual(bench.send(CAROL, FIRST, SYN, 0.0, TCP), (EXTERNAL, 5000))

    def test_timeout(self) -> None:
        """
        Outbound packets keep a mapping alive; inbound ones do not, unless they are meant to.
        """
        bench = Bench(NAT(udpTimeout=20.0))
        external = bench.out(ALICE, FIRST, 0.0)
        self.assertEqual(bench.out(ALICE, FIRST, 15.0), external)
        self.assertEqual(bench.into(external, FIRST, 30.0), ALICE)
        self.assertIsNone(bench.into(external, FIRST, 35.0))
        self.assertEqual(bench.table.entries(35.0), [])
        kind = Bench(NAT(udpTimeout=20.0, refreshInbound=True))
        external = kind.out(ALICE, FIRST, 0.0)
        for now in (15.0, 30.0, 45.0):
            self.assertEqual(kind.into(external, FIRST, now), ALICE)

    def test_afterTimeout(self) -> None:
        """
        A mapping that has timed out is made anew, with a port that another one may have had.
        """
        bench = Bench(NAT(udpTimeout=20.0))
        self.assertEqual(bench.out(ALICE, FIRST, 0.0), (EXTERNAL, 5000))
        self.assertEqual(bench.out(CAROL, FIRST, 25.0), (EXTERNAL, 5000))
        self.assertNotEqual(bench.out(ALICE, FIRST, 25.0), (EXTERNAL, 5000))

    def test_full(self) -> None:
        """
        A full table makes no more mappings until some have timed out.
        """
        bench = Bench(NAT(mapping=APD, maxMappings=2, udpTimeout=20.0))
        self.assertIsNotNone(bench.out(ALICE, FIRST, 0.0))
        self.assertIsNotNone(bench.out(ALICE, SECOND, 1.0))
        self.assertIsNone(bench.out(ALICE, OTHER, 2.0))
        self.assertIsNotNone(bench.out(ALICE, OTHER, 20.5))

    def test_badConfigurations(self) -> None:
        """
        Ports out of range and a step of 0 are refused.
        """
        for change in ({"firstPort": 0}, {"lastPort": 70_000}, {"firstPort": 9, "lastPort": 8}):
            with self.assertRaises(LocalUsageError):
                NAT(**change)  # type: ignore[arg-type]
        with self.assertRaises(LocalUsageError):
            NAT(portStep=0)


class FilteringTests(SynchronousTestCase):
    """
    RFC 4787 section 5.
    """

    def lets(self, filtering: Filtering) -> list[bool]:
        """
        @return: whether packets from the destination, its other port, and another host come in.
        """
        bench = Bench(NAT(filtering=filtering))
        external = bench.out(ALICE, FIRST)
        return [bench.into(external, remote) == ALICE for remote in (FIRST, SECOND, OTHER)]

    def test_behaviours(self) -> None:
        """
        Filters depend on nothing, the address, or address and port of the sender.
        """
        self.assertEqual(self.lets(EIF), [True, True, True])
        self.assertEqual(self.lets(ADF), [True, True, False])
        self.assertEqual(self.lets(APDF), [True, False, False])

    def test_unmapped(self) -> None:
        """
        Nothing comes in at a port without a mapping.
        """
        bench = Bench(NAT(filtering=EIF))
        self.assertIsNone(bench.into((EXTERNAL, 1), FIRST))

    def test_eachDestinationTimesOut(self) -> None:
        """
        A destination is let in for as long as it was sent to, even if the mapping lives on.
        """
        bench = Bench(NAT(udpTimeout=20.0))
        external = bench.out(ALICE, FIRST, 0.0)
        bench.out(ALICE, OTHER, 15.0)
        self.assertEqual(bench.into(external, OTHER, 30.0), ALICE)
        self.assertIsNone(bench.into(external, FIRST, 30.0))
        bench.out(ALICE, FIRST, 31.0)
        self.assertEqual(bench.into(external, FIRST, 31.0), ALICE)

    def test_tcpApart(self) -> None:
        """
        TCP may be filtered in another way than UDP.
        """
        bench = Bench(NAT(filtering=APDF, tcpFiltering=EIF))
        external = bench.send(ALICE, FIRST, SYN, 0.0, TCP)
        assert external is not None
        self.assertEqual(bench.receive(external, OTHER, SYN, 0.0, TCP), ALICE)

    def test_manyDestinations(self) -> None:
        """
        One mapping remembers a bounded number of destinations: old ones go, dead ones first.
        """
        bench = Bench(NAT(udpTimeout=20.0))
        external = bench.out(ALICE, FIRST, 0.0)
        bench.out(ALICE, SECOND, 10.0)
        for port in range(MAX_SESSIONS):
            bench.out(ALICE, (f"198.51.100.{port >> 15}", port & 0x7FFF), 25.0)
        self.assertIsNone(bench.into(external, FIRST, 25.0))
        self.assertIsNone(bench.into(external, SECOND, 25.0))
        self.assertEqual(bench.into(external, ("198.51.100.1", 1), 25.0), ALICE)

    def test_errors(self) -> None:
        """
        An ICMP error finds the inside host whose packet it is about, and nobody else.
        """
        bench = Bench(NAT())
        external = bench.out(ALICE, FIRST)
        assert external is not None
        entry = bench.table.mappingOf(UDP, ALICE, FIRST, 0.0)
        assert entry is not None
        self.assertEqual((entry.inside, entry.external), (ALICE, external))
        self.assertIs(bench.table.errorFor(UDP, external, FIRST, 0.0), entry)
        self.assertIsNone(bench.table.errorFor(UDP, external, OTHER, 0.0))
        self.assertIsNone(bench.table.mappingOf(UDP, CAROL, FIRST, 0.0))


class AllocationTests(SynchronousTestCase):
    """
    Which port a mapping gets.
    """

    def test_preserving(self) -> None:
        """
        The inside port is kept where it is free; another host gets another one.
        """
        bench = Bench(NAT())
        self.assertEqual(bench.out(ALICE, FIRST), (EXTERNAL, 5000))
        clashing = bench.out(CAROL, FIRST)
        self.assertNotEqual(clashing, (EXTERNAL, 5000))
        self.assertEqual(bench.into(clashing, FIRST), CAROL)

    def test_sequential(self) -> None:
        """
        Ports follow each other by the step, within the range, over those that are taken.
        """
        nat = NAT(
            mapping=APD,
            allocation=PortAllocation.SEQUENTIAL,
            firstPort=100,
            lastPort=109,
            portStep=3,
        )
        bench = Bench(nat)
        first = bench.out(ALICE, FIRST)
        assert first is not None
        expected = [100 + (first[1] - 100 + 3 * n) % 10 for n in range(10)]
        ports = [bench.out(ALICE, ("192.0.2.7", n)) for n in range(1, 10)]
        self.assertEqual([first, *ports], [(EXTERNAL, port) for port in expected])
        self.assertIsNone(bench.out(ALICE, OTHER), "all ports are taken")

    def test_random(self) -> None:
        """
        Ports are spread, and the same seed gives the same ones.
        """
        nat = NAT(mapping=APD, allocation=PortAllocation.RANDOM)
        remotes = [("192.0.2.7", n) for n in range(1, 6)]
        runs = []
        for _ in range(2):
            bench = Bench(nat, seed=5)
            runs.append([bench.out(ALICE, remote) for remote in remotes])
        self.assertEqual(runs[0], runs[1])
        self.assertEqual(len(set(runs[0])), 5)

    def test_overloading(self) -> None:
        """
        With overloading, mappings to different destinations share a port, and what comes back is
        told apart by where it comes from.
        """
        bench = Bench(NAT(mapping=APD, portOverloading=True))
        self.assertEqual(bench.out(ALICE, FIRST), (EXTERNAL, 5000))
        self.assertEqual(bench.out(CAROL, OTHER), (EXTERNAL, 5000))
        self.assertNotEqual(bench.out(CAROL, FIRST), (EXTERNAL, 5000))
        self.assertEqual(bench.into((EXTERNAL, 5000), FIRST), ALICE)
        self.assertEqual(bench.into((EXTERNAL, 5000), OTHER), CAROL)


class OwnStackTests(SynchronousTestCase):
    """
    L{Uninvited.ACCEPT}: the router's own flows.
    """

    def test_clash(self) -> None:
        """
        What the router itself has taken from a remote address changes the port towards it, and
        towards no other; what comes from it is still the router's.
        """
        bench = Bench(NAT(uninvited=Uninvited.ACCEPT))
        self.assertEqual(bench.out(ALICE, FIRST), (EXTERNAL, 5000))
        bench.table.acceptUninvited(UDP, (EXTERNAL, 5000), OTHER, 0.0)
        changed = bench.out(ALICE, OTHER)
        self.assertNotEqual(changed, (EXTERNAL, 5000))
        self.assertEqual(bench.out(ALICE, OTHER), changed)
        self.assertEqual(bench.out(ALICE, FIRST), (EXTERNAL, 5000))
        self.assertIsNone(bench.into((EXTERNAL, 5000), OTHER))
        self.assertEqual(bench.into(changed, OTHER), ALICE)

    def test_clashBeforeMapping(self) -> None:
        """
        A new mapping avoids the port that the router's own flow has.
        """
        bench = Bench(NAT(uninvited=Uninvited.ACCEPT))
        bench.table.acceptUninvited(UDP, (EXTERNAL, 5000), OTHER, 0.0)
        self.assertNotEqual(bench.out(ALICE, OTHER), (EXTERNAL, 5000))

    def test_forgotten(self) -> None:
        """
        The router forgets its own flows half a minute later, and when there are too many.
        """
        bench = Bench(NAT(uninvited=Uninvited.ACCEPT, maxMappings=3))
        for port in range(5):
            bench.table.acceptUninvited(UDP, (EXTERNAL, 5000), ("192.0.2.9", port), port * 20.0)
        self.assertLess(len(bench.table._ownFlows), 5)
        self.assertEqual(bench.out(ALICE, ("192.0.2.9", 0), 100.0), (EXTERNAL, 5000))


class ConnectionTests(SynchronousTestCase):
    """
    TCP (RFC 5382).
    """

    def setUp(self) -> None:
        """
        Make a table with short timeouts.
        """
        self.bench = Bench(NAT(tcpTimeout=100.0, tcpTransitoryTimeout=10.0))

    def out(self, what: Segment, now: float) -> HostPort | None:
        """
        @return: where a segment from inside seems to come from.
        """
        return self.bench.send(ALICE, FIRST, what, now, TCP)

    def into(self, what: Segment, now: float) -> HostPort | None:
        """
        @return: where a segment from outside goes to.
        """
        return self.bench.receive((EXTERNAL, 5000), FIRST, what, now, TCP)

    def test_onlySYNOpens(self) -> None:
        """
        A segment of no known connection gets no mapping.
        """
        self.assertIsNone(self.out(ACK, 0.0))
        self.assertEqual(self.out(SYN, 0.0), (EXTERNAL, 5000))

    def test_transitory(self) -> None:
        """
        A connection that is never answered is forgotten soon, an established one late.
        """
        self.out(SYN, 0.0)
        self.assertIsNone(self.into(ACK, 11.0))
        self.out(SYN, 20.0)
        self.assertEqual(self.into(ACK, 21.0), ALICE)
        self.assertEqual(self.out(ACK, 22.0), (EXTERNAL, 5000))
        self.assertEqual(self.into(ACK, 115.0), ALICE)

    def test_closing(self) -> None:
        """
        A connection that was closed or reset is forgotten soon.
        """
        for number, last in enumerate((FIN, RST)):
            start = number * 1000.0
            self.out(SYN, start)
            self.into(ACK, start + 1)
            self.out(ACK, start + 2)
            self.assertEqual(self.into(last, start + 3), ALICE)
            self.assertIsNone(self.into(ACK, start + 15))

    def test_reopened(self) -> None:
        """
        A SYN on a mapping that was closing makes it live on.
        """
        self.out(SYN, 0.0)
        self.into(ACK, 1.0)
        self.into(FIN, 2.0)
        self.out(SYN, 3.0)
        self.into(ACK, 4.0)
        self.assertEqual(self.into(ACK, 90.0), ALICE)


class FirewallTests(SynchronousTestCase):
    """
    A table that filters and does not translate.
    """

    def test_replies(self) -> None:
        """
        Replies come in, from where the filtering allows, and nothing is translated.
        """
        bench = Bench(NAT())
        bench.table = NATTable(Firewall(filtering=ADF).asNAT(), IdentityAllocator(), Random(1))
        inside = ("2001:db8:1::2", 5000)
        self.assertEqual(bench.out(inside, FIRST), inside)
        self.assertEqual(bench.into(inside, SECOND), inside)
        self.assertIsNone(bench.into(inside, OTHER))

    def test_neverAccepts(self) -> None:
        """
        A firewall has no addresses of its own whose stack could take packets.
        """
        self.assertIs(Firewall(uninvited=Uninvited.ACCEPT).asNAT().uninvited, Uninvited.RESET)
        self.assertIs(Firewall(uninvited=Uninvited.ICMP).asNAT().uninvited, Uninvited.ICMP)
