"""
The agent: connectivity checks, nomination, consent and data of one session with one peer.

It is a machine in the sense of L{p2ptwist.core.machine}, with one channel more: signals come in by
L{Agent.receiveSignal} and go out as L{SignalQueued} events.

A path opens where an authenticated check of the other side came from, as soon as a check of our own
is on its way there; L{p2ptwist.core.ice.datapath} says how much may leave before that is answered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from p2ptwist.core.address import HostPort
from p2ptwist.core.errors import LocalUsageError, MalformedDatagram
from p2ptwist.core.ice.candidate import Candidate
from p2ptwist.core.ice.checklist import Pair, PairState
from p2ptwist.core.ice.conversation import Conversation
from p2ptwist.core.ice.datapath import DataPath
from p2ptwist.core.ice.events import (
    Counters,
    DataReceived,
    EndKind,
    Event,
    PathConfirmed,
    PathMoved,
    PathOpened,
    SessionEnded,
    SignalQueued,
)
from p2ptwist.core.ice.generation import Generation
from p2ptwist.core.ice.jitter import Jitter
from p2ptwist.core.ice.lineage import MAX_GENERATION, Lineage
from p2ptwist.core.ice.localside import LocalSide
from p2ptwist.core.ice.signal import (
    SESSION_LENGTH,
    Description,
    Goodbye,
    MoreCandidates,
    Signal,
    SignalType,
)
from p2ptwist.core.ice.survey import Survey
from p2ptwist.core.machine import Transmit
from p2ptwist.core.nat import NATBehavior
from p2ptwist.core.stun.message import Message, MessageClass, Method, decode, isSTUN


class Agent:
    """
    One session with one peer.  Single use.

    @ivar session: exactly 8 bytes that name the session among those with the same peer.
    @ivar counters: what was dropped.
    @ivar survey: what a ladder asks for.
    """

    def __init__(
        self,
        controlling: bool,
        randomBytes: Callable[[int], bytes],
        now: float,
        session: bytes | None = None,
    ) -> None:
        """
        @param controlling: whether this side offers; its role at first.
        @param randomBytes: a cryptographic source, such as C{os.urandom}.
        @param session: the session of the offer to answer; C{None} makes a new one.
        """
        self.session = randomBytes(SESSION_LENGTH) if session is None else session
        self.counters = Counters()
        self._randomBytes = randomBytes
        self._conversation = Conversation(controlling, randomBytes, self.counters, now)
        self._now = self._started = now
        self._localSide = LocalSide(self.session)
        self._lineage = Lineage(self._makeGeneration)
        self.survey = Survey(self._localSide, self._lineage, self._conversation)
        self._path = DataPath(Jitter(randomBytes), self._localSide)
        self._ended = False
        self._events: list[Event] = []

    # What this side knows.

    @property
    def controlling(self) -> bool:
        """
        This side's role (RFC 8445 section 6.1.1).
        """
        return self._conversation.controlling

    @property
    def pair(self) -> Pair | None:
        """
        The pair that data goes on: its remote address, this side's address as the other side sees
        it, and the round trip; C{None} before the path is open.
        """
        return self._path.pair

    @property
    def fragments(self) -> tuple[bytes, ...]:
        """
        The user name fragments by which checks for this agent are known.
        """
        return tuple(generation.local.fragment for generation in self._lineage)

    def addCandidates(self, candidates: Iterable[Candidate], now: float) -> None:
        """
        Add addresses of this side; those that come after the description are trickled.
        """
        self._now = now
        if self._localSide.add(candidates):
            self._trickle()

    def endCandidates(self, now: float) -> None:
        """
        Say that no more candidates will come, so that failure can be told early.
        """
        self._now = now
        if not self._localSide.complete:
            self._localSide.complete = True
            self._trickle()

    def setBehavior(self, behavior: NATBehavior) -> None:
        """
        @param behavior: what this side's NAT was measured to do; the other side is told.
        """
        if behavior != self._localSide.behavior:
            self._localSide.behavior = behavior
            self._trickle(always=True)

    # The session.

    def start(self, now: float) -> None:
        """
        Offer.

        @raise LocalUsageError: on the side that answers.
        """
        if not self.controlling:
            raise LocalUsageError("the controlled side answers an offer and makes none")
        self._now = now
        self._describe(SignalType.OFFER)

    def restart(self, now: float, candidates: Iterable[Candidate] | None = None) -> None:
        """
        Begin anew with fresh credentials and checks, because an address of this side changed
        (RFC 8445 section 9).  An open path carries data until there is another one.  After
        255 restarts of either side the session ends instead: connect again.

        @param candidates: this side's addresses from now on; C{None} for the same ones.
        """
        if self._ended:
            return
        self._now = now
        if self._lineage.next > MAX_GENERATION:
            self._end(EndKind.LOST, "it was restarted as often as one session can be")
            return
        if candidates is not None:
            self._localSide.replace(candidates)
        self._lineage.begin(self._lineage.next, self._path.generation, now)
        self._describe(SignalType.OFFER)

    def close(self, reason: str, now: float) -> None:
        """
        End the session and tell the other side.  No more events come, but the signal for it.
        """
        if not self._ended:
            self._now = now
            self._events.clear()
            self._signal(Goodbye(self.session, reason))
            self._finish()

    def receiveSignal(self, signal: Signal, now: float) -> None:
        """
        Take a signal of the other side, as the channel authenticated it.
        """
        if self._ended or signal.session != self.session:
            return
        self._now = now
        if isinstance(signal, Goodbye):
            self._end(*self.survey.read(signal, now - self._started))
        elif isinstance(signal, MoreCandidates):
            self._lineage.learnCandidates(signal, now)
        elif isinstance(signal, Description):
            self._receiveDescription(signal)

    # Data.

    def write(self, data: bytes, now: float) -> None:
        """
        Send application data, now or as soon as there is consent.  What is more than 64 datagrams
        waiting, or comes after the end, is dropped and counted.
        """
        if self._ended:
            self.counters.late += 1
            return
        self._now = now
        if not self._path.hold(data):
            self.counters.overflowed += 1
            return
        self._flush()
        self._renewConsent()

    def probe(self, now: float) -> None:
        """
        Find out at once whether the path carries, by a check: see L{PathConfirmed}.
        """
        if not self._ended and self._path.consent is not None:
            self._now = now
            self._path.consent.ask()
            self._renewConsent()

    def isFlowing(self, now: float) -> bool:
        """
        @return: whether data written at C{now} would leave without waiting.
        """
        return self._path.consent is not None and self._path.consent.isFresh(now)

    def passMany(self, now: float) -> HostPort | None:
        """
        @return: where data goes that does not have to wait at C{now}, which the caller sends
            there itself; C{None} when it is to be given to L{write}.
        """
        if self._ended:
            return None
        self._now = now
        return self._path.passMany(now)

    def hears(self, address: HostPort, now: float) -> bool:
        """
        Data came that the caller delivers itself.

        @return: whether the other side has proved to be at C{address}; if not, nothing changed.
        """
        if self._ended or not self.acceptsFrom(address):
            return False
        self._now = now
        self._path.heardFrom(address, now)
        return True

    def acceptsFrom(self, address: HostPort) -> bool:
        """
        @return: whether the other side has proved to be at C{address}.
        """
        current, former = self._lineage.current, self._lineage.former
        return current.proves(address) or (former is not None and former.proves(address))

    def awaits(self, transactionID: bytes) -> bool:
        """
        @return: whether an answer with that transaction ID may be for this agent.
        """
        return transactionID in self._conversation.exchange

    # The verbs of a machine.

    def receiveDatagram(self, data: bytes, address: HostPort, now: float) -> bool:
        """
        Take a datagram: a check, an answer, or application data.

        @return: whether it was this session's.
        """
        self._now = now
        if not isSTUN(data):
            return self._receiveData(data, address)
        try:
            message = decode(data, requireFingerprint=True)
        except MalformedDatagram:
            self.counters.malformed += 1
            return False
        return self.receiveMessage(message, len(data), address, now)

    def receiveMessage(self, message: Message, length: int, address: HostPort, now: float) -> bool:
        """
        Take a STUN message that was decoded already.

        @param length: of its datagram, in bytes.
        @return: whether it was this session's, and authentic.
        """
        # Indications are other agents' keepalives: they bear no proof (RFC 8445 section 11).
        indication = message.messageClass is MessageClass.INDICATION
        if self._ended or indication or message.method != Method.BINDING:
            return False
        self._now = now
        try:
            taken = self._take(message, length, address)
        except MalformedDatagram:
            self.counters.malformed += 1
            return False
        if taken:
            self._work()
        return taken

    def handleTimeout(self, now: float) -> None:
        """
        Send the checks that are due, and find out what is dead.
        """
        if not self._ended:
            self._now = now
            self._work()

    def deadline(self) -> float | None:
        """
        @return: when L{handleTimeout} must be called next.
        """
        if self._ended:
            return None
        generation = self._lineage.current
        times = [self._path.deadline(), generation.deadline(self._now, self.controlling)]
        if not generation.completed and not self.survey.climbing:
            times.append(generation.failAt())
        earliest = min((time for time in times if time is not None), default=None)
        return None if earliest is None else max(self._now, earliest)

    def pollTransmit(self) -> Transmit | None:
        """
        @return: the next datagram to send.
        """
        return self._conversation.transmits.pop(0) if self._conversation.transmits else None

    def pollEvent(self) -> Event | None:
        """
        @return: the next event.
        """
        return self._events.pop(0) if self._events else None

    # Signaling.

    def _makeGeneration(self, number: int) -> Generation:
        return Generation(
            number,
            self.controlling,
            self._localSide,
            self._conversation.pace,
            self._randomBytes,
            self._now,
        )

    def _describe(self, kind: SignalType) -> None:
        generation = self._lineage.current
        generation.described = True
        self._signal(self._localSide.describe(kind, generation.number, generation.local))

    def _trickle(self, always: bool = False) -> None:
        generation = self._lineage.current
        if generation.described and (always or not generation.completed):
            self._signal(self._localSide.more(generation.number))

    def _signal(self, signal: Signal) -> None:
        if not self._ended:
            self._events.append(SignalQueued(signal))

    def _receiveDescription(self, description: Description) -> None:
        lineage, path, number = self._lineage, self._path, description.generation
        if number >= lineage.next:
            lineage.follow(number, path.generation, path.consent is not None, self._now)
        generation = lineage.current
        if number != generation.number or generation.remote is not None:
            return
        generation.learn(description, self._now)
        if not generation.described:
            self._describe(SignalType.ANSWER)
        self._work()

    # The path.

    def _take(self, message: Message, length: int, address: HostPort) -> bool:
        """
        @return: whether a STUN message was authentic.
        """
        conversation, lineage, now = self._conversation, self._lineage, self._now
        request = message.messageClass is MessageClass.REQUEST
        if request:
            found = conversation.receiveRequest(lineage, message, length, address, now)
        else:
            found = conversation.receiveAnswer(lineage, message, address, now)
        if found is None:
            return False
        generation, pair = found
        if pair is not None:
            confirmed = self._path.confirm(pair, request, now)
            if request and not confirmed and self._path.follow(generation, pair):
                conversation.sendSpare(generation, pair, now)
            self._choose(generation, pair)
            if pair is self._path.pair and self._path.consent is not None:
                self._events.append(PathConfirmed(answered=not request))
            self._flush()
        return True

    def _choose(self, generation: Generation, pair: Pair) -> None:
        """
        Something good is known of C{pair}: open the path on it, or move there if it is better.
        """
        if pair.state is PairState.SUCCEEDED:
            current = generation is self._lineage.current
            if pair.nominated and current and not generation.completed:
                generation.completed = True
                self._use(generation, pair)
            elif self._path.isBetter(generation, pair, current):
                self._use(generation, pair)
        for data in self._path.unpark(pair.address):
            self._events.append(DataReceived(data))

    def _openWhereHeard(self, generation: Generation) -> None:
        """
        Open the path where the other side was heard, as soon as a check of our own is on its way
        there: data that follows it comes from an address that the check proves.
        """
        pair = generation.checklist.likeliest() if self._path.pair is None else None
        if pair is not None:
            self._path.open(generation, pair, self._now)
            self._events.append(PathOpened(pair.address))
            self._flush()

    def _use(self, generation: Generation, pair: Pair) -> None:
        """
        Send data on a proved pair from now on.
        """
        former = self._path.pair
        self._path.prove(generation, pair, self.controlling, self._now)
        if former is None:
            self._events.append(PathOpened(pair.address))
        elif former.address != pair.address:
            self._events.append(PathMoved(pair.address))
        self._flush()

    def _flush(self) -> None:
        while (transmit := self._path.takeSendable(self._now)) is not None:
            self._conversation.transmits.append(transmit)

    def _receiveData(self, data: bytes, address: HostPort) -> bool:
        if self._ended:
            return False
        if self.hears(address, self._now):
            self._events.append(DataReceived(data))
            return True
        known = self._lineage.current.checklist.get(address) is not None
        if known and self._path.park(data, address):
            return True
        self.counters.stray += 1
        return False

    # Time.

    def _work(self) -> None:
        """
        Everything that is due now.
        """
        generation = self._lineage.current
        self._conversation.run(generation, self._now)
        self._openWhereHeard(generation)
        self._renewConsent()
        searching = not self._ended and not generation.completed and not self.survey.climbing
        if searching and self._now >= generation.failAt():
            self._giveUp()

    def _renewConsent(self) -> None:
        path = self._path
        consent, pair, generation = path.consent, path.pair, path.generation
        if consent is None or pair is None or generation is None:
            return
        silence = consent.silentFor(self._now)
        if silence is not None:
            self._pathDied(generation, pair, silence)
        elif consent.due(self._now):
            consent.checkSent(self._now)
            self._conversation.send(generation, pair, self._now)

    def _pathDied(self, generation: Generation, pair: Pair, silence: float) -> None:
        pair.state = PairState.FAILED
        if generation is self._lineage.current:
            self._end(EndKind.LOST, f"nothing came from the other side for {silence:.1f} s")
        else:
            self._path.suspend()

    def _giveUp(self) -> None:
        """
        The generation found nothing.  A path that an earlier one found goes on.
        """
        if self._path.consent is not None and self._path.generation is not None:
            self._lineage.fallBack(self._path.generation)
            return
        reason = self.survey.explain(self._now - self._started)
        if self._path.pair is None:
            self._end(EndKind.FAILED, reason)
        else:
            self._end(EndKind.LOST, f"the path died; {reason}")

    def _end(self, kind: EndKind, reason: str) -> None:
        if kind is not EndKind.LEFT:
            self._signal(Goodbye(self.session, reason))
        elapsed = self._now - self._started
        self._events.append(SessionEnded(kind, reason, elapsed, self._conversation.exchange.sent))
        self._conversation.transmits.clear()
        self._finish()

    def _finish(self) -> None:
        self._ended = True
        self._conversation.exchange.clear()
        self._path.clear()
