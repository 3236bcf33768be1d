"""
What the ladders of one process may send to one host, whatever its sessions say.

A peer is believed when it says where it is, as nobody can know better, and it may say where
somebody else is: a session after the other, under other names, with other hosts beside that one.
So what was sent is counted by the host that it was sent to, check by check, and only an answer from
there settles it.
"""

from __future__ import annotations

from p2ptwist.core.tokenbucket import Rate, TokenBucket

# Hosts that something is counted of.  Fewer ever are: a process sends 88 checks a second, and one
# is forgotten after 1 s, so that 88 are, of the last second, and 88 / age of each before, for the
# 5400 s that the most takes: 88 + 90 * ln 5400 = 860.
HOST_LIMIT = 1024


class Allowances:
    """
    What each host is to get yet.
    """

    def __init__(self, rate: Rate) -> None:
        """
        @param rate: checks to one host.
        """
        self._rate = rate
        self._buckets: dict[str, TokenBucket] = {}

    def __len__(self) -> int:
        return len(self._buckets)

    def left(self, host: str, now: float) -> float:
        """
        @return: how many checks may be sent to C{host} at C{now}.
        """
        bucket = self._buckets.get(host)
        if bucket is not None:
            return bucket.refill(now)
        return self._rate.burst if self._hasRoom(now) else 0.0

    def take(self, host: str, now: float) -> bool:
        """
        @return: whether one more may be sent; if so it counts as sent.
        """
        if self.left(host, now) < 1.0:
            return False
        if host not in self._buckets:
            self._buckets[host] = TokenBucket(self._rate, now)
        return self._buckets[host].take(now)

    def settle(self, host: str) -> None:
        """
        C{host} has answered: what was sent there does not count any more.
        """
        self._buckets.pop(host, None)

    def _hasRoom(self, now: float) -> bool:
        """
        @return: whether another host can be counted.  None is forgotten before its time: else a
            peer that names many would have one forgotten.
        """
        if len(self._buckets) >= HOST_LIMIT:
            counted = self._buckets.items()
            burst = self._rate.burst
            self._buckets = {host: each for host, each in counted if each.refill(now) < burst}
        return len(self._buckets) < HOST_LIMIT
