"""
NAT behaviour discovery on the simulated Internet: the real servers, behind every NAT of RFC 4787.
"""

from __future__ import annotations

from collections.abc import Container
from itertools import product
from random import Random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.address import HostPort
from p2ptwist.core.nat import NATBehavior, NATFiltering, NATMapping, PortAllocation
from p2ptwist.core.stun.server import Responder
from p2ptwist.testing import NAT, Filtering, Mapping
from p2ptwist.testing import PortAllocation as Allocation
from p2ptwist.testing.nat import Hairpinning, Uninvited
from tests.sim.natworld import (
    Liar,
    World,
    facts,
    right,
    wrongFacts,
)


class EveryNATTests(SynchronousTestCase):
    """
    Discovery behind every kind of NAT, with a server that has four addresses.
    """

    def assertRight(self, behavior: NATBehavior, nat: NAT) -> None:
        """
        Everything is right; hairpinning alone may be unknown, behind filters that would explain
        silence.
        """
        self.assertEqual(facts(behavior)[:4], facts(right(nat))[:4], nat)
        explained = (
            nat.mapping is not Mapping.ENDPOINT_INDEPENDENT
            and nat.filtering is not Filtering.ENDPOINT_INDEPENDENT
        )
        allowed = (None, right(nat).hairpinning) if explained else (right(nat).hairpinning,)
        self.assertIn(behavior.hairpinning, allowed, nat)

    def test_everyNAT(self) -> None:
        """
        All mappings, filters, allocations and kinds of hairpinning are told apart, whatever
        uninvited packets meet.
        """
        for mapping, filtering, allocation, hairpinning, uninvited in product(
            Mapping, Filtering, Allocation, Hairpinning, Uninvited
        ):
            nat = NAT(
                mapping=mapping,
                filtering=filtering,
                allocation=allocation,
                hairpinning=hairpinning,
                uninvited=uninvited,
            )
            world = World(self, nat)
            findings = world.discover()
            self.assertRight(findings.behavior, nat)
            self.assertEqual({host for host, _ in findings.addresses}, {"203.0.113.7"})
            dependent = mapping is not Mapping.ENDPOINT_INDEPENDENT
            self.assertEqual(len(findings.addresses) > 1, dependent)

    def test_steps(self) -> None:
        """
        The step is told, also of ports that go down, and of ports that Linux would overload.
        """
        for step, mapping in product((1, 2, 3, 5, 10, -1, -4), Mapping):
            nat = NAT(mapping=mapping, allocation=Allocation.SEQUENTIAL, portStep=step)
            self.assertRight(World(self, nat).discover().behavior, nat)
        nat = NAT(mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT, portOverloading=True)
        behavior = World(self, nat).discover().behavior
        self.assertIs(behavior.allocation, PortAllocation.PRESERVING)

    def test_largeSteps(self) -> None:
        """
        Steps that are too large to foretell are not called sequential.
        """
        nat = NAT(allocation=Allocation.SEQUENTIAL, portStep=500)
        self.assertIs(World(self, nat).discover().behavior.allocation, PortAllocation.RANDOM)

    def test_nested(self) -> None:
        """
        Two NATs in a row behave like the stricter one in each respect.
        """
        order = list(Mapping)
        filters = list(Filtering)
        for outer, inner, outerFilter, innerFilter in product(
            Mapping, Mapping, Filtering, Filtering
        ):
            world = World(
                self,
                NAT(mapping=outer, filtering=outerFilter),
                inner=NAT(mapping=inner, filtering=innerFilter),
            )
            behavior = world.discover().behavior
            mapping = max(outer, inner, key=order.index)
            filtering = max(outerFilter, innerFilter, key=filters.index)
            self.assertEqual(behavior.mapping, mapping.value)
            self.assertEqual(behavior.filtering, filtering.value)

    def test_noNAT(self) -> None:
        """
        Without a NAT everything is independent, and the address is the host's own.
        """
        findings = World(self).discover()
        self.assertEqual(
            findings.behavior,
            NATBehavior(
                NATMapping.ENDPOINT_INDEPENDENT,
                NATFiltering.ENDPOINT_INDEPENDENT,
                PortAllocation.PRESERVING,
                None,
                True,
            ),
        )
        self.assertEqual([host for host, _ in findings.addresses], ["198.51.100.9"])

    def test_earlierMapping(self) -> None:
        """
        Mappings that an earlier run has left, to the very addresses that shall be kept out, do not
        open the filter: a thousand ports that have sent everywhere are free again.
        """
        nat = NAT(filtering=Filtering.ADDRESS_AND_PORT_DEPENDENT)
        for seed in range(20):
            world = World(self, nat, seed=seed)
            for _ in range(5):
                findings = world.discover()
                self.assertIs(
                    findings.behavior.filtering, NATFiltering.ADDRESS_AND_PORT_DEPENDENT, seed
                )
                self.assertIs(findings.behavior.mapping, NATMapping.ENDPOINT_INDEPENDENT)

    def test_progress(self) -> None:
        """
        Facts are told as they are found.
        """
        world = World(self, NAT(filtering=Filtering.ADDRESS_DEPENDENT))
        world.discover()
        self.assertEqual(world.words[0], "seen at 203.0.113.7")
        self.assertIn("endpoint-independent mapping", world.words)
        self.assertIn("address-dependent filtering", world.words)
        self.assertIn("preserving ports", world.words)
        self.assertIn("no hairpinning seen", world.words)


class LossTests(SynchronousTestCase):
    """
    Discovery where datagrams get lost.
    """

    def test_loss(self) -> None:
        """
        Of 600 discoveries with one datagram of ten lost on each way, none tells anything wrong;
        most tell everything.
        """
        told = 0
        combinations = list(
            product(Mapping, Filtering, Allocation, (Uninvited.DROP, Uninvited.ACCEPT))
        )
        Random(7).shuffle(combinations)
        for seed in range(600):
            mapping, filtering, allocation, uninvited = combinations[seed % len(combinations)]
            nat = NAT(
                mapping=mapping, filtering=filtering, allocation=allocation, uninvited=uninvited
            )
            behavior = World(self, nat, loss=0.1, seed=seed).discover().behavior
            self.assertEqual(wrongFacts(behavior, nat), [], (seed, nat))
            told += None not in facts(behavior)[:3]
        self.assertGreater(told, 400)

    def test_heavyLoss(self) -> None:
        """
        That holds for three of ten lost on each way.
        """
        combinations = list(product(Mapping, Filtering))
        for seed in range(200):
            mapping, filtering = combinations[seed % 9]
            nat = NAT(mapping=mapping, filtering=filtering)
            behavior = World(self, nat, loss=0.3, seed=seed).discover().behavior
            self.assertEqual(wrongFacts(behavior, nat), [], (seed, nat))

    def hairpinning(self, nat: NAT, lost: Container[int]) -> bool | None:
        """
        @param lost: which ports are never answered, in the order in which they ask: the mapping
            port, six fresh ones, the filtering port.
        @return: what is found out.
        """
        world = World(self, nat)
        asked: list[HostPort] = []

        def answer(responder: Responder, data: bytes, source: HostPort, local: HostPort) -> Any:
            if source not in asked:
                asked.append(source)
            return None if asked.index(source) in lost else responder.answer(data, source, local)

        Liar(world.node, answer)
        found = world.discover(("192.0.2.1", 4478)).behavior.hairpinning
        self.assertEqual(len(asked), 8)
        return found

    def test_lostFlows(self) -> None:
        """
        Hairpinning is told by any two of the six fresh ports, whichever are never answered; by one
        it is not.
        """
        for hairpinning in (Hairpinning.NONE, Hairpinning.EXTERNAL):
            nat = NAT(hairpinning=hairpinning)
            for lost in (range(1, 2), range(2, 3), range(1, 5), range(3, 7)):
                told = self.hairpinning(nat, lost)
                self.assertIs(told, hairpinning is not Hairpinning.NONE, lost)
            self.assertIsNone(self.hairpinning(nat, range(2, 7)))
            self.assertIsNone(self.hairpinning(nat, range(1, 7)))
