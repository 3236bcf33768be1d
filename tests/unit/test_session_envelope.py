"""
Tests for L{p2ptwist.core.session.envelope}.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.errors import LocalUsageError, MalformedDatagram
from p2ptwist.core.ice.signal import Goodbye, encodeSignal
from p2ptwist.core.link.frames import MAX_PAYLOAD
from p2ptwist.core.session.envelope import (
    DATAGRAM_COUNT,
    DATAGRAM_LIMIT,
    SMALLEST_LIMIT,
    Envelope,
    decodeEnvelope,
    decodeUnknown,
    encodeEnvelopes,
    encodeUnknown,
    isEnvelope,
)

NAME = bytes(range(8))

datagramLists = st.lists(st.binary(min_size=1, max_size=DATAGRAM_LIMIT), max_size=100)


class EncodeTests(SynchronousTestCase):
    """
    L{encodeEnvelopes}, as bytes and in its batches.
    """

    def test_layout(self) -> None:
        """
        The type, the session's name, then each datagram behind its length.
        """
        self.assertEqual(
            encodeEnvelopes(NAME, [b"abc", b"d"], MAX_PAYLOAD),
            [b"\x51" + NAME + b"\x00\x03abc\x00\x01d"],
        )

    def test_nothing(self) -> None:
        """
        No datagrams make no envelope.
        """
        self.assertEqual(encodeEnvelopes(NAME, [], MAX_PAYLOAD), [])

    def test_full(self) -> None:
        """
        An envelope takes what the link carries to the last byte, and the next begins with the
        datagram that does not fit.
        """
        datagrams = [bytes((number,)) * DATAGRAM_LIMIT for number in range(3)]
        two = SMALLEST_LIMIT + 2 + DATAGRAM_LIMIT
        sizes = [len(each) for each in encodeEnvelopes(NAME, datagrams, two)]
        self.assertEqual(sizes, [two, SMALLEST_LIMIT])
        sizes = [len(each) for each in encodeEnvelopes(NAME, datagrams, two - 1)]
        self.assertEqual(sizes, [SMALLEST_LIMIT] * 3)

    def test_largestFrame(self) -> None:
        """
        A node that promises more than a frame holds is not believed: 13 datagrams of 1,200 bytes
        share an envelope.
        """
        first, second = encodeEnvelopes(NAME, [bytes(DATAGRAM_LIMIT)] * 14, 65_535)
        self.assertEqual(len(decodeEnvelope(first).datagrams), 13)
        self.assertEqual(len(decodeEnvelope(second).datagrams), 1)

    def test_count(self) -> None:
        """
        Small datagrams share an envelope too, but no more than 64 of them.
        """
        payloads = encodeEnvelopes(NAME, [b"x"] * (DATAGRAM_COUNT + 1), MAX_PAYLOAD)
        counts = [len(decodeEnvelope(each).datagrams) for each in payloads]
        self.assertEqual(counts, [64, 1])

    def test_misuse(self) -> None:
        """
        Names, datagrams and links that do not have their size are refused at once, with what to do.
        """
        refused: list[tuple[bytes, list[bytes], int]] = [
            (NAME[1:], [b"x"], MAX_PAYLOAD),
            (NAME + b"\x00", [b"x"], MAX_PAYLOAD),
            (NAME, [b""], MAX_PAYLOAD),
            (NAME, [b"x", bytes(DATAGRAM_LIMIT + 1)], MAX_PAYLOAD),
            (NAME, [b"x"], SMALLEST_LIMIT - 1),
        ]
        for name, datagrams, limit in refused:
            with self.assertRaises(LocalUsageError):
                encodeEnvelopes(name, datagrams, limit)
        error = self.assertRaises(LocalUsageError, encodeEnvelopes, NAME, [b"x"], 100)
        self.assertIn("use another rendezvous node", str(error))


class DecodeTests(SynchronousTestCase):
    """
    L{decodeEnvelope} takes what L{encodeEnvelopes} made, and nothing else.
    """

    @given(datagramLists, st.integers(SMALLEST_LIMIT, 20_000))
    def test_roundTrip(self, datagrams: list[bytes], limit: int) -> None:
        """
        Whatever the link carries, the datagrams come out whole and in order, in no more envelopes
        than needed.
        """
        payloads = encodeEnvelopes(NAME, datagrams, limit)
        envelopes = [decodeEnvelope(payload) for payload in payloads]
        received = [datagram for envelope in envelopes for datagram in envelope.datagrams]
        self.assertEqual(received, datagrams)
        self.assertTrue(all(each.session == NAME for each in envelopes))
        self.assertTrue(all(len(payload) <= min(limit, MAX_PAYLOAD) for payload in payloads))
        self.assertTrue(all(map(isEnvelope, payloads)))

    @given(st.binary(max_size=300).map(lambda rest: b"\x51" + rest) | st.binary(max_size=40))
    def test_anything(self, payload: bytes) -> None:
        """
        Any bytes are one envelope, which is encoded as the same bytes, or are refused.
        """
        try:
            envelope = decodeEnvelope(payload)
        except MalformedDatagram:
            return
        again = encodeEnvelopes(envelope.session, envelope.datagrams, MAX_PAYLOAD)
        self.assertEqual(again, [payload])

    def test_malformed(self) -> None:
        """
        Another type, no datagram, an empty one, one that is cut or too long, bytes behind the
        last: all are refused.
        """
        head = b"\x51" + NAME
        tooLong = b"\x04\xb1" + bytes(DATAGRAM_LIMIT + 1)
        for payload in (
            b"",
            b"\x51",
            b"\x50" + NAME + b"\x00\x01x",
            head,
            head[:-1],
            head + b"\x00",
            head + b"\x00\x00",
            head + b"\x00\x02x",
            head + b"\x00\x01x\x00",
            head + b"\x00\x01x\x00\x00",
            head + tooLong,
            head + b"\x00\x01x" * (DATAGRAM_COUNT + 1),
        ):
            self.assertRaises(MalformedDatagram, decodeEnvelope, payload)

    def test_bounds(self) -> None:
        """
        The longest datagram, the greatest number of them and the longest payload are the last that
        is taken.
        """
        head = b"\x51" + NAME
        longest = head + b"\x04\xb0" + bytes(DATAGRAM_LIMIT)
        self.assertEqual(decodeEnvelope(longest), Envelope(NAME, (bytes(DATAGRAM_LIMIT),)))
        most = decodeEnvelope(head + b"\x00\x01x" * DATAGRAM_COUNT)
        self.assertEqual(most.datagrams, (b"x",) * 64)
        datagram = b"\x04\x9c" + bytes(1180)
        room = MAX_PAYLOAD - len(head) - 13 * len(datagram)
        full = head + 13 * datagram + (room - 2).to_bytes(2, "big") + bytes(room - 2)
        self.assertEqual(len(decodeEnvelope(full).datagrams), 14)
        over = head + 13 * datagram + (room - 1).to_bytes(2, "big") + bytes(room - 1)
        self.assertRaises(MalformedDatagram, decodeEnvelope, over)

    def test_everyCut(self) -> None:
        """
        An envelope that is cut anywhere is refused, but where a datagram ends.
        """
        (payload,) = encodeEnvelopes(NAME, [b"abc", b"defgh"], MAX_PAYLOAD)
        taken = []
        for length in range(len(payload)):
            try:
                decodeEnvelope(payload[:length])
            except MalformedDatagram:
                continue
            taken.append(length)
        self.assertEqual(taken, [1 + 8 + 2 + 3])


class TypeTests(SynchronousTestCase):
    """
    L{isEnvelope} tells envelopes from all else that peers send over a link.
    """

    def test_firstByte(self) -> None:
        """
        The first byte alone decides.
        """
        for own in (0x51, 0x53):
            self.assertTrue(isEnvelope(bytes((own,))))
        self.assertFalse(isEnvelope(b""))
        for other in set(range(256)) - {0x51, 0x53}:
            self.assertFalse(isEnvelope(bytes((other,)) + bytes(20)))

    def test_signals(self) -> None:
        """
        A signal of hole punching is no envelope.
        """
        self.assertFalse(isEnvelope(encodeSignal(Goodbye(NAME, "bye"))))


class NoticeTests(SynchronousTestCase):
    """
    Notices that a session is not known.
    """

    def test_roundTrip(self) -> None:
        """
        A notice is a byte and the name, and is no envelope.
        """
        notice = encodeUnknown(NAME)
        self.assertEqual(notice, b"\x52" + NAME)
        self.assertEqual(decodeUnknown(notice), NAME)
        self.assertFalse(isEnvelope(notice))

    def test_malformed(self) -> None:
        """
        Anything else is none.
        """
        for payload in (b"", b"\x52", b"\x52" + NAME + b"x", b"\x52" + NAME[1:], b"\x51" + NAME):
            self.assertIsNone(decodeUnknown(payload))
