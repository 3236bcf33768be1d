"""
A session: the one encrypted, authenticated association of two peers, whatever carries it.

C{docs/session.md} has the wire.  The session drives QUIC, decides who is who before anything else
is processed, and hands bytes to streams; its L{Carrier<p2ptwist.peer.carrier.Carrier>} moves the
datagrams.  Single use: when it is over, another one is made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IProtocol, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2ptwist.core.errors import MalformedFrame
from p2ptwist.core.peerid import encodePeerID
from p2ptwist.core.session.admission import (
    AdmissionState,
    CalledAdmission,
    CallerAdmission,
    Traffic,
)
from p2ptwist.core.session.control import (
    CloseCode,
    ControlDecoder,
    ControlMessage,
    SignalMessage,
    closeWord,
    encodeControl,
)
from p2ptwist.core.session.credit import EARLY_DATAGRAM_LIMIT, EarlyCredit
from p2ptwist.core.session.errors import SessionViolation
from p2ptwist.errors import SessionLost, SessionRefused
from p2ptwist.net.deadline import DeadlineTimer
from p2ptwist.net.latch import Latch
from p2ptwist.net.quic import (
    CONTROL_STREAM,
    MESSAGE_LENGTH,
    QUIC,
    Answered,
    HandshakeDone,
    MessageReceived,
    QUICEvent,
    StreamAborted,
    StreamReceived,
    StreamStopped,
    Terminated,
)
from p2ptwist.peer.address import PeerAddress
from p2ptwist.peer.carrier import Carrier
from p2ptwist.peer.prelude import Prelude
from p2ptwist.peer.sessionowner import SessionOwner
from p2ptwist.peer.sessionstreams import SessionStreams
from p2ptwist.peer.stream import Stream
from p2ptwist.peer.vigil import Vigil

HANDSHAKE_LIMIT = 10.0  # seconds until the other side must have proved who it is
_STREAM_EVENTS = (StreamReceived, StreamAborted, StreamStopped)
_UNCERTIFIED = AdmissionState.UNCERTIFIED  # to look it up for each datagram takes its time

_log = Logger()


class Session:
    """
    One session.

    @ivar peerKey: the other peer's public key, which it has proved when L{whenReady} fires.
    @ivar name: exactly 8 bytes, the same on both sides.
    @ivar calling: whether this side called.
    @ivar carrier: what moves the datagrams; set by whoever makes the session.
    @ivar prelude: what was said before the other side had proved itself.
    @ivar roundTrip: L{QUIC.roundTrip}.
    """

    carrier: Carrier

    def __init__(
        self,
        clock: IReactorTime,
        quic: QUIC,
        admission: CallerAdmission | CalledAdmission,
        owner: SessionOwner,
        *,
        name: bytes,
        ownKey: bytes,
        peerKey: bytes,
    ) -> None:
        self.name = name
        self.peerKey = peerKey
        self._ownKey = ownKey
        self._clock = clock
        self._quic = quic
        self._admission = admission
        self._owner = owner
        self.calling = isinstance(admission, CallerAdmission)
        self.roundTrip = quic.roundTrip
        self.prelude = Prelude(self.calling, lambda: owner.admits(self))
        self._control = ControlDecoder()
        # What QUIC may have to keep of a caller that nobody knows, holes included.
        self._early = None if self.calling else EarlyCredit(EARLY_DATAGRAM_LIMIT)
        self._streams = SessionStreams(self, quic, self.calling)
        self._ready: Latch[Session] = Latch()
        self._over: Latch[Exception] = Latch()
        self._flushCall: IDelayedCall | None = None
        self._turning = False  # what streams have written is not with QUIC's datagrams yet
        self._answering = False
        self._timer = DeadlineTimer(clock, quic.deadline, self._due)
        self._limit: IDelayedCall | None = clock.callLater(HANDSHAKE_LIMIT, self._late)
        self._vigil = Vigil(clock, quic.isSettled, self.nudge, self._lulled, self.lose)
        self._ended = False

    @property
    def peerID(self) -> str:
        """
        The other peer's ID.
        """
        return encodePeerID(self.peerKey)

    @property
    def ready(self) -> bool:
        """
        Whether the other side has proved itself.
        """
        return self._ready.settled and not self._ended

    @property
    def admitted(self) -> bool:
        """
        Whether the called side has admitted the caller.
        """
        return self._admission.state is AdmissionState.ADMITTED

    @property
    def unsent(self) -> bool:
        """
        Whether something that was written has not arrived yet.
        """
        waits = self._turning or self._streams.unsent or self._flushCall is not None
        waits = waits or self._quic.queued() > 0
        return not self._ended and (waits or not self._quic.isSettled(self._clock.seconds()))

    def start(self, offered: Sequence[bytes] = ()) -> None:
        """
        Send what begins the session.

        @param offered: the signals of the caller's early offer, which proves the caller as well.
        """
        self._sendControl()
        if offered and self.prelude.admits():
            for data in offered:
                self.carrier.signalReceived(data)
        self._flush()

    def whenReady(self) -> Deferred[Session]:
        """
        @return: a Deferred that fires with this object when the other side has proved itself, so
            that streams may be opened; fails with L{SessionLost}.
        """
        return self._ready.when()

    def whenOver(self) -> Deferred[Exception]:
        """
        @return: a Deferred that fires with the reason when the session is over.
        """
        return self._over.when()

    def tellOver(self, callback: Callable[[object], object]) -> None:
        """
        Have C{callback} called with the reason when the session is over: L{whenOver}, smaller.
        """
        self._over.tell(callback)

    def receive(self, datagrams: Sequence[bytes]) -> None:
        """
        Take datagrams that came, on whatever path.
        """
        if not self._ended:
            self._process(self._clock.seconds(), datagrams)
            self.wakeUp()

    def receiveAll(self, datagrams: Sequence[bytes]) -> None:
        """
        Take datagrams that came, when no more of them wait: they are answered at once.
        """
        if not self._ended:
            self._answering = True
            try:
                self._process(self._clock.seconds(), datagrams)
            finally:
                self._answering = False
            self._flush()

    def openStream(
        self,
        service: str,
        build: Callable[[PeerAddress], IProtocol],
        ended: Callable[[], object] = lambda: None,
    ) -> IProtocol:
        """
        Open a stream, and connect a protocol to it.

        @param service: 1 to 64 bytes of UTF-8.
        @param build: makes the protocol.  When it raises, no stream is opened.
        @param ended: called when the stream is over, if this returns.
        @return: the protocol, connected.
        @raise SessionLost: when the session is over, or not ready.
        @raise StreamRefused: when this side has 64 streams open already.
        """
        if not self.ready:
            raise SessionLost(f"there is no session with {self.peerID} now: connect again")
        return self._streams.open(service, build, ended)

    def sendMessage(self, data: bytes) -> None:
        """
        Send an application's datagram: it may be lost.

        @param data: at most 1,150 bytes.
        @raise ValueError: when it is longer.
        """
        if len(data) > MESSAGE_LENGTH:
            raise ValueError(f"a datagram has at most {MESSAGE_LENGTH} bytes, not {len(data)}")
        if not self._ended and self._ready.settled:
            self._quic.sendMessage(data)
            self.wakeUp()

    def close(self, code: CloseCode, reason: str) -> None:
        """
        End the session, and tell the other side.
        """
        if not self._ended:
            self._hangUp(code, reason, f"this side ended it: {reason}", code.word)

    # StreamsHost

    @property
    def over(self) -> bool:
        """
        Whether the session is over.
        """
        return self._ended

    def accept(self, stream: Stream) -> IProtocol | None:
        """
        @return: the protocol for a stream that the other side opened.
        """
        # Having called a peer is not having admitted it.
        welcome = not self.calling or self._owner.admits(self)
        return self._owner.accept(self, stream) if welcome else None

    def say(self, message: ControlMessage) -> None:
        """
        Send something on the control stream.
        """
        if not self._ended:
            self._quic.send(CONTROL_STREAM, encodeControl(message))
            self.wakeUp()

    def wakeUp(self) -> None:
        """
        Flush once this turn of the reactor is over, so that what came is answered together.
        """
        if self._answering or self._flushCall is not None:
            return
        # Of a session that is over some streams may still be read.
        if not self._ended or len(self._streams) > 0:
            self._flushCall = self._clock.callLater(0.0, self._flushDue)

    def address(self, service: str, *, own: bool) -> PeerAddress:
        """
        @return: the address of this side or the other.
        """
        key = self._ownKey if own else self.peerKey
        remote = None if own else self.carrier.remote
        return PeerAddress(encodePeerID(key), service, self.carrier.kind.value, remote)

    def signal(self, data: bytes) -> None:
        """
        Send a signal of the carrier's to the other side.
        """
        if not self.prelude.hold(data):
            self.say(SignalMessage(data))

    # What comes.

    def _process(self, now: float, datagrams: Sequence[bytes] = ()) -> None:
        try:
            if datagrams:
                if self._early is not None:
                    self._early.receive(sum(map(len, datagrams)))
                self._quic.receive(datagrams, now)
                self._vigil.heard(now)
            while not self._ended and (event := self._quic.pollEvent()) is not None:
                self._handle(event, now)
        except SessionViolation as violation:
            self._violated(violation)
        except MalformedFrame as error:
            self._violated(SessionViolation(CloseCode.PROTOCOL, str(error)))

    def _handle(self, event: QUICEvent, now: float) -> None:
        if isinstance(event, _STREAM_EVENTS):
            self._vigil.fed(now)
            if event.stream == CONTROL_STREAM:
                self._receiveControl(event)
            elif self._admission.state is _UNCERTIFIED:
                raise SessionViolation(CloseCode.PROTOCOL, "a stream before the handshake is over")
            else:
                self._streams.received(event)
        elif isinstance(event, MessageReceived):
            self._vigil.fed(now)
            if self.admitted:
                self._owner.messageReceived(self, event.data)
        elif isinstance(event, HandshakeDone):
            if isinstance(self._admission, CallerAdmission):
                self._admission.certified(event.peerKey or b"")
        elif isinstance(event, Answered):
            self._vigil.answered()
        else:
            self._terminated(event)

    def _receiveControl(self, event: StreamReceived | StreamAborted | StreamStopped) -> None:
        if not isinstance(event, StreamReceived):
            raise SessionViolation(CloseCode.PROTOCOL, "the control stream was given up")
        for message in self._control.receive(event.data):
            traffic = self._admission.receive(message)
            self._advance()
            if traffic is not None:
                self._receiveTraffic(traffic)
        if event.ended:
            raise SessionViolation(CloseCode.PROTOCOL, "the control stream ended")

    def _advance(self) -> None:
        """
        The admission may have gone on.
        """
        admission = self._admission
        if isinstance(admission, CalledAdmission):
            if admission.state is AdmissionState.UNDECIDED:
                self._decide(admission)
        elif admission.state is AdmissionState.UNDECIDED:
            self._sendControl()
            for data in self.prelude.end():
                self.signal(data)
            self._ready.settle(self)
        elif admission.state is AdmissionState.ADMITTED:
            self._stopLimit()
            self._owner.sessionAdmitted(self)
            self._streams.admitted()
        self._sendControl()

    def _decide(self, admission: CalledAdmission) -> None:
        if not self.prelude.admits():
            raise SessionViolation(CloseCode.NOT_ADMITTED, CloseCode.NOT_ADMITTED.text)
        kept = admission.admit()
        self._stopLimit()
        self._sendControl()
        self._ready.settle(self)
        for traffic in kept:
            self._receiveTraffic(traffic)
        self._early = None
        self._streams.admitted()

    def _stopLimit(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None

    def _receiveTraffic(self, traffic: Traffic) -> None:
        if isinstance(traffic, SignalMessage):
            self.carrier.signalReceived(traffic.signal)
        else:
            self._streams.granted(traffic)

    # What goes.

    def _sendControl(self) -> None:
        while (message := self._admission.pollTransmit()) is not None:
            self.say(message)

    def _flushDue(self) -> None:
        self._flushCall = None
        self._flush()

    def _flush(self) -> None:
        if self._streams.waiting:
            self._turning = True
            self._streams.turn()
            self._turning = False
        if self._ended:
            return  # before, or by the application
        now = self._clock.seconds()
        self._transmit(now)
        if not self._ended:
            self._timer.look(now)

    def _transmit(self, now: float) -> None:
        if datagrams := self._quic.takeDatagrams(now):
            self.carrier.send(datagrams)
            if self.admitted:
                self._vigil.sent(now)

    def _due(self, now: float) -> None:
        self._quic.handleTimeout(now)
        self.carrier.timedOut()
        self._process(now)
        self._flush()

    # The end.

    def _late(self) -> None:
        self._limit = None
        message = f"no proof of identity within {HANDSHAKE_LIMIT:.0f} s"
        self._hangUp(CloseCode.PROTOCOL, "no proof in time", message, "late")

    def _violated(self, violation: SessionViolation) -> None:
        _log.info("session with {peer}: {reason}", peer=self.peerID, reason=violation.reason)
        code, reason = violation.code, violation.reason
        self._hangUp(code, reason, reason, code.word)

    def _hangUp(self, code: CloseCode, told: str, message: str, word: str) -> None:
        # The end of the handshake, without which the other side cannot read why.
        self._transmit(self._clock.seconds())
        self._quic.close(int(code), told)
        self._flush()
        self._end(self._reason(message, word))

    def _terminated(self, event: Terminated) -> None:
        if event.byApplication:
            words = event.reason or "it gave no reason"
            reason = self._reason(f"the other side ended it: {words}", closeWord(event.code))
            self._end(reason, whole=True)
        else:
            self._end(self._reason(f"the encrypted connection failed: {event.reason}", "protocol"))

    def doubt(self) -> None:
        """
        The other side seems not to know this session any more: it ends unless there is an answer.
        """
        if self.admitted:
            self._vigil.doubt()

    def _lulled(self, since: float) -> None:
        self.carrier.lulled(since)

    def nudge(self) -> None:
        """
        Have QUIC find out at once what was lost, as there is a way again.
        """
        if self.ready:
            if self._quic.unanswered(self._clock.seconds()):
                self.repeat()
            self._quic.ping()
            self.wakeUp()

    def repeat(self) -> None:
        """
        Have what was not acknowledged sent again.
        """
        self._quic.repeat(self._clock.seconds())
        self.wakeUp()

    def fail(self, reason: Exception) -> None:
        """
        End the session for a reason of the caller's; nobody is told.
        """
        self._end(reason)

    def lose(self, message: str, word: str) -> None:
        """
        End the session because the other side is not there; nobody is told.
        """
        self._end(self._reason(message, word))

    def _reason(self, message: str, word: str) -> Exception:
        """
        @return: the error of this moment: a session that never was is refused, another one lost.
        """
        text = f"session with {self.peerID}: {message}"
        return SessionLost(text, word) if self._ready.settled else SessionRefused(text, word)

    def _end(self, reason: Exception, *, whole: bool = False) -> None:
        if self._ended:
            return
        self._ended = True
        self._admission.end()
        self._vigil.stop()
        self._timer.stop()
        for call in (self._flushCall, self._limit):
            if call is not None and call.active():
                call.cancel()
        self._flushCall = self._limit = None
        self.carrier.close("the session ended")
        self._answering = False
        self._streams.end(Failure(reason), whole=whole)
        # In this order: who waited for this session looks for another one at once.
        self._over.settle(reason)
        self._ready.settle(Failure(reason))
