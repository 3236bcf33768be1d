"""
Tests for L{p2ptwist.core.nat} and L{p2ptwist.core.behavior}.
"""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.address import HostPort
from p2ptwist.core.behavior import Evidence, Response
from p2ptwist.core.nat import (
    UNKNOWN_BEHAVIOR,
    NATBehavior,
    NATFiltering,
    NATMapping,
    PortAllocation,
)

A1P1 = ("192.0.2.1", 3478)
A1P2 = ("192.0.2.1", 3479)
A2P1 = ("192.0.2.2", 3478)
A2P2 = ("192.0.2.2", 3479)
ONE, TWO, THREE = (("203.0.113.7", port) for port in (1001, 1002, 1003))


class DescriptionTests(SynchronousTestCase):
    """
    Behaviour in words.
    """

    def test_known(self) -> None:
        """
        The words are those of RFC 4787.
        """
        behavior = NATBehavior(
            NATMapping.ENDPOINT_INDEPENDENT, NATFiltering.ADDRESS_AND_PORT_DEPENDENT
        )
        self.assertEqual(
            str(behavior),
            "endpoint-independent mapping with address-and-port-dependent filtering",
        )

    def test_unknown(self) -> None:
        """
        What is not known is called so.
        """
        self.assertEqual(str(UNKNOWN_BEHAVIOR), "unknown mapping with unknown filtering")
        self.assertEqual(
            str(NATBehavior(NATMapping.ADDRESS_DEPENDENT)),
            "address-dependent mapping with unknown filtering",
        )

    def test_ports(self) -> None:
        """
        Which ports come next matters, and is told, where the mapping depends on the destination.
        """
        dependent = NATBehavior(
            NATMapping.ADDRESS_DEPENDENT,
            NATFiltering.ADDRESS_DEPENDENT,
            PortAllocation.SEQUENTIAL,
        )
        self.assertEqual(
            str(dependent),
            "address-dependent mapping with address-dependent filtering and sequential ports",
        )
        for mapping in (None, NATMapping.ENDPOINT_INDEPENDENT):
            self.assertNotIn("ports", str(replace(dependent, mapping=mapping)))


class MappingTests(SynchronousTestCase):
    """
    What follows from where a port was seen.
    """

    def mapping(
        self,
        other: HostPort,
        responses: dict[HostPort, Response] | None = None,
        **seen: HostPort,
    ) -> NATMapping | None:
        """
        @param seen: by the short name of each address that answered.
        """
        names = {"a1p1": A1P1, "a1p2": A1P2, "a2p1": A2P1, "a2p2": A2P2}
        evidence = Evidence(
            A1P1, other, responses or {}, {names[each]: seen[each] for each in seen}
        )
        return evidence.behavior().mapping

    def test_complete(self) -> None:
        """
        With four addresses that answer, everything is known.
        """
        for result, ports in (
            (NATMapping.ENDPOINT_INDEPENDENT, (ONE, ONE, ONE, ONE)),
            (NATMapping.ADDRESS_DEPENDENT, (ONE, ONE, TWO, TWO)),
            (NATMapping.ADDRESS_AND_PORT_DEPENDENT, (ONE, TWO, THREE, ONE)),
            # Where a port seems to make no difference, it did for another host.
            (NATMapping.ADDRESS_AND_PORT_DEPENDENT, (ONE, ONE, TWO, THREE)),
            (NATMapping.ADDRESS_AND_PORT_DEPENDENT, (ONE, TWO, ONE, ONE)),
        ):
            a1p1, a1p2, a2p1, a2p2 = ports
            self.assertIs(self.mapping(A2P2, a1p1=a1p1, a1p2=a1p2, a2p1=a2p1, a2p2=a2p2), result)

    def test_missing(self) -> None:
        """
        An answer that is missing leaves open what it would have told.
        """
        self.assertIsNone(self.mapping(A2P2, a1p1=ONE))
        self.assertIsNone(self.mapping(A2P2, a1p1=ONE, a1p2=ONE, a2p2=ONE))
        self.assertIsNone(self.mapping(A2P2, a1p1=ONE, a2p1=TWO))
        self.assertIs(self.mapping(A2P2, a1p1=ONE, a2p1=ONE), NATMapping.ENDPOINT_INDEPENDENT)
        self.assertIs(self.mapping(A2P2, a1p1=ONE, a1p2=TWO), NATMapping.ADDRESS_AND_PORT_DEPENDENT)

    def test_letIn(self) -> None:
        """
        What an address saw that was let in before, or may have been, is no evidence.
        """
        seen = {"a1p1": ONE, "a1p2": ONE, "a2p1": TWO, "a2p2": ONE}
        for response in (Response.AS_ASKED, Response.PENDING):
            self.assertIs(
                self.mapping(A2P2, {A2P2: response}, **seen), NATMapping.ADDRESS_DEPENDENT
            )
            self.assertIsNone(self.mapping(A2P2, {A2P2: response, A1P2: response}, **seen))
        for response in (Response.NONE, Response.OTHERWISE):
            self.assertIs(
                self.mapping(A2P2, {A2P2: response}, **seen),
                NATMapping.ADDRESS_AND_PORT_DEPENDENT,
            )

    def test_oneHost(self) -> None:
        """
        Two ports of one host show dependence on the port, and nothing else.
        """
        self.assertIsNone(self.mapping(A1P2, a1p1=ONE, a1p2=ONE))
        self.assertIs(self.mapping(A1P2, a1p1=ONE, a1p2=TWO), NATMapping.ADDRESS_AND_PORT_DEPENDENT)

    def test_onePort(self) -> None:
        """
        One port of two hosts shows independence, and no kind of dependence.
        """
        self.assertIs(self.mapping(A2P1, a1p1=ONE, a2p1=ONE), NATMapping.ENDPOINT_INDEPENDENT)
        self.assertIsNone(self.mapping(A2P1, a1p1=ONE, a2p1=TWO))


class FilteringTests(SynchronousTestCase):
    """
    What follows from who could answer.
    """

    def filtering(
        self,
        other: HostPort,
        responses: dict[HostPort, Response],
        alive: tuple[HostPort, ...] = (A1P1, A1P2, A2P1, A2P2),
    ) -> NATFiltering | None:
        """
        @param alive: the addresses that answer when they are asked.
        """
        evidence = Evidence(A1P1, other, responses, dict.fromkeys(alive, ONE))
        return evidence.behavior().filtering

    def test_complete(self) -> None:
        """
        The three results of RFC 5780 section 4.4.
        """
        self.assertIs(
            self.filtering(A2P2, {A2P2: Response.AS_ASKED}, ()),
            NATFiltering.ENDPOINT_INDEPENDENT,
        )
        self.assertIs(
            self.filtering(A2P2, {A2P2: Response.NONE, A1P2: Response.AS_ASKED}),
            NATFiltering.ADDRESS_DEPENDENT,
        )
        self.assertIs(
            self.filtering(A2P2, {A2P2: Response.NONE, A1P2: Response.NONE}),
            NATFiltering.ADDRESS_AND_PORT_DEPENDENT,
        )

    def test_silentServer(self) -> None:
        """
        Silence of an address that never answers proves no filter.
        """
        silent = {A2P2: Response.NONE, A1P2: Response.NONE}
        self.assertIsNone(self.filtering(A2P2, silent, (A1P1, A1P2)))
        self.assertIsNone(self.filtering(A2P2, silent, (A1P1, A2P1, A2P2)))

    def test_unwillingServer(self) -> None:
        """
        A server that does not answer as it is asked proves nothing either.
        """
        for response in (Response.OTHERWISE, None):
            responses = {} if response is None else {A2P2: response, A1P2: response}
            self.assertIsNone(self.filtering(A2P2, responses))
        mixed = {A2P2: Response.NONE, A1P2: Response.OTHERWISE}
        self.assertIsNone(self.filtering(A2P2, mixed))

    def test_oneHost(self) -> None:
        """
        Two ports of one host show filtering by port, and nothing else.
        """
        self.assertIsNone(self.filtering(A1P2, {A1P2: Response.AS_ASKED}))
        self.assertIs(
            self.filtering(A1P2, {A1P2: Response.NONE}),
            NATFiltering.ADDRESS_AND_PORT_DEPENDENT,
        )

    def test_onePort(self) -> None:
        """
        One port of two hosts shows that there is a filter, but not which.
        """
        self.assertIs(
            self.filtering(A2P1, {A2P1: Response.AS_ASKED}), NATFiltering.ENDPOINT_INDEPENDENT
        )
        self.assertIsNone(self.filtering(A2P1, {A2P1: Response.NONE}))
