"""
L{p2ptwist.core.ice.jitter}.
"""

from __future__ import annotations

from random import Random
from statistics import fmean

from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.ice.jitter import Jitter


class JitterTests(SynchronousTestCase):
    """
    A little randomness.
    """

    def test_spread(self) -> None:
        """
        Numbers are within the bounds, spread over all of them, and others for each source.
        """
        firsts = set()
        for seed in range(50):
            jitter = Jitter(Random(seed).randbytes)
            numbers = [jitter.uniform(4.0, 6.0) for _ in range(500)]
            self.assertTrue(all(4.0 <= number < 6.0 for number in numbers))
            self.assertLess(abs(fmean(numbers) - 5.0), 0.15)
            self.assertEqual(len(set(numbers)), 500)
            firsts.add(numbers[0])
        self.assertEqual(len(firsts), 50)
