"""
NAT behaviour discovery in the laboratory: the real node, real NATs, and the example program.
"""

from __future__ import annotations

import sys
from pathlib import Path

from twisted.trial import unittest

from p2ptwist.core.nat import NATBehavior, NATFiltering, NATMapping
from p2ptwist.testing.nat import NAT, Filtering
from tests.kernel.lab.laboratory import Laboratory
from tests.kernel.lab.nat import BEHAVIOURS
from tests.kernel.lab.once import once
from tests.kernel.lab.peers import START, STUN, startNode

_EXAMPLE = str(Path(__file__).resolve().parents[2] / "examples" / "nat_behavior.py")
_NATS = [
    NAT(mapping=mapping, allocation=allocation, filtering=filtering)
    for mapping, allocation in BEHAVIOURS
    for filtering in Filtering
]


def expected(nat: NAT) -> str:
    """
    @return: what is to be found out; the names are the same on purpose.
    """
    return str(NATBehavior(NATMapping[nat.mapping.name], NATFiltering[nat.filtering.name]))


@once
def _discovered() -> dict[NAT, str]:
    """
    @return: what the example printed behind every NAT.
    """
    with Laboratory() as laboratory:
        public = laboratory.publicHost("node")
        startNode(public)
        server = f"{public.addresses[0]}:{STUN}"
        programs = {
            nat: laboratory.site(f"site{number}", nat)
            .host(f"host{number}")
            .run(sys.executable, _EXAMPLE, "--server", server)
            for number, nat in enumerate(_NATS)
        }
        return {nat: each.line("seen at", timeout=START) for nat, each in programs.items()}


class DiscoveryTests(unittest.SynchronousTestCase):
    """
    What discovery finds behind real NATs.
    """

    def test_everyNAT(self) -> None:
        """
        Every NAT that the laboratory can make is called what it is.
        """
        for nat, line in _discovered().items():
            self.assertTrue(line.endswith(f": {expected(nat)}"), f"{line!r}, not {expected(nat)}")

    def test_addresses(self) -> None:
        """
        A mapping that depends on nothing has one address, the others have several.
        """
        for nat, line in _discovered().items():
            addresses = line.partition(": ")[0].count(",") + 1
            dependent = expected(nat).startswith("address")
            self.assertEqual(addresses > 1, dependent, line)
