"""
Tests for L{p2ptwist.core.stun.framing}.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.errors import MalformedDatagram
from p2ptwist.core.stun.attributes import decodeResponsePort, encodeResponsePort
from p2ptwist.core.stun.binding import bindingRequest
from p2ptwist.core.stun.framing import MessageSplitter
from p2ptwist.core.stun.message import MAX_MESSAGE_LENGTH

messages = st.lists(
    st.builds(bindingRequest, st.binary(min_size=12, max_size=12), st.sampled_from((0, 2, 6))),
    max_size=5,
)


class MessageSplitterTests(SynchronousTestCase):
    """
    Messages in a byte stream.
    """

    @given(messages, st.data())
    def test_everyCut(self, sent: list[bytes], data: st.DataObject) -> None:
        """
        However the stream is cut, the messages come out whole and in order.
        """
        stream, splitter, got = b"".join(sent), MessageSplitter(), []
        while stream:
            size = data.draw(st.integers(1, len(stream)))
            got += splitter.feed(stream[:size])
            stream = stream[size:]
        self.assertEqual(got, sent)

    def test_refused(self) -> None:
        """
        What is no STUN, or too long, ends the stream with the header.
        """
        header = bindingRequest(bytes(12))
        for wrong in (
            b"GET / HTTP/1.1\r\n\r\n\r\n",
            b"\x04" + header[1:],
            header[:4] + b"abcd" + header[8:],
            header[:2] + b"\0\1" + header[4:],
            header[:2] + (MAX_MESSAGE_LENGTH - 16).to_bytes(2, "big") + header[4:],
        ):
            self.assertRaises(MalformedDatagram, MessageSplitter().feed, wrong)

    def test_longest(self) -> None:
        """
        A message may have as many bytes as over UDP.
        """
        header = bindingRequest(bytes(12))
        body = (MAX_MESSAGE_LENGTH - 20) // 4 * 4
        message = header[:2] + body.to_bytes(2, "big") + header[4:] + bytes(body)
        self.assertEqual(MessageSplitter().feed(message), [message])


class ResponsePortTests(SynchronousTestCase):
    """
    RESPONSE-PORT.
    """

    @given(st.integers(1024, 65535))
    def test_roundTrip(self, port: int) -> None:
        """
        What is written is read.
        """
        self.assertEqual(decodeResponsePort(encodeResponsePort(port)), port)

    def test_refused(self) -> None:
        """
        The ports of services, and what is no port, are refused.
        """
        for value in (b"", b"\x0f\xa0", b"\0\x35\0\0", b"\3\xff\0\0"):
            self.assertRaises(MalformedDatagram, decodeResponsePort, value)
