"""
Hole punching on a UDP port that the application already has.

A L{Puncher} belongs to one port.  Each L{Punch} is one session with one other program: it sends
signals over a channel of the application's choice, opens a direct path, keeps it open, and says
when it died.  C{docs/punching.md} has it all in twenty lines.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from os import urandom

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2ptwist.core.address import HostPort
from p2ptwist.core.errors import LocalUsageError, MalformedDatagram
from p2ptwist.core.ice.agent import Agent
from p2ptwist.core.ice.candidate import Candidate
from p2ptwist.core.ice.check import userNameFragments
from p2ptwist.core.ice.events import (
    Counters,
    DataReceived,
    EndKind,
    Event,
    PathMoved,
    PathOpened,
    SessionEnded,
    SignalQueued,
)
from p2ptwist.core.ice.signal import Description, Signal, SignalType, decodeSignal, encodeSignal
from p2ptwist.core.nat import NATBehavior
from p2ptwist.core.stun.message import Message, MessageClass, decode, isSTUN
from p2ptwist.errors import PathLost, PeerUnreachable, PunchFailed
from p2ptwist.interfaces import IPathReceiver
from p2ptwist.net.latch import Latch
from p2ptwist.net.pump import Pump

# Datagrams that came before the application said who takes them.
_UNREAD_LIMIT = 64

_log = Logger()


class Punch:
    """
    One session with one other program: first the attempt to open a path, then the path.

    Single use: when it is over, make another one.

    @ivar receiver: who gets the datagrams and is told of the path's end (L{IPathReceiver}).
        Datagrams that came before it was set are delivered when it is; at most 64 of them.
    @ivar openedAfter: seconds from the start until the path was open; C{None} before.
    """

    def __init__(
        self,
        puncher: Puncher,
        agent: Agent,
        clock: IReactorTime,
        write: Callable[[bytes, HostPort], object],
        sendSignal: Callable[[bytes], object],
    ) -> None:
        """
        Use L{Puncher.call} and L{Puncher.answer} instead.
        """
        self.openedAfter: float | None = None
        self._puncher = puncher
        self._agent = agent
        self._clock = clock
        self._write = write
        self._sendSignal = sendSignal
        self._pump: Pump[Event] = Pump(clock, agent, self._transmit, self._deliver)
        self._startedAt = clock.seconds()
        self._receiver: IPathReceiver | None = None
        self._unread: deque[bytes] = deque(maxlen=_UNREAD_LIMIT)
        self._opened: Latch[Punch] = Latch(self._abandoned)
        self._settled: Latch[None] = Latch()
        self._ended: Latch[BaseException | None] = Latch()
        self._failure: Failure | None = None

    @property
    def session(self) -> bytes:
        """
        Exactly 8 bytes, the same on both sides.
        """
        return self._agent.session

    @property
    def remote(self) -> HostPort | None:
        """
        The address that datagrams go to; C{None} before the path is open.
        """
        pair = self._agent.pair
        return None if pair is None else pair.address

    @property
    def mapped(self) -> HostPort | None:
        """
        This side's address as the other side sees it; C{None} before a check was answered.
        """
        pair = self._agent.pair
        return None if pair is None else pair.mapped

    @property
    def roundTrip(self) -> float | None:
        """
        Seconds, of the latest answered check on the path; C{None} before one.
        """
        pair = self._agent.pair
        return None if pair is None else pair.roundTrip

    @property
    def counters(self) -> Counters:
        """
        What was dropped, and why.
        """
        return self._agent.counters

    @property
    def receiver(self) -> IPathReceiver | None:
        """
        Who gets the datagrams.
        """
        return self._receiver

    @receiver.setter
    def receiver(self, receiver: IPathReceiver) -> None:
        self._receiver = receiver
        while self._unread and self._receiver is receiver:
            self._deliverData(self._unread.popleft())
        failure = self._failure
        if failure is not None and self.openedAfter is not None:
            self._tell(lambda: receiver.pathLost(failure))

    def whenOpen(self) -> Deferred[Punch]:
        """
        @return: a Deferred that fires with this object when datagrams may be sent, and fails with
            L{PunchFailed}, with L{PeerUnreachable} when the other side would not, or with
            L{PathLost}.  When every such Deferred is cancelled the session ends at once.
        """
        return self._opened.when() if self._failure is None else fail(self._failure)

    def whenSettled(self) -> Deferred[None]:
        """
        @return: a Deferred that fires when the path is open, or will never be.  Who waits for this
            only watches: it does not keep an attempt alive that everybody else gave up.
        """
        return self._settled.when()

    def whenOver(self) -> Deferred[BaseException | None]:
        """
        @return: a Deferred that fires with the reason, as an exception, when the session is over,
            whether it ever had a path or not.
        """
        return self._ended.when()

    def write(self, data: bytes) -> None:
        """
        Send one datagram.  Like all of UDP it may be lost.  It waits while the other side's
        consent has to be renewed first, or the path is not open yet: at most 64 do.

        @raise LocalUsageError: when it would be taken for STUN: a first byte of 0 to 3 followed
            by STUN's magic cookie at offset 4 (RFC 7983).
        """
        if isSTUN(data):
            raise LocalUsageError("a datagram that looks like STUN cannot share a port with it")
        self._agent.write(data, self._clock.seconds())
        self._pump.drain()

    def signalReceived(self, data: bytes) -> None:
        """
        Take a signal that came over the channel.  One that is malformed is counted and dropped.
        """
        try:
            signal = decodeSignal(data)
        except MalformedDatagram:
            self._agent.counters.malformed += 1
            return
        self.takeSignal(signal)

    def takeSignal(self, signal: Signal) -> None:
        """
        Take a signal that was decoded already.
        """
        self._agent.receiveSignal(signal, self._clock.seconds())
        self._pump.drain()
        self._puncher.index(self, self._agent.fragments)

    def addCandidates(
        self, candidates: Iterable[Candidate], complete: bool, behavior: NATBehavior | None = None
    ) -> None:
        """
        Offer more addresses of this side.

        @param complete: whether no more will come.
        @param behavior: what this side's NAT was measured to do, if that is known by now.
        """
        now = self._clock.seconds()
        if behavior is not None:
            self._agent.setBehavior(behavior)
        self._agent.addCandidates(candidates, now)
        if complete:
            self._agent.endCandidates(now)
        self._pump.drain()

    def restart(self, candidates: Iterable[Candidate] | None = None) -> None:
        """
        Look for a path anew, because an address of this side changed; an open path is used until
        there is another one (RFC 8445 section 9).

        @param candidates: this side's addresses from now on; L{None} for the same ones.
        @raise LocalUsageError: after 255 restarts.
        """
        self._agent.restart(self._clock.seconds(), candidates)
        self._pump.drain()
        self._puncher.index(self, self._agent.fragments)

    def close(self, reason: str = "closed") -> None:
        """
        End the session, tell the other side, and free everything at once.

        @param reason: what the other side's user reads.
        """
        self.fail(Failure(PathLost(f"this side ended it: {reason}")), reason)

    def fail(self, failure: Failure, reason: str) -> None:
        """
        End the session for a reason of the channel's, such as a peer that is not there.

        @param failure: what L{whenOpen} fails with.
        @param reason: what the other side's user reads.
        """
        if self._failure is None:
            self._agent.close(reason, self._clock.seconds())
            self._pump.drain()
            self._over(failure)

    def _receiveMessage(self, message: Message, length: int, address: HostPort) -> bool:
        taken = self._agent.receiveMessage(message, length, address, self._clock.seconds())
        self._pump.drain()
        return taken

    def _start(self) -> None:
        self._agent.start(self._clock.seconds())
        self._pump.drain()

    def _transmit(self, data: bytes, address: HostPort) -> None:
        self._puncher.route(address, self)
        self._write(data, address)

    def _deliver(self, event: Event) -> None:
        if isinstance(event, DataReceived):
            self._deliverData(event.data)
        elif isinstance(event, SignalQueued):
            self._tell(lambda: self._sendSignal(encodeSignal(event.signal)))
        elif isinstance(event, PathOpened):
            self.openedAfter = self._clock.seconds() - self._startedAt
            self._opened.settle(self)
            self._settled.settle(None)
        elif isinstance(event, PathMoved):
            if self._receiver is not None:
                self._tell(self._receiver.pathMoved)
        else:
            self._over(_asFailure(event, self.openedAfter is not None))

    def _deliverData(self, data: bytes) -> None:
        receiver = self._receiver
        if receiver is None:
            self._unread.append(data)
        else:
            self._tell(lambda: receiver.datagramReceived(data))

    def _abandoned(self) -> None:
        self.fail(Failure(CancelledError()), "the caller gave up")

    def _over(self, failure: Failure) -> None:
        if self._failure is not None:
            return
        self._failure = failure
        self._pump.stop()
        self._puncher.forget(self)
        self._opened.settle(failure)
        self._settled.settle(None)
        receiver = self._receiver
        if receiver is not None and self.openedAfter is not None:
            self._tell(lambda: receiver.pathLost(failure))
        self._ended.settle(failure.value)

    def _tell(self, call: Callable[[], object]) -> None:
        """
        Call the application; what it raises is its own bug, and must not end the path.
        """
        try:
            call()
        except Exception:
            _log.failure("the application failed while it was told of a path")


@dataclass(slots=True)
class _Routes:
    """
    How datagrams find a session.
    """

    addresses: set[HostPort] = field(default_factory=set)
    fragments: set[bytes] = field(default_factory=set)


class Puncher:
    """
    The sessions of one UDP port.

    @ivar unknown: STUN messages that were for no session.
    """

    def __init__(
        self,
        clock: IReactorTime,
        write: Callable[[bytes, HostPort], object],
        randomBytes: Callable[[int], bytes] = urandom,
    ) -> None:
        """
        @param write: sends one datagram from the port; must not raise
            (L{p2ptwist.net.datagramport.DatagramPort.write} does not).
        @param randomBytes: a cryptographic source; tests on a simulated Internet pass a seeded one.
        """
        self.unknown = 0
        self._clock = clock
        self._write = write
        self._randomBytes = randomBytes
        self._byFragment: dict[bytes, Punch] = {}
        self._byAddress: dict[HostPort, list[Punch]] = {}
        self._routes: dict[Punch, _Routes] = {}

    def __len__(self) -> int:
        return len(self._routes)

    def call(
        self,
        sendSignal: Callable[[bytes], object],
        candidates: Iterable[Candidate],
        *,
        complete: bool = True,
        behavior: NATBehavior | None = None,
    ) -> Punch:
        """
        Offer a session to another program.

        @param sendSignal: called with each signal, at most 1,024 bytes, for the other program to
            pass to L{answer} and L{Punch.signalReceived}.
        @param candidates: this side's addresses known so far.
        @param complete: whether no more will come.
        @param behavior: what this side's NAT was measured to do, for the reason of a failure.
        """
        agent = Agent(True, self._randomBytes, self._clock.seconds())
        punch = self._register(agent, sendSignal)
        punch.addCandidates(candidates, complete, behavior)
        punch._start()
        return punch

    def answer(
        self,
        offer: bytes | Signal,
        sendSignal: Callable[[bytes], object],
        candidates: Iterable[Candidate],
        *,
        complete: bool = True,
        behavior: NATBehavior | None = None,
    ) -> Punch:
        """
        Take a session that another program offers.

        @param offer: the first signal of the session, as it came or decoded.
        @raise MalformedDatagram: when it is not an offer.
        """
        signal = decodeSignal(offer) if isinstance(offer, bytes) else offer
        if not isOffer(signal):
            raise MalformedDatagram("the first signal of a session is not an offer")
        agent = Agent(False, self._randomBytes, self._clock.seconds(), signal.session)
        punch = self._register(agent, sendSignal)
        punch.addCandidates(candidates, complete, behavior)
        punch.takeSignal(signal)
        return punch

    def datagramReceived(self, data: bytes, address: HostPort) -> bool:
        """
        Take a datagram that came to the port.

        @param address: its source, canonical (L{p2ptwist.core.address.canonicalHost}).
        @return: whether it was for one of the sessions; if not, it is the application's own.
        """
        if isSTUN(data):
            return self._receiveSTUN(data, address)
        # A copy, as a delivery may end a session; the newest session of an address comes first.
        return any(
            punch._pump.receiveDatagram(data, address)
            for punch in reversed(self._byAddress.get(address, ())[:])
        )

    def close(self, reason: str = "closed") -> None:
        """
        End every session.
        """
        for punch in list(self._routes):
            punch.close(reason)

    def route(self, address: HostPort, punch: Punch) -> None:
        """
        Something is sent to C{address}: what comes from there may be for C{punch}.
        """
        routes = self._routes.get(punch)
        if routes is not None and address not in routes.addresses:
            routes.addresses.add(address)
            self._byAddress.setdefault(address, []).append(punch)

    def index(self, punch: Punch, fragments: Iterable[bytes]) -> None:
        """
        Checks that name one of C{fragments} are for C{punch}.
        """
        routes = self._routes.get(punch)
        if routes is not None:
            for fragment in fragments:
                routes.fragments.add(fragment)
                self._byFragment[fragment] = punch

    def forget(self, punch: Punch) -> None:
        """
        The session is over.
        """
        routes = self._routes.pop(punch, _Routes())
        for address in routes.addresses:
            sharing = self._byAddress[address]
            sharing.remove(punch)
            if not sharing:
                del self._byAddress[address]
        for fragment in routes.fragments:
            del self._byFragment[fragment]

    def _register(self, agent: Agent, sendSignal: Callable[[bytes], object]) -> Punch:
        punch = Punch(self, agent, self._clock, self._write, sendSignal)
        self._routes[punch] = _Routes()
        self.index(punch, agent.fragments)
        return punch

    def _receiveSTUN(self, data: bytes, address: HostPort) -> bool:
        try:
            message = decode(data, requireFingerprint=True)
        except MalformedDatagram:
            # A STUN server's answer may come without FINGERPRINT: somebody else's, perhaps.
            return False
        punch = self._owner(message, address)
        if punch is None:
            self.unknown += 1
            return False
        return punch._receiveMessage(message, len(data), address)

    def _owner(self, message: Message, address: HostPort) -> Punch | None:
        if message.messageClass in (MessageClass.SUCCESS, MessageClass.ERROR):
            for punch in self._byAddress.get(address, ()):
                if punch._agent.awaits(message.transactionID):
                    return punch
            return None
        fragments = userNameFragments(message)
        return None if fragments is None else self._byFragment.get(fragments[0])


def isOffer(signal: Signal) -> bool:
    """
    @return: whether C{signal} begins a session.
    """
    return (
        isinstance(signal, Description)
        and signal.type is SignalType.OFFER
        and signal.generation == 0
    )


def _asFailure(event: SessionEnded, opened: bool) -> Failure:
    if opened:
        return Failure(PathLost(event.reason))
    if event.kind is EndKind.LEFT:
        return Failure(PeerUnreachable(event.reason))
    return Failure(PunchFailed(event.reason, event.elapsed, event.checks))
