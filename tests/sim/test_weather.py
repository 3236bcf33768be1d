"""
Connecting through bad links: a thousand seeds of loss, duplication and reordering.

C{P2PTWIST_SEEDS} sets how many seeds are run; the first failing one is named.
"""

from __future__ import annotations

import os

from p2ptwist.testing import NAT, Filtering, Link, PortAllocation
from tests.sim.neighborhood import SITE_LATENCY
from tests.sim.test_pairs import PairCase

SEEDS = int(os.environ.get("P2PTWIST_SEEDS", "1000"))
BAD_LINK = Link(latency=SITE_LATENCY, jitter=0.01, loss=0.1, duplication=0.05, reordering=0.1)


class BadLinkTests(PairCase):
    """
    Nothing hangs, whatever is lost.
    """

    def test_seeds(self) -> None:
        """
        On links that lose, repeat and reorder a tenth of all packets, in each direction, every
        seed connects, data crosses, and nothing is left behind.
        """
        for seed in range(SEEDS):
            filterings, allocations = tuple(Filtering), tuple(PortAllocation)
            pairs = self.neighborhood(seed)
            a, b = pairs.pair(
                NAT(filtering=filterings[seed % 3], allocation=allocations[seed // 9 % 3]),
                NAT(filtering=filterings[seed // 3 % 3], allocation=allocations[seed // 27 % 3]),
                BAD_LINK,
            )
            recorder = pairs.connect(a, b)
            # A datagram may be lost for good, but not one of fifty in each direction.
            for number in range(50):
                recorder.path.write(b"%d" % number)
                pairs.internet.advance(0.05)
            pairs.internet.advance(5.0)
            self.assertGreater(len(recorder.received), 10, f"seed {seed}")
            self.assertIsNone(recorder.lost, f"seed {seed}")
            pairs.close()
