"""
L{p2ptwist.core.tcppath.framing} and L{p2ptwist.core.tcppath.signal}: the bytes of C{docs/tcp.md}.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.errors import LocalUsageError, MalformedDatagram, MalformedFrame
from p2ptwist.core.ice.candidate import CandidateType
from p2ptwist.core.ice.check import Credentials
from p2ptwist.core.tcppath.framing import FRAME_LIMIT, FrameDecoder, encodeFrames
from p2ptwist.core.tcppath.signal import (
    CANDIDATE_LIMIT,
    SIGNAL_LIMIT,
    Answer,
    Goodbye,
    Offer,
    Start,
    TCPCandidate,
    TCPSignal,
    decodeSignal,
    encodeSignal,
    isTCPSignal,
)

SESSION = b"session8"
CREDENTIALS = Credentials(b"fragment", b"a password of RFC 8445".replace(b" ", b"+"))
HOST = TCPCandidate(CandidateType.HOST, ("192.168.1.2", 40000))
REFLEXIVE = TCPCandidate(CandidateType.SERVER_REFLEXIVE, ("2001:db8::7", 61234))
HEAD = b"\x02%c" + SESSION


class FramingTests(SynchronousTestCase):
    """
    Datagrams behind their lengths.
    """

    def test_wire(self) -> None:
        """
        A frame is two bytes of length and the datagram.
        """
        self.assertEqual(encodeFrames([b"ab", b"c"]), b"\x00\x02ab\x00\x01c")

    def test_bounds(self) -> None:
        """
        Nothing that is empty, or longer than 1,500 bytes, is sent.
        """
        for data in (b"", bytes(FRAME_LIMIT + 1)):
            self.assertRaises(LocalUsageError, encodeFrames, [data])

    @given(st.lists(st.binary(min_size=1, max_size=FRAME_LIMIT), max_size=8), st.data())
    def test_anyPieces(self, datagrams: list[bytes], data: st.DataObject) -> None:
        """
        Datagrams come out as they went in, whatever pieces the stream comes in.
        """
        stream, decoder, found = encodeFrames(datagrams), FrameDecoder(), []
        while stream:
            cut = data.draw(st.integers(1, len(stream)))
            found += decoder.receive(stream[:cut])
            stream = stream[cut:]
            self.assertLessEqual(len(decoder), FRAME_LIMIT + 1)
        self.assertEqual(found, datagrams)
        self.assertEqual(len(decoder), 0)

    def test_emptyFrame(self) -> None:
        """
        A frame of no bytes is ignored.
        """
        self.assertEqual(FrameDecoder().receive(b"\0\0\0\x01a"), [b"a"])

    def test_tooLong(self) -> None:
        """
        A length above the limit is refused before its bytes come, and nothing is taken after it.
        """
        decoder = FrameDecoder()
        self.assertRaises(MalformedFrame, decoder.receive, b"\x05\xdd")
        self.assertEqual(decoder.receive(b"\0\x01a"), [])
        self.assertEqual(len(decoder), 0)


class SignalTests(SynchronousTestCase):
    """
    Signals.
    """

    def test_wire(self) -> None:
        """
        Each kind of signal has the bytes of the wire document, and is read back.
        """
        credentials = b"\x08fragment\x16a+password+of+RFC+8445"
        host = b"\x01\x04\x9c\x40\xc0\xa8\x01\x02"
        reflexive = b"\x02\x06\xef\x32" + bytes.fromhex("20010db8" + 11 * "00" + "07")
        expected: list[tuple[TCPSignal, bytes]] = [
            (Offer(SESSION, CREDENTIALS), HEAD % 1 + credentials),
            (
                Answer(SESSION, 0.25, CREDENTIALS, (HOST, REFLEXIVE)),
                HEAD % 2 + b"\x00\xfa" + credentials + b"\x02" + host + reflexive,
            ),
            (Start(SESSION, (HOST,)), HEAD % 3 + b"\x01" + host),
            (Goodbye(SESSION, "enough"), HEAD % 4 + b"enough"),
        ]
        for signal, data in expected:
            self.assertEqual(encodeSignal(signal), data)
            self.assertEqual(decodeSignal(data), signal)
            self.assertTrue(isTCPSignal(data))

    def test_otherSignals(self) -> None:
        """
        Signals of UDP are not taken for these.
        """
        self.assertFalse(isTCPSignal(b"\x01" + HEAD % 1))
        self.assertFalse(isTCPSignal(b""))

    def test_bounds(self) -> None:
        """
        What is sent keeps the bounds, whatever it is made of; the longest fits.
        """
        many = tuple(
            TCPCandidate(CandidateType.HOST, ("2001:db8::1", port)) for port in range(1, 20)
        )
        longest = Credentials(b"f" * 32, b"p" * 64)
        data = encodeSignal(Answer(SESSION, 99.0, longest, many))
        self.assertLessEqual(len(data), SIGNAL_LIMIT)
        answer = decodeSignal(data)
        assert isinstance(answer, Answer)
        self.assertEqual(answer.held, 10.0)
        self.assertEqual(len(answer.candidates), CANDIDATE_LIMIT)
        goodbye = decodeSignal(encodeSignal(Goodbye(SESSION, "é" * 200)))
        self.assertEqual(goodbye, Goodbye(SESSION, "é" * 100))

    def test_unprintable(self) -> None:
        """
        A reason is safe to print.
        """
        goodbye = decodeSignal(HEAD % 4 + b"\x1b[2J\xff")
        self.assertEqual(goodbye, Goodbye(SESSION, "\ufffd[2J\ufffd"))

    def test_malformed(self) -> None:
        """
        What no program of this version sends is refused.
        """
        offer = encodeSignal(Offer(SESSION, CREDENTIALS))
        start = encodeSignal(Start(SESSION, (HOST,)))
        for data in (
            b"",
            b"\x01" + offer[1:],
            HEAD % 5,
            offer + b"x",
            offer[:-1],
            offer.replace(b"fragment", b"frag:ent"),
            HEAD % 1 + b"\x03abc\x16" + b"p" * 22,
            HEAD % 1 + b"\x04abcd\x15" + b"p" * 21,
            HEAD % 2 + b"\xff\xff" + offer[10:] + b"\x00",
            HEAD % 3 + b"\x09" + start[11:] * 9,
            HEAD % 3 + b"\x01\x03" + start[12:],
            HEAD % 3 + b"\x01\x01\x05" + start[13:],
            HEAD % 3 + b"\x01\x01\x04\x00\x00" + start[15:],
            HEAD % 4 + b"r" * 201,
            HEAD % 4 + b"r" * SIGNAL_LIMIT,
        ):
            self.assertRaises(MalformedDatagram, decodeSignal, data)

    @given(st.binary(max_size=64), st.integers(0, 5))
    def test_anything(self, body: bytes, kind: int) -> None:
        """
        Whatever comes is read or refused, and what is read can be written again.
        """
        try:
            signal = decodeSignal(HEAD % kind + body)
        except MalformedDatagram:
            return
        self.assertEqual(decodeSignal(encodeSignal(signal)), signal)
