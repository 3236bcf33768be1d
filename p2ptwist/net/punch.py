"""
One session with one other program, as an application holds it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2ptwist.core.address import HostPort
from p2ptwist.core.errors import LocalUsageError, MalformedDatagram
from p2ptwist.core.ice.agent import Agent
from p2ptwist.core.ice.candidate import Candidate
from p2ptwist.core.ice.events import (
    Counters,
    DataReceived,
    Event,
    PathConfirmed,
    PathMoved,
    PathOpened,
    SignalQueued,
)
from p2ptwist.core.ice.signal import Description, Signal, decodeSignal, encodeSignal
from p2ptwist.core.ice.survey import Survey
from p2ptwist.core.ladder.message import Busy, Stand
from p2ptwist.core.nat import NATBehavior
from p2ptwist.core.stun.message import Message, anySTUN, isSTUN
from p2ptwist.errors import PathLost
from p2ptwist.interfaces import IBatchPathReceiver, IPathReceiver
from p2ptwist.net.attempts import AttemptOpened, SignalTaken, noteSent, noteTaken, tell
from p2ptwist.net.climb import Gear
from p2ptwist.net.datagramport import DatagramPort
from p2ptwist.net.expedition import Expedition
from p2ptwist.net.flow import Flow
from p2ptwist.net.latch import Latch
from p2ptwist.net.outcome import asFailure
from p2ptwist.net.outlet import Outlet, WriteMany
from p2ptwist.net.pump import Pump
from p2ptwist.net.routes import Routes

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
    @ivar outlet: what sends its datagrams.
    @ivar answered: whether the other side has described itself.
    @ivar exhausted: whether everything was tried that the two NATs allow.
    """

    __slots__ = (
        "_adopted",
        "_agent",
        "_clock",
        "_ended",
        "_expedition",
        "_failure",
        "_flow",
        "_opened",
        "_pump",
        "_receiveMany",
        "_receiver",
        "_routes",
        "_sendSignal",
        "_startedAt",
        "_unread",
        "answered",
        "exhausted",
        "openedAfter",
        "outlet",
    )

    def __init__(
        self,
        routes: Routes[Punch],
        agent: Agent,
        clock: IReactorTime,
        write: Callable[[bytes, HostPort], object],
        sendSignal: Callable[[bytes], object],
        writeMany: WriteMany,
        adopted: Callable[[DatagramPort], object] = lambda port: None,
    ) -> None:
        """
        Use L{p2ptwist.net.puncher.Puncher.call} and L{p2ptwist.net.puncher.Puncher.answer}.
        """
        self.openedAfter: float | None = None
        self.answered = False
        self.exhausted = False
        self._routes = routes
        self._agent = agent
        self._clock = clock
        self.outlet = Outlet(clock, agent.survey, write, writeMany)
        self._sendSignal = sendSignal
        self._adopted = adopted
        self._pump: Pump[Event] = Pump(clock, agent, self._transmit, self._deliver)
        self._startedAt = clock.seconds()
        self._receiver: IPathReceiver | None = None
        self._receiveMany: Callable[[Sequence[bytes]], object] | None = None
        self._flow = Flow(agent, self.outlet, self._aimed)
        self._unread: list[bytes] = []  # a deque of none has 760 bytes, and sessions are many
        self._opened: Latch[Punch] = Latch(self._abandoned)
        self._ended: Latch[BaseException | None] = Latch()
        self._failure: Failure | None = None
        self._expedition: Expedition | None = None

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
        return None if (pair := self._agent.pair) is None else pair.address

    @property
    def mapped(self) -> HostPort | None:
        """
        This side's address as the other side sees it; C{None} before a check was answered.
        """
        return None if (pair := self._agent.pair) is None else pair.mapped

    @property
    def roundTrip(self) -> float | None:
        """
        Seconds, of the latest answered check on the path; C{None} before one.
        """
        return None if (pair := self._agent.pair) is None else pair.roundTrip

    @property
    def unsent(self) -> int:
        """
        How many datagrams the socket refused, with whatever exception.
        """
        return self.outlet.unsent

    @property
    def survey(self) -> Survey:
        """
        What both sides have said of themselves.
        """
        return self._agent.survey

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
        many = IBatchPathReceiver(receiver, None)
        self._receiveMany = self._receiveSingly if many is None else many.datagramsReceived
        failure = self._failure  # the path may also end while this is told, which tells of itself
        while self._unread and self._receiver is receiver and self._failure is failure:
            self._deliverData(self._unread.pop(0))
        if failure is not None and self.openedAfter is not None and self._receiver is receiver:
            self._tell(receiver.pathLost, failure)

    def whenOpen(self) -> Deferred[Punch]:
        """
        @return: a Deferred that fires with this object when datagrams may be sent, and fails with
            L{PunchFailed}, with L{PeerUnreachable} when the other side would not, or with
            L{PathLost}.  When every such Deferred is cancelled the session ends at once.
        """
        return self._opened.when() if self._failure is None else fail(self._failure)

    def whenOver(self) -> Deferred[BaseException | None]:
        """
        @return: a Deferred that fires with the reason, as an exception, when the session is over,
            also one that never had a path.  To wait for this does not keep an attempt alive.
        """
        return self._ended.when()

    def tellOver(self, callback: Callable[[object], object]) -> None:
        """
        Have C{callback} called with the reason when the session is over: L{whenOver}, smaller.
        """
        self._ended.tell(callback)

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

    def writeMany(self, datagrams: Sequence[bytes]) -> bool:
        """
        Send datagrams, as L{write} does each, at less expense.

        @return: whether they left; if not, they wait for consent, or for a path.
        @raise LocalUsageError: when one of them would be taken for STUN.
        """
        if anySTUN(datagrams):
            raise LocalUsageError("a datagram that looks like STUN cannot share a port with it")
        now = self._clock.seconds()
        left = self._flow.send(datagrams, now)
        if not left:
            for data in datagrams:
                self._agent.write(data, now)
            self._pump.drain()
        return left

    def probe(self) -> None:
        """
        Find out at once whether the path carries both ways: call it when there is a reason to
        doubt.  A receiver of many datagrams is told of the answer
        (L{IBatchPathReceiver.pathConfirmed}).
        """
        self._agent.probe(self._clock.seconds())
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
        tell(self._routes.observer, SignalTaken(self.session, signal))
        if isinstance(signal, Stand | Busy):
            if self._expedition is not None:
                self._expedition.hear(signal)
            return
        self.answered = self.answered or isinstance(signal, Description)
        self._agent.receiveSignal(signal, self._clock.seconds())
        self._pump.drain()
        self._routes.names(self, self._agent.fragments)
        self._survey()

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
        self._survey()

    def restart(self, candidates: Iterable[Candidate] | None = None) -> None:
        """
        Look for a path anew, because an address of this side changed; an open path is used until
        there is another one (RFC 8445 section 9).

        @param candidates: this side's addresses from now on; C{None} for the same ones.
        """
        self._agent.restart(self._clock.seconds(), candidates)
        self._pump.drain()
        self._routes.names(self, self._agent.fragments)

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
            # Not by the pump, which does nothing when this is called from inside a delivery.
            while (event := self._agent.pollEvent()) is not None:
                self._deliver(event)
            self._over(failure)

    # What the puncher of the port calls.

    def start(self) -> None:
        """
        Offer.
        """
        self._agent.start(self._clock.seconds())
        self._pump.drain()

    def climb(self, gear: Gear) -> None:
        """
        Where ordinary checks cannot meet, climb the ladder as well.
        """
        self._expedition = Expedition(
            gear, self._agent, self._sendSignal, self._takeFrom, self._climbed
        )

    def awaits(self, transactionID: bytes) -> bool:
        """
        @return: whether an answer with that transaction ID may be for this session.
        """
        return self._agent.awaits(transactionID)

    def receiveMessage(self, message: Message, length: int, address: HostPort) -> bool:
        """
        Take a STUN message.

        @param length: of its datagram, in bytes.
        @return: whether it was this session's, and authentic.
        """
        taken = self._agent.receiveMessage(message, length, address, self._clock.seconds())
        if taken and self._routes.observer is not None:
            noteTaken(self._routes.observer, self.session, message, address)
        self._pump.drain()
        return taken

    def receiveData(self, data: bytes, address: HostPort) -> bool:
        """
        Take a datagram of the other side's application.

        @return: whether it may be this session's.
        """
        return self._pump.receiveDatagram(data, address)

    def receiveMany(self, datagrams: Sequence[bytes], address: HostPort) -> bool:
        """
        Take datagrams of the other side's application that came together, none of them STUN.

        @return: whether they are this session's; if not, each may be yet.
        """
        receive = self._receiveMany
        if receive is None or not self._flow.hears(address, self._clock.seconds()):
            return False
        try:
            receive(datagrams)
        except Exception:
            _log.failure("the application failed while it was given datagrams")
        return True

    def claim(self, address: HostPort) -> int:
        """
        @return: how sure it is that data from C{address} is for this session: 2 when a check that
            was sent there is answered, and the path goes there; 1 when the other side was heard
            from there, whose source can be forged; 0 when it only says that it may be there.
        """
        pair = self._agent.pair
        if pair is not None and pair.address == address and pair.roundTrip is not None:
            return 2
        return 1 if self._agent.acceptsFrom(address) else 0

    # The ladder.

    def _survey(self) -> None:
        if self._expedition is not None and self.answered and self.openedAfter is None:
            self._expedition.survey()

    def _takeFrom(
        self, port: DatagramPort, message: Message, length: int, address: HostPort
    ) -> bool:
        """
        Take a message that came to another socket than the peer's own.  If it is authentic, what
        goes to its source leaves from there from now on: the answer at once.
        """
        former = self.outlet.redirect(address, port)
        taken = self.receiveMessage(message, length, address)
        if taken:
            self._adopted(port)
        else:
            self.outlet.redirect(address, former)
        self._flow.forget()
        return taken

    def _climbed(self) -> None:
        """
        The climb is over.  An agent that was not to give up meanwhile looks again.
        """
        if self._expedition is not None:
            self.exhausted = self._expedition.exhausted
            self._pump.drain()

    def _transmit(self, data: bytes, address: HostPort) -> None:
        if self._routes.observer is not None:
            noteSent(self._routes.observer, self.session, data, address)
        self._routes.sends(self, address)
        self.outlet.send(data, address)

    def _aimed(self, target: HostPort) -> None:
        """
        Data is about to go to C{target}: its answers are for this session, and consent is renewed
        earlier while it flows.
        """
        self._routes.sends(self, target)
        self._pump.drain()

    def _receiveSingly(self, datagrams: Sequence[bytes]) -> None:
        for data in datagrams:
            self._deliverData(data)

    def _deliver(self, event: Event) -> None:
        self._flow.forget()
        if isinstance(event, DataReceived):
            self._deliverData(event.data)
        elif isinstance(event, SignalQueued):
            self._tell(self._sendSignal, encodeSignal(event.signal))
        elif isinstance(event, PathOpened):
            self.openedAfter = self._clock.seconds() - self._startedAt
            self._stopClimbing()
            tell(self._routes.observer, AttemptOpened(self.session, event.remote))
            self._opened.settle(self)
        elif isinstance(event, PathMoved):
            if self._receiver is not None:
                self._tell(self._receiver.pathMoved)
        elif isinstance(event, PathConfirmed):
            receiver = self._receiver
            if IBatchPathReceiver.providedBy(receiver):
                self._tell(lambda: receiver.pathConfirmed(event.answered))
        else:
            self._over(asFailure(event, self.openedAfter is not None))

    def _deliverData(self, data: bytes) -> None:
        receiver = self._receiver
        if receiver is None:
            self._unread = [*self._unread, data][-_UNREAD_LIMIT:]
        else:
            self._tell(receiver.datagramReceived, data)

    def _abandoned(self) -> None:
        self.fail(Failure(CancelledError()), "the caller gave up")

    def _over(self, failure: Failure) -> None:
        if self._failure is not None:
            return
        self._failure = failure
        self._stopClimbing()
        self._flow.forget()
        self._pump.stop()
        self.outlet.close()
        self._routes.forget(self)
        self._ended.settle(failure.value)
        self._opened.settle(failure)
        receiver = self._receiver
        if receiver is not None and self.openedAfter is not None:
            self._tell(receiver.pathLost, failure)

    def _stopClimbing(self) -> None:
        expedition, self._expedition = self._expedition, None
        if expedition is not None:
            expedition.stop()

    def _tell(self, call: Callable[..., object], *arguments: object) -> None:
        """
        Call the application; what it raises is its own bug, and must not end the path.
        """
        try:
            call(*arguments)
        except Exception:
            _log.failure("the application failed while it was told of a path")
