"""
The chronicle of one peer's attempts to be direct: who said what, what was tried, and what came of
it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from twisted.internet.interfaces import IReactorTime

from p2ptwist.core.address import HostPort, formatAddress
from p2ptwist.core.ice.candidate import CandidateType
from p2ptwist.core.ice.signal import Description, MoreCandidates
from p2ptwist.core.ladder.message import Stand
from p2ptwist.core.ladder.posture import Posture
from p2ptwist.core.nat import UNKNOWN_BEHAVIOR, NATBehavior
from p2ptwist.core.tcppath.signal import Answer, Start
from p2ptwist.net.attempts import (
    AttemptBegun,
    AttemptEvent,
    AttemptOpened,
    AttemptOver,
    CheckAnswered,
    CheckSent,
    CheckTaken,
    Connected,
    Dialed,
    DialFailed,
    SignalSent,
    SignalTaken,
)
from p2ptwist.peer.service import PathEvent

# Of one chronicle, and of one attempt: an attempt makes 200 checks, or as many dials, and a
# minute has fewer attempts.  What is more is not kept.
ATTEMPT_LIMIT = 64
RECORD_LIMIT = 1000
# Seconds after an attempt has failed in which another one may follow that belongs to it.
_QUIET = 0.5
# Seconds for which a path is watched, once it carries the session.
_AFTERWARDS = 0.3


@dataclass(slots=True)
class Side:
    """
    What one side has said of itself.

    @ivar candidates: its addresses, and how each was found.
    @ivar behavior: what its NATs do.
    """

    candidates: dict[HostPort, CandidateType] = field(default_factory=dict)
    behavior: NATBehavior = UNKNOWN_BEHAVIOR


@dataclass(slots=True)
class Try:
    """
    One check, or one dial.

    @ivar address: where it went.
    @ivar at: when, in seconds from the beginning of the call.
    @ivar ended: when it was answered, or came to nothing; C{None} while neither is known.
    @ivar succeeded: whether it was answered.
    @ivar refused: whether somebody refused.
    """

    address: HostPort
    at: float
    ended: float | None = None
    succeeded: bool = False
    refused: bool = False


@dataclass(slots=True)
class Round:
    """
    One side's word in a round of the ladder.

    @ivar local: whether it is this side's.
    """

    at: float
    number: int
    local: bool
    posture: Posture
    address: HostPort


@dataclass(slots=True)
class Attempt:
    """
    One attempt.

    @ivar transport: C{"udp"} or C{"tcp"}.
    @ivar calling: whether this side offered it.
    @ivar began: when, in seconds from the beginning of the call, as all other times.
    @ivar here: this side.
    @ivar there: the other one.
    @ivar tries: checks over UDP, dials over TCP.
    @ivar heard: when, and from where, authentic checks or connections of the other side came.
    @ivar rounds: of the ladder.
    @ivar opened: when there was a path.
    @ivar remote: where that goes.
    @ivar over: when the attempt ended.
    @ivar reason: why.
    @ivar failed: whether it has found nothing.
    """

    transport: str
    calling: bool
    began: float
    here: Side = field(default_factory=Side)
    there: Side = field(default_factory=Side)
    tries: list[Try] = field(default_factory=list)
    heard: list[tuple[float, HostPort]] = field(default_factory=list)
    rounds: list[Round] = field(default_factory=list)
    opened: float | None = None
    remote: HostPort | None = None
    over: float | None = None
    reason: str | None = None
    failed: bool = False
    waiting: dict[bytes, Try] = field(default_factory=dict)

    @property
    def active(self) -> bool:
        """
        Whether it goes on.
        """
        return self.opened is None and self.over is None


class Chronicle:
    """
    What happened, from now on.

    @ivar attempts: in the order in which they began.
    @ivar paths: what carried the session, from when on.
    @ivar admitted: when the other peer had admitted this one; C{None} before.
    """

    def __init__(
        self, clock: IReactorTime, progress: Callable[[str], object] = lambda _: None
    ) -> None:
        """
        @param progress: called with a few words when an attempt begins, succeeds or fails.
        """
        self.attempts: list[Attempt] = []
        self.paths: list[tuple[float, PathEvent]] = []
        self.admitted: float | None = None
        self._clock = clock
        self._progress = progress
        self._start = clock.seconds()
        self._bySession: dict[bytes, Attempt] = {}
        self._closed = False

    @property
    def now(self) -> float:
        """
        Seconds since it began.
        """
        return self._clock.seconds() - self._start

    @property
    def direct(self) -> PathEvent | None:
        """
        The direct path that carries the session; C{None} while it is relayed.
        """
        return self.paths[-1][1] if self.paths and self.paths[-1][1].kind == "direct" else None

    @property
    def complete(self) -> bool:
        """
        Whether there is the best of paths, or all was tried once.
        """
        if self.direct is not None and self.direct.transport == "udp":
            return self.now >= self.paths[-1][0] + _AFTERWARDS
        if any(each.active and each.transport == "tcp" for each in self.attempts):
            return False
        failed = [each for each in self.attempts if each.transport == "udp" and each.failed]
        # TCP may just be about to begin.
        return bool(failed) and self.now >= (failed[0].over or 0.0) + _QUIET

    def begin(self) -> None:
        """
        Count the seconds from this moment.
        """
        self._start = self._clock.seconds()

    def close(self) -> None:
        """
        Note nothing any more.
        """
        self._closed = True

    def welcomed(self) -> None:
        """
        The other peer has admitted this one: the session is there, relayed.
        """
        self.admitted = self.now
        self._progress(f"the peer answered after {self.admitted:.2f} s")

    def pathChanged(self, path: PathEvent) -> None:
        """
        Something else carries the session.
        """
        self.paths.append((self.now, path))
        del self.paths[:-RECORD_LIMIT]
        remote = "" if path.remote is None else f" {formatAddress(path.remote)}"
        self._progress(f"{path.kind}, {path.transport}{remote}, after {self.now:.2f} s")

    def observe(self, event: AttemptEvent) -> None:
        """
        Take what L{p2ptwist.net.attempts} tells.
        """
        if isinstance(event, AttemptBegun):
            self._begin(event)
            return
        attempt = self._bySession.get(event.session)
        if attempt is None or self._closed:
            return
        if isinstance(event, SignalSent):
            self._learn(attempt, attempt.here, event)
        elif isinstance(event, SignalTaken):
            self._learn(attempt, attempt.there, event)
        elif isinstance(event, AttemptOpened):
            attempt.opened, attempt.remote = self.now, event.remote
        elif isinstance(event, AttemptOver):
            self._end(attempt, event)
        else:
            self._try(attempt, event)

    def _begin(self, event: AttemptBegun) -> None:
        if len(self.attempts) < ATTEMPT_LIMIT:
            attempt = Attempt(event.transport, event.calling, self.now)
            self.attempts.append(attempt)
            self._bySession[event.session] = attempt
            self._progress(f"an attempt over {event.transport.upper()} begins")

    def _end(self, attempt: Attempt, event: AttemptOver) -> None:
        attempt.over, attempt.reason = self.now, event.reason
        attempt.failed = event.failed
        self._progress(f"over {attempt.transport.upper()}: {event.reason}")

    def _learn(self, attempt: Attempt, side: Side, event: SignalSent | SignalTaken) -> None:
        signal = event.signal
        if isinstance(signal, Description | MoreCandidates):
            side.candidates.update({each.address: each.type for each in signal.candidates})
            side.behavior = signal.behavior
        elif isinstance(signal, Answer | Start):
            side.candidates.update({each.address: each.type for each in signal.candidates})
        elif isinstance(signal, Stand) and len(attempt.rounds) < RECORD_LIMIT:
            local = isinstance(event, SignalSent)
            said = Round(self.now, signal.round, local, signal.posture, signal.address)
            attempt.rounds.append(said)

    def _try(
        self,
        attempt: Attempt,
        event: CheckSent | CheckAnswered | CheckTaken | Dialed | DialFailed | Connected,
    ) -> None:
        if isinstance(event, CheckSent | Dialed):
            key = event.transaction if isinstance(event, CheckSent) else _keyOf(event.address)
            if len(attempt.tries) < RECORD_LIMIT:
                attempt.waiting[key] = Try(event.address, self.now)
                attempt.tries.append(attempt.waiting[key])
        elif isinstance(event, CheckAnswered):
            self._finish(attempt, event.transaction, succeeded=True)
        elif isinstance(event, DialFailed):
            self._finish(attempt, _keyOf(event.address), refused=event.refused)
        elif isinstance(event, Connected) and event.dialed:
            self._finish(attempt, _keyOf(event.address), succeeded=True)
        elif len(attempt.heard) < RECORD_LIMIT:
            attempt.heard.append((self.now, event.address))

    def _finish(
        self, attempt: Attempt, key: bytes, *, succeeded: bool = False, refused: bool = False
    ) -> None:
        found = attempt.waiting.pop(key, None)
        if found is not None:
            found.ended, found.succeeded, found.refused = self.now, succeeded, refused


def _keyOf(address: HostPort) -> bytes:
    return formatAddress(address).encode()
