"""
Whether the direct path of a session still carries: suspicion, and what is done about it at once.

Silence where an answer was due is the first sign of a NAT that forgot the path.  A check from the
same socket opens the mapping again, and shows the other side a new address; the link to the node
is asked for a sign of life, as it died with the path, perhaps; and what was not acknowledged is
sent again as soon as there is a way.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from p2ptwist.core.session.selector import PathSelector

# Seconds that a link may take to answer when the direct path is late as well.  It is given one and
# a half round trips at least; this is for a node that is busy.
LINK_PATIENCE = 0.15
# The same when the other side says nothing for a moment: TCP may have to repeat the ping.
LULL_PATIENCE = 1.0
# Times that QUIC repeated something in vain although other things come: one may be an accident.
STALLED = 2
_REPEAT_GAP = 0.1  # seconds from one repetition to the next: about a round trip
_SOON = 0.001  # seconds: as good as now


class PathWatch:
    """
    The watch over the direct paths of one session, one after the other.
    """

    __slots__ = (
        "_call",
        "_check",
        "_clock",
        "_doubt",
        "_doubtedAt",
        "_given",
        "_late",
        "_repeat",
        "_repeatedAt",
        "_selector",
        "_suspectedAt",
        "_unanswered",
    )

    def __init__(
        self,
        clock: IReactorTime,
        selector: PathSelector,
        unanswered: Callable[[], int | None],
        check: Callable[[], object],
        doubt: Callable[[float], object],
        repeat: Callable[[], object],
    ) -> None:
        """
        @param selector: is told what happens on the direct path.
        @param unanswered: how often what was sent has been repeated in vain; C{None} when all of it
            was acknowledged.
        @param check: sends a connectivity check on the path.
        @param doubt: asks the node for a sign of life, which may take so many seconds.
        @param repeat: sends what was not acknowledged again.
        """
        self._clock = clock
        self._selector = selector
        self._unanswered = unanswered
        self._check = check
        self._doubt = doubt
        self._repeat = repeat
        self._late = self._given = False
        self._suspectedAt = self._repeatedAt = self._doubtedAt = float("-inf")
        self._call: IDelayedCall | None = None

    def sent(self, now: float) -> None:
        """
        Datagrams were sent on the path.
        """
        self._selector.sentDirect(now)
        if self._call is None:
            self._call = self._clock.callLater(self._selector.doubtTime, self._due)

    def heard(self, now: float) -> None:
        """
        Datagrams came on it.
        """
        self._late = False
        self._selector.heardDirect(now)

    def confirmed(self, answered: bool, roundTrip: float) -> None:
        """
        The other side proved that it is there.

        @param answered: whether by an answer, so that the path carries both ways.
        @param roundTrip: seconds that the latest answer took.
        """
        now = self._clock.seconds()
        late = self._late or not self._selector.trusted(now)
        if answered:
            self._late = False
            self._selector.answered(now, roundTrip)
        if late:
            self._repeatOverdue(now)

    def lulled(self, since: float) -> None:
        """
        The other side was sending, and sends no more since then.
        """
        self._selector.awaited(since)
        self._suspect(self._clock.seconds())
        # A pause is no reason to give up the link; but if the path is silent, time has been saved.
        self._doubt(LULL_PATIENCE)

    def relayed(self, now: float) -> None:
        """
        Datagrams came through the relay: so the other side hears nothing on the path, or not any
        more.
        """
        self._doubtedAt = now  # the link is alive
        if self._selector.trusted(now):
            self._suspect(now)
        elif self._late and self._unanswered():
            # Not while the relay carries well, and QUIC has had nothing to repeat.
            self._repeatOverdue(now)

    def relayUp(self) -> None:
        """
        The relay carries again.
        """
        if self._late:
            self._repeatOverdue(self._clock.seconds())

    def stop(self) -> None:
        """
        There is no path.
        """
        self._late = False
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _suspect(self, now: float) -> None:
        """
        Have the path checked: until that is answered it may not be trusted for long.
        """
        if now - self._suspectedAt >= self._selector.trustTime:
            self._suspectedAt = now
            self._selector.asked(now)
            self._check()

    def _due(self) -> None:
        self._call = None
        now = self._clock.seconds()
        repeats, waited = self._unanswered(), self._selector.waited(now)
        if repeats is None:
            # What was sent last were acknowledgements, which nobody answers.
            if not self._late:
                self._selector.settled()
        elif waited is None:
            if repeats >= STALLED:
                self._suspect(now)
        else:
            self._judge(waited, repeats, now)

    def _judge(self, waited: float, repeats: int, now: float) -> None:
        """
        Something was sent so long ago, and nothing came since.
        """
        rest = self._selector.doubtTime - waited
        if rest <= _SOON:
            if not self._late:
                self._late, self._given = True, False
                self._suspect(now)
                self._doubtLink(now)
            rest = self._selector.trustTime - waited
        if rest > _SOON:
            self._call = self._clock.callLater(rest, self._due)
        elif not self._given:
            # Once: each repetition makes QUIC wait twice as long for its own next one.
            self._given = True
            self._repeatOverdue(now)
        elif repeats >= STALLED or now - self._doubtedAt >= self._selector.trustTime:
            # The relay does not carry either: perhaps the link died only now.
            self._doubtLink(now)

    def _doubtLink(self, now: float) -> None:
        self._doubtedAt = now
        self._doubt(LINK_PATIENCE)

    def _repeatOverdue(self, now: float) -> None:
        if self._unanswered() is not None and now - self._repeatedAt >= _REPEAT_GAP:
            self._repeatedAt = now
            self._repeat()
