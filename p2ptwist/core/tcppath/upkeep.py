"""
Whether an open TCP path still carries: when to ask, and when it is dead.

TCP itself finds out only after minutes.  A path that is idle is asked seldom, for NATs keep
connections long; one that data was sent on and nothing came back on is asked soon.
"""

from __future__ import annotations

# Seconds of nothing: NATs keep TCP for two hours by RFC 5382 section 5, and for some minutes where
# they do not heed it.
KEEPALIVE = 45.0
KEEPALIVE_STAGGER = 15.0  # seconds later for the controlled side, so that one side alone does it
DOUBT = 1.0  # seconds that data waits for something to come back before the path is asked
SILENCE = 5.0  # seconds of nothing at all, after a check, after which a path is dead


class Upkeep:
    """
    The clock of one path.
    """

    __slots__ = ("_askedAt", "_heardAt", "_keepalive", "_waitingSince")

    def __init__(self, controlling: bool, now: float) -> None:
        self._keepalive = KEEPALIVE if controlling else KEEPALIVE + KEEPALIVE_STAGGER
        self._heardAt = now
        self._waitingSince: float | None = None
        self._askedAt: float | None = None

    def heard(self, now: float) -> None:
        """
        Anything came from the other side.
        """
        self._heardAt = now
        self._waitingSince = self._askedAt = None

    def sent(self, now: float) -> None:
        """
        Data was sent.
        """
        if self._waitingSince is None:
            self._waitingSince = now

    def asked(self, now: float) -> None:
        """
        A check was sent.
        """
        if self._askedAt is None:
            self._askedAt = now

    def isDue(self, now: float) -> bool:
        """
        @return: whether to send a check at C{now}.
        """
        return self._askedAt is None and now >= self.deadline()

    def silentFor(self, now: float) -> float | None:
        """
        @return: the seconds without a sign of the other side when the path is dead; else C{None}.
        """
        if self._askedAt is None or now < self._askedAt + SILENCE:
            return None
        return now - self._heardAt

    def deadline(self) -> float:
        """
        @return: when L{isDue} or L{silentFor} will say something else.
        """
        if self._askedAt is not None:
            return self._askedAt + SILENCE
        idle = self._heardAt + self._keepalive
        return idle if self._waitingSince is None else min(idle, self._waitingSince + DOUBT)
