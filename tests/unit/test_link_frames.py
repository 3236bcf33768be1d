"""
Tests for the wire codec of the link: L{p2ptwist.core.link.frames} and
L{p2ptwist.core.link.messages}.
"""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.errors import LocalUsageError, MalformedFrame
from p2ptwist.core.link.frames import (
    FRAME_LIMIT,
    HANDSHAKE_FRAME_LIMIT,
    MAX_PAYLOAD,
    FrameDecoder,
    FrameType,
    checkEmpty,
    decodeHot,
    decodeKey,
    encodeFrame,
    encodeHot,
)
from p2ptwist.core.link.messages import (
    MAX_HOST_LENGTH,
    MAX_NAME_LENGTH,
    MAX_STUN_SERVERS,
    MAX_TEXT_LENGTH,
    UNKNOWN_ADDRESS,
    Goodbye,
    Hello,
    Prove,
    Welcome,
)
from p2ptwist.core.link.reasons import Reason, reasonWord

KEY = bytes(range(32))
CHALLENGE = bytes(range(100, 132))


def takeAll(decoder: FrameDecoder) -> list[bytes]:
    """
    @return: every whole frame that C{decoder} has.
    """
    frames = []
    while (frame := decoder.take()) is not None:
        frames.append(frame)
    return frames


def outcome(pieces: list[bytes]) -> tuple[list[bytes], bool]:
    """
    @return: the frames in a stream that comes in C{pieces}, and whether it turned out malformed.
    """
    decoder = FrameDecoder(64)
    frames: list[bytes] = []
    try:
        for piece in pieces:
            decoder.feed(piece)
            while (frame := decoder.take()) is not None:
                frames.append(frame)
    except MalformedFrame:
        return frames, True
    return frames, False


class FrameTests(SynchronousTestCase):
    """
    Frames, as bytes.
    """

    def test_layout(self) -> None:
        """
        Two bytes of length, one of type, the body.
        """
        self.assertEqual(encodeFrame(FrameType.PING), b"\x00\x01\x05")
        self.assertEqual(encodeFrame(FrameType.GOODBYE, b"ab"), b"\x00\x03\x04ab")
        self.assertEqual(encodeHot(FrameType.SEND, KEY, b"hi"), b"\x00\x23\x10" + KEY + b"hi")

    def test_hotRoundTrip(self) -> None:
        """
        What was put into a hot frame comes out of it.
        """
        frame = encodeHot(FrameType.RECEIVE, KEY, b"payload")[2:]
        self.assertEqual(decodeHot(frame), (KEY, b"payload"))
        self.assertEqual(decodeKey(encodeHot(FrameType.UNREACHABLE, KEY)[2:]), KEY)

    def test_hotMalformed(self) -> None:
        """
        A body too short for a key, or longer where there is only a key, is refused.
        """
        self.assertRaises(MalformedFrame, decodeHot, b"\x10" + KEY[1:])
        self.assertRaises(MalformedFrame, decodeKey, b"\x12" + KEY[1:])
        self.assertRaises(MalformedFrame, decodeKey, b"\x12" + KEY + b"\x00")
        self.assertRaises(MalformedFrame, checkEmpty, b"\x05\x00")

    def test_misuse(self) -> None:
        """
        A program that sends what no frame carries is told at once.
        """
        self.assertRaises(LocalUsageError, encodeHot, FrameType.SEND, KEY[1:], b"")
        self.assertRaises(LocalUsageError, encodeFrame, FrameType.SEND, bytes(FRAME_LIMIT))
        largest = encodeHot(FrameType.SEND, KEY, bytes(MAX_PAYLOAD))
        self.assertEqual(len(largest), 2 + FRAME_LIMIT)
        error = self.assertRaises(
            LocalUsageError, encodeHot, FrameType.SEND, KEY, bytes(MAX_PAYLOAD + 1)
        )
        self.assertIn("at most 16351 bytes", str(error))


class DecoderTests(SynchronousTestCase):
    """
    L{FrameDecoder} finds the frames of a stream, however it is cut.
    """

    def test_severalAtOnce(self) -> None:
        """
        One feed may hold many frames.
        """
        decoder = FrameDecoder()
        decoder.feed(b"\x00\x01a\x00\x02bc\x00")
        self.assertEqual(takeAll(decoder), [b"a", b"bc"])
        self.assertEqual(len(decoder), 1)
        decoder.feed(b"\x01d")
        self.assertEqual(takeAll(decoder), [b"d"])
        self.assertEqual(len(decoder), 0)

    def test_bounds(self) -> None:
        """
        A length of 0 or over the limit is refused before the frame has come.
        """
        for data in (b"\x00\x00", b"\x08\x01"):
            decoder = FrameDecoder()
            decoder.feed(data)
            self.assertRaises(MalformedFrame, decoder.take)
        decoder = FrameDecoder(HANDSHAKE_FRAME_LIMIT)
        decoder.feed(b"\x08\x00")
        self.assertIsNone(decoder.take())

    def test_limitRaised(self) -> None:
        """
        The limit may be raised between two frames of one feed.
        """
        decoder = FrameDecoder(1)
        decoder.feed(b"\x00\x01a\x00\x02bc")
        self.assertEqual(decoder.take(), b"a")
        decoder.limit = 2
        self.assertEqual(decoder.take(), b"bc")

    def test_clear(self) -> None:
        """
        A cleared decoder has nothing left.
        """
        decoder = FrameDecoder()
        decoder.feed(b"\x00\x01a\x00")
        decoder.clear()
        self.assertEqual(len(decoder), 0)
        self.assertIsNone(decoder.take())

    @given(st.lists(st.binary(min_size=1, max_size=64), max_size=8), st.data())
    def test_anyCut(self, bodies: list[bytes], data: st.DataObject) -> None:
        """
        The same frames come out of a stream, whole, cut anywhere, or byte by byte.
        """
        stream = b"".join(len(body).to_bytes(2, "big") + body for body in bodies)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
        edges = [0, *cuts, len(stream)]
        cut = [stream[a:b] for a, b in pairwise(edges)]
        bytewise = [stream[n : n + 1] for n in range(len(stream))]
        for pieces in ([stream], cut, bytewise):
            self.assertEqual(outcome(pieces), (bodies, False))

    @given(st.binary(max_size=400))
    def test_anything(self, stream: bytes) -> None:
        """
        Any bytes give frames or L{MalformedFrame}, and the same whether whole or byte by byte.
        """
        bytewise = [stream[n : n + 1] for n in range(len(stream))]
        self.assertEqual(outcome([stream]), outcome(bytewise))

    def test_nothingKept(self) -> None:
        """
        The first byte of a frame does not keep alive all that it came with.
        """
        decoder = FrameDecoder()
        decoder.feed(b"\x00\x01a" * 20_000 + b"\x00")
        self.assertEqual(len(takeAll(decoder)), 20_000)
        self.assertEqual(bytes(decoder._buffer), b"\x00")
        decoder.feed(b"\x02b")
        self.assertEqual(takeAll(decoder), [])
        self.assertEqual(bytes(decoder._buffer), b"\x00\x02b")

    def test_copies(self) -> None:
        """
        A frame that comes byte by byte costs bytes copied in proportion to its length: the buffer
        is one and the same, and grows at its end.
        """
        decoder = FrameDecoder(FRAME_LIMIT)
        stream = encodeFrame(FrameType.SEND, bytes(FRAME_LIMIT - 1))
        decoder.feed(stream[:1])
        decoder.feed(stream[1:2])
        buffer = decoder._buffer
        for number in range(2, len(stream)):
            decoder.feed(stream[number : number + 1])
            self.assertIs(decoder._buffer, buffer)
        self.assertEqual(takeAll(decoder), [stream[2:]])


class MessageTests(SynchronousTestCase):
    """
    Small messages say what they are made of, and nothing else.
    """

    def test_hello(self) -> None:
        """
        A hello's bytes, both ways.
        """
        hello = Hello(CHALLENGE, "node")
        frame = hello.encode()
        self.assertEqual(frame, b"\x00\x28\x01\x01\x01" + CHALLENGE + b"\x04node")
        self.assertEqual(Hello.decode(frame[3:]), hello)

    def test_prove(self) -> None:
        """
        A prove's bytes, both ways, with and without I{take over}.
        """
        prove = Prove(KEY, b"instance", True, bytes(64))
        frame = prove.encode()
        self.assertEqual(frame, b"\x00\x6b\x02\x01\x01instance" + KEY + bytes(64))
        self.assertEqual(Prove.decode(frame[3:]), prove)
        polite = Prove(KEY, b"instance", False, bytes(64))
        self.assertEqual(Prove.decode(polite.encode()[3:]), polite)

    def test_signedText(self) -> None:
        """
        The signature covers everything that either side said before it.
        """
        self.assertEqual(
            Prove(KEY, b"instance").signedText(Hello(CHALLENGE, "node")),
            b"p2ptwist link prove v1\x00\x01\x01instance" + KEY + CHALLENGE + b"\x04node",
        )

    def test_welcome(self) -> None:
        """
        A welcome's bytes, both ways.
        """
        welcome = Welcome(("192.0.2.1", 1025), 90, 16351, (("", 3478), ("stun.example", 1)))
        frame = welcome.encode()
        self.assertEqual(
            frame[2:],
            b"\x03\x04\xc0\x00\x02\x01\x04\x01\x00\x5a\x3f\xdf\x02\x00\x0d\x96\x0cstun.example\x00\x01",
        )
        self.assertEqual(Welcome.decode(frame[3:]), welcome)

    def test_addresses(self) -> None:
        """
        IPv4, IPv6 and no address survive the way; a mapped address becomes IPv4.
        """
        for address in (("2001:db8::1", 8470), ("192.0.2.1", 0), UNKNOWN_ADDRESS):
            welcome = Welcome(address, 1, 0)
            self.assertEqual(Welcome.decode(welcome.encode()[3:]), welcome)
        mapped = b"\x06" + bytes(10) + b"\xff\xff\xc0\x00\x02\x01" + b"\x00\x07\x00\x01\x00\x00\x00"
        self.assertEqual(Welcome.decode(mapped).observedAddress, ("192.0.2.1", 7))

    def test_goodbye(self) -> None:
        """
        A goodbye's bytes, both ways; a reason from the future has a name of its own.
        """
        goodbye = Goodbye(Reason.DRAINING, "bye", 10)
        self.assertEqual(goodbye.encode(), b"\x00\x08\x04\x05\x00\x0a\x03bye")
        self.assertEqual(Goodbye.decode(goodbye.encode()[3:]), goodbye)
        self.assertEqual(Goodbye.decode(b"\x4d\x00\x00\x00").reason, 77)
        self.assertEqual(reasonWord(77), "unknown-77")
        self.assertEqual(reasonWord(2), "bad-signature")

    def test_reasons(self) -> None:
        """
        Every reason has a text that fits into a goodbye.
        """
        for reason in Reason:
            self.assertEqual(
                Goodbye.decode(Goodbye(reason, reason.text).encode()[3:]).reason, reason
            )

    def test_malformed(self) -> None:
        """
        Each of these breaks one rule.
        """
        hello = Hello(CHALLENGE, "node").encode()[3:]
        prove = Prove(KEY, b"instance").encode()[3:]
        welcome = Welcome(("192.0.2.1", 1), 90, 9, (("", 3478),)).encode()[3:]
        goodbye = Goodbye(1, "x").encode()[3:]
        for decode, body in (
            (Hello.decode, hello[:-1]),
            (Hello.decode, hello + b"\x00"),
            (Hello.decode, hello[:34] + b"\x00"),
            (Hello.decode, hello[:34] + b"\x01\xff"),
            (Hello.decode, hello[:34] + b"\x41" + b"n" * 65),
            (Prove.decode, prove[:1] + b"\x02" + prove[2:]),
            (Prove.decode, prove[:-1]),
            (Welcome.decode, b"\x05" + welcome[1:]),
            (Welcome.decode, welcome[:7] + b"\x00\x00" + welcome[9:]),
            (Welcome.decode, welcome[:-2] + b"\x00\x00"),
            (Welcome.decode, welcome[:11] + b"\x05" + b"\x00\x00\x01" * 5),
            (Welcome.decode, welcome[:12] + b"\x01\xe9\x00\x01"),
            (Goodbye.decode, goodbye + b"x"),
            (Goodbye.decode, b"\x01\x00\x00\xc9" + b"x" * 201),
        ):
            self.assertRaises(MalformedFrame, decode, body)

    def test_misuse(self) -> None:
        """
        What does not fit is refused where it is made.
        """
        for message in (
            Hello(CHALLENGE, "n" * (MAX_NAME_LENGTH + 1)),
            Goodbye(1, "x" * (MAX_TEXT_LENGTH + 1)),
            Welcome(UNKNOWN_ADDRESS, 1, 1, (("", 1),) * (MAX_STUN_SERVERS + 1)),
            Welcome(UNKNOWN_ADDRESS, 1, 1, (("", 0),)),
            Welcome(UNKNOWN_ADDRESS, 1, 1, (("st\u00fcn", 1),)),
            Welcome(("not an address", 1), 1, 1),
        ):
            self.assertRaises(LocalUsageError, message.encode)

    def test_largestWelcome(self) -> None:
        """
        The largest welcome fits into a handshake frame.
        """
        servers = (("h" * MAX_HOST_LENGTH, 65535),) * MAX_STUN_SERVERS
        frame = Welcome(("2001:db8::1", 1), 65535, 65535, servers).encode()
        self.assertEqual(len(frame) - 2, 1 + 19 + 4 + 1 + 4 * 256)
        self.assertLess(len(frame), HANDSHAKE_FRAME_LIMIT)

    @given(st.sampled_from([Hello, Prove, Welcome, Goodbye]), st.binary(max_size=300))
    def test_anything(self, kind: type[Hello | Prove | Welcome | Goodbye], body: bytes) -> None:
        """
        Any body is refused with L{MalformedFrame}, or means exactly what it says: encoding gives
        it back (an IPv4-mapped address excepted, which has a shorter form).
        """
        self.checkMeaning(kind, body)

    @given(st.integers(0, 10_000), st.integers(1, 255))
    def test_mutated(self, position: int, flip: int) -> None:
        """
        A message with one byte changed is refused or still means what it says.
        """
        for message in (
            Hello(CHALLENGE, "node"),
            Prove(KEY, b"instance"),
            Welcome(("192.0.2.1", 1), 90, 9, (("", 3478), ("stun.example", 1))),
            Goodbye(Reason.FULL, "no room", 3),
        ):
            body = bytearray(message.encode()[3:])
            body[position % len(body)] ^= flip
            self.checkMeaning(type(message), bytes(body))

    def checkMeaning(self, kind: type[Hello | Prove | Welcome | Goodbye], body: bytes) -> None:
        """
        Check that C{body} is refused, or that encoding what it means gives it back.
        """
        try:
            message = kind.decode(body)
        except MalformedFrame:
            return
        again = message.encode()[3:]
        if again != body:
            self.assertEqual(kind.decode(again), message)
            self.assertEqual(body[:13], b"\x06" + bytes(10) + b"\xff\xff")
