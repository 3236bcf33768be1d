"""
Token buckets: the one shape of every rate limit here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

# Seconds that rounding may hide: whoever waits until L{TokenBucket.readyAt} is not sent away again.
# Twisted's clock counts from 1970, where neighboring floats are 0.24 us apart.
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class Rate:
    """
    How much may pass.

    @ivar perSecond: tokens that come back each second.
    @ivar burst: tokens that a bucket holds at most, and starts with.
    """

    perSecond: float
    burst: float


class TokenBucket:
    """
    One allowance: C{rate.burst} at once, C{rate.perSecond} in the long run.

    @ivar level: tokens left at C{stamp}.
    @ivar stamp: seconds on the caller's clock.
    """

    __slots__ = ("level", "rate", "stamp")

    def __init__(self, rate: Rate, now: float) -> None:
        self.rate = rate
        self.level = rate.burst
        self.stamp = now

    def refill(self, now: float) -> float:
        """
        @return: the tokens there are at C{now}.
        """
        elapsed = now - self.stamp
        if elapsed > 0:
            self.level = min(self.rate.burst, self.level + elapsed * self.rate.perSecond)
            self.stamp = now
        return self.level

    def take(self, now: float, tokens: float = 1.0) -> bool:
        """
        Take C{tokens}, or nothing.

        @return: whether there were enough.
        """
        if self.refill(now) < tokens - _ROUNDING * self.rate.perSecond:
            return False
        self.level -= tokens
        return True

    def readyAt(self, now: float, tokens: float = 1.0) -> float:
        """
        @return: the earliest time at which L{take} will succeed, never before C{now}.
        """
        missing = tokens - self.refill(now)
        rate = self.rate.perSecond
        return now if missing <= _ROUNDING * rate else now + missing / rate


class KeyedBuckets:
    """
    A bucket a key, in bounded memory: the keys unused for longest are forgotten first.

    Forgetting a key gives it a full bucket again, so C{capacity} should exceed the number of keys
    that can spend a burst before their buckets would have refilled anyway.

    @ivar capacity: how many keys are remembered.
    """

    def __init__(self, rate: Rate, capacity: int) -> None:
        self.rate = rate
        self.capacity = capacity
        self._buckets: OrderedDict[Hashable, TokenBucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def bucket(self, key: Hashable, now: float) -> TokenBucket:
        """
        @return: the bucket of C{key}.  Who keeps it keeps its state even when it is
            forgotten here.
        """
        buckets = self._buckets
        bucket = buckets.get(key)
        if bucket is None:
            if len(buckets) >= self.capacity:
                buckets.popitem(last=False)
            bucket = buckets[key] = TokenBucket(self.rate, now)
        else:
            buckets.move_to_end(key)
        return bucket

    def take(self, key: Hashable, now: float, tokens: float = 1.0) -> bool:
        """
        Take C{tokens} from the bucket of C{key}, or nothing.

        @return: whether there were enough.
        """
        return self.bucket(key, now).take(now, tokens)
