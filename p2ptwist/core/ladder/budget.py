"""
What one process may send to ports that nobody answered from, whatever its sessions want.

A program that sends to many ports of one host looks like a scanner.  So all ladders of a process
share one L{Budget}: so many datagrams in any second, one spray at a time, quiet after it, and so
many to one host that does not answer.
"""

from __future__ import annotations

from collections import deque

from p2ptwist.core.ladder.allowance import Allowances
from p2ptwist.core.tokenbucket import Rate

# Datagrams of a process in any one second: above, home routers and networks take the sender for a
# scanner.
SECOND_LIMIT = 100
# The same of its ladders: so much less that the ordinary checks of some sessions do not make it
# more.
LADDER_LIMIT = 88
SPRAY_LIMIT = 20.0  # seconds of one spray; four of five that succeed at all do so in half of that
QUIET_TIME = 20.0  # seconds from the end of one spray to the next
SPRAY_CHECKS = int(SPRAY_LIMIT) * LADDER_LIMIT  # of one spray: as many as fit in its time
# Checks to one host from which nothing came back: three sprays, as a session that was ended early,
# or a renewal that failed, must not bar others behind the same carrier's NAT; in the long run one
# in half an hour, as pairs of networks have (L{p2ptwist.core.ladder.memory.CLIMB_PAUSE}).
HOST_RATE = Rate(SPRAY_CHECKS / 1800.0, 3.0 * SPRAY_CHECKS)  # a second, at once


class Budget:
    """
    The allowance of one process.  C{now} is seconds on one clock for all who share it.
    """

    def __init__(self) -> None:
        self._sent: deque[float] = deque(maxlen=LADDER_LIMIT)
        self._hosts = Allowances(HOST_RATE)
        self._sprayer: object | None = None
        self._quietUntil = float("-inf")

    def take(self, host: str, now: float) -> bool:
        """
        @return: whether one more datagram may be sent to C{host} at C{now}; if so it counts as
            sent.
        """
        if self.readyAt(now) > now or not self._hosts.take(host, now):
            return False
        self._sent.append(now)
        return True

    def readyAt(self, now: float) -> float:
        """
        @return: when one more may be sent, never before C{now}, to a host that has any left.
        """
        if len(self._sent) < LADDER_LIMIT:
            return now
        return max(now, self._sent[0] + 1.0)

    def left(self, host: str, now: float) -> float:
        """
        @return: how many datagrams may be sent to C{host} yet.  No round begins that may need more
            (L{SPRAY_CHECKS}).
        """
        return self._hosts.left(host, now)

    def answered(self, host: str) -> None:
        """
        There is a path to C{host}, which it takes part in: what was sent there counts no more.
        """
        self._hosts.settle(host)

    def beginSpray(self, sprayer: object, now: float) -> float:
        """
        Ask to spray.  Whoever sprays already may.

        @return: seconds to wait before asking again; 0.0 when C{sprayer} may begin, and must call
            L{endSpray}.
        """
        if self._sprayer is sprayer:
            return 0.0
        if self._sprayer is not None:
            return SPRAY_LIMIT
        if now < self._quietUntil:
            return self._quietUntil - now
        self._sprayer = sprayer
        return 0.0

    def endSpray(self, sprayer: object, now: float) -> None:
        """
        Have done with it; does nothing for who did not spray.
        """
        if self._sprayer is sprayer:
            self._sprayer = None
            self._quietUntil = now + QUIET_TIME
