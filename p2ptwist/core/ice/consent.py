"""
Consent and keepalive: whether the other side still wants what is sent, and still gets it.

Consent (RFC 7675) is an answered check.  While application data flows it is renewed every 4 to
6 s.  After a pause data waits for one answer first.  On an idle path one of the two sides sends a
check every 15 s, whose answer keeps the other side's NAT mapping alive as well; more often, where
either side's mappings are known to live less than twice as long.

A check that stays unanswered is repeated.  The path is dead when nothing at all has come from the
other side for 5 s, and in any case after 24 s, which while data flows is at most 30 s after the
last answer (RFC 7675 section 5.1).
"""

from __future__ import annotations

from p2ptwist.core.ice.jitter import Uniform
from p2ptwist.core.nat import NATBehavior

RENEWAL = (4.0, 6.0)  # seconds; RFC 7675 section 5.1: 5 s, times 0.8 to 1.2
PAUSE = 6.0  # seconds without data after which it waits for an answer: the longest renewal
EXPIRY = 30.0 - PAUSE  # seconds without an answer after a renewal; RFC 7675 section 5.1
SILENCE = 5.0  # seconds of nothing at all, after a check, after which a path is dead
# Seconds between checks of an idle path: RFC 8445 section 11, and below the shortest lifetime
# of mappings that is seen in the field (20 s).
KEEPALIVE = 15.0
# At least, however soon a NAT forgets: as often as consent is renewed while data flows.
KEEPALIVE_LEAST = 5.0
# Seconds later for the controlled side, so that one side alone does it; still below 20 s.
KEEPALIVE_STAGGER = 2.0
# Seconds from one unanswered check to the next, at least; the last one again and again.
PROBE_GAPS = (0.25, 0.25, 0.5, 0.75)


def keepaliveFor(*behaviors: NATBehavior) -> float:
    """
    @param behaviors: what the NATs on the way were measured to do.
    @return: the seconds between checks of an idle path: half of the shortest lifetime of mappings,
        within bounds.
    """
    known = [each.lifetime / 2 for each in behaviors if each.lifetime is not None]
    return max(KEEPALIVE_LEAST, min([KEEPALIVE, *known]))


class Consent:
    """
    The clock of one path.  It says when to send a check, and when the path is dead.

    It starts with consent, as a path starts with an answered check.
    """

    __slots__ = (
        "_asked",
        "_granted",
        "_heard",
        "_held",
        "_keepalive",
        "_lastData",
        "_nextProbe",
        "_probes",
        "_probingSince",
        "_random",
        "_refreshed",
        "_renewAt",
        "_roundTrip",
        "_stagger",
    )

    def __init__(self, random: Uniform, controlling: bool, now: float) -> None:
        """
        @param random: for the spread of renewals.
        @param controlling: whether this side does the keepalive of an idle path.
        """
        self._random = random
        self._stagger = 0.0 if controlling else KEEPALIVE_STAGGER
        self._keepalive = KEEPALIVE + self._stagger
        self._granted = now
        self._heard = now
        self._refreshed = now
        self._lastData = float("-inf")
        self._renewAt = float("inf")
        self._held = False
        self._asked = False
        self._probes = 0
        self._probingSince = 0.0
        self._nextProbe = 0.0
        self._roundTrip = 0.0

    def keepMappings(self, local: NATBehavior, remote: NATBehavior) -> None:
        """
        Adapt the keepalive to both NATs, from now on.

        @param local: what this side's NATs were measured to do.
        @param remote: what the other side says of its own.
        """
        self._keepalive = keepaliveFor(local, remote) + self._stagger

    def granted(self, now: float, roundTrip: float) -> None:
        """
        A check was answered.

        @param roundTrip: seconds that it took.
        """
        self._granted = self._heard = now
        self._roundTrip = roundTrip
        self._probes = 0
        self._held = False
        self._renewAt = now + self._random.uniform(*RENEWAL)

    def heard(self, now: float) -> None:
        """
        Something else came from the other side.
        """
        self._heard = now

    def answered(self, now: float) -> None:
        """
        This side answered a check of the other: both NATs saw a packet in each direction.
        """
        self._heard = self._refreshed = now

    def isFresh(self, now: float) -> bool:
        """
        @return: whether data would pass at C{now} without waiting.
        """
        return now - self._lastData <= PAUSE or now - self._granted <= PAUSE

    def mayPass(self, now: float) -> bool:
        """
        @return: whether data may be sent at C{now}; if so it counts as sent.  If not, a check is
            due at once.
        """
        if self.isFresh(now):
            self._lastData = self._refreshed = now
            return True
        self._held = True
        return False

    def ask(self) -> None:
        """
        Have a check sent at once: there is a reason to doubt.  If one is under way already, nothing
        changes.
        """
        self._asked = not self._probes

    def checkSent(self, now: float) -> None:
        """
        A check was sent.
        """
        self._asked = False
        if not self._probes:
            self._probingSince = now
        gap = PROBE_GAPS[min(self._probes, len(PROBE_GAPS) - 1)]
        self._nextProbe = now + max(gap, 1.5 * self._roundTrip)
        self._probes += 1
        self._refreshed = now

    def due(self, now: float) -> bool:
        """
        @return: whether a check is to be sent at C{now}.
        """
        return now >= self._nextCheck()

    def silentFor(self, now: float) -> float | None:
        """
        @return: the seconds without a sign of the other side when the path is dead; else C{None}.
        """
        if now < self._end():
            return None
        return now - self._heard

    def deadline(self) -> float:
        """
        @return: when L{due} or L{silentFor} will say something else.
        """
        return min(self._nextCheck(), self._end())

    def _nextCheck(self) -> float:
        if self._probes:
            return self._nextProbe
        if self._held or self._asked:
            return float("-inf")
        active = self._renewAt - self._lastData <= PAUSE
        keepalive = self._refreshed + self._keepalive
        return min(self._renewAt, keepalive) if active else keepalive

    def _end(self) -> float:
        if not self._probes:
            return float("inf")
        silence = max(self._probingSince, self._heard) + SILENCE
        return min(silence, self._probingSince + EXPIRY)
