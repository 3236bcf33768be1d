"""
What direct paths between real peers cost: time to the first echo, and packets of an idle path.
"""

from __future__ import annotations

import statistics

from twisted.trial import unittest

from p2ptwist.testing.nat import NAT
from tests.kernel.lab.laboratory import Laboratory
from tests.kernel.lab.measures import MAPPING, UNIT, callSeconds, idle
from tests.kernel.lab.peers import startPlainNode

# The goals: units of both round trips until the first echo; packets a minute and side.
_UNITS, _PACKETS = 1.6, 8
# Calls in a row, and how often that is done at most.
_CALLS, _TRIES = 7, 6
# Three mappings and the first keepalive thereafter.  (For ten minutes: benchmarks/idle.py.)
_IDLE = 3 * MAPPING + 5.0


class CallTests(unittest.SynchronousTestCase):
    """
    From the call to the first echo.
    """

    def test_median(self) -> None:
        """
        The median of seven calls between registered peers, by a node with no options at all, is
        little more than the round trips that it takes to tell the other side and to reach it.  Of
        six such medians at most the best counts: a machine that is busy with other work measures
        that.
        """
        with Laboratory() as laboratory:
            node = laboratory.publicHost("node")
            startPlainNode(node)
            caller, callee = (laboratory.site(name, NAT()).host(name) for name in ("a", "b"))
            measured = []
            for _ in range(_TRIES):
                seconds = callSeconds(caller, callee, node, _CALLS)
                self.assertEqual(len(seconds), _CALLS)
                measured.append(statistics.median(seconds) / UNIT)
                if measured[-1] <= _UNITS:
                    break
        self.assertLessEqual(min(measured), _UNITS, f"{measured}; at last {seconds}")


class IdleTests(unittest.SynchronousTestCase):
    """
    Nothing is said.
    """

    def test_idle(self) -> None:
        """
        Mappings of 20 s are kept open, by few packets.
        """
        for name, outcome in idle(_IDLE).items():
            self.assertTrue(outcome.alive, f"{name}: {outcome.events}")
            kinds = [event["event"] for event in outcome.events]
            self.assertNotIn("lost", kinds, name)
            for sent in outcome.packets:
                self.assertLessEqual(sent * 60 / outcome.seconds, _PACKETS, name)
