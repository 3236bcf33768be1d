"""
The attempt of one side to open a TCP path: signals, dials and checks until one connection is
proved, or the time is over.

It is a machine in the manner of L{p2ptwist.core.machine}: what it wants done comes out of
L{Opening.pollEvent}.  Connections are told apart by numbers that whoever drives it gives them.
"""

from __future__ import annotations

from base64 import b64encode
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from p2ptwist.core.address import HostPort
from p2ptwist.core.errors import MalformedDatagram
from p2ptwist.core.ice.candidate import isCheckable, isLoopback
from p2ptwist.core.ice.check import Credentials
from p2ptwist.core.ice.jitter import Jitter
from p2ptwist.core.ice.signal import SESSION_LENGTH
from p2ptwist.core.tcppath.dialing import Dialing
from p2ptwist.core.tcppath.signal import (
    CANDIDATE_LIMIT,
    Answer,
    Goodbye,
    Offer,
    Start,
    TCPCandidate,
    TCPSignal,
)
from p2ptwist.core.tcppath.verification import Keys, Verification

BUDGET = 10.0  # seconds for all of it: a person waits, and a relay may be at hand
LEAD_LIMIT = 1.0  # seconds that the caller waits after Start at most: half of a very slow channel
VERIFICATION_LIMIT = 5.0  # seconds that a connection may take to be proved
UNPROVED_LIMIT = 16  # connections: two for each of the addresses that are dialed
# Bytes of randomness; 8 and 24 characters of base64 (RFC 8445 section 5.3 wants 24 and 128 bits).
_FRAGMENT_ENTROPY = 6
_PASSWORD_ENTROPY = 18


@dataclass(frozen=True, slots=True)
class Say:
    """
    Send a signal to the other side.
    """

    signal: TCPSignal


@dataclass(frozen=True, slots=True)
class Dial:
    """
    Dial an address; L{Opening.connected} or L{Opening.dialFailed} is to follow.
    """

    address: HostPort


@dataclass(frozen=True, slots=True)
class Send:
    """
    Send a frame on a connection.
    """

    number: int
    frame: bytes


@dataclass(frozen=True, slots=True)
class Drop:
    """
    Close a connection; L{Opening.lost} need not follow.
    """

    number: int


@dataclass(frozen=True, slots=True)
class Opened:
    """
    A connection is the path.  Everything else is to be closed; nothing comes after this.

    @ivar verification: which goes on with the checks of the path's upkeep.
    """

    number: int
    verification: Verification


@dataclass(frozen=True, slots=True)
class Failed:
    """
    There will be no path.  Everything is to be closed; nothing comes after this.

    @ivar left: whether the other side ended it.
    @ivar elapsed: seconds that were spent.
    @ivar dials: how many connections were dialed.
    """

    reason: str
    left: bool
    elapsed: float
    dials: int


Event = Say | Dial | Send | Drop | Opened | Failed


class Opening:
    """
    One attempt.  Single use.

    @ivar session: exactly 8 bytes that name it among those with the same peer.
    @ivar controlling: whether this side called.
    @ivar over: whether it has opened a path, or failed.
    """

    def __init__(
        self,
        randomBytes: Callable[[int], bytes],
        now: float,
        offer: Offer | None = None,
    ) -> None:
        """
        Begin: the caller's offer is queued.

        @param randomBytes: a cryptographic source, such as C{os.urandom}.
        @param offer: what to answer; C{None} to call.
        """
        self.controlling = offer is None
        self.session = randomBytes(SESSION_LENGTH) if offer is None else offer.session
        self.over = False
        self._randomBytes = randomBytes
        self._local = Credentials(
            b64encode(randomBytes(_FRAGMENT_ENTROPY)), b64encode(randomBytes(_PASSWORD_ENTROPY))
        )
        self._keys: Keys | None = None
        self._startedAt = self._now = now
        self._candidates: tuple[TCPCandidate, ...] | None = None
        self._remote: tuple[TCPCandidate, ...] | None = None
        self._roundTrip = 0.0
        self._dialAt: float | None = None
        self._dialing = Dialing(Jitter(randomBytes))
        self._unproved: dict[int, tuple[Verification, float]] = {}
        self._events: deque[Event] = deque()
        if offer is None:
            self._events.append(Say(Offer(self.session, self._local)))
        else:
            self._learnKeys(offer.credentials)

    # What this side finds out.

    def prepared(self, candidates: tuple[TCPCandidate, ...], now: float) -> None:
        """
        The local port is open, and as much is known of its addresses as will be.

        @param candidates: the best first; those above the limit are left out.
        """
        if self.over or self._candidates is not None:
            return
        self._now = now
        self._candidates = candidates[:CANDIDATE_LIMIT]
        if not self._candidates:
            self._fail("this side has no address that TCP could be dialed at")
        elif not self.controlling:
            held = now - self._startedAt
            self._events.append(Say(Answer(self.session, held, self._local, self._candidates)))
        else:
            self._agree()

    def receiveSignal(self, signal: TCPSignal, now: float) -> None:
        """
        Take a signal of the other side, as the channel authenticated it.
        """
        if self.over or signal.session != self.session:
            return
        self._now = now
        if isinstance(signal, Goodbye):
            self._end(f"the other side ended it: {signal.reason}", left=True)
        elif self._remote is None and isinstance(signal, Answer) and self.controlling:
            self._roundTrip = max(0.0, now - self._startedAt - signal.held)
            self._learnKeys(signal.credentials)
            self._remote = signal.candidates
            self._agree()
        elif self._remote is None and isinstance(signal, Start) and not self.controlling:
            self._remote = signal.candidates
            self._dialFrom(now)

    def close(self, reason: str, now: float) -> None:
        """
        Give up, and tell the other side.  No more events come, but the signal for it.
        """
        if not self.over:
            self._now = now
            self._finish()
            self._events.append(Say(Goodbye(self.session, reason)))

    # Connections.

    def connected(self, number: int, address: HostPort, dialed: bool, now: float) -> None:
        """
        There is a connection.

        @param number: which it is from now on.
        @param address: the other end's.
        @param dialed: whether this side dialed.
        """
        if self.over or self._keys is None or len(self._unproved) >= UNPROVED_LIMIT:
            self._events.append(Drop(number))
            return
        self._now = now
        self._dialing.stands(address)
        verification = Verification(self._keys, address, self._randomBytes)
        self._unproved[number] = (verification, now + VERIFICATION_LIMIT)
        if dialed:
            verification.check(now)
            self._flush(number, verification)

    def dialFailed(self, address: HostPort, early: bool, now: float) -> None:
        """
        A dial has come to nothing.

        @param early: whether it was refused, and not only without an answer.
        """
        self._now = now
        self._dialing.failed(address, now, early=early)

    def receiveFrame(self, number: int, frame: bytes, now: float) -> None:
        """
        Take a frame that came on a connection.
        """
        found = self._unproved.get(number)
        if self.over or found is None:
            return
        self._now = now
        verification = found[0]
        try:
            verification.receive(frame, now)
        except MalformedDatagram:
            self._drop(number)
            return
        if self.controlling and verification.proved:
            verification.nominate(now)
        self._flush(number, verification)
        if verification.nominated:
            self._finish()
            self._events.append(Opened(number, verification))

    def lost(self, number: int, now: float) -> None:
        """
        A connection is gone.
        """
        found = self._unproved.pop(number, None)
        if found is not None:
            self._now = now
            self._dialing.failed(found[0].address, now)

    # The verbs of a machine.

    def handleTimeout(self, now: float) -> None:
        """
        Do whatever is due.
        """
        if self.over:
            return
        self._now = now
        if now >= self._startedAt + BUDGET:
            self._fail(self._explain())
            return
        for number in [each for each, (_, end) in self._unproved.items() if now >= end]:
            self._drop(number)
        if self._dialAt is not None and now >= self._dialAt:
            self._events.extend(Dial(address) for address in self._dialing.take(now))

    def deadline(self) -> float | None:
        """
        @return: when L{handleTimeout} must be called next.
        """
        if self.over:
            return None
        times = [self._startedAt + BUDGET, *(end for _, end in self._unproved.values())]
        dialing = self._dialing.deadline()
        if self._dialAt is not None and dialing is not None:
            times.append(max(self._dialAt, dialing))
        return max(self._now, min(times))

    def pollEvent(self) -> Event | None:
        """
        @return: the next thing to do.
        """
        return self._events.popleft() if self._events else None

    # Inside.

    def _learnKeys(self, remote: Credentials) -> None:
        tieBreaker = int.from_bytes(self._randomBytes(8), "big")
        self._keys = Keys(self._local, remote, self.controlling, tieBreaker)

    def _agree(self) -> None:
        """
        The caller starts as soon as both sides are ready.
        """
        if self._candidates and self._remote is not None:
            self._events.append(Say(Start(self.session, self._candidates)))
            self._dialFrom(self._now + min(self._roundTrip / 2, LEAD_LIMIT))

    def _dialFrom(self, at: float) -> None:
        assert self._remote is not None
        own = [each.address[0] for each in self._candidates or ()]
        allowLoopback = any(map(isLoopback, own))
        self._dialing.add(
            (
                each
                for each in self._remote
                if isCheckable(each.address, allowLoopback=allowLoopback)
            ),
            at,
        )
        self._dialAt = at
        if not len(self._dialing):
            self._fail("the other side has no address that may be dialed")

    def _drop(self, number: int) -> None:
        self._events.append(Drop(number))
        verification = self._unproved.pop(number)[0]
        self._dialing.failed(verification.address, self._now)

    def _flush(self, number: int, verification: Verification) -> None:
        while verification.transmits:
            self._events.append(Send(number, verification.transmits.popleft()))

    def _explain(self) -> str:
        if self._remote is None:
            return f"the other side did not get ready for TCP within {BUDGET:.0f} s"
        dialing = self._dialing
        return (
            f"no direct path over TCP in {BUDGET:.0f} s: {dialing.dials} dials to {len(dialing)} "
            f"addresses, of which {dialing.refused} were refused"
        )

    def _fail(self, reason: str) -> None:
        self._events.append(Say(Goodbye(self.session, reason)))
        self._end(reason, left=False)

    def _end(self, reason: str, *, left: bool) -> None:
        self._finish()
        elapsed = self._now - self._startedAt
        self._events.append(Failed(reason, left, elapsed, self._dialing.dials))

    def _finish(self) -> None:
        self.over = True
        self._unproved.clear()
