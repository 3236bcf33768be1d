"""
Tests for L{p2ptwist.core.session.control}.
"""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.errors import LocalUsageError, MalformedFrame, P2PError
from p2ptwist.core.ice.signal import SIGNAL_LIMIT as LONGEST_SIGNAL
from p2ptwist.core.session.control import (
    CONTROL_LIMIT,
    SIGNAL_LIMIT,
    Admitted,
    Challenge,
    CloseCode,
    ControlDecoder,
    ControlMessage,
    Grant,
    Proof,
    SignalMessage,
    closeWord,
    encodeControl,
)
from p2ptwist.core.session.errors import SessionViolation

VALUE = bytes(range(32))
KEY = bytes(range(32, 64))
SIGNATURE = bytes(range(64, 128))
NUMBER = st.integers(0, 2**64 - 1)

MESSAGES: list[ControlMessage] = [
    Challenge(VALUE),
    Proof(KEY, SIGNATURE),
    Admitted(),
    SignalMessage(b"\x01signal"),
    Grant(4, 65_536),
]

messages: st.SearchStrategy[ControlMessage] = st.one_of(
    st.builds(Challenge, st.binary(min_size=32, max_size=32)),
    st.builds(Proof, st.binary(min_size=32, max_size=32), st.binary(min_size=64, max_size=64)),
    st.just(Admitted()),
    st.builds(SignalMessage, st.binary(min_size=1, max_size=SIGNAL_LIMIT)),
    st.builds(Grant, NUMBER, NUMBER),
)


def outcome(pieces: list[bytes]) -> tuple[list[ControlMessage], bool]:
    """
    @return: the messages in a stream that comes in C{pieces}, and whether it turned out malformed.
    """
    decoder = ControlDecoder()
    taken: list[ControlMessage] = []
    try:
        for piece in pieces:
            taken += decoder.receive(piece)
    except MalformedFrame:
        return taken, True
    return taken, False


class EncodeTests(SynchronousTestCase):
    """
    L{encodeControl}, as bytes.
    """

    def test_layout(self) -> None:
        """
        Two bytes of length, one of type, the body.
        """
        self.assertEqual(
            [encodeControl(message) for message in MESSAGES],
            [
                b"\x00\x21\x01" + VALUE,
                b"\x00\x61\x02" + KEY + SIGNATURE,
                b"\x00\x01\x03",
                b"\x00\x08\x10\x01signal",
                b"\x00\x11\x11" + bytes(7) + b"\x04" + bytes(5) + b"\x01\x00\x00",
            ],
        )

    def test_misuse(self) -> None:
        """
        Parts that do not have their length are refused at once.
        """
        wrong: list[ControlMessage] = [
            Challenge(VALUE[1:]),
            Proof(KEY + b"\x00", SIGNATURE),
            Proof(KEY, SIGNATURE[1:]),
            SignalMessage(b""),
            SignalMessage(bytes(SIGNAL_LIMIT + 1)),
            Grant(-1, 0),
            Grant(0, -1),
            Grant(2**64, 0),
            Grant(0, 2**64),
        ]
        for message in wrong:
            self.assertRaises(LocalUsageError, encodeControl, message)

    def test_longest(self) -> None:
        """
        A message has at most 2,048 bytes behind its length, and every signal fits.
        """
        longest = encodeControl(SignalMessage(bytes(SIGNAL_LIMIT)))
        self.assertEqual(len(longest), 2 + CONTROL_LIMIT)
        self.assertLessEqual(LONGEST_SIGNAL, SIGNAL_LIMIT)


class DecoderTests(SynchronousTestCase):
    """
    L{ControlDecoder} finds the messages of a stream, however it is cut.
    """

    @given(st.lists(messages, max_size=6), st.lists(st.integers(0, 12_000), max_size=8))
    def test_roundTrip(self, sent: list[ControlMessage], cuts: list[int]) -> None:
        """
        What was encoded comes out, whatever pieces it comes in.
        """
        stream = b"".join(map(encodeControl, sent))
        edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
        self.assertEqual(outcome([stream[a:b] for a, b in pairwise(edges)]), (sent, False))

    def test_byteByByte(self) -> None:
        """
        Each message comes out with its last byte, and never more than one is kept.
        """
        decoder = ControlDecoder()
        for message in MESSAGES:
            encoded = encodeControl(message)
            for index, byte in enumerate(encoded[:-1]):
                self.assertEqual(decoder.receive(bytes((byte,))), [])
                self.assertEqual(len(decoder), index + 1)
            self.assertEqual(decoder.receive(encoded[-1:]), [message])
            self.assertEqual(len(decoder), 0)

    def test_most(self) -> None:
        """
        What waits is at most the longest message but its last byte.
        """
        decoder = ControlDecoder()
        longest = encodeControl(SignalMessage(bytes(SIGNAL_LIMIT)))
        self.assertEqual(len(decoder.receive(longest * 40 + longest[:-1])), 40)
        self.assertEqual(len(decoder), 2049)

    def test_malformed(self) -> None:
        """
        Lengths out of bounds, unknown types, and bodies that are too short or too long are refused;
        a length before the message has come.
        """
        for stream in (
            b"\x00\x00",
            b"\x08\x01",
            b"\x00\x01\x00",
            b"\x00\x01\x04",
            b"\x00\x01\xff",
            b"\x00\x20\x01" + VALUE[1:],
            b"\x00\x22\x01" + VALUE + b"\x00",
            b"\x00\x60\x02" + KEY + SIGNATURE[1:],
            b"\x00\x62\x02" + KEY + SIGNATURE + b"\x00",
            b"\x00\x02\x03\x00",
            b"\x00\x01\x10",
            b"\x00\x10\x11" + bytes(15),
            b"\x00\x12\x11" + bytes(17),
        ):
            self.assertRaises(MalformedFrame, ControlDecoder().receive, stream)

    def test_afterError(self) -> None:
        """
        After an error nothing more is taken or kept, be it well formed.
        """
        decoder = ControlDecoder()
        self.assertRaises(MalformedFrame, decoder.receive, b"\x00\x00" + bytes(500))
        self.assertEqual(decoder.receive(encodeControl(Admitted())), [])
        self.assertEqual(len(decoder), 0)

    @given(st.binary(max_size=200))
    def test_anything(self, stream: bytes) -> None:
        """
        Any bytes are messages, which are encoded as the same bytes, or are refused; in one piece
        or byte by byte makes no difference to which.
        """
        taken, failed = outcome([stream])
        oneByOne = [stream[index : index + 1] for index in range(len(stream))]
        byteByByte, alsoFailed = outcome(oneByOne)
        self.assertEqual(failed, alsoFailed)
        if not failed:
            self.assertEqual(taken, byteByByte)
            self.assertTrue(stream.startswith(b"".join(map(encodeControl, taken))))


class CloseCodeTests(SynchronousTestCase):
    """
    Codes on the wire, and their words.
    """

    def test_words(self) -> None:
        """
        The numbers and words are those of the wire document.
        """
        self.assertEqual(
            [(code.value, code.word) for code in CloseCode],
            [
                (0, "closed"),
                (1, "not-admitted"),
                (2, "impostor"),
                (3, "protocol"),
                (4, "replaced"),
                (5, "overflow"),
            ],
        )

    def test_texts(self) -> None:
        """
        Each has a sentence of its own.
        """
        self.assertEqual(len({code.text for code in CloseCode}), len(CloseCode))

    def test_any(self) -> None:
        """
        A code that came from the other side has a word, known or not.
        """
        self.assertEqual(closeWord(4), "replaced")
        self.assertEqual(closeWord(77), "unknown-77")

    def test_violation(self) -> None:
        """
        A violation says code and reason, and is an error of the project.
        """
        violation = SessionViolation(CloseCode.OVERFLOW, "3 bytes too many")
        self.assertEqual((violation.code, violation.reason), (5, "3 bytes too many"))
        self.assertEqual(str(violation), "overflow: 3 bytes too many")
        self.assertIsInstance(violation, P2PError)
