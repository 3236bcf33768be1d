"""
When to try again: exponential back-off with jitter.
"""

from __future__ import annotations

import random

BACKOFF_FIRST = 2.0  # seconds; the mean first wait of 1.1 s hides a node's quick restart
# Seconds, and so many times: for about half a minute, in which a node that is started again is
# back, peers try often enough for relayed streams to go on within 5 s of its return.
BRISK_CAP = 4.0
BRISK_ATTEMPTS = 12
BACKOFF_CAP = 30.0  # seconds: whatever the node was doing, everybody is back within the next 30
STEADY_AFTER = 30.0  # seconds; a link that lasted as long proves that the trouble is over
_BRISK_PART = 0.5  # of the brisk waits: so no second has more than a third of all peers
_SHORTEST_PART = 0.1  # of the longest wait: spreads 5,000 peers, and never tries again at once


class Backoff:
    """
    The waits of one peer between its attempts to reach a node.
    """

    def __init__(self, jitter: random.Random) -> None:
        """
        @param jitter: spreads the peers of a node that went away.
        """
        self._jitter = jitter
        self._attempts = 0

    def linkLasted(self, seconds: float) -> None:
        """
        A link has ended that was up for so long.
        """
        if seconds >= STEADY_AFTER:
            self._attempts = 0

    def next(self, retryAfter: float = 0) -> float:
        """
        @param retryAfter: seconds within which the node asked for the next attempt; 0 for none.
        @return: seconds to wait before it, never more than the cap.
        """
        longest = min(BACKOFF_FIRST * 2.0 ** min(self._attempts, 10), BRISK_CAP)
        part = _SHORTEST_PART if self._attempts == 0 else _BRISK_PART
        patient = min(self._attempts - BRISK_ATTEMPTS, 10)
        if patient >= 0:
            longest = min(BRISK_CAP * 2.0 ** (patient + 1), BACKOFF_CAP)
            part = _SHORTEST_PART
        self._attempts += 1
        if retryAfter:
            longest = min(max(longest, retryAfter), BACKOFF_CAP)
            part = _SHORTEST_PART
        return self._jitter.uniform(part * longest, longest)
