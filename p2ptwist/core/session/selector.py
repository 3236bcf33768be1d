"""
Which path a datagram goes on.

The relayed path is always there or coming back; a direct path comes and goes.  A direct path is
trusted when something came on it, while no datagram that was sent on it has waited too long for
the next thing to come, and no check that was made for a suspicion waits so long for its answer:
what comes may be forged, or the path may carry one way only.  What is not trusted is still used,
but not alone.

=======================  ==================  ===================
direct path              relay up            relay down
=======================  ==================  ===================
none                     C{RELAYED}          C{RELAYED}: is lost
open, nothing heard yet  C{BOTH}             C{DIRECT}
trusted                  C{DIRECT}           C{DIRECT}
silent for too long      C{BOTH}             C{DIRECT}
=======================  ==================  ===================
"""

from __future__ import annotations

import enum
from random import Random

TRUST_LEAST = 0.3  # seconds; an acknowledgement may be held back, and a round trip may vary
TRUST_MOST = 1.0  # seconds; what an application may notice when a path dies
TRUST_ROUND_TRIPS = 3  # one for the answer, two for its delay: as long as QUIC's own probes
# When to check the path, and to have a look at the relay as well: earlier, so that it is there when
# it is needed.
DOUBT_LEAST = 0.1  # seconds
DOUBT_ROUND_TRIPS = 1.25  # one for the answer, a quarter for its variation
DOUBT_MARGIN = 0.025  # seconds that QUIC may hold back an acknowledgement; RFC 9000 section 18.2
PUNCH_FIRST = 1.0  # seconds before the first attempt to be direct again
PUNCH_CAP = 60.0  # seconds between those for paths that open, but do not last
# Seconds without any path after which attempts become rare: what did not work by then will not work
# before something changes.
PATIENCE = 20.0
RARE_FIRST = 60.0  # seconds before the first rare attempt: a router that restarts is up by then
RARE_CAP = 300.0  # seconds; some 25 checks in so long are nothing
STEADY_AFTER = 30.0  # seconds; a path that lasted as long proves that the trouble is over


class Route(enum.Enum):
    """
    Where a datagram is sent.
    """

    RELAYED = "relayed"
    DIRECT = "direct"
    BOTH = "both"


class PathKind(enum.StrEnum):
    """
    What carries a session, as its application is told.
    """

    DIRECT = "direct"
    RELAYED = "relayed"


_DIRECT = PathKind.DIRECT  # to look it up takes as long as the rest of what each datagram changes


class PathSelector:
    """
    The choice of one session.

    C{now} is always seconds on one monotonic clock and never decreases.

    @ivar kind: what carries the session.  It does not follow every doubt: a direct path that is
        only idle stays C{DIRECT}.
    @ivar since: when L{kind} became what it is, on the same clock.
    """

    __slots__ = (
        "_askedAt",
        "_heard",
        "_openedAt",
        "_relayUp",
        "_relayedSince",
        "_roundTrip",
        "_told",
        "_waitingSince",
        "kind",
        "since",
    )

    def __init__(self, now: float) -> None:
        """
        Start relayed, with the relay up.
        """
        self.kind = PathKind.RELAYED
        self.since = now
        self._told = PathKind.RELAYED
        self._relayUp = True
        self._openedAt: float | None = None
        self._heard = False
        self._roundTrip = 0.0
        self._waitingSince: float | None = None
        self._askedAt: float | None = None
        self._relayedSince: float | None = None

    # What happens.

    def directOpened(self, now: float, roundTrip: float) -> None:
        """
        A direct path was validated by a check, or moved to another address.

        @param roundTrip: seconds that the check took; 0 when none was answered yet.
        """
        if self._openedAt is None:
            self._openedAt = now
        self._heard = False
        self._roundTrip = roundTrip
        self._askedAt = self._relayedSince = None

    def directLost(self, now: float) -> float:
        """
        The direct path is gone for good.

        @return: seconds that it was open, for L{Backoff.pathLasted}; 0 when there was none.
        """
        lasted = 0.0 if self._openedAt is None else now - self._openedAt
        self._openedAt = None
        self._heard = False
        self._become(PathKind.RELAYED, now)
        return lasted

    def asked(self, now: float) -> None:
        """
        A check was sent on the direct path because it is suspected to be dead.
        """
        if self._askedAt is None:
            self._askedAt = now

    def answered(self, now: float, roundTrip: float) -> None:
        """
        A check was answered on the direct path: it carries both ways.  That does not make it what
        carries the session, before the first datagram came.

        @param roundTrip: seconds that it took.
        """
        self._askedAt = None
        self._roundTrip = roundTrip
        if self._heard:
            self.heardDirect(now)

    def heardDirect(self, now: float) -> None:
        """
        A datagram of the session came on the present direct path.
        """
        if self._openedAt is not None:
            self._heard = True
            self._waitingSince = self._relayedSince = None
            if self.kind is not _DIRECT:
                self._become(_DIRECT, now)

    def heardRelayed(self, now: float) -> None:
        """
        A datagram of the session came through the relay.

        The other side is there, so the silence of a direct path that is not trusted means that it
        does not carry: after one more trust time of it the session counts as relayed.
        """
        if self.trusted(now):
            return
        if self._relayedSince is None:
            self._relayedSince = now
        elif now - self._relayedSince >= self.trustTime:
            self._become(PathKind.RELAYED, now)

    def sentDirect(self, now: float) -> None:
        """
        A datagram of the session was sent on the direct path.
        """
        if self._waitingSince is None:
            self._waitingSince = now

    def awaited(self, since: float) -> None:
        """
        Something should have come since C{since}, because the other side was sending, and did not.
        """
        if self._waitingSince is None:
            self._waitingSince = since

    def settled(self) -> None:
        """
        Nothing has to come: all that was sent is acknowledged.
        """
        self._waitingSince = None

    def relayUp(self) -> None:
        """
        The link carries messages again.
        """
        self._relayUp = True

    def relayDown(self) -> None:
        """
        The link carries nothing for the moment.
        """
        self._relayUp = False

    # What to do.

    @property
    def trustTime(self) -> float:
        """
        Seconds that a datagram may wait for the next thing to come before the path is doubted.
        """
        return min(max(TRUST_LEAST, TRUST_ROUND_TRIPS * self._roundTrip), TRUST_MOST)

    def trusted(self, now: float) -> bool:
        """
        @return: whether the direct path may carry a datagram alone.
        """
        if not self._heard:
            return False
        if self._askedAt is not None and now - self._askedAt >= self.trustTime:
            return False
        return self._waitingSince is None or now - self._waitingSince < self.trustTime

    @property
    def doubtTime(self) -> float:
        """
        Seconds after which the direct path is late with an answer: not so late that the relay has
        to carry as well, but late enough to find out whether it can.  While nobody knows how long
        the path is, an answer may take a second.
        """
        if not self._roundTrip:
            return TRUST_MOST
        return max(DOUBT_LEAST, DOUBT_ROUND_TRIPS * self._roundTrip + DOUBT_MARGIN)

    def waited(self, now: float) -> float | None:
        """
        @return: seconds that something sent on the direct path has waited for the next thing to
            come; C{None} when nothing waits.
        """
        return None if self._waitingSince is None else now - self._waitingSince

    def route(self, now: float) -> Route:
        """
        @return: where a datagram is to be sent at C{now}.
        """
        if self._openedAt is None:
            return Route.RELAYED
        if self.trusted(now) or not self._relayUp:
            return Route.DIRECT
        return Route.BOTH

    def pollChange(self) -> PathKind | None:
        """
        @return: what carries the session now when that is not what the last call said, else
            C{None}.  It starts with C{RELAYED}.
        """
        if self.kind is self._told:
            return None
        self._told = self.kind
        return self.kind

    def _become(self, kind: PathKind, now: float) -> None:
        if self.kind is not kind:
            self.kind, self.since = kind, now


class Backoff:
    """
    The waits of one session before it punches again.
    """

    __slots__ = (
        "_attempts",
        "_jitter",
        "_rare",
    )

    def __init__(self, jitter: Random) -> None:
        """
        @param jitter: spreads the sessions that one cut ended.
        """
        self._jitter = jitter
        self._attempts = self._rare = 0

    def restart(self) -> None:
        """
        Something is different: start the row anew.
        """
        self._attempts = self._rare = 0

    def pathLasted(self, seconds: float) -> None:
        """
        A direct path has ended that was open for so long.
        """
        if seconds >= STEADY_AFTER:
            self.restart()

    def next(self, sought: float) -> float:
        """
        @param sought: seconds for which a path was looked for in vain.
        @return: seconds to wait before the next attempt: between a half and the whole of 1, 2, 4,
            … 60 at first, and of 60, 120, 240, 300 after 20 s.
        """
        if sought < PATIENCE:
            longest = min(PUNCH_FIRST * 2.0 ** min(self._attempts, 6), PUNCH_CAP)
            self._attempts += 1
        else:
            longest = min(RARE_FIRST * 2.0 ** min(self._rare, 3), RARE_CAP)
            self._rare += 1
        return self._jitter.uniform(longest / 2, longest)
