"""
Tests for L{p2ptwist.core.nat}.
"""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.nat import (
    UNKNOWN_BEHAVIOR,
    NATBehavior,
    NATFiltering,
    NATMapping,
    PortAllocation,
)


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
        for allocation in (None, PortAllocation.PRESERVING):
            self.assertNotIn("ports", str(replace(dependent, allocation=allocation)))
