"""
Tests for L{p2ptwist.core.peerid}.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.errors import LocalUsageError
from p2ptwist.core.peerid import PEER_ID_LENGTH, PUBLIC_KEY_LENGTH, decodePeerID, encodePeerID

KEY = bytes(range(32))
PEER_ID = "aaaqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dypq"


class PeerIDTests(SynchronousTestCase):
    """
    L{encodePeerID} and L{decodePeerID} are each other's inverse and take nothing else.
    """

    def test_vector(self) -> None:
        """
        The text is RFC 4648 base32 in lower case without padding.
        """
        self.assertEqual(encodePeerID(KEY), PEER_ID)
        self.assertEqual(decodePeerID(PEER_ID), KEY)

    @given(st.binary(min_size=PUBLIC_KEY_LENGTH, max_size=PUBLIC_KEY_LENGTH))
    def test_roundTrip(self, key: bytes) -> None:
        """
        Every key comes back from its peer ID, which has 52 characters.
        """
        peerID = encodePeerID(key)
        self.assertEqual(len(peerID), PEER_ID_LENGTH)
        self.assertEqual(decodePeerID(peerID), key)

    def test_wrongKeyLength(self) -> None:
        """
        A key of any other length is the caller's mistake.
        """
        for key in (b"", KEY[:-1], KEY + b"\0"):
            error = self.assertRaises(LocalUsageError, encodePeerID, key)
            self.assertEqual(str(error), f"a public key has 32 bytes, not {len(key)}")

    def test_notPeerID(self) -> None:
        """
        Upper case, padding, spaces, foreign letters and wrong lengths are refused by name.
        """
        wrong = (
            "",
            PEER_ID.upper(),
            PEER_ID + "====",
            PEER_ID + " ",
            PEER_ID[:-1],
            PEER_ID + "a",
            "0" + PEER_ID[1:],
            "é" + PEER_ID[1:],
        )
        for text in wrong:
            error = self.assertRaises(LocalUsageError, decodePeerID, text)
            self.assertIn(repr(text), str(error))

    def test_spareBits(self) -> None:
        """
        The last character carries one bit of the key: the four spare bits must be zero, so that a
        key has one peer ID only.
        """
        self.assertRaises(LocalUsageError, decodePeerID, PEER_ID[:-1] + "r")

    @given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz234567=", min_size=50, max_size=56))
    def test_anyText(self, text: str) -> None:
        """
        Whatever is accepted is the very text that its key is written as.
        """
        try:
            key = decodePeerID(text)
        except LocalUsageError:
            return
        self.assertEqual(encodePeerID(key), text)
