"""
How much may be relayed: an allowance for each sender, and the node's capacity, fairly shared.
"""

from __future__ import annotations

import enum
import math

from p2ptwist.core.link.frames import FRAME_LIMIT
from p2ptwist.core.link.limits import Limits
from p2ptwist.core.tokenbucket import KeyedBuckets, TokenBucket

# Bytes that a frame counts for at least: handling one costs a node about what it costs to pass so
# many bytes on.  It bounds a sender to some 4,000 frames a second by default.
LEAST_COST = 256


class RelayVerdict(enum.Enum):
    """
    What becomes of a relayed datagram.
    """

    PASS = "pass"
    OVER_RATE = "over its sender's allowance"
    OVER_CAPACITY = "over the node's capacity"


class RelayAllowance:
    """
    What one link may have relayed.

    @ivar bucket: its key's bytes.
    @ivar dropped: bytes over it that the node reads only to drop them.
    @ivar window: the last window in which it sent.
    @ivar used: bytes that it had of its share in that window, and one frame at most of what it had
        too much before.
    """

    __slots__ = ("bucket", "dropped", "used", "window")

    def __init__(self, bucket: TokenBucket, dropped: TokenBucket) -> None:
        self.bucket = bucket
        self.dropped = dropped
        self.window = -1
        self.used = 0.0

    def pauseFor(self, cost: int, now: float) -> float | None:
        """
        Count bytes that are dropped.

        @return: when to read on, if its sender is not to be read for a while.
        """
        if self.dropped.take(now, cost):
            return None
        # A quarter of the burst, so that pauses are few; a sender that is read again at once for
        # each frame costs more than what it sends.
        return self.dropped.readyAt(now, max(cost, self.dropped.rate.burst / 4))


class Capacity:
    """
    What a node relays in all.

    Time is cut into windows in which half a burst comes back.  The upper half of the burst is for
    everybody; the lower half only for senders that have had less of it than their share in this
    window: an equal one for each that sent in the window before.  So who sends less than that is
    not affected by those who send as much as they can.
    """

    def __init__(self, limits: Limits, now: float) -> None:
        rate = limits.relayCapacity
        self._bucket = None if math.isinf(rate.perSecond) else TokenBucket(rate, now)
        self._reserve = rate.burst / 2
        self._perWindow = rate.perSecond / self._reserve
        self._window = 0
        self._senders = 0
        self._share = self._reserve

    def take(self, sender: RelayAllowance, cost: int, now: float) -> bool:
        """
        @return: whether there is room for C{cost} bytes, which are then taken.
        """
        bucket = self._bucket
        if bucket is None:
            return True
        self._enter(sender, int(now * self._perWindow))
        left = bucket.refill(now) - cost
        if left < self._reserve:
            if left < 0 or sender.used >= self._share:
                return False
            sender.used += cost
        bucket.level = left
        return True

    def _enter(self, sender: RelayAllowance, window: int) -> None:
        if window != self._window:
            # After a window without any sender the share is the whole.
            last = self._senders if window == self._window + 1 else 0
            self._share = self._reserve / max(1, last)
            self._window = window
            self._senders = 0
        if sender.window != window:
            passed = window - sender.window
            over = sender.used - passed * self._share
            sender.used = min(max(0.0, over), FRAME_LIMIT)
            sender.window = window
            self._senders += 1


class RelayAllowances:
    """
    The allowances of all senders of a node.
    """

    def __init__(self, limits: Limits, now: float) -> None:
        self._buckets = KeyedBuckets(limits.relayRate, limits.maxLinks)
        self._capacity = Capacity(limits, now)

    def allowance(self, key: bytes, now: float) -> RelayAllowance:
        """
        @return: that of a link of C{key}; a new link does not give the key new bytes.
        """
        return RelayAllowance(self._buckets.bucket(key, now), TokenBucket(self._buckets.rate, now))

    def judge(self, sender: RelayAllowance, length: int, now: float) -> RelayVerdict:
        """
        Judge one frame of C{length} bytes, and count it.
        """
        cost = max(length, LEAST_COST)
        if not sender.bucket.take(now, cost):
            return RelayVerdict.OVER_RATE
        if not self._capacity.take(sender, cost, now):
            return RelayVerdict.OVER_CAPACITY
        return RelayVerdict.PASS
