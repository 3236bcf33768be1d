"""
An open path over TCP: it carries datagrams, and says when it is dead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2ptwist.core.address import HostPort
from p2ptwist.core.errors import LocalUsageError, MalformedDatagram
from p2ptwist.core.stun.message import anySTUN
from p2ptwist.core.tcppath.upkeep import Upkeep
from p2ptwist.core.tcppath.verification import Verification
from p2ptwist.errors import PathLost
from p2ptwist.interfaces import IBatchPathReceiver, IPathReceiver
from p2ptwist.net.latch import Latch
from p2ptwist.net.tcpframes import FramedConnection

# Datagrams that came before the application said who takes them.
_UNREAD_LIMIT = 64
CLOSING_LIMIT = 2.0  # seconds for what was written before the path was closed

_log = Logger()


class TCPPath:
    """
    A path, as L{p2ptwist.net.punch.Punch} is one once it is open.

    @ivar session: exactly 8 bytes, the same on both sides.
    @ivar openedAfter: seconds from the start of the attempt until the path was open.
    """

    def __init__(
        self,
        clock: IReactorTime,
        connection: FramedConnection,
        verification: Verification,
        session: bytes,
        controlling: bool,
        openedAfter: float,
    ) -> None:
        self.session = session
        self.openedAfter = openedAfter
        self._clock = clock
        self._connection = connection
        self._verification = verification
        self._upkeep = Upkeep(controlling, clock.seconds())
        self._receiver: IPathReceiver | None = None
        self._unread: list[bytes] = []
        self._ended: Latch[BaseException | None] = Latch()
        self._gone: Latch[None] = Latch()
        self._failure: Failure | None = None
        self._timer: IDelayedCall | None = None
        connection.receive = self.framesReceived
        connection.lost = self._connectionLost
        connection.progressed = lambda: self._upkeep.heard(clock.seconds())
        self._rearm()

    @property
    def remote(self) -> HostPort:
        """
        The address that datagrams go to.
        """
        return self._verification.address

    @property
    def mapped(self) -> HostPort | None:
        """
        This side's address as the other side sees it.
        """
        return self._verification.mapped

    @property
    def roundTrip(self) -> float | None:
        """
        Seconds, of the latest answered check.
        """
        return self._verification.roundTrip

    @property
    def dropped(self) -> int:
        """
        Datagrams that were dropped because the transport was full.
        """
        return self._connection.dropped

    @property
    def flowing(self) -> bool:
        """
        Whether a datagram written now would leave without waiting for consent: always, for on TCP
        the other side acknowledges what comes.
        """
        return self._failure is None

    @property
    def receiver(self) -> IPathReceiver | None:
        """
        Who gets the datagrams and is told of the path's end.  Datagrams that came before it was set
        are delivered when it is; at most 64 of them.
        """
        return self._receiver

    @receiver.setter
    def receiver(self, receiver: IPathReceiver) -> None:
        self._receiver = receiver
        unread, self._unread = self._unread, []
        if unread:
            self._deliver(unread)
        failure = self._failure
        if failure is not None and self._receiver is receiver:
            self._tell(lambda: receiver.pathLost(failure))

    def whenOver(self) -> Deferred[BaseException | None]:
        """
        @return: a Deferred that fires with the reason, as an exception, when the path is over.
        """
        return self._ended.when()

    def tellOver(self, callback: Callable[[object], object]) -> None:
        """
        Have C{callback} called with the reason when the path is over: L{whenOver}, smaller.
        """
        self._ended.tell(callback)

    def whenGone(self) -> Deferred[None]:
        """
        @return: a Deferred that fires when nothing is left of it: its connection is closed as well.
        """
        return self._gone.when()

    def write(self, data: bytes) -> None:
        """
        Send one datagram.  It may be lost: where TCP takes no more for the moment.

        @raise LocalUsageError: when it would be taken for STUN, or does not fit into a frame.
        """
        self.writeMany((data,))

    def writeMany(self, datagrams: Sequence[bytes]) -> bool:
        """
        Send datagrams, as L{write} does each, at less expense.

        @return: whether they had to wait for nothing: see L{flowing}.
        @raise LocalUsageError: as L{write}.
        """
        if anySTUN(datagrams):
            raise LocalUsageError("a datagram that looks like STUN cannot share a path with it")
        if self._failure is None:
            self._connection.send(datagrams)
            deadline = self._upkeep.deadline()
            self._upkeep.sent(self._clock.seconds())
            if self._upkeep.deadline() < deadline:
                self._rearm()
        return self.flowing

    def probe(self) -> None:
        """
        Find out whether the path carries: when it does, a receiver that is a batch receiver is told
        so.
        """
        if self._failure is None:
            self._ask(self._clock.seconds())
            self._rearm()

    def close(self, reason: str = "closed") -> None:
        """
        End the path; what was written is still sent.
        """
        self._over(f"this side ended it: {reason}")

    def framesReceived(self, frames: Sequence[bytes]) -> None:
        """
        Frames came on the connection, in this order.
        """
        if self._failure is not None:
            return
        now, verification = self._clock.seconds(), self._verification
        self._upkeep.heard(now)
        answers = verification.answers
        try:
            datagrams = [frame for frame in frames if not verification.receive(frame, now)]
        except MalformedDatagram as error:
            self._over(f"the other side broke a rule: {error}")
            return
        self._sendChecks()
        if len(datagrams) < len(frames):
            self._confirmed(verification.answers > answers)
        if datagrams:
            self._deliver(datagrams)

    def _confirmed(self, answered: bool) -> None:
        receiver = self._receiver
        if IBatchPathReceiver.providedBy(receiver):
            self._tell(lambda: receiver.pathConfirmed(answered))

    def _deliver(self, datagrams: list[bytes]) -> None:
        receiver = self._receiver
        if receiver is None:
            self._unread = (self._unread + datagrams)[-_UNREAD_LIMIT:]
        elif IBatchPathReceiver.providedBy(receiver):
            self._tell(lambda: receiver.datagramsReceived(datagrams))
        else:
            for data in datagrams:
                self._tell(lambda data=data: receiver.datagramReceived(data))  # type: ignore[misc]

    def _sendChecks(self) -> None:
        while self._verification.transmits:
            self._connection.sendCheck(self._verification.transmits.popleft())

    def _rearm(self) -> None:
        delay = max(0.0, self._upkeep.deadline() - self._clock.seconds())
        if self._timer is None:
            self._timer = self._clock.callLater(delay, self._due)
        else:
            self._timer.reset(delay)

    def _due(self) -> None:
        """
        The time that was armed has come; what came meanwhile may have put it off.
        """
        self._timer = None
        now = self._clock.seconds()
        silence = self._upkeep.silentFor(now)
        if silence is not None:
            self._over(f"nothing came from the other side for {silence:.1f} s")
            return
        if self._upkeep.isDue(now):
            self._ask(now)
        self._rearm()

    def _ask(self, now: float) -> None:
        self._verification.check(now)
        self._upkeep.asked(now)
        self._sendChecks()

    def _connectionLost(self) -> None:
        self._over("the connection was closed")
        self._stopTimer()
        self._gone.settle(None)

    def _over(self, message: str) -> None:
        if self._failure is not None:
            return
        self._failure = failure = Failure(PathLost(message))
        self._stopTimer()
        self._connection.receive = lambda frames: None
        self._timer = self._clock.callLater(CLOSING_LIMIT, self._abort)
        self._connection.close()
        self._ended.settle(failure.value)
        receiver = self._receiver
        if receiver is not None:
            self._tell(lambda: receiver.pathLost(failure))

    def _abort(self) -> None:
        self._timer = None
        self._connection.abort()
        self._gone.settle(None)

    def _stopTimer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tell(self, call: Callable[[], object]) -> None:
        """
        Call the application; what it raises is its own bug, and must not end the path.
        """
        try:
            call()
        except Exception:
            _log.failure("the application failed while it was told of a path")
