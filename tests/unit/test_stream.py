"""
Tests for L{p2ptwist.peer.stream}: a stream as the transport of a protocol.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from p2ptwist.core.session.control import CloseCode
from p2ptwist.core.session.credit import INITIAL_CREDIT, ReceiveCredit, SendCredit, SessionBudget
from p2ptwist.core.session.errors import SessionViolation
from p2ptwist.errors import StreamRefused
from p2ptwist.peer.address import PeerAddress
from p2ptwist.peer.stream import JOIN_LIMIT, PAUSE_ABOVE, QUEUE_LIMIT, Stream

NUMBER = 4


class Session:
    """
    What a stream needs of its session, and of QUIC; remembers what it is told.

    @ivar sent: what was sent.
    @ivar ended: whether the end was sent.
    @ivar stuck: bytes that QUIC has not sent yet.
    """

    def __init__(self) -> None:
        self.waking: list[Stream] = []
        self.grants: list[int] = []
        self.abandoned: list[tuple[int, bool, bool]] = []
        self.forgotten = 0
        self.sent = b""
        self.ended = False
        self.stuck = 0

    def wake(self, stream: Stream) -> None:
        """
        Remember who wants a turn.
        """
        self.waking.append(stream)

    def grant(self, stream: Stream, offset: int) -> None:
        """
        Remember the grant.
        """
        self.grants.append(offset)

    def abandon(self, stream: Stream, code: int, *, sending: bool, receiving: bool) -> None:
        """
        Remember what was given up.
        """
        self.abandoned.append((code, sending, receiving))

    def forget(self, stream: Stream) -> None:
        """
        Count.
        """
        self.forgotten += 1

    def address(self, service: str, *, own: bool) -> PeerAddress:
        """
        @return: some address.
        """
        return PeerAddress("own" if own else "other", service)

    def send(self, stream: Any, data: bytes | memoryview, ended: bool = False) -> None:
        """
        Remember what was sent.
        """
        assert not self.ended
        self.sent += bytes(data)
        self.ended = ended

    def queued(self, stream: int | None = None) -> int:
        """
        @return: what a test says.
        """
        return self.stuck

    def turn(self) -> None:
        """
        Give everybody turns until nobody wants one.
        """
        while self.waking:
            waking, self.waking = self.waking, []
            for stream in dict.fromkeys(waking):
                stream.transfer(self)


class Recorder(Protocol):
    """
    A protocol that remembers; and does, when something happens, what a test says.

    @ivar calls: what happened.
    """

    transport: Stream

    def __init__(self, **on: Callable[[Stream], object]) -> None:
        self.calls: list[object] = []
        self.reason: Failure | None = None
        self._on = on

    def _happened(self, name: str) -> None:
        act = self._on.get(name)
        if act is not None:
            act(self.transport)

    def connectionMade(self) -> None:
        """
        Remember.
        """
        self.calls.append("made")
        self._happened("made")

    def dataReceived(self, data: bytes) -> None:
        """
        Remember.
        """
        self.calls.append(data)
        self._happened("data")

    def connectionLost(self, reason: Failure | None = None) -> None:
        """
        Remember.
        """
        self.calls.append("lost")
        self.reason = reason
        self._happened("lost")


@implementer(IHalfCloseableProtocol)
class HalfRecorder(Recorder):
    """
    One that hears of each direction.
    """

    def readConnectionLost(self) -> None:
        """
        Remember.
        """
        self.calls.append("read lost")
        self._happened("readLost")

    def writeConnectionLost(self) -> None:
        """
        Remember.
        """
        self.calls.append("write lost")
        self._happened("writeLost")


class Producer:
    """
    A producer that remembers.
    """

    def __init__(self, resumed: Callable[[], object] = lambda: None) -> None:
        self.calls: list[str] = []
        self._resumed = resumed

    def pauseProducing(self) -> None:
        """
        Remember.
        """
        self.calls.append("pause")

    def resumeProducing(self) -> None:
        """
        Remember, and produce.
        """
        self.calls.append("resume")
        self._resumed()

    def stopProducing(self) -> None:
        """
        Remember.
        """
        self.calls.append("stop")


class StreamCase(SynchronousTestCase):
    """
    What the tests of streams share.
    """

    def setUp(self) -> None:
        """
        Make a stream and what it belongs to.
        """
        self.session = Session()
        self.credit = SendCredit()
        self.stream = Stream(
            self.session, NUMBER, "echo", self.credit, ReceiveCredit(SessionBudget())
        )

    def attach(self, protocol: Recorder | None = None) -> Recorder:
        """
        Connect a protocol.
        """
        protocol = protocol or Recorder()
        self.stream.attach(protocol)
        return protocol

    def reasonOf(self, protocol: Recorder) -> BaseException:
        """
        @return: why the connection ended, of which the protocol was told once.
        """
        self.assertEqual(protocol.calls.count("lost"), 1)
        assert protocol.reason is not None and protocol.reason.value is not None
        return protocol.reason.value


class WriteTests(StreamCase):
    """
    What goes.
    """

    def test_interfaces(self) -> None:
        """
        It is what it says, and knows both peers.
        """
        from twisted.internet.interfaces import IConsumer, IPushProducer, ITransport

        for interface in (ITransport, IConsumer, IPushProducer):
            verifyObject(interface, self.stream)
        self.assertEqual(self.stream.getHost(), PeerAddress("own", "echo"))
        self.assertEqual(self.stream.getPeer(), PeerAddress("other", "echo"))

    def test_write(self) -> None:
        """
        Bytes leave at the next turn, in order; a buffer may change after it was written.
        """
        self.attach()
        buffer = bytearray(b"one ")
        self.stream.write(buffer)  # type: ignore[arg-type]
        buffer[:] = b"zero"
        self.stream.write(b"")
        self.stream.writeSequence([b"two ", b"three"])
        self.assertEqual(self.session.sent, b"")
        self.session.turn()
        self.assertEqual(self.session.sent, b"one two three")
        self.assertFalse(self.session.ended)

    def test_text(self) -> None:
        """
        Text is refused at once.
        """
        self.attach()
        self.assertRaises(TypeError, self.stream.write, "text")

    def test_grants(self) -> None:
        """
        No more leaves than was granted; a grant that is news continues.
        """
        self.attach()
        self.stream.sendHeader(self.session, b"\x04echo")
        self.stream.write(bytes(INITIAL_CREDIT))
        self.session.turn()
        self.assertEqual(len(self.session.sent), INITIAL_CREDIT)
        self.stream.granted(INITIAL_CREDIT)
        self.assertEqual(self.session.waking, [])
        self.stream.granted(INITIAL_CREDIT + 3)
        self.session.turn()
        self.assertEqual(len(self.session.sent), INITIAL_CREDIT + 3)
        self.stream.granted(INITIAL_CREDIT + 100)
        self.session.turn()
        self.assertEqual(len(self.session.sent), INITIAL_CREDIT + 5)
        self.stream.granted(INITIAL_CREDIT + 200)
        self.assertEqual(self.session.waking, [])

    def test_queue(self) -> None:
        """
        What QUIC does not send waits here.
        """
        self.attach()
        self.session.stuck = QUEUE_LIMIT
        self.stream.write(bytes(20))
        self.assertTrue(self.stream.transfer(self.session))
        self.assertEqual(self.session.sent, b"")
        self.session.stuck = QUEUE_LIMIT - 1
        self.assertFalse(self.stream.transfer(self.session))
        self.assertEqual(len(self.session.sent), 20)

    def test_share(self) -> None:
        """
        Of one stream among many QUIC holds less.
        """
        self.attach()
        self.stream.write(bytes(1000))
        self.session.stuck = 500
        self.assertTrue(self.stream.transfer(self.session, 500))
        self.assertTrue(self.stream.transfer(self.session, 0))
        self.assertEqual(self.session.sent, b"")
        self.assertFalse(self.stream.transfer(self.session, 500 + 1000))
        self.assertEqual(len(self.session.sent), 1000)

    def test_noTurnWithoutGrant(self) -> None:
        """
        What waits for a grant needs no turn before there is one, but is unsent.
        """
        self.attach()
        self.assertFalse(self.stream.unsent)
        self.stream.write(bytes(INITIAL_CREDIT + 10))
        self.session.waking.clear()
        self.assertFalse(self.stream.transfer(self.session))
        self.assertTrue(self.stream.unsent)
        self.stream.granted(INITIAL_CREDIT + 10)
        self.session.turn()
        self.assertFalse(self.stream.unsent)
        self.assertEqual(len(self.session.sent), INITIAL_CREDIT + 10)


class ReadTests(StreamCase):
    """
    What comes.
    """

    def test_order(self) -> None:
        """
        What came before the protocol waits for it.
        """
        self.stream.receivedHeader(5)
        self.stream.received(b"early", False)
        protocol = self.attach()
        self.stream.received(b"later", False)
        self.assertEqual(protocol.calls, ["made", b"early", b"later"])

    def test_pause(self) -> None:
        """
        Nothing is delivered while the application has paused; when it resumes everything comes, but
        not from within its call.
        """
        protocol = self.attach()
        self.stream.pauseProducing()
        self.stream.received(b"one", False)
        self.stream.received(b"two", True)
        self.stream.resumeProducing()
        self.assertEqual(protocol.calls, ["made"])
        self.session.turn()
        self.assertEqual(protocol.calls, ["made", b"onetwo", "lost"])
        self.stream.resumeProducing()
        self.assertEqual(self.session.waking, [])

    def test_smallPieces(self) -> None:
        """
        Small pieces that wait to be read are joined, large ones are not.
        """
        protocol = self.attach()
        self.stream.pauseProducing()
        for _ in range(JOIN_LIMIT):
            self.stream.received(b"ab", False)
        self.assertEqual(len(self.stream._incoming or ()), 2)
        large = bytes(JOIN_LIMIT)
        self.stream.received(large, False)
        assert self.stream._incoming is not None
        self.assertIs(self.stream._incoming[-1], large)
        self.stream.resumeProducing()
        self.session.turn()
        self.assertEqual(protocol.calls, ["made", *[b"ab" * (JOIN_LIMIT // 2)] * 2, large])

    def test_pauseWithin(self) -> None:
        """
        An application that pauses from within a delivery gets nothing more, and what it does not
        take is not granted again.
        """
        protocol = self.attach(Recorder(data=lambda transport: transport.pauseProducing()))
        for _ in range(4):
            self.stream.received(bytes(INITIAL_CREDIT // 4), False)
        self.assertEqual(len(protocol.calls), 2)
        self.assertEqual(self.session.grants, [])
        self.assertRaises(SessionViolation, self.stream.received, b"x", False)
        for _ in range(3):
            self.stream.resumeProducing()
            self.session.turn()
        self.assertEqual(len(protocol.calls), 5)
        self.assertNotEqual(self.session.grants, [])

    def test_overGrantedHeader(self) -> None:
        """
        The bytes of the header count.
        """
        self.stream.receivedHeader(5)
        data = bytes(INITIAL_CREDIT - 4)
        self.assertRaises(SessionViolation, self.stream.received, data, False)


class EndTests(StreamCase):
    """
    How a stream ends.
    """

    def test_loseConnection(self) -> None:
        """
        What was written leaves first, then the end; what comes is not wanted any more, and the
        protocol is told later, once.
        """
        protocol = self.attach()
        self.stream.write(bytes(INITIAL_CREDIT + 1))
        self.stream.loseConnection()
        self.stream.loseConnection()
        self.stream.write(b"late")
        self.session.turn()
        self.assertEqual(protocol.calls, ["made"])
        self.stream.received(b"unwanted", False)
        self.stream.granted(2 * INITIAL_CREDIT)
        self.session.turn()
        self.assertEqual(len(self.session.sent), INITIAL_CREDIT + 1)
        self.assertTrue(self.session.ended)
        self.assertEqual(protocol.calls, ["made", "lost"])
        self.assertIsInstance(self.reasonOf(protocol), ConnectionDone)
        self.assertEqual(self.session.abandoned, [(0, False, True)])
        self.assertEqual(self.session.forgotten, 1)
        self.stream.loseConnection()
        self.stream.loseWriteConnection()
        self.stream.abortConnection()
        self.stream.write(b"late")
        self.session.turn()
        self.assertEqual(protocol.calls, ["made", "lost"])

    def test_otherSideEnds(self) -> None:
        """
        When the other side ends, a protocol that knows nothing of halves has everything that it
        wrote sent, and the end.
        """
        protocol = self.attach(Recorder(data=lambda transport: transport.write(b"answer")))
        self.stream.received(b"question", True)
        self.session.turn()
        self.assertEqual(self.session.sent, b"answer")
        self.assertTrue(self.session.ended)
        self.assertEqual(protocol.calls, ["made", b"question", "lost"])
        self.assertIsInstance(self.reasonOf(protocol), ConnectionDone)
        self.assertEqual(self.session.abandoned, [])

    def test_halfClose(self) -> None:
        """
        A protocol that knows of halves is told of each, and of the end after both, in either order.
        """
        protocol = self.attach(HalfRecorder())
        self.stream.received(b"question", True)
        self.session.turn()
        self.assertEqual(protocol.calls, ["made", b"question", "read lost"])
        self.stream.write(b"answer")
        self.stream.loseWriteConnection()
        self.session.turn()
        self.assertEqual(self.session.sent, b"answer")
        self.assertEqual(protocol.calls[3:], ["write lost", "lost"])
        self.setUp()
        protocol = self.attach(HalfRecorder())
        self.stream.write(b"question")
        self.stream.loseWriteConnection()
        self.stream.write(b"too late")
        self.session.turn()
        self.assertEqual((self.session.sent, self.session.ended), (b"question", True))
        self.stream.received(b"answer", False)
        self.assertEqual(protocol.calls, ["made", "write lost", b"answer"])
        self.stream.received(b"", True)
        self.session.turn()
        self.assertEqual(protocol.calls[3:], ["read lost", "lost"])
        self.assertIsInstance(self.reasonOf(protocol), ConnectionDone)

    def test_halfThenWhole(self) -> None:
        """
        Who has ended its own direction may still end both.
        """
        protocol = self.attach(HalfRecorder())
        self.stream.loseWriteConnection()
        self.session.turn()
        self.stream.loseConnection()
        self.session.turn()
        self.assertEqual(protocol.calls, ["made", "write lost", "lost"])
        self.assertEqual(self.session.abandoned, [(0, False, True)])

    def test_halfWithoutTheInterface(self) -> None:
        """
        A protocol that knows nothing of halves may end its own direction as well.
        """
        protocol = self.attach()
        self.stream.loseWriteConnection()
        self.session.turn()
        self.stream.received(b"answer", True)
        self.session.turn()
        self.assertEqual(protocol.calls, ["made", b"answer", "lost"])

    def test_abort(self) -> None:
        """
        An abort ends both directions; the protocol is told later, and nothing is delivered in the
        meantime.
        """
        protocol = self.attach()
        self.stream.write(b"unsent")
        self.stream.abortConnection()
        self.stream.abortConnection()
        self.stream.received(b"unwanted", False)
        self.assertEqual(protocol.calls, ["made"])
        self.session.turn()
        self.assertEqual(self.session.sent, b"")
        self.assertEqual(self.session.abandoned, [(0, True, True)])
        self.assertIsInstance(self.reasonOf(protocol), ConnectionAborted)
        self.assertEqual(self.session.forgotten, 1)

    def test_abortAfterBothEnds(self) -> None:
        """
        There is nothing to give up when both directions have ended.
        """
        protocol = self.attach(
            HalfRecorder(writeLost=lambda transport: transport.abortConnection())
        )
        self.stream.received(b"", True)
        self.stream.loseWriteConnection()
        self.session.turn()
        self.assertEqual(self.session.abandoned, [])
        self.assertIsInstance(self.reasonOf(protocol), ConnectionAborted)

    def test_aborted(self) -> None:
        """
        When the other side gives up, the connection is lost, with what was not delivered.
        """
        protocol = self.attach()
        self.stream.pauseProducing()
        self.stream.received(b"unread", False)
        self.stream.aborted(0)
        self.stream.aborted(0)
        self.session.turn()
        reason = self.reasonOf(protocol)
        self.assertIsInstance(reason, ConnectionLost)
        self.assertNotIsInstance(reason, StreamRefused)
        self.assertEqual(protocol.calls, ["made", "lost"])
        self.assertEqual(self.session.abandoned, [(0, True, False)])

    def test_refused(self) -> None:
        """
        The code says why a stream was refused.
        """
        for code, word in (
            (CloseCode.NOT_ADMITTED, "not-admitted"),
            (CloseCode.OVERFLOW, "overflow"),
        ):
            self.setUp()
            protocol = self.attach()
            self.stream.aborted(code)
            self.session.turn()
            reason = self.reasonOf(protocol)
            assert isinstance(reason, StreamRefused)
            self.assertEqual(reason.word, word)

    def test_abortedAfterTheEnd(self) -> None:
        """
        Who has said the last word cannot take it back.
        """
        protocol = self.attach(HalfRecorder())
        self.stream.received(b"all", True)
        self.stream.aborted(0)
        self.session.turn()
        self.assertEqual(protocol.calls, ["made", b"all", "read lost"])

    def test_stopped(self) -> None:
        """
        The other side wants no more, which overtakes what it sent before: that is still delivered,
        and what is written is dropped.
        """
        for protocol, expected in (
            (Recorder(), ["made", b"last words", "lost"]),
            (HalfRecorder(), ["made", "write lost", b"last words", "read lost", "lost"]),
        ):
            self.setUp()
            self.attach(protocol)
            self.stream.write(b"unwanted")
            self.stream.stopped()
            self.stream.stopped()
            self.stream.write(b"unwanted")
            self.session.turn()
            self.stream.received(b"last words", True)
            self.session.turn()
            self.assertEqual(protocol.calls, expected)
            self.assertIsInstance(self.reasonOf(protocol), ConnectionDone)
            self.assertEqual(self.session.sent, b"")
            self.assertEqual(self.session.abandoned, [(0, True, False)])

    def test_sessionEnds(self) -> None:
        """
        When the session ends the protocol is told why, at once; an abort that was asked for before
        has the last word.
        """
        reason = Failure(ConnectionLost("the session ended"))
        protocol = self.attach()
        ended: list[int] = []
        self.stream.whenEnded = lambda: ended.append(1)
        self.stream.end(reason)
        self.stream.end(reason)
        self.assertIs(protocol.reason, reason)
        self.reasonOf(protocol)
        self.assertEqual(ended, [1])
        self.assertFalse(self.stream.connected)
        self.stream.received(b"late", True)
        self.stream.granted(1 << 20)
        self.stream.transfer(self.session)
        self.assertEqual(protocol.calls, ["made", "lost"])
        self.setUp()
        protocol = self.attach()
        self.stream.abortConnection()
        self.stream.end(reason)
        self.assertIsInstance(self.reasonOf(protocol), ConnectionAborted)

    def test_neverAttached(self) -> None:
        """
        A stream without a protocol ends as well.
        """
        self.stream.end(Failure(ConnectionDone()))
        self.assertEqual(self.session.forgotten, 1)


class WithinTests(StreamCase):
    """
    What a protocol does from within what it is told.
    """

    def test_loseConnection(self) -> None:
        """
        It may end the connection from anywhere, and is told once, never from within.
        """
        protocol: Recorder
        for where in ("made", "data", "lost", "readLost", "writeLost"):
            for method in ("loseConnection", "abortConnection", "loseWriteConnection"):
                self.setUp()
                protocol = HalfRecorder(
                    **{where: lambda transport, method=method: getattr(transport, method)()}
                )
                self.attach(protocol)
                self.stream.received(b"one", False)
                self.stream.received(b"two", False)
                self.stream.received(b"", True)
                self.stream.loseWriteConnection()
                self.session.turn()
                self.assertEqual(protocol.calls.count("lost"), 1, (where, method))
                self.assertEqual(protocol.calls[-1], "lost")
                if where == "made" and method != "loseWriteConnection":
                    self.assertEqual(protocol.calls, ["made", "lost"])

    def test_exceptions(self) -> None:
        """
        A protocol that raises is logged, and its stream aborted with that reason.
        """

        def fail(transport: Stream) -> None:
            raise ZeroDivisionError

        for where in ("made", "data", "readLost", "writeLost"):
            self.setUp()
            protocol = self.attach(HalfRecorder(**{where: fail}))
            self.stream.received(b"one", True)
            self.stream.loseWriteConnection()
            self.session.turn()
            self.assertIsInstance(self.reasonOf(protocol), ZeroDivisionError)
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.setUp()
        protocol = self.attach(Recorder(lost=fail))
        self.stream.abortConnection()
        self.session.turn()
        self.assertEqual(protocol.calls, ["made", "lost"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_exceptionAfterAbort(self) -> None:
        """
        A protocol that aborts and then raises was aborted.
        """

        def fail(transport: Stream) -> None:
            transport.abortConnection()
            raise ZeroDivisionError

        protocol = self.attach(Recorder(data=fail))
        self.stream.received(b"one", False)
        self.session.turn()
        self.assertIsInstance(self.reasonOf(protocol), ConnectionAborted)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_reentrantDelivery(self) -> None:
        """
        What comes from within a delivery waits for its turn.
        """

        def more(transport: Stream) -> None:
            if len(protocol.calls) == 2:
                transport.received(b"two", False)
                protocol.calls.append("back")

        protocol = Recorder(data=more)
        self.attach(protocol)
        self.stream.received(b"one", False)
        self.assertEqual(protocol.calls, ["made", b"one", "back", b"two"])


class ProducerTests(StreamCase):
    """
    Producers.
    """

    def test_push(self) -> None:
        """
        A push producer is paused when much waits, and resumed when nothing does.
        """
        self.attach()
        producer = Producer()
        self.stream.registerProducer(producer, True)  # type: ignore[arg-type]
        self.stream.write(bytes(PAUSE_ABOVE))
        self.assertEqual(producer.calls, [])
        self.stream.write(b"x")
        self.stream.write(b"x")
        self.assertEqual(producer.calls, ["pause"])
        self.session.turn()
        self.assertEqual(producer.calls, ["pause"], "two bytes wait for a grant")
        self.stream.granted(1 << 20)
        self.session.turn()
        self.session.turn()
        self.assertEqual(producer.calls, ["pause", "resume"])
        self.assertRaises(RuntimeError, self.stream.registerProducer, Producer(), True)
        self.stream.unregisterProducer()
        self.stream.registerProducer(Producer(), True)  # type: ignore[arg-type]

    def test_pushLate(self) -> None:
        """
        A push producer that comes when much waits is paused at once.
        """
        self.attach()
        self.stream.write(bytes(PAUSE_ABOVE + 1))
        producer = Producer()
        self.stream.registerProducer(producer, True)  # type: ignore[arg-type]
        self.assertEqual(producer.calls, ["pause"])

    def test_pull(self) -> None:
        """
        A pull producer is resumed for each piece, until it unregisters; the end waits for it.
        """
        self.attach()
        pieces = [b"one ", b"two ", b"three"]

        def resumed() -> None:
            if pieces:
                self.stream.write(pieces.pop(0))
            else:
                self.stream.unregisterProducer()

        producer = Producer(resumed)
        self.stream.registerProducer(producer, False)  # type: ignore[arg-type]
        self.stream.loseConnection()
        self.session.turn()
        self.assertEqual(self.session.sent, b"one two three")
        self.assertTrue(self.session.ended)
        self.assertEqual(producer.calls, ["resume"] * 4)

    def test_endWaits(self) -> None:
        """
        The end waits for a push producer that is paused.
        """
        protocol = self.attach()
        producer = Producer(lambda: self.stream.write(b"more"))
        self.stream.registerProducer(producer, True)  # type: ignore[arg-type]
        self.stream.write(bytes(PAUSE_ABOVE + 1))
        self.stream.loseConnection()
        self.stream.granted(1 << 20)
        self.session.turn()
        self.stream.unregisterProducer()
        self.session.turn()
        self.assertTrue(self.session.sent.endswith(b"more"))
        self.assertEqual(len(self.session.sent), PAUSE_ABOVE + 1 + len(b"more"))
        self.assertIsInstance(self.reasonOf(protocol), ConnectionDone)

    def test_stopped(self) -> None:
        """
        A producer is stopped when the connection is lost, when the other side wants no more, and
        when it comes too late.
        """
        ends: list[Callable[[], Any]] = [
            self.abort,
            self.stop,
            self.end,
        ]
        for end in ends:
            self.setUp()
            self.attach()
            producer = Producer()
            self.stream.registerProducer(producer, True)  # type: ignore[arg-type]
            end()
            self.assertEqual(producer.calls, ["stop"])
            self.stream.unregisterProducer()
            late = Producer()
            self.stream.registerProducer(late, True)  # type: ignore[arg-type]
            self.assertEqual(late.calls, ["stop"])
            self.session.turn()

    def abort(self) -> None:
        """
        Abort, and be told.
        """
        self.stream.abortConnection()
        self.session.turn()

    def stop(self) -> None:
        """
        Hear that the other side wants no more.
        """
        self.stream.stopped()

    def end(self) -> None:
        """
        Lose the session.
        """
        self.stream.end(Failure(ConnectionDone()))

    def test_asProducer(self) -> None:
        """
        A consumer that is gone ends the stream that feeds it.
        """
        protocol = self.attach()
        self.stream.stopProducing()
        self.session.turn()
        self.assertIsInstance(self.reasonOf(protocol), ConnectionDone)
