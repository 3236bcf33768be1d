"""
The peer's side of a rendezvous link as a machine: bytes and time in; bytes, events and one
deadline out.  It serves one connection and is then thrown away.

Each remote input by state; everything else is malformed and ends the link::

    ===========  ==============  =========  =========  ===========  =======
    frame        GREETING        GREETED    PROVING    UP           ENDED
    ===========  ==============  =========  =========  ===========  =======
    hello        greeted, prove  malformed  malformed  malformed    ignored
    welcome      malformed       malformed  up         malformed    ignored
    goodbye      end             end        end        end          ignored
    pong         malformed       malformed  malformed  alive        ignored
    receive      malformed       malformed  malformed  message      ignored
    relayed      malformed       malformed  malformed  datagram     ignored
    unreachable  malformed       malformed  malformed  unreachable  ignored
    other        malformed       malformed  malformed  malformed    ignored
    ===========  ==============  =========  =========  ===========  =======
"""

from __future__ import annotations

import enum
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from p2ptwist.core.errors import LocalUsageError, MalformedFrame
from p2ptwist.core.link.frames import (
    FRAME_LIMIT,
    FrameDecoder,
    FrameType,
    checkEmpty,
    decodeHot,
    decodeKey,
    encodeFrame,
    encodeHot,
)
from p2ptwist.core.link.messages import (
    PROTOCOL_VERSION,
    Goodbye,
    Hello,
    Prove,
    Welcome,
)
from p2ptwist.core.link.reasons import Reason, reasonWord

HANDSHAKE_DELAY = 10.0  # seconds from the connection to the welcome, as long as a node waits
PONG_DELAY = 10.0  # seconds; TCP repeats a lost segment four times in it
# How long a ping may take at the least, however impatient the program is: one round trip for the
# answer, a half for what delays it.
PONG_ROUND_TRIPS = 1.5
SILENCE_BEFORE_DOUBT = 15.0  # seconds; what is sent after that much silence has a ping behind it
PING_JITTER = 0.05  # part of the interval, so that the pings of many peers spread

_PING = encodeFrame(FrameType.PING)


@dataclass(frozen=True, slots=True)
class Claimant:
    """
    Who asks for a link.

    @ivar publicKey: exactly 32 bytes.
    @ivar sign: returns the signature of a text, exactly 64 bytes.
    @ivar instance: 8 bytes, the same as long as this program runs.
    @ivar takeOver: whether another program with this key is to lose its link.
    @ivar nodeName: the only node to sign for; any node when C{None}.
    """

    publicKey: bytes
    sign: Callable[[bytes], bytes]
    instance: bytes
    takeOver: bool = True
    nodeName: str | None = None


@dataclass(frozen=True, slots=True)
class Greeted:
    """
    The node has said hello, and the link waits for L{LinkClient.prove}.

    @ivar nodeName: the name that the node gave itself.
    """

    nodeName: str


@dataclass(frozen=True, slots=True)
class Up:
    """
    The link is up.

    @ivar welcome: what the node said.
    @ivar nodeName: the name that it gave itself.
    @ivar roundTrip: seconds to the node and back: until the hello came, or the welcome, whichever
        took less; a packet may have been lost.
    """

    welcome: Welcome
    nodeName: str
    roundTrip: float = 0.0


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """
    Another peer sent a message.

    @ivar sender: its public key.
    @ivar payload: what it sent.
    """

    sender: bytes
    payload: bytes


@dataclass(frozen=True, slots=True)
class RelayedReceived:
    """
    Another peer sent a relayed datagram.

    @ivar sender: its public key.
    @ivar payload: what it sent.
    """

    sender: bytes
    payload: bytes


@dataclass(frozen=True, slots=True)
class PeerUnreachable:
    """
    A message or relayed datagram could not be delivered.

    @ivar peer: the public key that it was for.
    """

    peer: bytes


@dataclass(frozen=True, slots=True)
class Ended:
    """
    The link has ended; close its connection.

    @ivar word: why, in a word: one of L{Reason}'s, or C{"silent"}, C{"malformed"}, C{"wrong-node"}.
    @ivar text: why, in a sentence.
    @ivar retryAfter: seconds within which to come back, 0 for as you like.
    @ivar byNode: whether the node said so.
    """

    word: str
    text: str
    retryAfter: int = 0
    byNode: bool = False


LinkEvent: TypeAlias = Greeted | Up | MessageReceived | RelayedReceived | PeerUnreachable | Ended


class ClientState(enum.Enum):
    """
    The life of a link at the peer.
    """

    GREETING = "waiting for hello"
    GREETED = "waiting for its turn to prove"
    PROVING = "waiting for the welcome"
    UP = "up"
    ENDED = "ended"


@dataclass(slots=True)
class _Clock:
    """
    When what happened last.

    @ivar heard: bytes came.
    @ivar sent: bytes went.
    @ivar pinged: a ping went that nothing has come after, or C{None}.
    @ivar endsAt: when the link ends if nothing comes after that ping, or is not up by then.
    @ivar interval: seconds of silence before the next ping.
    @ivar proved: when the proof was sent.
    @ivar roundTrip: seconds to the node and back, as far as that is known.
    """

    heard: float
    sent: float
    pinged: float | None = None
    endsAt: float = field(default=0.0)
    interval: float = field(default=0.0)
    proved: float = field(default=0.0)
    roundTrip: float = field(default=0.0)


class LinkClient:
    """
    One link of one peer, from the moment its connection is made.

    @ivar state: where in its life it is.
    """

    def __init__(
        self, claimant: Claimant, now: float, jitter: random.Random, *, held: bool = False
    ) -> None:
        """
        @param claimant: who asks.
        @param now: seconds on the clock of all later calls.
        @param jitter: spreads the pings.
        @param held: whether nothing is proved before L{prove} is called: of several connections
            that are tried at once only one may prove the key, or they would displace each other.
        """
        self.state = ClientState.GREETING
        self._claimant = claimant
        self._jitter = jitter
        self._held = held
        self._startedAt = now
        self._clock = _Clock(now, now, endsAt=now + HANDSHAKE_DELAY)
        self._decoder = FrameDecoder()
        self._hello: Hello | None = None
        self._maxPayload: int | None = None  # while nothing can be sent
        self._outgoing: list[bytes] = []
        self._events: deque[LinkEvent] = deque()

    # What the program wants.

    def prove(
        self, now: float, patience: float = HANDSHAKE_DELAY, known: Welcome | None = None
    ) -> None:
        """
        Prove the key to the node that said hello.

        @param patience: seconds that the welcome may take, at most 10 from the connection on.
        @param known: what this very node said before, if it did.  Then what is sent leaves right
            behind the proof, and does not wait for the welcome.
        """
        if self.state is not ClientState.GREETED:
            return
        assert self._hello is not None
        claimant, clock = self._claimant, self._clock
        self.state = ClientState.PROVING
        self._maxPayload = None if known is None else known.maxPayload
        clock.proved = now
        clock.endsAt = min(clock.endsAt, now + patience)
        prove = Prove(claimant.publicKey, claimant.instance, claimant.takeOver)
        signature = claimant.sign(prove.signedText(self._hello))
        self._transmit(replace(prove, signature=signature).encode(), now)

    def send(self, to: bytes, payload: bytes, now: float) -> None:
        """
        Send a message.

        @raise LocalUsageError: when the link is not up, the key is not one, or C{payload} is
            longer than the node takes.
        """
        self._sendHot(FrameType.SEND, to, payload, now)

    def sendRelayed(self, to: bytes, payload: bytes, now: float) -> None:
        """
        Send a relayed datagram.

        @raise LocalUsageError: as for L{send}.
        """
        self._sendHot(FrameType.RELAY, to, payload, now)

    def _sendHot(self, frameType: FrameType, to: bytes, payload: bytes, now: float) -> None:
        if self._maxPayload is None:
            raise LocalUsageError("the link is not up")
        if len(payload) > self._maxPayload:
            raise LocalUsageError(
                f"this node takes at most {self._maxPayload} bytes, not {len(payload)}: split them"
            )
        self._transmit(encodeHot(frameType, to, payload), now)
        if now >= self._clock.heard + SILENCE_BEFORE_DOUBT:
            self.probe(now)

    def probe(self, now: float, patience: float = PONG_DELAY) -> None:
        """
        Find out whether the link is alive: it ends unless something comes within C{patience}
        seconds, at most 10, of the ping.  One that waits for its answer already counts.  One and a
        half round trips of the link are given it in any case.
        """
        if self.state is not ClientState.UP:
            return
        clock = self._clock
        if clock.pinged is None:
            clock.pinged = now
            clock.endsAt = now + PONG_DELAY
            self._transmit(_PING, now)
        patience = max(patience, PONG_ROUND_TRIPS * clock.roundTrip)
        clock.endsAt = max(now, min(clock.endsAt, clock.pinged + patience))

    # What happens to it.

    def receiveBytes(self, data: bytes, now: float) -> None:
        """
        Take what came from the node.
        """
        if self.state is ClientState.ENDED:
            return
        self._clock.heard = now
        self._clock.pinged = None
        self._decoder.feed(data)
        try:
            while (frame := self._decoder.take()) is not None:
                self._takeFrame(frame, now)
        except MalformedFrame as error:
            self._end("malformed", f"the node sent a frame that makes no sense ({error})")

    def handleTimeout(self, now: float) -> None:
        """
        Ping, or give up, whichever is due.
        """
        deadline = self.deadline()
        if deadline is None or now < deadline:
            return
        if self.state is not ClientState.UP:
            patience = self._clock.endsAt - self._startedAt
            self._end("silent", f"the node did not answer within {round(patience, 1):g} s")
        elif self._clock.pinged is not None:
            patience = self._clock.endsAt - self._clock.pinged
            self._end("silent", f"the node did not answer a ping within {round(patience, 1):g} s")
        else:
            self.probe(now)

    # What comes out.

    def deadline(self) -> float | None:
        """
        @return: when L{handleTimeout} must be called next, or C{None} for never.
        """
        if self.state is ClientState.ENDED:
            return None
        if self.state is not ClientState.UP:
            return self._clock.endsAt
        clock = self._clock
        if clock.pinged is not None:
            return clock.endsAt
        return min(clock.heard, clock.sent) + clock.interval

    def pollTransmit(self) -> bytes | None:
        """
        @return: everything there is to send, or C{None}.
        """
        if not self._outgoing:
            return None
        data = b"".join(self._outgoing)
        self._outgoing.clear()
        return data

    def pollEvent(self) -> LinkEvent | None:
        """
        @return: the next event, or C{None}.  Poll what there is to send first.
        """
        return self._events.popleft() if self._events else None

    # Frames.

    def _takeFrame(self, frame: bytes, now: float) -> None:
        kind = frame[0]
        if kind == FrameType.GOODBYE:
            self._takeGoodbye(Goodbye.decode(frame[1:]))
        elif self.state is ClientState.UP:
            self._takeUpFrame(kind, frame)
        elif self.state is ClientState.GREETING and kind == FrameType.HELLO:
            self._takeHello(Hello.decode(frame[1:]), now)
        elif self.state is ClientState.PROVING and kind == FrameType.WELCOME:
            self._takeWelcome(Welcome.decode(frame[1:]), now)
        else:
            raise MalformedFrame(f"type {kind} while {self.state.value}")

    def _takeUpFrame(self, kind: int, frame: bytes) -> None:
        if kind == FrameType.RELAYED:
            self._events.append(RelayedReceived(*decodeHot(frame)))
        elif kind == FrameType.RECEIVE:
            self._events.append(MessageReceived(*decodeHot(frame)))
        elif kind == FrameType.UNREACHABLE:
            self._events.append(PeerUnreachable(decodeKey(frame)))
        elif kind == FrameType.PONG:
            checkEmpty(frame)
        else:
            raise MalformedFrame(f"type {kind} while the link is up")

    def _takeHello(self, hello: Hello, now: float) -> None:
        claimant = self._claimant
        if not hello.lowestVersion <= PROTOCOL_VERSION <= hello.highestVersion:
            spoken = f"{hello.lowestVersion} to {hello.highestVersion}"
            self._end(
                Reason.VERSION.word,
                f"the node speaks versions {spoken} of the link, this program {PROTOCOL_VERSION}: "
                "bring the older of the two up to date",
            )
            return
        if claimant.nodeName not in (None, hello.nodeName):
            self._end(
                "wrong-node",
                f"the node says that it is {hello.nodeName!r}, not {claimant.nodeName!r}: check "
                "the address",
            )
            return
        self.state = ClientState.GREETED
        self._clock.roundTrip = now - self._startedAt
        self._hello = hello
        if self._held:
            self._events.append(Greeted(hello.nodeName))
        else:
            self.prove(now)

    def _takeWelcome(self, welcome: Welcome, now: float) -> None:
        assert self._hello is not None
        self._clock.roundTrip = min(self._clock.roundTrip, now - self._clock.proved)
        self.state = ClientState.UP
        self._decoder.limit = FRAME_LIMIT
        self._maxPayload = welcome.maxPayload
        self._clock.interval = welcome.pingInterval * (1 - PING_JITTER * self._jitter.random())
        self._events.append(Up(welcome, self._hello.nodeName, self._clock.roundTrip))

    def _takeGoodbye(self, goodbye: Goodbye) -> None:
        word = reasonWord(goodbye.reason)
        self._end(word, goodbye.text or word, goodbye.retryAfter, byNode=True)

    def _end(self, word: str, text: str, retryAfter: int = 0, byNode: bool = False) -> None:
        self.state = ClientState.ENDED
        self._maxPayload = None
        self._decoder.clear()
        self._outgoing.clear()
        self._events.append(Ended(word, text, retryAfter, byNode))

    def _transmit(self, data: bytes, now: float) -> None:
        self._clock.sent = now
        self._outgoing.append(data)
