"""
The search of one session for a direct path over TCP, where UDP does not come up.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from p2ptwist.core.errors import MalformedDatagram
from p2ptwist.core.tcppath.signal import SignalType
from p2ptwist.core.tokenbucket import Rate, TokenBucket
from p2ptwist.errors import PeerUnreachable, PunchFailed
from p2ptwist.net.tcpopen import TCPOpener, TCPOpening
from p2ptwist.net.tcppath import TCPPath

# Seconds that UDP is given first: several times what it takes where it works at all, as a rule.
# Where it takes longer, it takes over from TCP.
UDP_LEAD = 0.8
BLOCKED_LEAD = (
    0.2  # seconds; the same where UDP seems to be blocked: what two hosts of one LAN take
)
# Offers that are answered, a second and at once: so that nobody aims this side's dials at others.
OFFER_RATE = Rate(0.1, 3.0)
LEFT = "the other side ended it: "  # what precedes its reason
# Seconds without another attempt after one that came to nothing; each failure doubles them.
PAUSE_FIRST = 30.0
PAUSE_CAP = 1800.0


class TCPSearch:
    """
    The attempts of one session.

    The caller looks; the other side answers.

    @ivar failure: why the latest attempt failed, in words for a person; C{None} before one did.
    """

    __slots__ = (
        "_clock",
        "_notBefore",
        "_offers",
        "_opened",
        "_opener",
        "_opening",
        "_pause",
        "_signal",
        "_timer",
        "_wanted",
        "failure",
    )

    def __init__(
        self,
        clock: IReactorTime,
        opener: TCPOpener | None,
        signal: Callable[[bytes], object],
        opened: Callable[[TCPPath], object],
        wanted: Callable[[], bool],
    ) -> None:
        """
        @param opener: makes the attempts; C{None} for none.
        @param signal: sends a signal to the other side, inside the session.
        @param opened: called with each path.
        @param wanted: whether this side, the caller, looks for one.
        """
        self.failure: str | None = None
        self._clock = clock
        self._opener = opener
        self._signal = signal
        self._opened = opened
        self._wanted = wanted
        self._opening: TCPOpening | None = None
        self._timer: IDelayedCall | None = None
        self._offers: TokenBucket | None = None  # made when it is needed: sessions are many
        self._pause = PAUSE_FIRST
        self._notBefore = 0.0

    def begin(self, lead: float = UDP_LEAD) -> None:
        """
        Look for a path, and after a while again, until L{giveUp} is called.

        @param lead: seconds that UDP is given first.
        """
        if self._opener is not None and self._timer is None and self._opening is None:
            delay = max(lead, self._notBefore - self._clock.seconds())
            self._timer = self._clock.callLater(delay, self._call)

    def hurry(self) -> None:
        """
        If an attempt waits for its time, make it as soon as may be: TCP was what worked before.
        """
        if self._timer is not None:
            self._timer.reset(max(0.0, self._notBefore - self._clock.seconds()))

    def beginAnew(self) -> None:
        """
        Something is different: what came to nothing before counts no more.
        """
        self._pause, self._notBefore = PAUSE_FIRST, 0.0
        if self._timer is not None:
            self._timer.reset(min(UDP_LEAD, self._timer.getTime() - self._clock.seconds()))
        elif self._wanted():
            self.begin()

    def giveUp(self, reason: str) -> None:
        """
        Look no more; a path that is open stays.

        @param reason: what the other side is told.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._opening is not None:
            self._opening.close(reason)

    def signalReceived(self, data: bytes, mayAnswer: bool) -> None:
        """
        Take a signal of the other side.

        @param data: one that L{p2ptwist.core.tcppath.signal.isTCPSignal} knows.
        @param mayAnswer: whether this side answers offers.
        """
        opening, opener = self._opening, self._opener
        if data[1:2] != bytes((SignalType.OFFER,)):
            if opening is not None:
                opening.signalReceived(data)
        elif mayAnswer and opener is not None and self._mayOffer():
            # The other side begins anew: what it tried before is over.
            self.giveUp("a newer attempt")
            self._answer(opener, data)

    def _mayOffer(self) -> bool:
        now = self._clock.seconds()
        if self._offers is None:
            self._offers = TokenBucket(OFFER_RATE, now)
        return self._offers.take(now)

    def _call(self) -> None:
        self._timer = None
        if self._opener is not None and self._wanted():
            self._follow(self._opener.call(self._signal))

    def _answer(self, opener: TCPOpener, offer: bytes) -> None:
        try:
            self._follow(opener.answer(offer, self._signal))
        except MalformedDatagram:
            return

    def _follow(self, opening: TCPOpening) -> None:
        self._opening = opening
        opening.whenOpen().addBoth(self._over, opening)

    def _over(self, result: TCPPath | Failure, opening: TCPOpening) -> None:
        if self._opening is opening:
            self._opening = None
        if isinstance(result, TCPPath):
            self._pause = PAUSE_FIRST
            self.failure = None
            self._opened(result)
        elif result.check(PunchFailed, PeerUnreachable):
            self.failure = _inWords(result)
            self._notBefore = self._clock.seconds() + self._pause
            self._pause = min(2 * self._pause, PAUSE_CAP)
            if self._wanted():
                self.begin()


def _inWords(failure: Failure) -> str:
    """
    @return: why an attempt failed.  Which side gave up first makes no difference to a person.
    """
    return failure.getErrorMessage().removeprefix(LEFT)
