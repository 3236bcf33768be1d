"""
Sessions of a host that has addresses of its own, behind a stateful firewall of the kernel's.
"""

from __future__ import annotations

from twisted.trial import unittest

from tests.hardpairs import HASHED, RANDOM, SEQUENTIAL, Pair
from tests.kernel.lab.hardpairs import tryAll

_PAIRS = [
    Pair("sequential, firewall calls", (), (SEQUENTIAL,)),
    Pair("hashed, firewall is called", (HASHED,), ()),
    Pair("random, firewall calls", (), (RANDOM,)),
    Pair("random, firewall is called", (RANDOM,), ()),
]


class FirewallTests(unittest.SynchronousTestCase):
    """
    A firewall lets in whom its host has sent to, as a common router does.
    """

    def test_symmetric(self) -> None:
        """
        The other side's ports are foretold, or found by trying.  Who was not direct tries once
        more: a spray finds no port in one of fifty cases.
        """
        found = {pair.name: tries[0] for pair, tries in zip(_PAIRS, tryAll(_PAIRS), strict=True)}
        late = [pair for pair in _PAIRS if not found[pair.name].direct]
        if late:
            again = zip(late, tryAll(late), strict=True)
            found.update({pair.name: tries[0] for pair, tries in again})
        for name, outcome in found.items():
            self.assertTrue(outcome.direct, f"{name}: {outcome}")
            self.assertEqual(outcome.transport, "udp", f"{name}: {outcome}")
