"""
Tests for L{p2ptwist.core.readable}, and for whoever takes text from others.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from qh3.quic.events import ConnectionTerminated
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.ice.signal import Goodbye as PathGoodbye
from p2ptwist.core.ice.signal import decodeSignal, encodeSignal
from p2ptwist.core.link.client import Ended
from p2ptwist.core.readable import readable, readableBytes
from p2ptwist.core.stun.attributes import encodeErrorCode
from p2ptwist.core.stun.message import AttributeType, MessageClass, Method, decode, encode
from p2ptwist.core.stun.transaction import Answered
from p2ptwist.errors import STUNRefused
from p2ptwist.net.quic import QUIC
from p2ptwist.net.stunclient import readAddress
from p2ptwist.rendezvous.linkreasons import reasonOfEnd

HOSTILE = "no\x1b]0;owned\x07\x1b[2J\r\n\x9b1m\u202e\u2028öß"
HARMLESS = "no�]0;owned��[2J���1m��öß"


class ReadableTests(SynchronousTestCase):
    """
    What a terminal would obey is not there any more.
    """

    def test_hostile(self) -> None:
        """
        Controls, new lines and changes of direction are replaced, one for one; letters stay.
        """
        self.assertEqual(readable(HOSTILE), HARMLESS)
        self.assertEqual(readableBytes(HOSTILE.encode() + b"\xff"), HARMLESS + "�")

    @given(st.text())
    def test_any(self, text: str) -> None:
        """
        Whatever it is, it can be printed, is as long, and stays as it is from then on.
        """
        once = readable(text)
        self.assertTrue(once.isprintable())
        self.assertEqual((len(once), readable(once)), (len(text), once))

    def test_takers(self) -> None:
        """
        Every reason that another program gives comes like that: of paths, links, sessions and STUN
        servers.
        """
        path = decodeSignal(encodeSignal(PathGoodbye(bytes(8), HOSTILE)))
        assert isinstance(path, PathGoodbye)
        self.assertEqual(path.reason, HARMLESS)
        link = reasonOfEnd("tcp:node", Ended("full", HOSTILE, 0, True), False, Failure(OSError()))
        self.assertTrue(str(link).endswith(HARMLESS))
        attributes = [(AttributeType.ERROR_CODE, encodeErrorCode(400, HOSTILE))]
        answer = decode(encode(MessageClass.ERROR, Method.BINDING, bytes(12), attributes))
        server = ("192.0.2.1", 3478)
        with self.assertRaises(STUNRefused) as refusing:
            readAddress(server, Answered(answer, server, None), 1.0)
        self.assertIn(f"({HARMLESS})", str(refusing.exception))
        closed = ConnectionTerminated(error_code=0, frame_type=None, reason_phrase=HOSTILE)
        library: Any = SimpleNamespace(next_event=lambda: closed)
        ended: Any = QUIC(library, called=False).pollEvent()
        self.assertEqual(ended.reason, HARMLESS)
