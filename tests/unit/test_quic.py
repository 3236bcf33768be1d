"""
Tests for L{p2ptwist.net.quic}.
"""

from __future__ import annotations

import datetime
from dataclasses import replace
from functools import partial
from itertools import pairwise
from random import Random
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st
from qh3.quic.connection import QuicConnection
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.net.quic import (
    DATAGRAM_LENGTH,
    MESSAGE_LENGTH,
    PROBE_COUNT,
    PROBE_LEAST,
    PROBE_MOST,
    QUIC,
    Answered,
    Credentials,
    HandshakeDone,
    MessageReceived,
    QUICEvent,
    StreamAborted,
    StreamReceived,
    StreamStopped,
    Terminated,
    calledQUIC,
    callingQUIC,
    destinationOf,
    isPanic,
    prepareQUIC,
)
from p2ptwist.peer.identity import generateIdentity

IDENTITY = generateIdentity()


class Pair:
    """
    Both ends of a connection.
    """

    def __init__(self, credentials: Credentials | None = None) -> None:
        self.now = 100.0
        self.calling = callingQUIC(self.now)
        self.flight = self.calling.takeDatagrams(self.now)
        destination = destinationOf(self.flight[0])
        assert destination is not None
        self.called = calledQUIC(credentials or IDENTITY.credentials(), destination)

    def pump(self, seconds: float = 0.02) -> None:
        """
        Carry everything to and fro.
        """
        for _ in range(100):
            self.now += seconds
            flight, self.flight = self.flight, []
            flight += self.calling.takeDatagrams(self.now)
            self.called.receive(flight, self.now)
            answer = self.called.takeDatagrams(self.now)
            self.calling.receive(answer, self.now)
            if not flight and not answer:
                break

    def open(self) -> Pair:
        """
        Finish the handshake.
        """
        self.pump()
        events(self.calling)
        events(self.called)
        return self


def events(quic: QUIC) -> list[QUICEvent]:
    """
    @return: what happened.
    """
    happened = []
    while (event := quic.pollEvent()) is not None:
        happened.append(event)
    return happened


class ConnectionTests(SynchronousTestCase):
    """
    Connections as they should be.
    """

    def test_handshake(self) -> None:
        """
        The caller learns the key of the called side's certificate; nothing is longer than a path
        carries.
        """
        pair = Pair()
        self.assertEqual({len(datagram) for datagram in pair.flight}, {DATAGRAM_LENGTH})
        pair.pump()
        self.assertEqual(events(pair.calling), [HandshakeDone(IDENTITY.publicKey)])
        self.assertEqual(events(pair.called), [HandshakeDone(None)])
        pair.pump(1.0)
        self.assertTrue(pair.calling.isSettled(pair.now))
        self.assertEqual(pair.calling.outstanding(), 0)

    def test_greeted(self) -> None:
        """
        A hello counts when it has come whole.
        """
        pair = Pair()
        self.assertGreater(len(pair.flight), 1)
        self.assertFalse(pair.called.greeted())
        pair.called.receive(pair.flight[:-1], pair.now)
        self.assertFalse(pair.called.greeted())
        pair.called.receive(pair.flight[-1:], pair.now)
        self.assertTrue(pair.called.greeted())

    def test_idleTimeout(self) -> None:
        """
        One that ends idle connections after an hour, as other libraries do, is not taken for one
        that has to be probed; and in a minute of silence nothing ends.
        """
        pair = Pair()
        configuration = replace(pair.calling._connection.configuration, idle_timeout=3600.0)
        connection = QuicConnection(configuration=configuration)
        connection.connect(("192.0.2.1", 1), pair.now)
        pair.calling = QUIC(connection, called=False)
        pair.flight = pair.calling.takeDatagrams(pair.now)
        pair.called = calledQUIC(IDENTITY.credentials(), destinationOf(pair.flight[0]) or b"")
        pair.open().pump(1.0)
        self.assertTrue(pair.called.isSettled(pair.now))
        until = pair.now + 60.0
        while (due := pair.called.deadline()) is not None and due < until:
            pair.now = max(pair.now, due)
            pair.called.handleTimeout(pair.now)
        pair.now = until
        pair.calling.send(pair.calling.openStream(), b"still there", True)
        pair.pump()
        self.assertEqual(events(pair.called), [StreamReceived(0, b"still there", True)])

    def test_streams(self) -> None:
        """
        Bytes, ends, and what was given up, in both directions.
        """
        pair = Pair().open()
        stream = pair.calling.openStream()
        pair.calling.send(stream, b"question", True)
        self.assertEqual((pair.calling.queued(stream), pair.calling.outstanding()), (8, 8))
        self.assertFalse(pair.calling.isSettled(pair.now) and pair.calling.queued() == 0)
        pair.pump()
        self.assertEqual(events(pair.called), [StreamReceived(stream, b"question", True)])
        pair.called.send(stream, b"answer")
        pair.pump()
        self.assertEqual(events(pair.calling), [StreamReceived(stream, b"answer", False)])
        pair.calling.stop(stream, 3)
        pair.called.abort(stream, 4)
        pair.pump()
        (aborted,) = events(pair.calling)
        self.assertIsInstance(aborted, StreamAborted)
        other = pair.calling.openStream()
        pair.calling.send(other, b"x")
        pair.pump()
        events(pair.called)
        pair.calling.stop(other, 3)
        pair.pump()
        self.assertEqual(events(pair.called), [StreamStopped(other, 3)])

    def test_messages(self) -> None:
        """
        Datagrams of the application arrive; a flood is dropped and not kept.
        """
        pair = Pair().open()
        pair.calling.sendMessage(bytes(MESSAGE_LENGTH))
        pair.pump()
        self.assertEqual(events(pair.called), [MessageReceived(bytes(MESSAGE_LENGTH))])
        for _ in range(10_000):
            pair.calling.sendMessage(bytes(MESSAGE_LENGTH))
        pair.pump()
        self.assertLess(len(events(pair.called)), 100)

    def test_ping(self) -> None:
        """
        The other side's acknowledgement of a ping is told.
        """
        pair = Pair().open()
        pair.calling.ping()
        pair.pump()
        self.assertIn(Answered(), events(pair.calling))

    def test_close(self) -> None:
        """
        The other side's end is told at once, with its reason, which is cut to fit; this side's own
        is not.
        """
        pair = Pair().open()
        pair.called.close(3, "é" * 500)
        pair.pump()
        (end,) = events(pair.calling)
        assert isinstance(end, Terminated)
        self.assertEqual((end.code, end.byApplication), (3, True))
        self.assertEqual(end.reason, "é" * 100)
        self.assertEqual(events(pair.called), [])
        pair.calling.handleTimeout(pair.now + 60.0)
        self.assertEqual(events(pair.calling), [])

    def test_lost(self) -> None:
        """
        What is lost is sent again when it is time.
        """
        pair = Pair().open()
        stream = pair.calling.openStream()
        pair.calling.send(stream, b"lost")
        pair.calling.takeDatagrams(pair.now)
        deadline = pair.calling.deadline()
        assert deadline is not None
        pair.now = deadline + 0.01
        pair.calling.handleTimeout(pair.now)
        pair.pump()
        self.assertIn(StreamReceived(stream, b"lost", False), events(pair.called))

    def test_probes(self) -> None:
        """
        What is not acknowledged is asked about every second at first, and then every 15 s at the
        latest, for as long as a session lasts; and found when there is a way again.
        """
        pair = Pair().open()
        stream = pair.calling.openStream()
        pair.calling.send(stream, bytes(100_000))
        gaps, began = [], pair.now
        while pair.now < began + 180.0:
            if pair.calling.takeDatagrams(pair.now):
                gaps.append(pair.now)
            due = pair.calling.deadline()
            assert due is not None and due > pair.now - 0.001
            pair.now = max(pair.now, due)
            pair.calling.handleTimeout(pair.now)
        waits = [later - earlier for earlier, later in pairwise(gaps)]
        self.assertLessEqual(max(waits[:PROBE_COUNT]), PROBE_LEAST + 0.1)
        self.assertLessEqual(max(waits), PROBE_MOST + 0.1)
        self.assertLess(len(waits), 40)
        pair.pump(0.05)
        pair.pump(0.05)
        came = [event for event in events(pair.called) if isinstance(event, StreamReceived)]
        self.assertEqual(sum(len(event.data) for event in came), 100_000)
        self.assertTrue(pair.calling.isSettled(pair.now))

    def test_windows(self) -> None:
        """
        A sender that leaves a hole is held by QUIC's own windows.
        """
        pair = Pair().open()
        stream = pair.calling.openStream()
        pair.calling.send(stream, bytes(40_000_000))
        first = pair.calling.takeDatagrams(pair.now)
        kept = 0
        for _ in range(3000):
            pair.now += 0.02
            flight = pair.calling.takeDatagrams(pair.now)
            if flight[:1] == first[:1]:
                flight = flight[1:]
            kept += sum(map(len, flight))
            pair.called.receive(flight, pair.now)
            pair.calling.receive(pair.called.takeDatagrams(pair.now), pair.now)
            if not flight:
                break
        self.assertLess(kept, 4_000_000)


class _Certificate:
    def __init__(self, data: bytes) -> None:
        self._data = data

    @classmethod
    def of(cls, data: bytes | None) -> _Certificate | None:
        return None if data is None else cls(data)

    def public_bytes(self) -> bytes:
        return self._data


def _certificate(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "other")])
    start = datetime.datetime(2026, 1, 1)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=3650))
        .sign(key, hashes.SHA256())
    )


class Documented:
    """
    As much of a connection of the library's as its documentation names.
    """

    def __init__(self, connection: Any) -> None:
        self.hidden = connection

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.hidden, name)


class DocumentedTests(SynchronousTestCase):
    """
    What the library does not document is used where it is there, and not needed.
    """

    def test_withoutTheRest(self) -> None:
        """
        Everything works but for what only the library's inside tells: the other side's end comes
        late, and neither the round trip nor repetitions are known.
        """
        pair = Pair()
        for side in ("calling", "called"):
            quic = getattr(pair, side)
            connection: Any = Documented(quic._connection)
            setattr(pair, side, QUIC(connection, side == "called"))
        pair.open()
        self.assertEqual(pair.calling.roundTrip(), None)
        stream = pair.calling.openStream()
        pair.calling.send(stream, bytes(5000), True)
        pair.flight = pair.calling.takeDatagrams(pair.now)
        self.assertEqual(pair.calling.unanswered(pair.now), 0)
        pair.calling.repeat(pair.now)
        pair.pump()
        data = [each.data for each in events(pair.called) if isinstance(each, StreamReceived)]
        self.assertEqual(b"".join(data), bytes(5000))
        self.assertIsNone(pair.calling.unanswered(pair.now))
        pair.called.close(3, "enough")
        pair.pump()
        self.assertEqual(events(pair.calling), [])
        for _ in range(10):
            deadline = pair.calling.deadline()
            if deadline is not None:
                pair.now = max(pair.now, deadline)
                pair.calling.handleTimeout(pair.now)
        self.assertEqual(events(pair.calling), [Terminated(3, "enough", True)])


class StrangerTests(SynchronousTestCase):
    """
    What is not as it should be.
    """

    def test_otherKey(self) -> None:
        """
        A certificate with a key of another kind is nobody's: the handshake fails, or shows no key.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _certificate(key)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        pair = Pair(Credentials(certificate.public_bytes(Encoding.PEM), pem))
        pair.pump()
        for event in events(pair.calling):
            if isinstance(event, HandshakeDone):
                self.assertEqual(event.peerKey, b"")
            else:
                self.assertIsInstance(event, Terminated)

    def test_misuse(self) -> None:
        """
        What is asked of streams that are over, or of a connection that is, does nothing.
        """
        pair = Pair().open()
        stream = pair.calling.openStream()
        pair.calling.send(stream, b"x", True)
        pair.pump()
        pair.called.send(stream, b"y", True)
        pair.pump()
        for quic in (pair.calling, pair.called):
            faults = quic.faults
            quic.send(stream, b"late")
            quic.abort(stream, 0)
            quic.stop(stream, 0)
            quic.abort(4000, 0)
            quic.stop(4000, 0)
            self.assertEqual(quic.queued(-1), 0)
            self.assertGreater(quic.faults, faults)
        pair.calling.close(0, "")
        pair.pump()
        for quic in (pair.calling, pair.called):
            quic.send(stream, b"late")
            quic.sendMessage(b"late")
            quic.ping()
            quic.close(0, "again")

    def test_panic(self) -> None:
        """
        What is wrong in the library's core is a fault like others; what ends a program is not.
        """

        class PanicException(BaseException):
            pass

        def fail(error: BaseException) -> None:
            raise error

        quic = Pair().calling
        self.assertIsNone(quic._try(fail, PanicException()))
        self.assertIsNone(quic._try(fail, ValueError()))
        self.assertEqual(quic.faults, 2)
        self.assertRaises(KeyboardInterrupt, quic._try, fail, KeyboardInterrupt())
        self.assertFalse(isPanic(ValueError()))

    def test_faultInABatch(self) -> None:
        """
        A datagram at which the library fails does not take those behind it along.
        """
        pair = Pair().open()
        stream = pair.calling.openStream()
        pair.calling.send(stream, b"x" * 3000)
        datagrams = pair.calling.takeDatagrams(pair.now)

        def fail(*arguments: object) -> None:
            raise ValueError

        pair.called._connection.receive_many_datagrams = fail  # type: ignore[method-assign, assignment]
        pair.called.receive(datagrams, pair.now)
        received = [event for event in events(pair.called) if isinstance(event, StreamReceived)]
        self.assertEqual(sum(len(event.data) for event in received), 3000)

    def test_noKey(self) -> None:
        """
        A certificate that is missing, that cannot be read, or whose key is of another kind, is
        nobody's.
        """
        quic = Pair().calling
        other = _certificate(ec.generate_private_key(ec.SECP256R1()))
        for certificate in (None, b"nonsense", other.public_bytes(Encoding.DER)):
            quic._connection.get_peercert = partial(_Certificate.of, certificate)  # type: ignore[method-assign, assignment]
            self.assertEqual(quic._peerKey(), b"")

    def test_destination(self) -> None:
        """
        Only what may begin a connection has a destination.
        """
        initial = Pair().flight[0]
        destination = destinationOf(initial)
        assert destination is not None
        self.assertEqual(initial[6:14], destination)
        for wrong in (
            b"",
            initial[:-1],
            b"\x40" + initial[1:],
            b"\xe0" + initial[1:],
            initial[:1] + b"\0\0\0\2" + initial[5:],
            initial[:5] + b"\x07" + initial[6:],
            initial[:5] + b"\x15" + initial[6:],
        ):
            self.assertIsNone(destinationOf(wrong))

    def test_prepare(self) -> None:
        """
        Preparing twice is no more work than once.
        """
        for _ in range(2):
            prepareQUIC(IDENTITY.credentials())

    @settings(max_examples=200, deadline=None)
    @given(st.lists(st.binary(max_size=1400), max_size=5), st.booleans())
    def test_garbage(self, datagrams: list[bytes], opened: bool) -> None:
        """
        Garbage changes nothing and raises nothing.
        """
        pair = Pair()
        if opened:
            pair.open()
        for quic in (pair.calling, pair.called):
            quic.receive(datagrams, pair.now)
            quic.receive([b"\xc0\0\0\0\1" + datagram for datagram in datagrams], pair.now)
            quic.handleTimeout(pair.now)
        pair.pump()
        pair.calling.send(pair.calling.openStream(), b"still here")
        pair.pump()
        received = [event for event in events(pair.called) if isinstance(event, StreamReceived)]
        self.assertEqual(b"".join(event.data for event in received), b"still here")

    @settings(max_examples=300, deadline=None)
    @given(st.integers(0, 2**32))
    def test_mutations(self, seed: int) -> None:
        """
        A handshake whose datagrams are changed on the way raises nothing; if it ends well the key
        is the right one.
        """
        random = Random(seed)
        pair = Pair()
        rate = random.choice((0.1, 0.5))
        flights = {pair.calling: pair.flight, pair.called: []}
        for _ in range(12):
            pair.now += 0.3
            for one, other in ((pair.calling, pair.called), (pair.called, pair.calling)):
                sent = flights.pop(one, []) + one.takeDatagrams(pair.now)
                for datagram in sent:
                    changed = bytearray(datagram)
                    if random.random() < rate:
                        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
                    other.receive([bytes(changed)], pair.now)
                deadline = one.deadline()
                if deadline is not None and deadline <= pair.now:
                    one.handleTimeout(pair.now)
        for event in events(pair.calling):
            if isinstance(event, HandshakeDone):
                self.assertEqual(event.peerKey, IDENTITY.publicKey)
