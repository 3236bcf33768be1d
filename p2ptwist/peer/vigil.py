"""
Whether the other side of a session is still there, and the way to it still carries.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

# Seconds that a session is kept when nothing comes though something has to: so long, then it asks,
# and then so long again.  Longer than a router or a node takes to start.
SILENCE_LIMIT = 90.0
# Seconds for the answer when the other side says that it does not know the session.
DOUBT_LIMIT = 4.0
# Seconds without more of what was coming after which this side asks whether the path still carries:
# who only receives would not notice.
LULL = 0.2
_SOON = 0.001  # seconds: as good as now


class Vigil:
    """
    The watch over one session, from its admission on.
    """

    __slots__ = (
        "_ask",
        "_asking",
        "_clock",
        "_doubted",
        "_fedAt",
        "_gone",
        "_heardAt",
        "_isSettled",
        "_lull",
        "_lullCall",
        "_silence",
    )

    def __init__(
        self,
        clock: IReactorTime,
        isSettled: Callable[[float], bool],
        ask: Callable[[], object],
        lull: Callable[[float], object],
        gone: Callable[[str, str], object],
    ) -> None:
        """
        @param isSettled: whether everything that was sent was acknowledged.
        @param ask: sends something that has to be acknowledged.
        @param lull: called when the other side was sending, and sends no more, with the time at
            which the last of it came.
        @param gone: called when the other side is not there, with a sentence and a word.
        """
        self._clock = clock
        self._isSettled = isSettled
        self._ask = ask
        self._lull = lull
        self._gone = gone
        self._heardAt = 0.0
        self._fedAt = 0.0
        self._doubted = False
        self._asking = False
        self._silence: IDelayedCall | None = None
        self._lullCall: IDelayedCall | None = None

    def heard(self, now: float) -> None:
        """
        Something came.
        """
        self._heardAt = now

    def sent(self, now: float) -> None:
        """
        Something was sent.
        """
        if self._silence is None and not self._isSettled(now):
            self._heardAt = now
            self._silence = self._clock.callLater(SILENCE_LIMIT, self._silent)

    def fed(self, now: float) -> None:
        """
        Something came that the other side's application sent: perhaps there is more to come.
        """
        self._fedAt = now
        if self._lullCall is None:
            self._lullCall = self._clock.callLater(LULL, self._lullDue)

    def answered(self) -> None:
        """
        The other side acknowledged what C{ask} sent.
        """
        if self._asking:
            self._asking = self._doubted = False
            self._stopSilence()

    def doubt(self) -> None:
        """
        The other side seems not to know this session any more.
        """
        if not self._doubted:
            self._doubted = True
            self._demand(DOUBT_LIMIT, "the other peer was restarted: connect again", "restarted")

    def stop(self) -> None:
        """
        The session is over.
        """
        self._stopSilence()
        if self._lullCall is not None:
            self._lullCall.cancel()
            self._lullCall = None

    def _silent(self) -> None:
        self._silence = None
        now = self._clock.seconds()
        if self._isSettled(now):
            return
        rest = self._heardAt + SILENCE_LIMIT - now
        if rest > _SOON:
            self._silence = self._clock.callLater(rest, self._silent)
        else:
            self._demand(SILENCE_LIMIT, "the other peer does not answer", "unreachable")

    def _demand(self, limit: float, message: str, word: str) -> None:
        self._stopSilence()
        self._asking = True
        self._silence = self._clock.callLater(limit, self._nothing, message, word)
        self._ask()

    def _nothing(self, message: str, word: str) -> None:
        self._silence = None
        self._gone(message, word)

    def _stopSilence(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None

    def _lullDue(self) -> None:
        self._lullCall = None
        rest = self._fedAt + LULL - self._clock.seconds()
        if rest > _SOON:
            self._lullCall = self._clock.callLater(rest, self._lullDue)
        else:
            self._lull(self._fedAt)
