"""
Regular nomination (RFC 8445 section 8.1.1): the controlling side chooses a pair for both.
"""

from __future__ import annotations

from p2ptwist.core.ice.checklist import Checklist

# Seconds from the first proved pair to nomination, unless the best one is proved before; data
# flows meanwhile.  At least two round trips.
GRACE = 0.3


class Nomination:
    """
    When to nominate which pair of one checklist.

    @ivar deadline: when L{consider} will decide at the latest; C{None} while nothing is proved,
        or a nomination is under way.
    """

    __slots__ = ("deadline",)

    def __init__(self) -> None:
        self.deadline: float | None = None

    def consider(self, checklist: Checklist, remoteComplete: bool, now: float) -> None:
        """
        Nominate the best proved pair as soon as no better one is pending, or after a moment of
        grace: its next check will carry USE-CANDIDATE.

        @param remoteComplete: whether the other side has no more candidates.
        """
        if any(pair.nominating for pair in checklist):
            return
        best = checklist.best()
        if best is None:
            self.deadline = None
            return
        if self.deadline is None:
            self.deadline = now + max(GRACE, 2 * (best.roundTrip or 0.0))
        better = any(pair.pending and pair.priority > best.priority for pair in checklist)
        if now >= self.deadline or (remoteComplete and not better):
            best.nominating = True
            checklist.trigger(best, now)
            self.deadline = None
