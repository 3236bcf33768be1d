"""
Every pair of NATs that is hard to connect through, with a few seeds each.

C{P2PTWIST_MATRIX_SEEDS} says with how many; C{benchmarks/matrix.py} tries them with many more, and
in the kernel laboratory.
"""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from tests.hardpairs import ROWS
from tests.sim.hardpairs import tryOnce
from tests.sim.neighborhood import UNIT

SEEDS = int(os.environ.get("P2PTWIST_MATRIX_SEEDS", "3"))


class MatrixTests(SynchronousTestCase):
    """
    Direct, and how soon.
    """

    def test_rows(self) -> None:
        """
        Every pair is direct as often and as soon as it is to be, over UDP or TCP, and what is said
        then does not pass the node.
        """
        for row in ROWS:
            tries = [tryOnce(pair, seed) for pair in row.pairs for seed in range(SEEDS)]
            times = [each.seconds if each.direct else float("inf") for each in tries]
            self.assertTrue(row.isMet(times, UNIT), f"{row.name}: {sorted(times)}")
            transports = {each.transport for each in tries if each.direct}
            self.assertLessEqual(transports, {row.transport}, row.name)
