"""
What this side knows of itself, and so can say to the other side.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from p2ptwist.core.address import HostPort
from p2ptwist.core.ice.candidate import OFFERED_LIMIT, Candidate, isLoopback, looksReachable
from p2ptwist.core.ice.check import Credentials
from p2ptwist.core.ice.signal import Description, MoreCandidates, SignalType
from p2ptwist.core.nat import NATBehavior


class LocalSide:
    """
    This side's candidates and NAT, for all generations of one session.

    @ivar session: exactly 8 bytes.
    @ivar complete: whether no more candidates will come.
    @ivar behavior: what this side's NAT was measured to do.
    @ivar fresh: whether its port is a fresh one, and the other side's is to be as well.
    """

    __slots__ = (
        "_candidates",
        "behavior",
        "complete",
        "fresh",
        "session",
    )

    def __init__(self, session: bytes) -> None:
        self.session = session
        self.complete = False
        self.fresh = False
        self.behavior = NATBehavior(None, None)
        self._candidates: dict[HostPort, Candidate] = {}

    def __iter__(self) -> Iterator[Candidate]:
        return iter(self._candidates.values())

    def add(self, candidates: Iterable[Candidate]) -> bool:
        """
        Add candidates, the first ones first; at most 20, as the other side has room for 24 and
        hears from addresses that nobody offered.

        @return: whether any was new.
        """
        known = len(self._candidates)
        for candidate in candidates:
            if len(self._candidates) < OFFERED_LIMIT:
                self._candidates.setdefault(candidate.address, candidate)
        return len(self._candidates) > known

    def replace(self, candidates: Iterable[Candidate]) -> None:
        """
        Forget the candidates so far, and have these.
        """
        self._candidates.clear()
        self.add(candidates)

    def looksReachable(self, address: HostPort) -> bool:
        """
        @return: whether the remote C{address} is worth one of the first checks.
        """
        return looksReachable(address, self._candidates)

    def offersLoopback(self) -> bool:
        """
        @return: whether the other side may be on this machine.
        """
        return any(isLoopback(host) for host, _ in self._candidates)

    def describe(self, kind: SignalType, number: int, credentials: Credentials) -> Description:
        """
        @return: this side's offer or answer for the generation C{number}.
        """
        return Description(
            kind,
            self.session,
            number,
            credentials.fragment,
            credentials.password,
            tuple(self._candidates.values()),
            self.complete,
            self.behavior,
            self.fresh,
        )

    def more(self, number: int) -> MoreCandidates:
        """
        @return: what is known by now, for a generation that was described before.
        """
        candidates = tuple(self._candidates.values())
        return MoreCandidates(self.session, number, candidates, self.complete, self.behavior)
