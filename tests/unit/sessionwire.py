"""
A session, and who is at the other end of it: QUIC without any manners.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock

from p2ptwist.core.address import HostPort
from p2ptwist.core.session.admission import CalledAdmission, CallerAdmission, proofText
from p2ptwist.core.session.control import (
    Admitted,
    Challenge,
    ControlDecoder,
    ControlMessage,
    Proof,
    encodeControl,
)
from p2ptwist.core.session.selector import PathKind
from p2ptwist.net.quic import (
    CONTROL_STREAM,
    QUIC,
    QUICEvent,
    StreamReceived,
    Terminated,
    calledQUIC,
    callingQUIC,
    destinationOf,
)
from p2ptwist.net.signatures import verifySignature
from p2ptwist.peer.identity import generateIdentity
from p2ptwist.peer.session import Session
from p2ptwist.peer.stream import Stream

HERE, THERE, ELSEWHERE = (generateIdentity() for _ in range(3))
NAME = b"12345678"
CHALLENGE = bytes(range(32))


class Reader(Protocol):
    """
    A protocol that keeps what comes.
    """

    transport: Stream

    def __init__(self) -> None:
        self.data = b""
        self.lost: BaseException | None = None

    def dataReceived(self, data: bytes) -> None:
        """
        Keep it.
        """
        self.data += data

    def connectionLost(self, reason: object = None) -> None:
        """
        Keep the reason.
        """
        self.lost = getattr(reason, "value", None)


class Owner:
    """
    Decides about a session, and remembers.
    """

    def __init__(self) -> None:
        self.welcome = True
        self.asked = 0
        self.accepted: list[Reader] = []
        self.messages: list[bytes] = []

    def admits(self, session: Session) -> bool:
        """
        @return: what the test says.
        """
        self.asked += 1
        return self.welcome

    def accept(self, session: Session, stream: Stream) -> IProtocol | None:
        """
        @return: a protocol for the service "echo".
        """
        if stream.service != "echo":
            return None
        self.accepted.append(Reader())
        return self.accepted[-1]

    def sessionAdmitted(self, session: Session) -> None:
        """
        Nobody waits for that here.
        """

    def sessionChanged(self, session: Session) -> None:
        """
        Never called here.
        """

    def messageReceived(self, session: Session, data: bytes) -> None:
        """
        Keep it.
        """
        self.messages.append(data)


class Carrier:
    """
    Carries datagrams to the other end.
    """

    kind = PathKind.RELAYED

    def __init__(self) -> None:
        self.direct: object = None
        self.remote: HostPort | None = None
        self.sent: list[bytes] = []
        self.signals: list[bytes] = []
        self.lulls: list[float] = []
        self.closed = False

    def send(self, datagrams: Sequence[bytes]) -> None:
        """
        Keep them for the other end.
        """
        self.sent += datagrams

    def timedOut(self) -> None:
        """
        There is nothing to find out.
        """

    def lulled(self, since: float) -> None:
        """
        Keep it.
        """
        self.lulls.append(since)

    def signalReceived(self, data: bytes) -> None:
        """
        Keep it.
        """
        self.signals.append(data)

    def close(self, reason: str) -> None:
        """
        Remember.
        """
        self.closed = True


class Wire:
    """
    A session here, and QUIC there.

    @ivar session: the session.
    @ivar there: the other end.
    @ivar heard: all control messages that came there.
    @ivar events: all other events there.
    @ivar deaf: whether nothing reaches the session any more.
    """

    def __init__(self, calling: bool, callee: object = None) -> None:
        self.clock = Clock()
        self.owner = Owner()
        self.carrier = Carrier()
        self.heard: list[ControlMessage] = []
        self.events: list[QUICEvent] = []
        self.deaf = False
        self._control = ControlDecoder()
        admission: CallerAdmission | CalledAdmission
        if calling:
            quic = callingQUIC(0.0)
            flight = quic.takeDatagrams(0.0)
            identity = THERE if callee is None else ELSEWHERE
            self.there = calledQUIC(identity.credentials(), destinationOf(flight[0]) or b"")
            self.there.receive(flight, 0.0)
            admission = CallerAdmission(HERE.publicKey, HERE.sign, THERE.publicKey)
        else:
            self.there = callingQUIC(0.0)
            flight = self.there.takeDatagrams(0.0)
            quic = calledQUIC(HERE.credentials(), destinationOf(flight[0]) or b"")
            admission = CalledAdmission(HERE.publicKey, THERE.publicKey, CHALLENGE, verifySignature)
        self.session = Session(
            self.clock,
            quic,
            admission,
            self.owner,
            name=NAME,
            ownKey=HERE.publicKey,
            peerKey=THERE.publicKey,
        )
        self.session.carrier = self.carrier  # type: ignore[assignment]
        self.over: list[Exception] = []
        self.session.whenOver().addCallback(self.over.append)
        self.ready: list[object] = []
        self.session.whenReady().addBoth(self.ready.append)
        self.session.start()
        if not calling:
            self.session.receive(flight)

    def pump(self, seconds: float = 0.0) -> None:
        """
        Carry datagrams to and fro until there are none, and then let time pass.
        """
        for _ in range(200):
            self.clock.advance(0.001)
            now = self.clock.seconds()
            sent, self.carrier.sent = self.carrier.sent, []
            self.there.receive(sent, now)
            self._listen()
            deadline = self.there.deadline()
            if deadline is not None and deadline <= now:
                self.there.handleTimeout(now)
            answers = self.there.takeDatagrams(now)
            if answers and not self.deaf:
                self.session.receive(answers)
            elif not sent and not self.carrier.sent:
                break
        if seconds:
            self.clock.advance(seconds)
            self.pump()

    def _listen(self) -> None:
        while (event := self.there.pollEvent()) is not None:
            if isinstance(event, StreamReceived) and event.stream == CONTROL_STREAM:
                self.heard += self._control.receive(event.data)
            else:
                self.events.append(event)

    def say(self, *messages: ControlMessage) -> None:
        """
        Send control messages from there.
        """
        for message in messages:
            self.there.send(CONTROL_STREAM, encodeControl(message))

    def prove(self, challenge: bytes = CHALLENGE) -> Proof:
        """
        @return: the proof of who is there.
        """
        text = proofText(challenge, THERE.publicKey, HERE.publicKey)
        return Proof(THERE.publicKey, THERE.sign(text))

    def admitted(self) -> Wire:
        """
        Go on until the session is admitted.
        """
        self.pump()
        if self.session.calling:
            self.say(Challenge(CHALLENGE))
            self.pump()
            self.say(Admitted())
        else:
            self.say(self.prove())
        self.pump()
        assert self.session.admitted
        return self

    @property
    def code(self) -> int:
        """
        The code with which the session was ended, as it is seen there.
        """
        (end,) = [event for event in self.events if isinstance(event, Terminated)]
        assert end.byApplication
        return end.code


def other(quic: QUIC) -> int:
    """
    @return: a new stream of the other end's.
    """
    return quic.openStream()
