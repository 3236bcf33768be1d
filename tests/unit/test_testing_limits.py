"""
What ends the mappings of a simulated NAT before their time, and what is let in on request.
"""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.address import HostPort
from p2ptwist.errors import LocalUsageError
from p2ptwist.testing import NAT, Filtering, Firewall, Mapping, PortAllocation, Uninvited, WhenFull
from p2ptwist.testing.forwards import Forward
from p2ptwist.testing.packet import Protocol, TCPFlag
from tests.unit.test_testing_nat import (
    ALICE,
    APD,
    CAROL,
    EXTERNAL,
    FIRST,
    OTHER,
    SECOND,
    TCP,
    UDP,
    Bench,
    segment,
)

SYMMETRIC = NAT(mapping=APD, allocation=PortAllocation.RANDOM)
MAPPED: HostPort = (EXTERNAL, 7000)


class FullTests(SynchronousTestCase):
    """
    Tables that have no room for one more.
    """

    def test_refusePerHost(self) -> None:
        """
        A host that has its share gets no more until some have timed out; others do.
        """
        bench = Bench(NAT(mapping=APD, maxMappingsPerHost=2, udpTimeout=20.0))
        self.assertIsNotNone(bench.out(ALICE, FIRST, 0.0))
        self.assertIsNotNone(bench.out(ALICE, SECOND, 5.0))
        self.assertIsNone(bench.out(ALICE, OTHER, 6.0))
        self.assertIsNotNone(bench.out(CAROL, OTHER, 6.0))
        self.assertIsNotNone(bench.out(ALICE, OTHER, 21.0))
        self.assertIsNone(bench.out(ALICE, FIRST, 21.0))

    def test_evictPerHost(self) -> None:
        """
        Or its own oldest mapping goes.
        """
        bench = Bench(NAT(mapping=APD, maxMappingsPerHost=2, whenFull=WhenFull.EVICT))
        carol = bench.out(CAROL, FIRST)
        first, second, third = (bench.out(ALICE, to) for to in (FIRST, SECOND, OTHER))
        self.assertIsNone(bench.into(first, FIRST))
        self.assertEqual(bench.into(second, SECOND), ALICE)
        self.assertEqual(bench.into(third, OTHER), ALICE)
        self.assertEqual(bench.into(carol, FIRST), CAROL)

    def test_evict(self) -> None:
        """
        In a full table the oldest mapping goes, whosever it is.
        """
        bench = Bench(NAT(mapping=APD, maxMappings=2, whenFull=WhenFull.EVICT))
        carol = bench.out(CAROL, FIRST)
        first, second = (bench.out(ALICE, to) for to in (FIRST, SECOND))
        self.assertIsNone(bench.into(carol, FIRST))
        self.assertEqual(bench.into(first, FIRST), ALICE)
        self.assertEqual(bench.into(second, SECOND), ALICE)
        self.assertEqual(len(bench.table.entries(0.0)), 2)


class LifeTests(SynchronousTestCase):
    """
    Mappings that end whatever the traffic.
    """

    def test_ends(self) -> None:
        """
        Each ends after some time of its own within the given ones, and the next has another port.
        """
        lives = []
        nat = NAT(allocation=PortAllocation.RANDOM, udpLife=(50.0, 75.0))
        for seed in range(40):
            bench = Bench(nat, seed)
            first, second = bench.out(ALICE, FIRST, 100.0), None
            for elapsed in range(1, 80):
                now = 100.0 + elapsed
                isLet = bench.into(first, FIRST, now) == ALICE
                second = bench.out(ALICE, FIRST, now)
                self.assertEqual(second == first, isLet)
                if not isLet:
                    lives.append(elapsed)
                    break
        self.assertEqual(len(lives), 40)
        self.assertGreaterEqual(min(lives), 50)
        self.assertLessEqual(max(lives), 76)
        self.assertGreater(len(set(lives)), 10)

    def test_unused(self) -> None:
        """
        An unused one ends when others do.
        """
        bench = Bench(NAT(udpLife=(50.0, 50.0), udpTimeout=20.0))
        external = bench.out(ALICE, FIRST, 0.0)
        self.assertIsNone(bench.into(external, FIRST, 21.0))

    def test_connectionsLive(self) -> None:
        """
        TCP connections live on.
        """
        bench = Bench(NAT(udpLife=(5.0, 5.0)))
        external = bench.send(ALICE, FIRST, segment(TCPFlag.SYN), 0.0, TCP)
        assert external is not None
        answer = segment(TCPFlag.SYN | TCPFlag.ACK)
        self.assertEqual(bench.receive(external, FIRST, answer, 1.0, TCP), ALICE)
        ack = segment(TCPFlag.ACK)
        self.assertEqual(bench.receive(external, FIRST, ack, 60.0, TCP), ALICE)

    def test_badLives(self) -> None:
        """
        A life is longer than nothing, and its bounds are in order.
        """
        for life in ((0.0, 5.0), (6.0, 5.0)):
            self.assertRaises(LocalUsageError, NAT, udpLife=life)


class PolicyTests(SynchronousTestCase):
    """
    What a router does by protocol and port.
    """

    def test_blocked(self) -> None:
        """
        UDP passes to and from the given ports of others alone; TCP passes.
        """
        table = Bench(NAT(udpPorts=frozenset({1000}))).table
        self.assertFalse(table.isBlocked(UDP, FIRST))
        self.assertTrue(table.isBlocked(UDP, SECOND))
        self.assertFalse(table.isBlocked(TCP, SECOND))
        self.assertFalse(Bench(NAT()).table.isBlocked(UDP, SECOND))
        self.assertTrue(Bench(NAT(udpPorts=frozenset())).table.isBlocked(UDP, FIRST))

    def test_uninvited(self) -> None:
        """
        TCP may get another answer than UDP; a firewall says the same as its table.
        """
        nat = NAT(uninvited=Uninvited.ICMP, tcpUninvited=Uninvited.DROP)
        self.assertIs(nat.uninvitedOf(Protocol.UDP), Uninvited.ICMP)
        self.assertIs(nat.uninvitedOf(Protocol.TCP), Uninvited.DROP)
        self.assertIs(NAT(uninvited=Uninvited.ICMP).uninvitedOf(TCP), Uninvited.ICMP)
        firewall = Firewall(tcpUninvited=Uninvited.RESET, udpPorts=frozenset({53})).asNAT()
        self.assertIs(firewall.uninvitedOf(TCP), Uninvited.RESET)
        self.assertIs(firewall.uninvitedOf(UDP), Uninvited.DROP)
        self.assertEqual(firewall.udpPorts, {53})


class ForwardTests(SynchronousTestCase):
    """
    Explicit mappings.
    """

    def bench(
        self, nat: NAT = SYMMETRIC, mapsOutgoing: bool = True, protocol: Protocol = UDP
    ) -> Bench:
        """
        @return: a table with an explicit mapping of Alice's.
        """
        bench = Bench(nat)
        forward = Forward(protocol, ALICE, MAPPED, 600.0, mapsOutgoing)
        bench.table.forwards.add(forward)
        return bench

    def test_letsIn(self) -> None:
        """
        Everybody gets in, and what goes back comes from where it was sent to.
        """
        for mapsOutgoing in (True, False):
            bench = self.bench(mapsOutgoing=mapsOutgoing)
            for remote in (FIRST, SECOND, OTHER):
                self.assertEqual(bench.into(MAPPED, remote), ALICE)
                self.assertEqual(bench.out(ALICE, remote), MAPPED)

    def test_outgoing(self) -> None:
        """
        Flows that begin inside come from the mapped port, or from any, as the router does.
        """
        self.assertEqual(self.bench().out(ALICE, FIRST), MAPPED)
        self.assertNotEqual(self.bench().out(CAROL, FIRST), MAPPED)
        bench = self.bench(mapsOutgoing=False)
        external = bench.out(ALICE, FIRST)
        self.assertNotEqual(external, MAPPED)
        self.assertEqual(bench.into(external, FIRST), ALICE)

    def test_flowsGoOn(self) -> None:
        """
        Flows that are there keep their port, as in Linux; new ones get the mapped one.
        """
        bench = Bench(SYMMETRIC)
        before = bench.out(ALICE, FIRST, 0.0)
        bench.table.forwards.add(Forward(UDP, ALICE, MAPPED, 600.0, True))
        self.assertEqual(bench.out(ALICE, FIRST, 1.0), before)
        self.assertEqual(bench.out(ALICE, SECOND, 1.0), MAPPED)

    def test_clash(self) -> None:
        """
        Whoever has a flow through one port is seen as somebody else through the other one, as in
        Linux; answers to either find their way.
        """
        bench = self.bench(mapsOutgoing=False)
        external = bench.out(ALICE, FIRST)
        entry = bench.table.inbound(UDP, MAPPED, FIRST, b"", 0.0)
        assert entry is not None and entry.alias is not None
        self.assertEqual((entry.inside, entry.alias[0]), (ALICE, FIRST[0]))
        self.assertNotEqual(entry.alias, FIRST)
        self.assertIs(bench.table.inbound(UDP, MAPPED, FIRST, b"", 0.0), entry)
        self.assertIs(bench.table.outbound(UDP, ALICE, entry.alias, b"", 0.0), entry)
        self.assertEqual((entry.external, entry.remote), (MAPPED, FIRST))
        self.assertEqual(bench.out(ALICE, FIRST), external)
        self.assertEqual(bench.into(external, FIRST), ALICE)
        self.assertEqual(bench.into(MAPPED, SECOND), ALICE)

    def test_looseNAT(self) -> None:
        """
        Where a mapping lets everybody in, so do both of its ports.
        """
        nat = NAT(filtering=Filtering.ENDPOINT_INDEPENDENT)
        bench = self.bench(nat, mapsOutgoing=False)
        self.assertEqual(bench.out(ALICE, FIRST), (EXTERNAL, 5000))
        self.assertEqual(bench.into(MAPPED, OTHER), ALICE)
        self.assertEqual(bench.out(ALICE, OTHER), (EXTERNAL, 5000))

    def test_expires(self) -> None:
        """
        Without a mapping nobody else gets in; flows that are there go on.
        """
        bench = self.bench(NAT(mapping=APD, udpTimeout=30.0))
        self.assertEqual(bench.into(MAPPED, FIRST, 590.0), ALICE)
        self.assertEqual(bench.into(MAPPED, FIRST, 601.0), ALICE)
        self.assertIsNone(bench.into(MAPPED, SECOND, 601.0))
        self.assertEqual(bench.out(ALICE, FIRST, 602.0), MAPPED)
        self.assertEqual(bench.out(ALICE, SECOND, 602.0), (EXTERNAL, 5000))
        self.assertEqual(bench.table.forwards.living(602.0), [])

    def test_flowTimesOut(self) -> None:
        """
        A flow that was forgotten begins anew.
        """
        bench = self.bench(NAT(mapping=APD, udpTimeout=30.0))
        for now in (0.0, 100.0):
            self.assertEqual(bench.into(MAPPED, FIRST, now), ALICE)
            self.assertEqual(bench.out(ALICE, FIRST, now), MAPPED)
        self.assertEqual(len(bench.table.entries(100.0)), 1)

    def test_reserved(self) -> None:
        """
        Nobody else is given the mapped port; its owner may have it anyway.
        """
        preserving = NAT(mapping=APD)
        bench = Bench(preserving)
        bench.table.forwards.add(Forward(UDP, ALICE, (EXTERNAL, 5000), 600.0, False))
        self.assertNotEqual(bench.out(CAROL, FIRST), (EXTERNAL, 5000))
        self.assertEqual(bench.into((EXTERNAL, 5000), SECOND), ALICE)
        self.assertEqual(bench.out(ALICE, FIRST), (EXTERNAL, 5000))

    def test_mayForward(self) -> None:
        """
        A port may be mapped unless it is somebody else's.
        """
        bench = self.bench(NAT(udpTimeout=20.0))
        table = bench.table
        bench.out(CAROL, FIRST, 0.0)
        for external, inside, now, may in (
            (MAPPED, ALICE, 0.0, True),
            (MAPPED, CAROL, 0.0, False),
            (MAPPED, CAROL, 700.0, True),
            ((EXTERNAL, 5000), CAROL, 0.0, True),
            ((EXTERNAL, 5000), ALICE, 0.0, False),
            ((EXTERNAL, 5000), ALICE, 30.0, True),
        ):
            self.assertEqual(table.mayForward(UDP, external, inside, now), may, (external, now))

    def test_connection(self) -> None:
        """
        A TCP connection from outside is established by the answer to it.
        """
        bench = self.bench(NAT(tcpTransitoryTimeout=10.0, tcpTimeout=100.0), protocol=TCP)
        syn, synAck, ack = (
            segment(flags) for flags in (TCPFlag.SYN, TCPFlag.SYN | TCPFlag.ACK, TCPFlag.ACK)
        )
        self.assertEqual(bench.receive(MAPPED, FIRST, syn, 0.0, TCP), ALICE)
        self.assertEqual(bench.send(ALICE, FIRST, synAck, 1.0, TCP), MAPPED)
        self.assertEqual(bench.receive(MAPPED, FIRST, ack, 90.0, TCP), ALICE)
        self.assertEqual(bench.receive(MAPPED, SECOND, syn, 90.0, TCP), ALICE)
        self.assertIsNone(bench.table.mappingOf(TCP, ALICE, SECOND, 101.0))

    def test_full(self) -> None:
        """
        Flows of explicit mappings need room as others do.
        """
        nat = NAT(mapping=APD, maxMappingsPerHost=1)
        bench = self.bench(nat)
        self.assertEqual(bench.into(MAPPED, FIRST), ALICE)
        self.assertIsNone(bench.into(MAPPED, SECOND))
        self.assertIsNone(bench.out(ALICE, SECOND))


class OwnFlowTests(SynchronousTestCase):
    """
    What remains of a clash with a flow of the router's own.
    """

    def test_keepsItsPort(self) -> None:
        """
        The other port stays for as long as the flow lives, also when the router has forgotten its
        own, as in Linux.
        """
        for mapping in Mapping:
            bench = Bench(NAT(mapping=mapping))
            bench.out(ALICE, FIRST, 0.0)
            bench.table.acceptUninvited(UDP, (EXTERNAL, 5000), OTHER, 0.0)
            changed = bench.out(ALICE, OTHER, 1.0)
            self.assertNotEqual(changed, (EXTERNAL, 5000))
            for now in (20.0, 40.0, 100.0):
                self.assertEqual(bench.out(ALICE, OTHER, now), changed)
                self.assertEqual(bench.into(changed, OTHER, now), ALICE)


class ConsistencyTests(SynchronousTestCase):
    """
    Whatever happens in whatever order.
    """

    def nat(self, random: Random) -> NAT:
        """
        @return: a NAT of any kind, with few ports and short lives.
        """
        filtering = random.choice(list(Filtering))
        # Who shares a port can only be told apart by where packets come from.
        mayShare = filtering is Filtering.ADDRESS_AND_PORT_DEPENDENT
        return NAT(
            mapping=random.choice(list(Mapping)),
            filtering=filtering,
            allocation=random.choice(list(PortAllocation)),
            firstPort=5000,
            lastPort=random.choice((5003, 5020)),
            portOverloading=mayShare and random.random() < 0.5,
            udpTimeout=random.choice((3.0, 30.0)),
            udpLife=random.choice((None, (2.0, 9.0))),
            refreshInbound=random.random() < 0.5,
            maxMappings=random.choice((5, 1000)),
            maxMappingsPerHost=random.choice((None, 3)),
            whenFull=random.choice(list(WhenFull)),
        )

    def step(self, bench: Bench, random: Random, now: float) -> None:
        """
        Do something; what comes in at an address is for whoever it stands for.
        """
        inside = (f"192.168.1.{random.randint(2, 4)}", random.randint(5000, 5002))
        external = (EXTERNAL, random.randint(5000, 5005))
        remote = (f"192.0.2.{random.randint(1, 2)}", random.randint(1, 3))
        table, what = bench.table, random.random()
        if what < 0.5:
            entry = table.outbound(UDP, inside, remote, b"", now)
            if entry is not None and entry.alias is None:
                back = table.inbound(UDP, entry.external, remote, b"", now)
                isOwn = table._isOwnFlow(UDP, entry.external, remote, now)
                self.assertTrue(isOwn or (back is not None and back.inside == inside), remote)
        elif what < 0.9:
            table.inbound(UDP, external, remote, b"", now)
        elif what < 0.95 and table.mayForward(UDP, external, inside, now):
            if table.forwards.ofInside(UDP, inside, now) is None:
                mapsOutgoing = random.random() < 0.5
                table.forwards.add(Forward(UDP, inside, external, now + 5.0, mapsOutgoing))
        elif table.mappingOf(UDP, inside, remote, now) is None:
            table.acceptUninvited(UDP, external, remote, now)

    def check(self, bench: Bench) -> None:
        """
        All views of the table show the same.
        """
        table = bench.table
        entries = set(table._byInside.values())
        self.assertEqual(entries, {e for each in table._byExternal.values() for e in each.values()})
        self.assertEqual(entries, {e for each in table._byHost.values() for e in each})
        self.assertEqual(sum(e.isSingleFlow() for e in entries), table._singleFlows)

    def test_seeds(self) -> None:
        """
        Nothing breaks.
        """
        for seed in range(300):
            random = Random(seed)
            bench, now = Bench(self.nat(random), seed), 0.0
            for _ in range(120):
                now += random.random()
                self.step(bench, random, now)
            self.check(bench)
