"""
When the next path of a session has to be opened, where NATs forget every mapping after a while,
however much it is used.

Some carriers' NATs do so after 50 to 75 s.  There are two marks of it: one address of a path has
another port than before although the socket is the same, and that twice; or two paths one after the
other die at about the same age, where that of the first is not known if its mappings may have been
older.  From then on a path is replaced in time by one from fresh ports, whose mappings are new.
"""

from __future__ import annotations

from p2ptwist.core.address import HostPort

# Of the shortest life that was seen: less than 50/75, as the next one may be that much shorter.
RATIO = 0.65
# The same where the next path needs a ladder, which may take a spray of some seconds.
LADDER_RATIO = 0.5
# Seconds of a life: what is shorter would mean a path that never rests, what is longer is better
# left to the repair of paths that died.
LEAST = 15.0
MOST = 300.0
SPREAD = 1.6  # of two ages that are about the same: 75/50, and a bit, as nobody sees it at once
PROMPT = 0.5  # seconds; for a path whose mappings may be old already
AGAIN = 5.0  # seconds after an attempt that came to nothing
ATTEMPTS = 3  # in vain, for one path: then it lives as long as it can

Ends = tuple[HostPort | None, HostPort]


class Rotation:
    """
    The paths of one session over UDP, one after the other.

    C{now} is seconds on one monotonic clock.

    @ivar life: seconds that the mappings of these two networks last; C{None} for unknown, or long.
    """

    __slots__ = (
        "_attempts",
        "_bornAt",
        "_died",
        "_due",
        "_ends",
        "_fresh",
        "_lostAt",
        "_openedAt",
        "_ratio",
        "life",
    )

    def __init__(self) -> None:
        self.life: float | None = None
        self._attempts = 0
        self._bornAt: float | None = None
        # The age of the path before, and whether its mappings were not older.
        self._died: tuple[float, bool] | None = None
        self._due: float | None = None
        self._ends: Ends | None = None
        self._fresh = False
        self._lostAt: float | None = None
        self._openedAt = 0.0
        self._ratio = RATIO

    def opened(self, ends: Ends, fresh: bool, now: float, *, climbed: bool = False) -> None:
        """
        There is a path.

        @param ends: this side's address as the other side sees it, and the other side's.
        @param fresh: whether it is from fresh ports, whose mappings are as old as the path.
        @param climbed: whether a ladder found it, as it will the next.
        """
        same = not (fresh or self._fresh or climbed or self._ratio == LADDER_RATIO)
        self._ratio = LADDER_RATIO if climbed else RATIO
        self._fresh, self._attempts, self._openedAt = fresh, 0, now
        if same and self._ends is not None:
            self._compare(ends, now if self._lostAt is None else self._lostAt)
        else:
            # What a ladder finds is new on one side at least, and costs more to replace.
            self._bornAt = now if fresh or climbed else None
        own = ends[0]
        if own is None and same and self._ends is not None:
            own = self._ends[0]  # of the same socket; the first answer will tell
        self._ends, self._lostAt = (own, ends[1]), None
        self._plan(now)

    def seen(self, ends: Ends, now: float) -> None:
        """
        The addresses of the path in use, as the latest check tells them.
        """
        if self._ends is None or self._lostAt is not None:
            return
        changed = self._compare(ends, now)
        self._ends = (ends[0] or self._ends[0], ends[1])
        if changed:
            self._plan(now)

    def lost(self, since: float) -> None:
        """
        The path is gone.

        @param since: when it died.
        """
        self._lostAt, self._due = since, None
        age, died = since - self._openedAt, self._died
        if age > MOST:
            return
        if died is not None and age >= LEAST:
            self._learn(*died, age)
        if age >= LEAST or not self._fresh:
            self._died = age, self._fresh

    def failed(self, now: float) -> None:
        """
        The next path did not open.
        """
        self._attempts += 1
        tries = self._lostAt is None and self._attempts < ATTEMPTS
        self._due = now + AGAIN if tries else None

    def begun(self) -> None:
        """
        The next path is being opened.
        """
        self._due = None

    def deadline(self) -> float | None:
        """
        @return: when to open the next path; C{None} when there is no need.
        """
        return self._due

    def _compare(self, ends: Ends, since: float) -> bool:
        """
        @param since: when the mappings changed, if they did.
        @return: whether they did.
        """
        assert self._ends is not None
        changed = any(map(_remapped, self._ends, ends))
        if changed:
            age = None if self._bornAt is None else since - self._bornAt
            if age is not None and LEAST <= age <= MOST:
                self.life = min(age, self.life or MOST)
            self._bornAt = since
        return changed

    def _learn(self, before: float, exact: bool, age: float) -> None:
        """
        Two paths in a row have died.

        @param before: the age of the first.
        @param exact: whether its mappings were not older.
        """
        if exact or not self._fresh:
            shorter, longer = sorted((before, age))
            if shorter >= LEAST and longer <= SPREAD * shorter:
                self.life = min(shorter, self.life or MOST)
        elif before <= SPREAD * age:
            self.life = min(age, self.life or MOST)

    def _plan(self, now: float) -> None:
        if self.life is None:
            self._due = None
        elif self._bornAt is None:
            self._due = now + PROMPT
        else:
            self._due = max(now + PROMPT, self._bornAt + self._ratio * self.life)


def _remapped(before: HostPort | None, after: HostPort | None) -> bool:
    """
    @return: whether one end of a path is at another port of the same host.
    """
    if before is None or after is None:
        return False
    return before[0] == after[0] and before[1] != after[1]
