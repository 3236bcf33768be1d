"""
Sessions of peers behind several NATs, one in the other.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from typing import Any

from p2ptwist.testing import NAT, Filtering, Hairpinning, Mapping, PortAllocation, Router
from p2ptwist.testing.packet import Packet, Segment
from p2ptwist.testing.portmapper import PortMapper
from tests.sim.neighborhood import NODE
from tests.sim.sessions import Caller, SessionCase
from tests.sim.test_pairs import A_EXTERNAL, B_EXTERNAL

STRICT = NAT()
RANDOM_PORTS = NAT(allocation=PortAllocation.RANDOM)
SYMMETRIC = NAT(mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT, allocation=PortAllocation.RANDOM)
# A carrier's network between its NAT and its customers' (RFC 6598).
SHARED = "100.64.0.0/24"
_SHARED = IPv4Network(SHARED)
NO_HAIRPIN = NAT(hairpinning=Hairpinning.NONE)
MAPPERS = (PortMapper(natPMP=False), PortMapper(pcp=False), PortMapper())


class DoubleNATTests(SessionCase):
    """
    Two peers; whether they become direct, and by which addresses.
    """

    def carrier(self, outer: NAT, *inner: NAT) -> tuple[Caller, Caller]:
        """
        @return: two peers, each behind a router of its own, both in a carrier's network.
        """
        self.world = self.pairs()
        network = self.world.internet.router("carrier", A_EXTERNAL, nat=outer, lan=SHARED)
        routers = [
            network.router(f"{nat} {name}", nat=nat) for name, nat in zip("ab", inner, strict=True)
        ]
        return self.peers(routers)

    def peers(self, routers: list[Router]) -> tuple[Caller, Caller]:
        """
        @return: a peer behind each router, ready.
        """
        a, b = (
            self.world.caller(router.host(name)) for router, name in zip(routers, "ab", strict=True)
        )
        self.world.ready()
        b.echoes()
        return a, b

    def meet(self, a: Caller, b: Caller, seconds: float = 5.0) -> str | None:
        """
        @return: the host that the caller's direct path goes to; C{None} when there is none.
        """
        talk = self.world.talk(a, b)
        talk.transport.write(b"hello")
        self.world.internet.advance(seconds)
        talk.transport.write(b" world")
        self.world.internet.advance(1.0)
        self.assertEqual(talk.data, b"hello world")
        if not a.events or a.events[-1][1].kind != "direct":
            return None
        self.assertEqual(b.events[-1][1].kind, "direct")
        self.assertEqual(a.events[-1][1].transport, "udp")
        remote = a.events[-1][1].remote
        assert remote is not None
        return remote[0]

    def test_sameLAN(self) -> None:
        """
        Two hosts of one inner network meet there, whatever the routers do.
        """
        for nat in (NO_HAIRPIN, SYMMETRIC):
            self.world = self.pairs()
            outer = self.world.internet.router("carrier", A_EXTERNAL, nat=nat, lan=SHARED)
            inner = outer.router("inner", nat=nat)
            a, b = self.peers([inner, inner])
            self.assertEqual(self.meet(a, b), b.host.address)
            self.world.close()

    def test_hairpin(self) -> None:
        """
        Different inner routers meet through the outer one, if that turns packets round.  Where it
        does so without changing their source, the inner ones have to let in whoever comes.
        """
        for hairpinning, inner in (
            (Hairpinning.EXTERNAL, STRICT),
            (Hairpinning.INTERNAL, NAT(filtering=Filtering.ENDPOINT_INDEPENDENT)),
        ):
            a, b = self.carrier(NAT(hairpinning=hairpinning), inner, inner)
            self.assertIsNotNone(self.meet(a, b), hairpinning)
            self.world.close()

    def test_noHairpin(self) -> None:
        """
        If it does not, and the inner routers map no ports, the session stays relayed.
        """
        a, b = self.carrier(NO_HAIRPIN, STRICT, STRICT)
        self.assertIsNone(self.meet(a, b))
        self.world.close()

    def test_innerMapped(self) -> None:
        """
        If they do, by PCP or NAT-PMP, the path goes from one inner router to the other, inside the
        outer network; one that maps ports is enough.
        """
        for mapper in MAPPERS:
            for first, second in ((mapper, mapper), (mapper, None), (None, mapper)):
                a, b = self.carrier(NO_HAIRPIN, NAT(portMapping=first), NAT(portMapping=second))
                remote = self.meet(a, b)
                assert remote is not None, (mapper, first, second)
                self.assertIn(IPv4Address(remote), _SHARED)
                self.world.close()

    def test_innerMappedLadder(self) -> None:
        """
        An address inside one carrier's network is none that a peer elsewhere can aim at: a ladder
        uses the outer one, and finds a random port of the other side.
        """
        for turned in (False, True):
            self.world = self.pairs()
            carrier = self.world.internet.router("carrier", A_EXTERNAL, nat=STRICT, lan=SHARED)
            inner = carrier.router("inner", nat=NAT(portMapping=PortMapper()))
            routers = [inner, self.world.site("other", B_EXTERNAL, SYMMETRIC)]
            a, b = self.peers(routers[::-1] if turned else routers)
            self.assertEqual(self.meet(a, b, 22.0), A_EXTERNAL if turned else B_EXTERNAL)
            self.world.close()

    def test_innerSymmetric(self) -> None:
        """
        The same where the inner routers have the hardest mappings, if one maps ports.
        """
        hard = NAT(
            mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT,
            allocation=PortAllocation.RANDOM,
            portMapping=PortMapper(),
        )
        a, b = self.carrier(NO_HAIRPIN, hard, SYMMETRIC)
        remote = self.meet(a, b)
        assert remote is not None
        self.assertIn(IPv4Address(remote), _SHARED)
        self.world.close()

    def test_differentOuter(self) -> None:
        """
        Two, three and four NATs on each side, under different outer ones, are as good as one.
        """
        for depth in (2, 3, 4):
            for nat in (STRICT, RANDOM_PORTS):
                self.world = self.pairs()
                routers = []
                for name, external in (("one", A_EXTERNAL), ("two", B_EXTERNAL)):
                    router = self.world.site(name, external, nat)
                    for level in range(1, depth):
                        router = router.router(f"{name} {level}", nat=nat)
                    routers.append(router)
                a, b = self.peers(routers)
                self.assertEqual(self.meet(a, b), B_EXTERNAL)
                self.world.close()

    def test_uneven(self) -> None:
        """
        One side has one NAT, the other three; one of those is symmetric and its ports count up.
        """
        counting = NAT(
            mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT, allocation=PortAllocation.SEQUENTIAL
        )
        for turned in (False, True):
            self.world = self.pairs()
            outer = self.world.site("two", B_EXTERNAL, counting)
            deep = outer.router("two 1", nat=STRICT).router("two 2", nat=RANDOM_PORTS)
            routers = [self.world.site("one", A_EXTERNAL, STRICT), deep]
            a, b = self.peers(routers[::-1] if turned else routers)
            self.assertEqual(self.meet(a, b), A_EXTERNAL if turned else B_EXTERNAL)
            self.world.close()

    def sniff(self, link: Any, seen: list[bytes]) -> None:
        """
        Keep what goes to the node over TCP.
        """
        sendUp = link.sendUp

        def note(packet: Packet) -> None:
            if isinstance(packet.payload, Segment) and packet.destination[0] == NODE:
                seen.append(bytes(packet.payload.data))
            sendUp(packet)

        link.sendUp = note

    def test_private(self) -> None:
        """
        Addresses of inner networks are told inside the session only: nothing that passes the node
        has them, in binary or as text.
        """
        mapped = NAT(portMapping=PortMapper())
        a, b = self.carrier(NO_HAIRPIN, mapped, mapped)
        seen: list[bytes] = []
        for caller in (a, b):
            self.sniff(caller.host.link, seen)
        remote = self.meet(a, b)
        assert remote is not None
        passed = b"".join(seen)
        self.assertGreater(len(passed), 1000)
        for host in (remote, a.host.address, b.host.address):
            self.assertNotIn(IPv4Address(host).packed, passed)
            self.assertNotIn(host.encode(), passed)
        self.world.close()
