"""
Routers of the simulated Internet: policies, limits, pools, and what hosts know of them.
"""

from __future__ import annotations

from zope.interface.verify import verifyObject

from p2ptwist.core.address import HostPort
from p2ptwist.errors import LocalUsageError
from p2ptwist.interfaces import IDefaultGateways
from p2ptwist.testing import (
    NAT,
    Filtering,
    Firewall,
    Mapping,
    Pooling,
    PortAllocation,
    Uninvited,
)
from p2ptwist.testing.packet import Protocol, Segment, TCPFlag
from tests.sim.datagrams import Mirror, Recorder, listen
from tests.sim.test_internet_nat import EXTERNAL, MIRROR, RouterCase

OPEN = Filtering.ENDPOINT_INDEPENDENT
POOL = ("203.0.113.2", "203.0.113.3", "203.0.113.4")


class GatewayTests(RouterCase):
    """
    Default gateways.
    """

    def test_gateways(self) -> None:
        """
        A host's gateway is the router of its LAN, for each family that it has there.
        """
        home = self.internet.router("home", EXTERNAL, prefix6="2001:db8:1::/64")
        alice, old = home.host("alice"), home.host("old", "192.168.1.77")
        verifyObject(IDefaultGateways, alice)
        self.assertEqual(alice.defaultGateways(), ["192.168.1.1", "2001:db8:1::1"])
        self.assertEqual(old.defaultGateways(), ["192.168.1.1"])
        self.assertEqual(self.public.defaultGateways(), [])

    def test_nested(self) -> None:
        """
        Behind two routers it is the inner one; on two LANs there are two, the first one first.
        """
        isp = self.internet.router("isp", EXTERNAL, lan="100.64.0.0/24")
        home = isp.router("home")
        alice = home.host("alice")
        self.assertEqual(alice.defaultGateways(), ["192.168.2.1"])
        isp.attach(alice)
        self.assertEqual(alice.defaultGateways(), ["192.168.2.1", "100.64.0.1"])
        alice.removeAddress("192.168.2.2")
        self.assertEqual(alice.defaultGateways(), ["100.64.0.1"])


class BlockedTests(RouterCase):
    """
    Routers that do not let UDP through.
    """

    def test_blocked(self) -> None:
        """
        Nothing leaves, and nothing comes in.
        """
        home = self.internet.router("home", EXTERNAL, nat=NAT(udpPorts=frozenset()))
        alice = listen(home.host("alice"), Recorder())
        alice.send(b"?", MIRROR)
        self.mirror.send(b"!", (EXTERNAL, 5000))
        self.internet.advance(1.0)
        self.assertEqual((alice.received, self.mirror.received), ([], []))
        self.assertEqual(home.counters.dropped["UDP is blocked"], 2)

    def test_somePorts(self) -> None:
        """
        Where some ports are open, others are closed, also for what comes in.
        """
        nat = NAT(filtering=OPEN, udpPorts=frozenset({MIRROR[1]}))
        home = self.internet.router("home", EXTERNAL, nat=nat)
        alice = listen(home.host("alice"), Recorder())
        self.assertEqual(self.reflexive(alice), (EXTERNAL, 5000))
        other = listen(self.public, Mirror(), 9)
        alice.send(b"?", (MIRROR[0], 9))
        other.send(b"!", (EXTERNAL, 5000))
        self.internet.advance(1.0)
        self.assertEqual((len(alice.received), other.received), (1, []))

    def test_firewall(self) -> None:
        """
        A firewall blocks as a NAT does; each is asked for its own family.
        """
        firewall = Firewall(udpPorts=frozenset())
        home = self.internet.router("home", EXTERNAL, prefix6="2001:db8:1::/64", firewall=firewall)
        alice = home.host("alice")
        listen(alice, four := Recorder())
        listen(alice, six := Recorder(), 5006, "::")
        listen(self.public, mirror := Mirror(), interface="::")
        four.send(b"4", MIRROR)
        six.send(b"6", ("2001:db8::1", 5000))
        self.internet.advance(1.0)
        self.assertEqual((len(four.received), six.received, mirror.received), (1, [], []))


class UninvitedTests(RouterCase):
    """
    TCP and UDP that nobody asked for.
    """

    def test_apart(self) -> None:
        """
        They may get different answers.
        """
        nat = NAT(uninvited=Uninvited.DROP, tcpUninvited=Uninvited.RESET)
        home = self.internet.router("home", EXTERNAL, nat=nat)
        self.mirror.send(b"hello?", (EXTERNAL, 5000))
        self.internet.advance(1.0)
        self.assertEqual(home.counters.packetsSent, 0)
        self.knock()
        [answer] = [each.packet for each in self.internet.trace if each.where == "home"][-1:]
        assert isinstance(answer.payload, Segment)
        self.assertTrue(answer.payload.flags & TCPFlag.RST)

    def test_acceptedConnection(self) -> None:
        """
        A router that accepts what nobody asked for forgets a SYN once it has reset it, as Linux
        does: the inside keeps its port.
        """
        nat = NAT(mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT, uninvited=Uninvited.ACCEPT)
        home = self.internet.router("home", EXTERNAL, nat=nat)
        alice = home.host("alice")
        self.knock()
        self.assertEqual(home.counters.packetsSent, 1)
        alice._stack.send(Protocol.TCP, (alice.address, 5000), (MIRROR[0], 4000), self.syn())
        self.internet.advance(1.0)
        [entry] = home.mappings()
        self.assertEqual(entry.external, (EXTERNAL, 5000))

    def knock(self) -> None:
        """
        Send a SYN to the router.
        """
        self.public._stack.send(Protocol.TCP, (MIRROR[0], 4000), (EXTERNAL, 5000), self.syn())
        self.internet.advance(1.0)

    def syn(self) -> Segment:
        """
        @return: the first segment of a connection.
        """
        return Segment(TCPFlag.SYN, 1, 0, 1000)


class PoolTests(RouterCase):
    """
    Routers with several external addresses.
    """

    def externals(self, pooling: Pooling) -> list[HostPort]:
        """
        @return: what the mirror sees of one host's ports.
        """
        nat = NAT(pooling=pooling, allocation=PortAllocation.RANDOM)
        isp = self.internet.router("isp", EXTERNAL, pool=POOL, nat=nat)
        host = isp.host("host")
        return [self.reflexive(listen(host, Recorder(), 6000 + n)) for n in range(12)]

    def test_paired(self) -> None:
        """
        One host is seen at one address, and answered there.
        """
        self.assertEqual(len({host for host, _ in self.externals(Pooling.PAIRED)}), 1)

    def test_arbitrary(self) -> None:
        """
        Its ports are seen at several, and answers find each.
        """
        externals = self.externals(Pooling.ARBITRARY)
        self.assertGreater(len({host for host, _ in externals}), 2)
        self.assertEqual(self.internet.routers["isp"].counters.packetsReceived, 12)
        self.assertEqual(self.internet.routers["isp"].counters.dropped, {})

    def test_hairpin(self) -> None:
        """
        Each of the addresses is the router's own.
        """
        isp = self.internet.router("isp", EXTERNAL, pool=POOL)
        listen(isp.host("host"), recorder := Recorder())
        for number, address in enumerate((EXTERNAL, *POOL)):
            recorder.send(b"myself?", (address, 1))
            self.internet.advance(1.0)
            self.assertEqual(isp.counters.dropped["no hairpinning"], number + 1)

    def test_badPools(self) -> None:
        """
        A pool is of public addresses, beside the first one.
        """
        with self.assertRaises(LocalUsageError):
            self.internet.router("one", EXTERNAL, pool=["10.0.0.1"])
        with self.assertRaises(LocalUsageError):
            self.internet.router("two", pool=POOL, lan="198.51.100.0/24")
