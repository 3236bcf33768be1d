"""
Tests for L{p2ptwist.core.tokenbucket}.
"""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.tokenbucket import KeyedBuckets, Rate, TokenBucket

RATE = Rate(perSecond=2.0, burst=3.0)


class TokenBucketTests(SynchronousTestCase):
    """
    A L{TokenBucket} lets a burst pass, and then a rate.
    """

    def test_burst(self) -> None:
        """
        A new bucket is full; what it does not have is not taken in part.
        """
        bucket = TokenBucket(RATE, 10.0)
        self.assertTrue(bucket.take(10.0, 2.0))
        self.assertFalse(bucket.take(10.0, 2.0))
        self.assertTrue(bucket.take(10.0))
        self.assertFalse(bucket.take(10.0))

    def test_refill(self) -> None:
        """
        Tokens come back at the rate.
        """
        bucket = TokenBucket(RATE, 0.0)
        bucket.take(0.0, 3.0)
        self.assertFalse(bucket.take(0.25))
        self.assertTrue(bucket.take(0.5))
        self.assertEqual(bucket.refill(1.0), 1.0)

    def test_neverMoreThanBurst(self) -> None:
        """
        A bucket unused for long holds a burst and no more.
        """
        bucket = TokenBucket(RATE, 0.0)
        self.assertEqual(bucket.refill(1000.0), 3.0)

    def test_clockStandsStill(self) -> None:
        """
        Time that stands still, or goes back, gives nothing and takes nothing.
        """
        bucket = TokenBucket(RATE, 5.0)
        bucket.take(5.0)
        self.assertEqual(bucket.refill(5.0), 2.0)
        self.assertEqual(bucket.refill(1.0), 2.0)
        self.assertEqual(bucket.stamp, 5.0)

    def test_readyAt(self) -> None:
        """
        L{TokenBucket.readyAt} names the first moment at which the tokens are there.
        """
        bucket = TokenBucket(RATE, 0.0)
        self.assertEqual(bucket.readyAt(0.0, 3.0), 0.0)
        bucket.take(0.0, 3.0)
        self.assertEqual(bucket.readyAt(0.0), 0.5)
        self.assertEqual(bucket.readyAt(0.25), 0.5)
        self.assertTrue(bucket.take(0.5))

    @given(
        st.lists(st.tuples(st.floats(0.0, 10.0), st.floats(0.0, 5.0)), max_size=50),
        st.floats(0.5, 100.0),
        st.floats(1.0, 50.0),
    )
    def test_bound(self, steps: list[tuple[float, float]], perSecond: float, burst: float) -> None:
        """
        Whatever is asked, no more passes than the burst and what the rate gave since.
        """
        now = 0.0
        passed = 0.0
        bucket = TokenBucket(Rate(perSecond, burst), now)
        for delay, tokens in steps:
            now += delay
            if bucket.take(now, tokens):
                passed += tokens
            # A microsecond is allowed for rounding.
            self.assertLessEqual(passed, (burst + (now + 2e-6) * perSecond) * (1 + 1e-9))
            self.assertTrue(-2e-6 * perSecond <= bucket.level <= burst)

    @given(
        st.sampled_from([0.0, 1e5 / 7, 1.7e9]),
        st.lists(st.floats(0.0, 0.2), max_size=30),
        st.floats(0.01, 1000.0),
    )
    def test_promise(self, now: float, pauses: list[float], perSecond: float) -> None:
        """
        Whoever waits until L{TokenBucket.readyAt} gets its token then, also on a clock that
        counts seconds from 1970.
        """
        bucket = TokenBucket(Rate(perSecond, 3.0), now)
        for pause in pauses:
            now += pause
            if not bucket.take(now):
                now = bucket.readyAt(now)
                self.assertTrue(bucket.take(now))

    def test_unlimited(self) -> None:
        """
        An infinite rate never makes anybody wait.
        """
        bucket = TokenBucket(Rate(math.inf, math.inf), 0.0)
        self.assertTrue(bucket.take(0.0, 1e9))
        self.assertEqual(bucket.readyAt(0.0, 1e9), 0.0)
        self.assertTrue(bucket.take(1.0, 1e9))


class KeyedBucketsTests(SynchronousTestCase):
    """
    L{KeyedBuckets} keep keys apart, in bounded memory.
    """

    def test_apart(self) -> None:
        """
        One key's use does not touch another's allowance.
        """
        buckets = KeyedBuckets(RATE, capacity=10)
        self.assertTrue(buckets.take("a", 0.0, 3.0))
        self.assertFalse(buckets.take("a", 0.0))
        self.assertTrue(buckets.take("b", 0.0, 3.0))
        self.assertTrue(buckets.take("a", 0.5))
        self.assertEqual(len(buckets), 2)

    def test_forgetsLongestUnused(self) -> None:
        """
        A key beyond the capacity displaces the key that was unused for longest, which then starts
        afresh.
        """
        buckets = KeyedBuckets(RATE, capacity=2)
        for key in ("a", "b", "a"):
            buckets.take(key, 0.0)
        buckets.take("c", 0.0)
        self.assertEqual(len(buckets), 2)
        self.assertFalse(buckets.take("a", 0.0, 2.0))
        self.assertTrue(buckets.take("b", 0.0, 3.0))

    @given(st.lists(st.integers(0, 30), max_size=200), st.integers(1, 8))
    def test_bounded(self, keys: list[int], capacity: int) -> None:
        """
        There are never more buckets than the capacity.
        """
        buckets = KeyedBuckets(RATE, capacity)
        for now, key in enumerate(keys):
            buckets.take(key, float(now))
            self.assertLessEqual(len(buckets), capacity)
