"""
Routers of the simulated Internet: what gets through, what comes back, what is forgotten.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.address import HostPort
from p2ptwist.errors import LocalUsageError
from p2ptwist.testing import (
    NAT,
    Filtering,
    Firewall,
    Hairpinning,
    Host,
    Internet,
    Link,
    Mapping,
    PortAllocation,
    Uninvited,
)
from p2ptwist.testing.packet import Protocol, Segment, TCPFlag
from tests.sim.datagrams import Mirror, Recorder, listen

MIRROR: HostPort = ("192.0.2.1", 3478)
EXTERNAL = "203.0.113.1"
OPEN = Filtering.ENDPOINT_INDEPENDENT


class RouterCase(SynchronousTestCase):
    """
    An Internet with a public mirror.
    """

    def setUp(self) -> None:
        """
        Make the Internet and the mirror.
        """
        self.internet = Internet(seed=11)
        self.internet.showOnFailure(self)
        self.public = self.internet.host("public", MIRROR[0], "2001:db8::1")
        self.mirror = listen(self.public, Mirror(), MIRROR[1])

    def reflexive(self, recorder: Recorder) -> HostPort:
        """
        @return: the address that the mirror sees C{recorder} at.
        """
        before = len(self.mirror.received)
        recorder.send(b"?", MIRROR)
        self.internet.advance(1.0)
        self.assertEqual(len(self.mirror.received), before + 1)
        return self.mirror.received[-1][1]


class TranslationTests(RouterCase):
    """
    Datagrams through NATs.
    """

    def test_translated(self) -> None:
        """
        The public side sees the router, the inside its own addresses.
        """
        home = self.internet.router("home", EXTERNAL)
        alice = listen(home.host("alice"), Recorder())
        self.assertEqual(self.reflexive(alice), (EXTERNAL, 5000))
        self.assertEqual(alice.received, [(b"203.0.113.1 5000", MIRROR)])
        self.assertEqual(home.external, EXTERNAL)
        [entry] = home.mappings()
        self.assertEqual((entry.inside, entry.external), (("192.168.1.2", 5000), (EXTERNAL, 5000)))

    def test_nested(self) -> None:
        """
        Behind two routers an address is translated twice.
        """
        isp = self.internet.router("isp", EXTERNAL, lan="100.64.0.0/24")
        home = isp.router("home")
        alice = home.host("alice")
        self.assertEqual((home.external, alice.address), ("100.64.0.2", "192.168.2.2"))
        recorder = listen(alice, Recorder())
        self.assertEqual(self.reflexive(recorder), (EXTERNAL, 5000))
        self.assertEqual(recorder.received, [(b"203.0.113.1 5000", MIRROR)])
        self.assertEqual(repr(home), "<Router home at 100.64.0.2>")
        self.assertEqual(isp.router("shop", "100.64.0.99").external, "100.64.0.99")

    def test_homesLookAlike(self) -> None:
        """
        Two homes use the same private addresses, and clash as little as in reality.
        """
        first = self.internet.router("first", EXTERNAL).host("alice")
        second = self.internet.router("second", "203.0.113.2").host("bob")
        self.assertEqual(first.address, second.address)
        alice, bob = listen(first, Recorder()), listen(second, Recorder())
        self.assertEqual(self.reflexive(alice)[0], EXTERNAL)
        self.assertEqual(self.reflexive(bob)[0], "203.0.113.2")
        alice.send(b"to myself", (second.address, 5000))
        self.internet.advance(1.0)
        self.assertEqual(alice.received[-1], (b"to myself", ("192.168.1.2", 5000)))
        self.assertEqual(len(bob.received), 1)

    def test_sameLAN(self) -> None:
        """
        Hosts of one LAN reach each other directly: their router sees nothing of it.
        """
        home = self.internet.router("home", EXTERNAL)
        alice, carol = home.host("alice"), home.host("carol")
        listen(alice, sender := Recorder())
        listen(carol, receiver := Recorder())
        sender.send(b"hello", (carol.address, 5000))
        self.internet.advance(0.1)
        self.assertEqual(receiver.sources, [(alice.address, 5000)])
        self.assertEqual(home.counters.packets, 0)

    def test_uninvited(self) -> None:
        """
        What nobody asked for is dropped, by default without a word.
        """
        home = self.internet.router("home", EXTERNAL)
        listen(home.host("alice"), alice := Recorder())
        self.mirror.send(b"hello?", (EXTERNAL, 5000))
        self.internet.advance(1.0)
        self.assertEqual(alice.received, [])
        self.assertEqual(home.counters.dropped["uninvited"], 1)
        self.assertEqual(home.counters.packetsSent, 0)

    def test_filtering(self) -> None:
        """
        Another port and another host get in only where filtering is loose.
        """
        other = self.internet.host("other", "192.0.2.9")
        elsewhere = [listen(self.public, Recorder(), 9), listen(other, Recorder(), 9)]
        for number, (filtering, count) in enumerate(zip(Filtering, (3, 2, 1), strict=True)):
            nat = NAT(filtering=filtering)
            home = self.internet.router(f"home{number}", f"203.0.113.{number + 1}", nat=nat)
            alice = listen(home.host(f"alice{number}"), Recorder())
            external = self.reflexive(alice)
            for recorder in elsewhere:
                recorder.send(b"and me", external)
            self.internet.advance(1.0)
            self.assertEqual(len(alice.received), count, filtering)

    def test_symmetric(self) -> None:
        """
        A router that maps by destination shows each destination another port.
        """
        nat = NAT(mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT, allocation=PortAllocation.SEQUENTIAL)
        home = self.internet.router("home", EXTERNAL, nat=nat)
        alice = listen(home.host("alice"), Recorder())
        listen(self.public, second := Mirror(), 3479)
        first = self.reflexive(alice)
        alice.send(b"?", (MIRROR[0], 3479))
        self.internet.advance(1.0)
        self.assertEqual(second.received[-1][1][1], first[1] + 1)

    def test_mappingTimesOut(self) -> None:
        """
        A mapping that is not used is gone, and what comes is uninvited.
        """
        home = self.internet.router("home", EXTERNAL, nat=NAT(udpTimeout=20.0))
        alice = listen(home.host("alice"), Recorder())
        external = self.reflexive(alice)
        self.internet.advance(15.0)
        self.mirror.send(b"in time", external)
        self.internet.advance(6.0)
        self.mirror.send(b"late", external)
        self.internet.advance(1.0)
        self.assertEqual([data for data, _ in alice.received][1:], [b"in time"])
        self.assertEqual(home.mappings(), [])

    def test_timeToLive(self) -> None:
        """
        A datagram with a short life opens the own NAT and dies behind it, on the way to nobody.
        """
        import socket

        home = self.internet.router("home", EXTERNAL)
        alice = listen(home.host("alice"), Recorder())
        handle = alice.transport.getHandle()
        handle.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 3)
        alice.send(b"primer", MIRROR)
        handle.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 1)
        alice.send(b"not even that", MIRROR)
        self.internet.advance(1.0)
        self.assertEqual(self.mirror.received, [])
        self.assertEqual(home.counters.dropped["time to live exceeded"], 1)
        self.mirror.send(b"opened", (EXTERNAL, 5000))
        self.internet.advance(1.0)
        self.assertEqual(alice.received, [(b"opened", MIRROR)])

    def test_timeToLiveInwards(self) -> None:
        """
        A datagram may also die at the last router.
        """
        import socket

        internet = Internet(seed=1, transitHops=2)
        public = internet.host("public", MIRROR[0])
        mirror = listen(public, Mirror(), MIRROR[1])
        home = internet.router("home", EXTERNAL)
        alice = listen(home.host("alice"), Recorder())
        mirror.transport.getHandle().setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 3)
        alice.send(b"?", MIRROR)
        internet.advance(1.0)
        self.assertEqual(home.counters.dropped["time to live exceeded"], 1)


class HairpinningTests(RouterCase):
    """
    Packets from inside to the router's own external address (RFC 4787 section 6).
    """

    def hairpin(self, hairpinning: Hairpinning) -> list[HostPort]:
        """
        @return: where carol sees alice's datagram to carol's external address come from.
        """
        nat = NAT(hairpinning=hairpinning, filtering=Filtering.ENDPOINT_INDEPENDENT)
        home = self.internet.router("home", EXTERNAL, nat=nat)
        alice = listen(home.host("alice"), Recorder(), 6000)
        carol = listen(home.host("carol"), Recorder())
        external = self.reflexive(carol)
        carol.received.clear()
        alice.send(b"round", external)
        self.internet.advance(1.0)
        return carol.sources

    def test_external(self) -> None:
        """
        As the RFC wants it, the source is the sender's external address.
        """
        self.assertEqual(self.hairpin(Hairpinning.EXTERNAL), [(EXTERNAL, 6000)])

    def test_internal(self) -> None:
        """
        Some routers leave the inside source.
        """
        self.assertEqual(self.hairpin(Hairpinning.INTERNAL), [("192.168.1.2", 6000)])

    def test_none(self) -> None:
        """
        Many routers do not hairpin at all.
        """
        self.assertEqual(self.hairpin(Hairpinning.NONE), [])

    def test_filtered(self) -> None:
        """
        Filtering holds for hairpinned packets as well.
        """
        home = self.internet.router("home", EXTERNAL, nat=NAT(hairpinning=Hairpinning.EXTERNAL))
        alice = listen(home.host("alice"), Recorder(), 6000)
        carol = listen(home.host("carol"), Recorder())
        external = self.reflexive(carol)
        alice.send(b"one way", external)
        self.internet.advance(1.0)
        self.assertEqual(len(carol.received), 1)
        carol.send(b"and back", (EXTERNAL, 6000))
        self.internet.advance(1.0)
        self.assertEqual(alice.sources, [(EXTERNAL, 5000)])


class UninvitedTests(RouterCase):
    """
    What a packet gets that nobody asked for.
    """

    def connected(self, host: Host, to: HostPort) -> Recorder:
        """
        @return: a recorder that is connected to C{to}.
        """
        recorder = listen(host, Recorder(), 7000)
        recorder.transport.connect(*to)
        return recorder

    def knock(self, uninvited: Uninvited, forwardsICMP: bool = True) -> bool:
        """
        @return: whether a home's connected port is told that another home refuses.
        """
        nat = NAT(forwardsICMP=forwardsICMP)
        alice = self.internet.router("a", EXTERNAL, nat=nat).host("alice")
        other = self.internet.router("b", "203.0.113.2", nat=NAT(uninvited=uninvited))
        other.host("bob")
        recorder = self.connected(alice, ("203.0.113.2", 5000))
        recorder.send(b"knock", ("203.0.113.2", 5000))
        self.internet.advance(1.0)
        return recorder.transport is None

    def test_drop(self) -> None:
        """
        Silence.
        """
        self.assertFalse(self.knock(Uninvited.DROP))

    def test_errors(self) -> None:
        """
        An ICMP error comes back through the sender's NAT.
        """
        self.assertTrue(self.knock(Uninvited.ICMP))

    def test_errorsOfOwnStack(self) -> None:
        """
        So it does from a router's own stack.
        """
        self.assertTrue(self.knock(Uninvited.ACCEPT))

    def test_errorsNotForwarded(self) -> None:
        """
        A NAT may keep ICMP errors to itself.
        """
        self.assertFalse(self.knock(Uninvited.RESET, forwardsICMP=False))

    def test_errorOfHost(self) -> None:
        """
        An error of a host behind a NAT comes from its router, whose mapping it is about.
        """
        home = self.internet.router("home", EXTERNAL)
        bob = listen(home.host("bob"), Recorder())
        external = self.reflexive(bob)
        bob.transport.stopListening()
        caller = listen(self.public, Recorder(), 7000)
        caller.transport.connect(*external)
        caller.send(b"anybody?", external)
        self.internet.advance(1.0)
        self.assertIsNotNone(caller.transport, "the filter lets nobody in")
        self.mirror.send(b"anybody?", external)
        self.internet.advance(1.0)
        errors = [entry for entry in self.internet.trace if entry.packet.protocol.value == "ICMP"]
        self.assertEqual(
            [(entry.where, entry.what, entry.packet.source[0]) for entry in errors],
            [
                ("bob", "sent", "192.168.1.2"),
                ("home", "translated", EXTERNAL),
                ("public", "received", EXTERNAL),
            ],
        )

    def test_lateErrors(self) -> None:
        """
        An ICMP error that comes when its mapping is gone goes nowhere, in both directions.
        """
        slow = Link(latency=2.0)
        home = self.internet.router("home", EXTERNAL, nat=NAT(udpTimeout=3.0))
        bob = listen(home.host("bob", link=slow), Recorder())
        bob.send(b"?", MIRROR)
        self.internet.advance(0.1)
        bob.transport.stopListening()
        self.internet.advance(10.0)
        self.assertEqual(home.counters.dropped, {"no mapping": 1})
        self.internet.host("far", "192.0.2.9", link=slow)
        carol = listen(home.host("carol"), Recorder())
        carol.send(b"anybody?", ("192.0.2.9", 1))
        self.internet.advance(10.0)
        self.assertEqual(home.counters.dropped, {"no mapping": 2})

    def test_nothingAboutErrors(self) -> None:
        """
        A router answers neither a RST nor an ICMP error, from either side.
        """
        nat = NAT(uninvited=Uninvited.RESET, tcpTransitoryTimeout=1.0)
        home = self.internet.router("home", EXTERNAL, nat=nat)
        alice = home.host("alice")
        reset = Segment(TCPFlag.RST, 1, 0, 0)
        stack = alice._stack
        for to in (("192.168.1.1", 80), MIRROR):
            stack.send(Protocol.TCP, (alice.address, 80), to, reset)
        self.public._stack.send(Protocol.TCP, MIRROR, (EXTERNAL, 80), reset)
        self.internet.advance(1.0)
        self.assertEqual(sum(home.counters.dropped.values()), 3)
        sent = [entry for entry in self.internet.trace if entry.what == "sent"]
        self.assertEqual({entry.where for entry in sent}, {"alice", "public"})

    def test_trap(self) -> None:
        """
        A router that accepts uninvited packets into its own stack, and then gives the inside
        another port towards their sender: two such routers never meet.
        """
        nat = NAT(uninvited=Uninvited.ACCEPT)
        alice = listen(self.internet.router("a", EXTERNAL, nat=nat).host("alice"), Recorder())
        bob = listen(self.internet.router("b", "203.0.113.2", nat=nat).host("bob"), Recorder())
        first, second = self.reflexive(alice), self.reflexive(bob)
        for recorder in (alice, bob):
            recorder.received.clear()
        for _ in range(30):
            alice.send(b"a", second)
            self.internet.advance(0.7)
            bob.send(b"b", first)
            self.internet.advance(0.3)
        self.assertEqual((alice.received, bob.received), ([], []))

    def test_noTrap(self) -> None:
        """
        Routers that reject, and remember nothing, do no harm.
        """
        for number, uninvited in enumerate((Uninvited.DROP, Uninvited.ICMP)):
            nat = NAT(uninvited=uninvited)
            hosts = [
                self.internet.router(f"{side}{number}", f"203.0.113.{address}", nat=nat)
                for side, address in (("a", 10 + number), ("b", 20 + number))
            ]
            alice, bob = (listen(h.host(f"host of {h.name}"), Recorder()) for h in hosts)
            first, second = self.reflexive(alice), self.reflexive(bob)
            alice.send(b"a", second)
            self.internet.advance(0.7)
            bob.send(b"b", first)
            self.internet.advance(0.7)
            alice.send(b"a", second)
            self.internet.advance(0.7)
            self.assertEqual(alice.sources[-1], second)
            self.assertEqual(bob.sources[-1], first)

    def test_routerItself(self) -> None:
        """
        A router's address on its LAN answers that nothing listens there, and to errors nothing.
        """
        home = self.internet.router("home", EXTERNAL)
        caller = self.connected(home.host("alice"), ("192.168.1.1", 5351))
        caller.send(b"map my port", ("192.168.1.1", 5351))
        self.internet.advance(1.0)
        self.assertIsNone(caller.transport)
        self.assertEqual(home.counters.packets, 0)


class FirewallTests(RouterCase):
    """
    IPv6, and IPv4 without translation.
    """

    def test_stateful(self) -> None:
        """
        Addresses stay as they are; replies come in, and nothing else does.
        """
        home = self.internet.router("home", prefix6="2001:db8:1::/64")
        host = home.host("alice")
        self.assertEqual(host.address, "2001:db8:1::2")
        self.assertIsNone(home.external)
        alice = listen(host, Recorder(), interface="::")
        caller = listen(self.public, Mirror(), 3478, "2001:db8::1")
        caller.send(b"uninvited", ("2001:db8:1::2", 5000))
        self.internet.advance(1.0)
        self.assertEqual(alice.received, [])
        alice.send(b"?", ("2001:db8::1", 3478))
        self.internet.advance(1.0)
        self.assertEqual(caller.sources, [("2001:db8:1::2", 5000)])
        self.assertEqual(alice.received, [(b"2001:db8:1::2 5000", ("2001:db8::1", 3478))])
        with self.assertRaises(LocalUsageError):
            home.changeExternal("203.0.113.5")

    def test_dualStack(self) -> None:
        """
        A LAN may have both: IPv4 behind NAT, IPv6 behind a firewall.
        """
        home = self.internet.router("home", EXTERNAL, prefix6="2001:db8:1::/64")
        host = home.host("alice")
        self.assertEqual(host.hostAddresses(), ["127.0.0.1", "::1", "192.168.1.2", "2001:db8:1::2"])
        self.assertEqual(self.reflexive(listen(host, Recorder())), (EXTERNAL, 5000))
        six = listen(self.public, Recorder(), 3478, "2001:db8::1")
        listen(host, Recorder(), 5001, "::").send(b"six", ("2001:db8::1", 3478))
        self.internet.advance(1.0)
        self.assertEqual(six.sources, [("2001:db8:1::2", 5001)])

    def test_publicLAN(self) -> None:
        """
        A router without an external address only filters IPv4.
        """
        firewall = Firewall(filtering=Filtering.ENDPOINT_INDEPENDENT)
        office = self.internet.router("office", lan="198.51.100.0/28", firewall=firewall)
        alice = listen(office.host("alice"), Recorder())
        self.assertEqual(self.reflexive(alice), ("198.51.100.2", 5000))
        stranger = listen(self.internet.host("stranger", "192.0.2.9"), Recorder())
        stranger.send(b"let in", ("198.51.100.2", 5000))
        stranger.send(b"nobody", ("198.51.100.3", 5000))
        self.internet.advance(1.0)
        self.assertEqual(alice.sources, [MIRROR, ("192.0.2.9", 5000)])

    def test_prefixes(self) -> None:
        """
        Packets go to the prefix that they belong to, and outside of all they vanish.
        """
        hosts = [
            self.internet.router(
                f"r{n}", prefix6=f"2001:db8:{n}::/64", firewall=Firewall(filtering=OPEN)
            ).host(f"h{n}")
            for n in (1, 2)
        ]
        one, two = (listen(host, Recorder(), interface="::") for host in hosts)
        for recorder in (one, two):
            recorder.send(b"to nobody", ("2001:db8:3::2", 5000))
        self.internet.advance(1.0)
        one.send(b"x", ("2001:db8:2::2", 5000))
        two.send(b"x", ("2001:db8:1::2", 5000))
        self.internet.advance(1.0)
        self.assertEqual(two.sources, [("2001:db8:1::2", 5000)])
        self.assertEqual(one.sources, [("2001:db8:2::2", 5000)])

    def test_refusals(self) -> None:
        """
        Prefixes and addresses that cannot be are refused.
        """
        self.internet.router("a", prefix6="2001:db8:1::/64")
        with self.assertRaises(LocalUsageError):
            self.internet.router("b", prefix6="2001:db8:1::/48")
        with self.assertRaises(LocalUsageError):
            self.internet.router("c")
        with self.assertRaises(LocalUsageError):
            self.internet.router("d", MIRROR[0])
        with self.assertRaises(LocalUsageError):
            self.internet.router("e", "10.0.0.1")


class FaultTests(RouterCase):
    """
    What happens to routers in the middle of everything.
    """

    def test_reboot(self) -> None:
        """
        A router that was rebooted knows no mapping; the next ones are made from elsewhere.
        """
        nat = NAT(allocation=PortAllocation.RANDOM)
        home = self.internet.router("home", EXTERNAL, nat=nat)
        alice = listen(home.host("alice"), Recorder())
        before = self.reflexive(alice)
        home.reboot()
        self.mirror.send(b"lost", before)
        self.internet.advance(1.0)
        self.assertEqual(len(alice.received), 1)
        self.assertNotEqual(self.reflexive(alice), before)
        home.reboot(NAT())
        self.assertEqual(self.reflexive(alice), (EXTERNAL, 5000))

    def test_changeExternal(self) -> None:
        """
        With a new address, the old one is nobody's.
        """
        home = self.internet.router("home", EXTERNAL)
        alice = listen(home.host("alice"), Recorder())
        before = self.reflexive(alice)
        home.changeExternal("203.0.113.99")
        self.assertEqual(home.external, "203.0.113.99")
        self.mirror.send(b"lost", before)
        self.internet.advance(1.0)
        self.assertEqual(len(alice.received), 1)
        self.assertEqual(self.reflexive(alice), ("203.0.113.99", 5000))

    def test_cut(self) -> None:
        """
        Behind a link that was cut there is silence, until it is restored.
        """
        home = self.internet.router("home", EXTERNAL)
        alice = listen(home.host("alice"), Recorder())
        self.reflexive(alice)
        home.link.cut()
        alice.send(b"?", MIRROR)
        self.internet.advance(1.0)
        self.assertEqual(len(self.mirror.received), 1)
        home.link.restore()
        self.reflexive(alice)

    def test_tableFull(self) -> None:
        """
        A router whose table is full drops what needs one more mapping.
        """
        home = self.internet.router("home", EXTERNAL, nat=NAT(maxMappings=1))
        host = home.host("alice")
        self.reflexive(listen(host, Recorder()))
        listen(host, Recorder(), 5001).send(b"one more", MIRROR)
        self.internet.advance(1.0)
        self.assertEqual(home.counters.dropped["no mapping, and none to be had"], 1)
