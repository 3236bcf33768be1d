"""
NAT behaviour discovery with servers that have less, are several, are not there, or lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.address import HostPort
from p2ptwist.core.nat import NATBehavior, NATMapping, PortAllocation
from p2ptwist.core.stun.attributes import encodeAddress, encodeXORAddress
from p2ptwist.core.stun.message import AttributeType, MessageClass, encode
from p2ptwist.core.stun.server import Reply, Responder
from p2ptwist.errors import LocalUsageError
from p2ptwist.net.natdiscovery import NATFindings, discoverNAT
from p2ptwist.testing import NAT, Filtering, Firewall, Mapping
from p2ptwist.testing import PortAllocation as Allocation
from p2ptwist.testing.nat import Hairpinning
from tests.sim.natworld import (
    ALTERNATE6,
    OTHER_HOST,
    OTHER_PORT,
    PRIMARY,
    PRIMARY6,
    SECOND,
    SILENT,
    Liar,
    Lie,
    World,
    facts,
    right,
    success,
    wrongFacts,
)


class ServersTests(SynchronousTestCase):
    """
    Discovery with servers that have less, are several, or are not there.
    """

    def test_neverWrong(self) -> None:
        """
        A server with one host, one port, or one address leaves open what it cannot tell; what it
        does tell is right.
        """
        for alternate in (OTHER_PORT, OTHER_HOST, None):
            for mapping, filtering, allocation in product(Mapping, Filtering, Allocation):
                nat = NAT(mapping=mapping, filtering=filtering, allocation=allocation)
                behavior = World(self, nat, alternate).discover().behavior
                self.assertEqual(wrongFacts(behavior, nat), [])
                self.assertEqual(behavior.allocation, right(nat).allocation)

    def test_oneAddress(self) -> None:
        """
        One address shows allocation, the step, and hairpinning where it is.
        """
        nat = NAT(allocation=Allocation.SEQUENTIAL, hairpinning=Hairpinning.EXTERNAL)
        self.assertEqual(
            World(self, nat, None).discover().behavior,
            NATBehavior(None, None, PortAllocation.SEQUENTIAL, 1, True),
        )

    def test_twoNodes(self) -> None:
        """
        Two servers of one address each show an independent mapping, or that it is dependent.
        """
        for mapping, allocation in product(Mapping, Allocation):
            nat = NAT(mapping=mapping, allocation=allocation)
            world = World(self, nat, None)
            world.second()
            findings = world.discover(PRIMARY, SECOND)
            independent = mapping is Mapping.ENDPOINT_INDEPENDENT
            self.assertEqual(
                findings.behavior.mapping,
                NATMapping.ENDPOINT_INDEPENDENT if independent else None,
            )
            self.assertEqual(len(findings.addresses), 1 if independent else 2)
            self.assertEqual(findings.behavior.allocation, right(nat).allocation)
            self.assertEqual(findings.behavior.step, right(nat).step)
            self.assertEqual(set(findings.roundTrips), {PRIMARY, SECOND})

    def test_better(self) -> None:
        """
        The tests are made with a server that has an alternate address, in whatever order servers
        are named.
        """
        nat = NAT(mapping=Mapping.ADDRESS_DEPENDENT)
        for servers in ((SECOND, PRIMARY), (PRIMARY, SECOND)):
            world = World(self, nat)
            world.second()
            findings = world.discover(*servers)
            self.assertEqual(facts(findings.behavior)[:3], facts(right(nat))[:3])
            assert findings.server is not None
            self.assertEqual(findings.server.primary, PRIMARY)

    def test_silent(self) -> None:
        """
        Servers that do not answer cost one deadline in all.
        """
        silent = [("198.51.100.77", port) for port in (3478, 3479, 3480)]
        for mapping in Mapping:
            nat = NAT(mapping=mapping)
            findings = World(self, nat).discover(*silent, PRIMARY)
            self.assertEqual(facts(findings.behavior)[:4], facts(right(nat))[:4])
        world = World(self, NAT(), None)
        self.assertIs(
            world.discover(SILENT, PRIMARY).behavior.allocation, PortAllocation.PRESERVING
        )

    def test_blocked(self) -> None:
        """
        Where UDP does not get out, nothing is known, after one deadline.
        """
        world = World(self, NAT())
        findings = world.discover(SILENT, ("198.51.100.78", 3478))
        self.assertEqual(findings, NATFindings())
        self.assertLess(world.host.seconds(), 1.5)

    def test_partlySilent(self) -> None:
        """
        Addresses of a server that do not answer themselves prove nothing.
        """
        for host, port in (("192.0.2.2", None), (None, 4479)):
            world = World(self, NAT(mapping=Mapping.ADDRESS_DEPENDENT), None)
            Liar(world.node, lambda responder, *request: responder.answer(*request), host, port)
            findings = world.discover(("192.0.2.1", 4478))
            self.assertEqual(
                wrongFacts(findings.behavior, NAT(mapping=Mapping.ADDRESS_DEPENDENT)), []
            )
            self.assertIsNone(findings.behavior.filtering)

    def test_usage(self) -> None:
        """
        No servers, names, and servers of two families are mistakes.
        """
        world = World(self)
        for servers in ([], [("localhost", 1)], [PRIMARY, PRIMARY6]):
            self.assertRaises(LocalUsageError, discoverNAT, world.host, world.openPort, servers)

    def test_ipv6(self) -> None:
        """
        IPv6 has no NAT, but filters.
        """
        for filtering in Filtering:
            world = World(self)
            world.serve(world.node, PRIMARY6, ALTERNATE6)
            firewall = Firewall(filtering=filtering)
            router = world.internet.router(
                "site", "203.0.113.9", prefix6="2001:db8:7::/64", firewall=firewall
            )
            world.host = router.host("bob")
            behavior = world.discover(PRIMARY6).behavior
            self.assertIs(behavior.mapping, NATMapping.ENDPOINT_INDEPENDENT)
            self.assertEqual(behavior.filtering, filtering.value)
            self.assertIs(behavior.allocation, PortAllocation.PRESERVING)

    def test_cancelled(self) -> None:
        """
        Discovery can be given up at any moment, and leaves nothing.
        """
        for moment in (0.0, 0.03, 0.07, 0.2, 0.9, 1.4):
            world = World(self, NAT())
            running = world.start()
            world.internet.advance(moment)
            running.cancel()
            world.internet.advance(0.1)
            self.failureResultOf(running, CancelledError)
            self.assertEqual(world.host.getDelayedCalls(), [])


class LyingServerTests(SynchronousTestCase):
    """
    Discovery with servers that lie.
    """

    def behavior(self, lie: Lie, nat: NAT | None = None) -> NATBehavior:
        """
        @return: what discovery finds with such a server.
        """
        world = World(self, nat or NAT(), None)
        Liar(world.node, lie)
        return world.discover(("192.0.2.1", 4478)).behavior

    def test_otherAddress(self) -> None:
        """
        An alternate address that is nobody's, a group's, or this host's leaves mapping and
        filtering open, and gets no datagram that it must not get.
        """
        for other in (
            ("198.51.100.77", 3478),
            ("224.0.0.1", 3478),
            ("127.0.0.1", 3478),
            ("192.168.1.1", 53),
        ):

            def lie(
                responder: Responder,
                data: bytes,
                source: HostPort,
                local: HostPort,
                other: HostPort = other,
            ) -> Reply:
                attributes = (
                    (int(AttributeType.XOR_MAPPED_ADDRESS), encodeXORAddress(source, data[8:20])),
                    (int(AttributeType.OTHER_ADDRESS), encodeAddress(other)),
                )
                return Reply(success(data, *attributes), local)

            behavior = self.behavior(lie)
            self.assertIsNone(behavior.mapping)
            self.assertIsNone(behavior.filtering)

    def test_notAsAsked(self) -> None:
        """
        A server that answers from where it was asked leaves filtering open.
        """

        def lie(
            responder: Responder, data: bytes, source: HostPort, local: HostPort
        ) -> Reply | None:
            reply = responder.answer(data, source, local)
            return reply and Reply(reply.data, local)

        for filtering in Filtering:
            behavior = self.behavior(lie, NAT(filtering=filtering))
            self.assertIs(behavior.mapping, NATMapping.ENDPOINT_INDEPENDENT)
            self.assertIsNone(behavior.filtering)

    def test_deaf(self) -> None:
        """
        A server that does not answer from elsewhere at all, though it could, is not taken for a
        filter.
        """

        def lie(
            responder: Responder, data: bytes, source: HostPort, local: HostPort
        ) -> Reply | None:
            reply = responder.answer(data, source, local)
            return reply if reply and reply.origin == local else None

        self.assertIsNone(self.behavior(lie).filtering)

    def test_nonsense(self) -> None:
        """
        Answers that are none, or tell addresses that nobody has, leave everything open.
        """
        seen: Sequence[HostPort] = (("0.0.0.0", 5), ("224.0.0.1", 5), ("203.0.113.7", 0))
        lies: list[Lie] = [
            lambda responder, data, source, local: Reply(success(data), local),
            lambda responder, data, source, local: Reply(b"\1\1\0\0" + data[4:20] + b"x", local),
            lambda responder, data, source, local: Reply(
                encode(MessageClass.ERROR, 1, data[8:20]), local
            ),
        ]
        for address in seen:
            lies.append(
                lambda responder, data, source, local, address=address: Reply(
                    success(
                        data,
                        (
                            AttributeType.XOR_MAPPED_ADDRESS,
                            encodeXORAddress(address, data[8:20]),
                        ),
                    ),
                    local,
                )
            )
        for lie in lies:
            self.assertEqual(self.behavior(lie), NATBehavior())

    def test_elsewhere(self) -> None:
        """
        Answers from addresses that were not asked are not taken.
        """

        def lie(
            responder: Responder, data: bytes, source: HostPort, local: HostPort
        ) -> Reply | None:
            reply = responder.answer(data, source, local)
            return reply and Reply(reply.data, ("192.0.2.2", 4478))

        open_ = NAT(filtering=Filtering.ENDPOINT_INDEPENDENT)
        self.assertEqual(self.behavior(lie, open_), NATBehavior())
