"""
Tests for L{p2ptwist.peer.session} against an other end that has no manners.
"""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.error import ConnectionLost
from twisted.internet.protocol import Protocol
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.session.control import (
    Admitted,
    Challenge,
    CloseCode,
    Grant,
    Proof,
    SignalMessage,
    encodeControl,
)
from p2ptwist.core.session.credit import EARLY_DATAGRAM_LIMIT, EARLY_LIMIT, INITIAL_CREDIT
from p2ptwist.errors import SessionLost, SessionRefused, StreamRefused
from p2ptwist.net.quic import (
    CONTROL_STREAM,
    HandshakeDone,
    StreamAborted,
    StreamReceived,
    Terminated,
)
from p2ptwist.peer.session import HANDSHAKE_LIMIT
from p2ptwist.peer.sessionstreams import EARLY_EVENTS
from p2ptwist.peer.streamtable import SKIPPED_LIMIT, STREAM_LIMIT
from p2ptwist.peer.vigil import DOUBT_LIMIT, SILENCE_LIMIT
from tests.unit.sessionwire import CHALLENGE, HERE, THERE, Reader, Wire

HEADER = b"\x04echo"


class SessionCase(SynchronousTestCase):
    """
    What these tests share.
    """

    def called(self) -> Wire:
        """
        @return: a session that was called, and admitted the caller.
        """
        return Wire(calling=False).admitted()

    def caller(self) -> Wire:
        """
        @return: a session that called, and was admitted.
        """
        return Wire(calling=True).admitted()

    def assertEnds(self, wire: Wire, code: CloseCode) -> Exception:
        """
        The session ends, and the other end is told why.

        @return: what this side is told.
        """
        wire.pump()
        self.assertEqual(wire.code, code)
        (reason,) = wire.over
        assert isinstance(reason, SessionLost | SessionRefused)
        self.assertEqual(reason.word, code.word)
        self.assertEqual(wire.clock.getDelayedCalls(), [])
        self.assertTrue(wire.carrier.closed)
        return reason


class AdmissionTests(SessionCase):
    """
    Nothing is processed before both sides are known.
    """

    def test_called(self) -> None:
        """
        What a caller sends right behind its proof waits for the decision, and is then processed in
        order; what it sends before is not even kept as a datagram.
        """
        wire = Wire(calling=False)
        wire.pump()
        self.assertEqual(wire.heard, [Challenge(CHALLENGE)])
        stream = wire.there.openStream()
        wire.there.send(stream, HEADER + b"hello")
        second = wire.there.openStream()
        wire.there.send(second, HEADER)
        wire.pump()
        wire.there.abort(second, 0)
        wire.there.sendMessage(b"too early")
        wire.pump()
        self.assertEqual((wire.owner.asked, wire.owner.accepted), (0, []))
        wire.say(wire.prove(), SignalMessage(b"offer"))
        wire.pump()
        self.assertEqual(wire.owner.asked, 1)
        self.assertEqual(wire.heard, [Challenge(CHALLENGE), Admitted()])
        self.assertEqual(wire.carrier.signals, [b"offer"])
        first, aborted = wire.owner.accepted
        self.assertEqual(first.data, b"hello")
        self.assertIsInstance(aborted.lost, ConnectionLost)
        self.assertEqual(wire.owner.messages, [])
        self.assertEqual(wire.ready, [wire.session])

    def test_policy(self) -> None:
        """
        A caller that is not admitted is told so.
        """
        wire = Wire(calling=False)
        wire.owner.welcome = False
        wire.pump()
        wire.say(wire.prove())
        self.assertIsInstance(self.assertEnds(wire, CloseCode.NOT_ADMITTED), SessionRefused)

    def test_wrongProofs(self) -> None:
        """
        Another key's signature, another challenge's, another key: an impostor.
        """
        for proof in (
            Proof(THERE.publicKey, bytes(64)),
            Proof(HERE.publicKey, bytes(64)),
            Wire(calling=False).prove(bytes(32)),
        ):
            wire = Wire(calling=False)
            wire.pump()
            wire.say(proof)
            self.assertEnds(wire, CloseCode.IMPOSTOR)
            self.assertEqual(wire.owner.asked, 0)

    def test_neverProves(self) -> None:
        """
        Who proves nothing has 10 s; who is silent after the first datagram as well.
        """
        for pumps in (0, 1):
            wire = Wire(calling=False)
            if pumps:
                wire.pump()
            wire.clock.advance(HANDSHAKE_LIMIT)
            (reason,) = wire.over
            assert isinstance(reason, SessionRefused)
            self.assertEqual(reason.word, "late")
            self.assertEqual(wire.clock.getDelayedCalls(), [])

    def test_earlyBounds(self) -> None:
        """
        What is kept before the admission is bounded, in bytes, in pieces, in messages and in
        datagrams.
        """
        wire = Wire(calling=False)
        wire.pump()
        wire.there.send(wire.there.openStream(), HEADER + bytes(EARLY_LIMIT))
        self.assertEnds(wire, CloseCode.OVERFLOW)
        wire = Wire(calling=False)
        wire.pump()
        stream = wire.there.openStream()
        for _ in range(EARLY_EVENTS + 1):
            wire.there.send(stream, b"\x04")
            wire.pump()
        self.assertEnds(wire, CloseCode.OVERFLOW)
        wire = Wire(calling=False)
        wire.pump()
        for _ in range(EARLY_DATAGRAM_LIMIT // 1200):
            wire.session.receive([b"\x40" + bytes(1199)])
        self.assertEnds(wire, CloseCode.OVERFLOW)

    def test_wrongCertificate(self) -> None:
        """
        A caller that reaches somebody else says nothing of its own, but why it ends.
        """
        wire = Wire(calling=True, callee="somebody else")
        self.assertRaises(SessionLost, wire.session.openStream, "echo", lambda address: Reader())
        wire.session.sendMessage(b"too early")
        wire.say(Challenge(CHALLENGE))
        wire.pump(1.0)
        (reason,) = wire.over
        assert isinstance(reason, SessionRefused)
        self.assertEqual(reason.word, "impostor")
        self.assertEqual(wire.heard, [])
        self.assertEqual([type(event) for event in wire.events], [HandshakeDone, Terminated])
        self.assertEqual(wire.code, CloseCode.IMPOSTOR)

    def test_calling(self) -> None:
        """
        A caller proves itself when it is challenged, and its streams follow at once.
        """
        wire = Wire(calling=True)
        wire.pump()
        self.assertEqual(wire.ready, [])
        wire.say(Challenge(CHALLENGE))
        wire.pump()
        self.assertEqual(wire.ready, [wire.session])
        (proof,) = wire.heard
        self.assertIsInstance(proof, Proof)
        self.assertFalse(wire.session.admitted)
        protocol = Reader()
        wire.session.openStream("echo", lambda address: protocol)
        protocol.transport.write(bytes(2 * EARLY_LIMIT))
        wire.pump(1.0)
        received = [event for event in wire.events if isinstance(event, StreamReceived)]
        self.assertEqual(sum(len(event.data) for event in received), EARLY_LIMIT)
        wire.say(Admitted(), Grant(0, 1 << 20))
        wire.pump(1.0)
        received = [event for event in wire.events if isinstance(event, StreamReceived)]
        self.assertEqual(sum(len(event.data) for event in received), 2 * EARLY_LIMIT + 5)

    def test_neverAdmitted(self) -> None:
        """
        A called side that never admits has 10 s as well, challenge or not.
        """
        for challenges in (False, True):
            wire = Wire(calling=True)
            wire.pump()
            if challenges:
                wire.say(Challenge(CHALLENGE))
            wire.pump()
            wire.clock.advance(HANDSHAKE_LIMIT)
            (reason,) = wire.over
            assert isinstance(reason, SessionLost if challenges else SessionRefused)
            self.assertEqual(reason.word, "late")

    def test_untimely(self) -> None:
        """
        Messages that may not come now end the session.
        """
        for message in (Challenge(CHALLENGE), Wire(calling=False).prove()):
            for wire in (self.called(), self.caller()):
                wire.say(message)
                self.assertEnds(wire, CloseCode.PROTOCOL)
        wire = Wire(calling=True)
        wire.pump()
        wire.say(Admitted())
        self.assertEnds(wire, CloseCode.PROTOCOL)


class HostileTests(SessionCase):
    """
    Rules that are broken.
    """

    def test_control(self) -> None:
        """
        The control stream says what it may, and does not end.
        """
        for send in (
            lambda wire: wire.there.send(CONTROL_STREAM, b"\x00\x00"),
            lambda wire: wire.there.send(CONTROL_STREAM, b"\xff\xff\x10"),
            lambda wire: wire.there.send(CONTROL_STREAM, b"\x00\x01\x77"),
            lambda wire: wire.there.send(CONTROL_STREAM, b"", True),
            lambda wire: wire.there.abort(CONTROL_STREAM, 0),
            lambda wire: wire.there.stop(CONTROL_STREAM, 0),
        ):
            for wire in (self.called(), self.caller()):
                send(wire)
                self.assertEnds(wire, CloseCode.PROTOCOL)

    def test_headers(self) -> None:
        """
        A stream begins with a header, whole or in pieces.
        """
        for header, ended in ((b"\x00", False), (b"\x41", False), (b"\x02\xff\xfe", False)):
            wire = self.called()
            wire.there.send(wire.there.openStream(), header, ended)
            self.assertEnds(wire, CloseCode.PROTOCOL)
        for header in (b"", b"\x04", b"\x04ech"):
            wire = self.called()
            wire.there.send(wire.there.openStream(), header, True)
            self.assertEnds(wire, CloseCode.PROTOCOL)
        wire = self.called()
        stream = wire.there.openStream()
        for piece in HEADER + b"hi":
            wire.there.send(stream, bytes((piece,)))
            wire.pump()
        self.assertEqual(wire.owner.accepted[0].data, b"hi")

    def test_unfinishedHeaders(self) -> None:
        """
        Streams whose headers never come are bounded; one that is given up counts no more.
        """
        wire = self.called()
        for _ in range(2 * STREAM_LIMIT):
            stream = wire.there.openStream()
            wire.there.send(stream, b"\x04")
            wire.pump()
            wire.there.abort(stream, 0)
            wire.there.stop(stream, 0)
            wire.pump()
        self.assertEqual(wire.over, [])
        for _ in range(STREAM_LIMIT + 1):
            wire.there.send(wire.there.openStream(), b"\x04")
            wire.pump()
        self.assertEnds(wire, CloseCode.PROTOCOL)

    def test_skipped(self) -> None:
        """
        A stream without a header does not let those above it be counted forever.
        """
        wire = self.called()
        wire.there.send(wire.there.openStream(), b"\x04")
        for _ in range(SKIPPED_LIMIT + 1):
            stream = wire.there.openStream()
            wire.there.send(stream, b"\x03foo", True)
            wire.pump()
        self.assertEnds(wire, CloseCode.OVERFLOW)

    def test_overGrant(self) -> None:
        """
        More than was granted ends the session.
        """
        wire = self.called()
        stream = wire.there.openStream()
        wire.there.send(stream, HEADER)
        wire.pump()
        wire.owner.accepted[0].transport.pauseProducing()
        wire.there.send(stream, bytes(INITIAL_CREDIT - 4 + 1))
        self.assertEnds(wire, CloseCode.OVERFLOW)

    def test_crowd(self) -> None:
        """
        One stream more than allowed is reset, and says why; so is one for no service, and the
        session goes on.
        """
        wire = self.called()
        streams = [wire.there.openStream()]
        for _ in range(STREAM_LIMIT + 1):
            streams.append(wire.there.openStream())
            wire.there.send(streams[-1], HEADER)
            wire.pump()
        (refusal,) = [event for event in wire.events if isinstance(event, StreamAborted)]
        self.assertEqual((refusal.stream, refusal.code), (streams[-1], CloseCode.OVERFLOW))
        wire.there.send(streams[1], b"", True)
        wire.pump()
        stream = wire.there.openStream()
        wire.there.send(stream, b"\x03foo")
        wire.pump()
        refusal = [event for event in wire.events if isinstance(event, StreamAborted)][-1]
        self.assertEqual((refusal.stream, refusal.code), (stream, CloseCode.NOT_ADMITTED))
        self.assertEqual(len(wire.owner.accepted), STREAM_LIMIT)
        self.assertEqual(wire.over, [])

    def test_nonsense(self) -> None:
        """
        Grants and ends of streams that are not there change nothing.
        """
        for wire in (self.called(), self.caller()):
            wire.say(Grant(4000, 5), Grant(2**62, 2**64 - 1), Grant(CONTROL_STREAM, 1))
            wire.pump()
            self.assertEqual(wire.over, [])

    def test_callersPolicy(self) -> None:
        """
        A caller takes the called side's streams only if its own application admits that peer.
        """
        for welcome in (True, False):
            wire = self.caller()
            wire.owner.welcome = welcome
            # The control stream is the first one of the called side.
            stream = wire.there.openStream()
            wire.there.send(stream, HEADER + b"hello")
            wire.pump()
            self.assertEqual(len(wire.owner.accepted), int(welcome))
            aborted = [event for event in wire.events if isinstance(event, StreamAborted)]
            self.assertEqual(len(aborted), int(not welcome))

    @settings(max_examples=150, deadline=None)
    @given(st.booleans(), st.binary(max_size=200), st.integers(0, 2**32))
    def test_controlBytes(self, calling: bool, data: bytes, seed: int) -> None:
        """
        Whatever comes on the control stream after the admission, nothing raises.
        """
        wire = self.caller() if calling else self.called()
        wire.there.send(CONTROL_STREAM, data)
        if seed % 2:
            kinds = (SignalMessage(data or b"x"), Grant(seed % 8, seed))
            wire.there.send(CONTROL_STREAM, encodeControl(kinds[seed % 4 // 2]))
        wire.pump()
        self.assertLessEqual(len(wire.over), 1)
        wire.session.close(CloseCode.CLOSED, "done")
        self.assertEqual(wire.clock.getDelayedCalls(), [])

    @settings(max_examples=150, deadline=None)
    @given(st.booleans(), st.integers(0, 2**32))
    def test_datagrams(self, calling: bool, seed: int) -> None:
        """
        Whatever datagrams come, mutated, cut, repeated or invented, nothing raises, and nobody is
        admitted who has not proved it.
        """
        random = Random(seed)
        wire = Wire(calling)
        real: list[bytes] = [random.randbytes(random.randrange(1, 1300)) for _ in range(3)]
        for _ in range(random.randrange(1, 30)):
            wire.there.receive(wire.carrier.sent, wire.clock.seconds())
            wire.carrier.sent = []
            real += wire.there.takeDatagrams(wire.clock.seconds())
            datagram = bytearray(random.choice(real))
            for _ in range(random.randrange(3)):
                datagram[random.randrange(len(datagram))] ^= 1 << random.randrange(8)
            cut = random.choice((len(datagram), random.randrange(1, len(datagram) + 1)))
            wire.session.receive([bytes(datagram[:cut])])
            wire.clock.advance(random.choice((0.0, 0.01, 0.5)))
        self.assertFalse(wire.session.admitted)
        self.assertEqual(wire.owner.accepted, [])
        wire.clock.pump([1.0] * 11)
        self.assertEqual(len(wire.over), 1)
        self.assertEqual(wire.clock.getDelayedCalls(), [])


class LifeTests(SessionCase):
    """
    What a session does when it is used, and when it ends.
    """

    def test_use(self) -> None:
        """
        Bytes and datagrams go both ways.
        """
        wire = self.called()
        protocol = Reader()
        wire.session.openStream("foo", lambda address: protocol)
        self.assertTrue(wire.session.unsent)
        protocol.transport.write(b"hello")
        wire.session.sendMessage(b"datagram")
        wire.pump()
        data = b"".join(event.data for event in wire.events[1:])  # type: ignore[union-attr]
        self.assertIn(b"\x03foohello", data)
        self.assertIn(b"datagram", data)
        wire.there.sendMessage(b"answer")
        wire.pump(1.0)
        self.assertEqual(wire.owner.messages, [b"answer"])
        self.assertFalse(wire.session.unsent)
        self.assertRaises(ValueError, wire.session.sendMessage, bytes(1151))
        self.assertEqual(wire.session.peerID, THERE.peerID)
        self.assertEqual(protocol.transport.getHost().peerID, HERE.peerID)
        self.assertFalse(wire.session.calling)

    def test_noProtocol(self) -> None:
        """
        A factory that fails opens no stream.
        """
        wire = self.called()

        def build(address: object) -> Protocol:
            raise ZeroDivisionError

        self.assertRaises(ZeroDivisionError, wire.session.openStream, "foo", build)
        wire.pump()
        self.assertEqual(len(wire.events), 1)

    def test_tooMany(self) -> None:
        """
        This side opens as many streams as the other takes, and not one more.
        """
        wire = self.called()
        for _ in range(STREAM_LIMIT):
            wire.session.openStream("foo", lambda address: Reader())
        self.assertRaises(StreamRefused, wire.session.openStream, "foo", lambda address: Reader())

    def test_closedThere(self) -> None:
        """
        The reason of the other end is told at once, known or not, before the admission and after.
        """
        for code, word in ((0, "closed"), (4, "replaced"), (77, "unknown-77")):
            wire = self.called()
            protocol = Reader()
            wire.session.openStream("foo", lambda address, protocol=protocol: protocol)  # type: ignore[misc]
            wire.there.close(code, "because")
            wire.pump()
            (reason,) = wire.over
            assert isinstance(reason, SessionLost)
            self.assertEqual(reason.word, word)
            self.assertIn("because", str(reason))
            self.assertIs(protocol.lost, reason)
        wire = Wire(calling=True)
        wire.pump()
        wire.there.close(1, "")
        wire.pump()
        self.assertIsInstance(wire.over[0], SessionRefused)

    def test_wholeAtTheEnd(self) -> None:
        """
        A stream that had come whole when the other side ended the session is read to its end,
        however slowly; one that had not is lost at once.
        """
        for produces in (False, True):
            wire = self.called()
            whole = wire.there.openStream()
            wire.there.send(whole, HEADER)
            wire.pump()
            partly = wire.there.openStream()
            wire.there.send(partly, HEADER + b"part")
            wire.pump()
            slow, cut = wire.owner.accepted
            slow.transport.pauseProducing()
            wire.there.send(whole, b"all of it", True)
            wire.pump()
            stopped: list[str] = []
            if produces:
                slow.transport.registerProducer(_Stopped(stopped), True)  # type: ignore[arg-type]
            wire.there.close(0, "bye")
            wire.pump()
            self.assertIsInstance(cut.lost, SessionLost)
            self.assertIsNone(slow.lost)
            slow.transport.resumeProducing()
            wire.pump()
            self.assertEqual(slow.data, b"all of it")
            self.assertIsInstance(slow.lost, SessionLost)
            self.assertEqual(stopped, ["stopped"] * produces)
            self.assertEqual(wire.clock.getDelayedCalls(), [])

    def test_batch(self) -> None:
        """
        What came in one batch is answered at once, without another turn of the reactor; what is
        over stays so.
        """
        wire = self.called()
        wire.there.send(wire.there.openStream(), HEADER + bytes(5000))
        datagrams = wire.there.takeDatagrams(wire.clock.seconds())
        wire.carrier.sent.clear()
        wire.session.receiveAll(datagrams)
        self.assertNotEqual(wire.carrier.sent, [])
        wire.session.openStream("foo", lambda address: Reader())
        wire.there.ping()
        wire.session.receiveAll(wire.there.takeDatagrams(wire.clock.seconds()))
        wire.session.close(CloseCode.CLOSED, "over")
        wire.session.receiveAll(datagrams)
        self.assertEqual(wire.clock.getDelayedCalls(), [])

    def test_brokenQUIC(self) -> None:
        """
        An end that QUIC itself brings is told as such.
        """
        wire = self.called()
        wire.there._connection.close(error_code=7, frame_type=8, reason_phrase="broken")
        wire.pump()
        (reason,) = wire.over
        assert isinstance(reason, SessionLost)
        self.assertEqual(reason.word, "protocol")

    def test_afterTheEnd(self) -> None:
        """
        Nothing that is asked of a session that is over does anything.
        """
        wire = self.called()
        wire.there.send(wire.there.openStream(), HEADER)
        wire.pump()
        transport = wire.owner.accepted[0].transport
        wire.session.close(CloseCode.CLOSED, "é" * 300)
        wire.session.close(CloseCode.CLOSED, "again")
        wire.pump()
        self.assertEqual(wire.code, 0)
        wire.session.receive([bytes(1200)])
        transport.write(b"late")
        transport.resumeProducing()
        transport.abortConnection()
        wire.session.signal(b"signal")
        wire.session.sendMessage(b"datagram")
        wire.session.nudge()
        wire.session.doubt()
        wire.session.lose("lost", "lost")
        wire.session.fail(ZeroDivisionError())
        self.assertRaises(SessionLost, wire.session.openStream, "x", lambda address: Reader())
        self.assertEqual(len(wire.over), 1)
        self.assertEqual(wire.clock.getDelayedCalls(), [])
        self.assertFalse(wire.session.ready)

    def test_endWithin(self) -> None:
        """
        The application may end the session from within what it is told.
        """
        wire = self.called()

        class Ender(Reader):
            def dataReceived(self, data: bytes) -> None:
                wire.session.close(CloseCode.CLOSED, "enough")

            def connectionMade(self) -> None:
                wire.session.openStream("bar", lambda address: Reader())

        wire.owner.accept = lambda session, stream: Ender()  # type: ignore[method-assign]
        stream = wire.there.openStream()
        wire.there.send(stream, HEADER + b"one")
        wire.there.send(wire.there.openStream(), HEADER + b"two")
        wire.pump()
        self.assertEqual(wire.code, 0)
        self.assertEqual(wire.clock.getDelayedCalls(), [])

    def test_endInTurn(self) -> None:
        """
        Also from a producer.
        """
        wire = self.called()
        protocol = Reader()
        wire.session.openStream("foo", lambda address: protocol)

        class Producer:
            def resumeProducing(self) -> None:
                if wire.clock.seconds() > 5.0:
                    wire.session.close(CloseCode.CLOSED, "enough")

            def stopProducing(self) -> None: ...

        protocol.transport.registerProducer(Producer(), False)  # type: ignore[arg-type]
        wire.clock.advance(6.0)
        protocol.transport.resumeProducing()
        wire.pump()
        self.assertEqual(wire.code, 0)
        self.assertEqual(wire.clock.getDelayedCalls(), [])


class SilenceTests(SessionCase):
    """
    Whether the other end is still there.
    """

    def test_silence(self) -> None:
        """
        When something has to be acknowledged and nothing comes, the session asks after 90 s, and
        ends 90 s later.
        """
        wire = self.called()
        wire.pump(1.0)
        wire.deaf = True
        protocol = Reader()
        wire.session.openStream("foo", lambda address: protocol)
        wire.clock.pump([1.0] * int(2 * SILENCE_LIMIT - 2))
        self.assertEqual(wire.over, [])
        wire.clock.pump([1.0] * 4)
        (reason,) = wire.over
        assert isinstance(reason, SessionLost)
        self.assertEqual(reason.word, "unreachable")
        self.assertIs(protocol.lost, reason)
        self.assertEqual(wire.clock.getDelayedCalls(), [])

    def test_idle(self) -> None:
        """
        An idle session lasts, and sends nothing.
        """
        wire = self.called()
        wire.pump(1.0)
        wire.pump(200.0)
        wire.carrier.sent.clear()
        wire.clock.pump([1.0] * 3600)
        self.assertEqual(wire.carrier.sent, [])
        self.assertEqual(wire.over, [])

    def test_lateAnswer(self) -> None:
        """
        An answer to the question keeps the session.
        """
        wire = self.called()
        wire.pump(1.0)
        wire.deaf = True
        wire.session.openStream("foo", lambda address: Reader())
        wire.clock.pump([1.0] * int(SILENCE_LIMIT + 10))
        wire.deaf = False
        wire.pump(1.0)
        wire.pump(1.0)
        wire.clock.pump([1.0] * int(2 * SILENCE_LIMIT))
        self.assertEqual(wire.over, [])

    def test_doubt(self) -> None:
        """
        A session that the other side is said not to know ends in seconds, unless it answers.
        """
        wire = self.called()
        wire.pump(1.0)
        wire.session.doubt()
        wire.session.doubt()
        wire.pump(1.0)
        wire.clock.pump([0.5] * 20)
        self.assertEqual(wire.over, [])
        wire.deaf = True
        wire.session.doubt()
        wire.clock.pump([0.1] * int(10 * DOUBT_LIMIT - 5))
        wire.session.doubt()
        self.assertEqual(wire.over, [])
        wire.clock.pump([0.1] * 10)
        (reason,) = wire.over
        assert isinstance(reason, SessionLost)
        self.assertEqual(reason.word, "restarted")

    def test_doubtTooSoon(self) -> None:
        """
        Before the admission there are 10 s anyway.
        """
        wire = Wire(calling=True)
        wire.session.doubt()
        self.assertEqual(len(wire.clock.getDelayedCalls()), 2)

    def test_lull(self) -> None:
        """
        When what was coming stops coming, the carrier is told once, with the time since when.
        """
        wire = self.called()
        stream = wire.there.openStream()
        wire.there.send(stream, HEADER)
        wire.pump(1.0)
        wire.pump(1.0)
        wire.there.send(stream, b"x")
        wire.pump()
        wire.clock.advance(0.1)
        wire.carrier.lulls.clear()
        wire.there.send(stream, b"y")
        wire.pump()
        came = wire.clock.seconds()
        wire.clock.advance(0.15)
        self.assertEqual(wire.carrier.lulls, [])
        wire.clock.advance(0.06)
        [since] = wire.carrier.lulls
        self.assertAlmostEqual(since, came, places=1)
        wire.pump(1.0)
        wire.clock.pump([0.1] * 20)
        self.assertEqual(wire.carrier.lulls, [since])


class _Stopped:
    def __init__(self, stopped: list[str]) -> None:
        self._stopped = stopped

    def stopProducing(self) -> None:
        self._stopped.append("stopped")
