"""
What one process may send to ports that nobody answered from, whatever its sessions want.

A program that sends to many ports of one host looks like a scanner.  So all ladders of a process
share one L{Budget}: so many datagrams in any second, one spray at a time, and quiet after it.
"""

from __future__ import annotations

from collections import deque

# Datagrams of a process in any one second: above, home routers and networks take the sender for a
# scanner.
SECOND_LIMIT = 100
# The same of its ladders: so much less that the ordinary checks of some sessions do not make it
# more.
LADDER_LIMIT = 88
SPRAY_LIMIT = 20.0  # seconds of one spray; four of five that succeed at all do so in half of that
QUIET_TIME = 20.0  # seconds from the end of one spray to the next


class Budget:
    """
    The allowance of one process.  C{now} is seconds on one clock for all who share it.
    """

    def __init__(self) -> None:
        self._sent: deque[float] = deque(maxlen=LADDER_LIMIT)
        self._sprayer: object | None = None
        self._quietUntil = float("-inf")

    def take(self, now: float) -> bool:
        """
        @return: whether one more datagram may be sent at C{now}; if so it counts as sent.
        """
        if self.readyAt(now) > now:
            return False
        self._sent.append(now)
        return True

    def readyAt(self, now: float) -> float:
        """
        @return: when one more may be sent, never before C{now}.
        """
        if len(self._sent) < LADDER_LIMIT:
            return now
        return max(now, self._sent[0] + 1.0)

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
