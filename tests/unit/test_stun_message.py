"""
Tests for L{p2ptwist.core.stun.message}.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from zlib import crc32

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.errors import LocalUsageError, MalformedDatagram
from p2ptwist.core.stun.message import (
    MAX_ATTRIBUTES,
    MAX_MESSAGE_LENGTH,
    AttributeType,
    Message,
    MessageClass,
    Method,
    anySTUN,
    decode,
    encode,
    encodeAttribute,
    isSTUN,
    longTermKey,
)
from tests.unit.stunvectors import (
    IPV4_RESPONSE,
    LONG_TERM_REQUEST,
    PREPARED_PASSWORD,
    REALM,
    REQUEST,
    SHA256_REQUEST,
    USERNAME,
    VECTORS,
)

KEY = b"secret"
ID = bytes(range(12))
SOFTWARE = int(AttributeType.SOFTWARE)
INTEGRITY = int(AttributeType.MESSAGE_INTEGRITY)
SHA256 = int(AttributeType.MESSAGE_INTEGRITY_SHA256)
FINGERPRINT = int(AttributeType.FINGERPRINT)


def flips(datagram: bytes) -> Iterator[bytes]:
    """
    @return: the datagram with each of its bits changed in turn.
    """
    for position in range(len(datagram)):
        for bit in range(8):
            changed = bytearray(datagram)
            changed[position] ^= 1 << bit
            yield bytes(changed)


def request(*attributes: tuple[int, bytes], key: bytes | None = None) -> bytes:
    """
    @return: a Binding request.
    """
    return encode(MessageClass.REQUEST, Method.BINDING, ID, attributes, key=key)


def extend(datagram: bytes, attributeType: int, value: bytes) -> bytes:
    """
    @return: the message with one more attribute at its end.
    """
    body = datagram[20:] + encodeAttribute(attributeType, value)
    return datagram[:2] + len(body).to_bytes(2, "big") + datagram[4:20] + body


class VectorTests(SynchronousTestCase):
    """
    The published vectors, in both directions.
    """

    def test_decode(self) -> None:
        """
        Each vector means what its document says.
        """
        for vector in VECTORS:
            message = decode(vector.datagram)
            self.assertEqual(message.messageClass, vector.messageClass, vector.name)
            self.assertEqual(message.method, Method.BINDING, vector.name)
            self.assertEqual(message.transactionID, vector.transactionID, vector.name)
            self.assertEqual(message.attributes, vector.attributes, vector.name)
            self.assertEqual(message.fingerprinted, vector.fingerprint, vector.name)
            self.assertTrue(message.verify(vector.key), vector.name)

    def test_encode(self) -> None:
        """
        Each vector is reproduced byte for byte.
        """
        for vector in VECTORS:
            datagram = encode(
                vector.messageClass,
                Method.BINDING,
                vector.transactionID,
                vector.attributes,
                key=vector.key,
                sha256=vector.sha256,
                fingerprint=vector.fingerprint,
                padding=vector.padding,
            )
            self.assertEqual(datagram, vector.datagram, vector.name)

    def test_everyFlipRefused(self) -> None:
        """
        No vector survives the change of any one bit.
        """
        for vector in VECTORS:
            for changed in flips(vector.datagram):
                try:
                    message = decode(changed, requireFingerprint=vector.fingerprint)
                except MalformedDatagram:
                    continue
                self.assertFalse(message.verify(vector.key), (vector.name, changed.hex()))

    def test_everyTruncationRefused(self) -> None:
        """
        No vector survives the loss of its end.
        """
        for vector in VECTORS:
            for length in range(len(vector.datagram)):
                self.assertRaises(MalformedDatagram, decode, vector.datagram[:length])

    def test_wrongKey(self) -> None:
        """
        Another key verifies none of them.
        """
        for vector in VECTORS:
            self.assertFalse(decode(vector.datagram).verify(vector.key + b"x"), vector.name)

    def test_longTermKey(self) -> None:
        """
        The key of RFC 5769 section 2.4 is made from the prepared name, realm and password.
        """
        key = longTermKey(USERNAME, REALM, PREPARED_PASSWORD)
        self.assertTrue(decode(LONG_TERM_REQUEST.datagram).verify(key))


class HeaderTests(SynchronousTestCase):
    """
    The first 20 bytes.
    """

    def assertRefused(self, datagram: bytes, words: str) -> None:
        """
        Check that C{datagram} is malformed, and why.
        """
        error = self.assertRaises(MalformedDatagram, decode, datagram)
        self.assertIn(words, str(error))

    def test_classesAndMethods(self) -> None:
        """
        All 4 classes of all 4,096 methods keep their bits apart.
        """
        seen = set()
        for messageClass in MessageClass:
            for method in range(0x1000):
                datagram = encode(messageClass, method, ID)
                message = decode(datagram)
                self.assertEqual((message.messageClass, message.method), (messageClass, method))
                seen.add(datagram)
        self.assertEqual(len(seen), 4 * 0x1000)

    def test_length(self) -> None:
        """
        Too short and too long are refused before anything is read.
        """
        self.assertRefused(b"", "0 bytes")
        self.assertRefused(request()[:19], "19 bytes")
        self.assertRefused(request() + bytes(MAX_MESSAGE_LENGTH), "cannot be a STUN message")

    def test_firstBits(self) -> None:
        """
        The two first bits belong to other protocols.
        """
        for first in (0x40, 0x80, 0xC0):
            self.assertRefused(bytes([first]) + request()[1:], "first two bits")

    def test_cookie(self) -> None:
        """
        Without the magic cookie it is not RFC 8489's STUN.
        """
        self.assertRefused(request()[:4] + bytes(4) + ID, "magic cookie")

    def test_announcedLength(self) -> None:
        """
        The announced length is the length, and a multiple of four.
        """
        self.assertRefused(request() + bytes(4), "announced")
        self.assertRefused(b"\0\1\0\2" + request()[4:] + bytes(2), "announced")

    def test_isSTUN(self) -> None:
        """
        Demultiplexing takes what begins like STUN, and nothing else.
        """
        self.assertTrue(isSTUN(request()))
        self.assertTrue(isSTUN(b"\3" + request()[1:]))
        self.assertFalse(isSTUN(b"\4" + request()[1:]))
        self.assertFalse(isSTUN(request()[:19]))
        self.assertFalse(isSTUN(bytes(20)))

    def test_anySTUN(self) -> None:
        """
        One that begins like STUN is found among others.
        """
        others = [b"data", b"\3", bytes(20)]
        self.assertTrue(anySTUN([*others, request()]))
        self.assertFalse(anySTUN(others))
        self.assertFalse(anySTUN([]))


class AttributeTests(SynchronousTestCase):
    """
    The list of attributes.
    """

    def test_order(self) -> None:
        """
        Attributes keep their order, and duplicates; the first one is got.
        """
        message = decode(request((SOFTWARE, b"a"), (6, b"bc"), (SOFTWARE, b"")))
        self.assertEqual(message.attributes, ((SOFTWARE, b"a"), (6, b"bc"), (SOFTWARE, b"")))
        self.assertEqual(message.get(SOFTWARE), b"a")
        self.assertIsNone(message.get(7))

    def test_paddingIsIgnored(self) -> None:
        """
        What fills a value up to a multiple of four has no meaning.
        """
        datagram = encode(MessageClass.REQUEST, 1, ID, [(6, b"a")], padding=b"\xff")
        self.assertEqual(datagram[-4:], b"a\xff\xff\xff")
        self.assertEqual(decode(datagram).attributes, ((6, b"a"),))

    def test_pastTheEnd(self) -> None:
        """
        A value, or its padding, that does not fit is refused.
        """
        for length in (5, 4, 1, 0xFFFF):
            body = b"\0\6" + length.to_bytes(2, "big")
            datagram = request()[:2] + b"\0\4" + request()[4:] + body
            self.assertRaises(MalformedDatagram, decode, datagram)

    def test_tooMany(self) -> None:
        """
        Attributes are counted.
        """
        most = [(SOFTWARE, b"")] * MAX_ATTRIBUTES
        self.assertEqual(len(decode(request(*most)).attributes), MAX_ATTRIBUTES)
        self.assertRaises(MalformedDatagram, decode, request(*most, (SOFTWARE, b"")))

    def test_unknownRequired(self) -> None:
        """
        Unknown attributes below 0x8000 are told, once each, in order.
        """
        message = decode(request((0x7FFF, b""), (6, b""), (9, b""), (0x7FFF, b""), (0x8000, b"")))
        self.assertEqual(message.unknownRequired(frozenset({6})), (0x7FFF, 9))
        self.assertEqual(message.unknownRequired(frozenset({6, 9, 0x7FFF})), ())


class IntegrityTests(SynchronousTestCase):
    """
    MESSAGE-INTEGRITY, MESSAGE-INTEGRITY-SHA256 and what follows them.
    """

    def test_absent(self) -> None:
        """
        A message without integrity verifies with no key.
        """
        message = decode(request())
        self.assertFalse(message.authenticated)
        self.assertFalse(message.verify(KEY))
        self.assertFalse(message.verify(b""))

    def test_followersIgnored(self) -> None:
        """
        Whatever follows either integrity is left out, and does not disturb it.
        """
        for sha256 in (False, True):
            signed = encode(MessageClass.REQUEST, 1, ID, [(6, b"me")], key=KEY, sha256=sha256)
            longer = extend(extend(signed, 6, b"you"), INTEGRITY, bytes(3))
            message = decode(longer)
            self.assertEqual(message.attributes, ((6, b"me"),))
            self.assertTrue(message.authenticated)
            self.assertTrue(message.verify(KEY))

    def both(self, sha256Key: bytes) -> Message:
        """
        @return: a message with both integrities, as RFC 8489 section 9.1.2 sends them.
        """
        signed = request((6, b"me"), key=KEY)
        prefix = extend(signed, SHA256, bytes(32))[: len(signed)]
        length = len(prefix) + 36 - 20
        announced = prefix[:2] + length.to_bytes(2, "big") + prefix[4:]
        return decode(extend(signed, SHA256, hmac.digest(sha256Key, announced, "sha256")))

    def test_strongerWins(self) -> None:
        """
        With both, SHA-256 decides, so that nobody bids down to SHA-1.
        """
        self.assertTrue(self.both(KEY).verify(KEY))
        self.assertFalse(self.both(b"other").verify(KEY))

    def test_lengths(self) -> None:
        """
        SHA-1 has 20 bytes; SHA-256 16 to 32, a multiple of four.
        """
        for length in (0, 16, 19, 21, 24):
            datagram = extend(request(), INTEGRITY, bytes(length))
            self.assertRaises(MalformedDatagram, decode, datagram)
        for length in (0, 12, 15, 17, 30, 36):
            datagram = extend(request(), SHA256, bytes(length))
            self.assertRaises(MalformedDatagram, decode, datagram)

    def test_truncated(self) -> None:
        """
        A truncated SHA-256 counts only for whoever allows that length.
        """
        for length in (16, 20, 28):
            body = 20 + 4 + length - 20
            text = request()[:2] + body.to_bytes(2, "big") + request()[4:]
            value = hmac.digest(KEY, text, "sha256")[:length]
            message = decode(extend(request(), SHA256, value))
            self.assertFalse(message.verify(KEY))
            self.assertTrue(message.verify(KEY, shortest=16))
            self.assertFalse(message.verify(b"other", shortest=16))

    def test_vectorTruncated(self) -> None:
        """
        Cutting off a part of a right SHA-256 makes it wrong: its length is under it.
        """
        whole = SHA256_REQUEST.datagram
        cut = extend(whole[:-36], SHA256, whole[-32:-16])
        self.assertFalse(decode(cut).verify(SHA256_REQUEST.key, shortest=16))


class FingerprintTests(SynchronousTestCase):
    """
    FINGERPRINT.
    """

    def test_required(self) -> None:
        """
        A receiver that needs it refuses a message without it.
        """
        self.assertTrue(decode(REQUEST.datagram, requireFingerprint=True).fingerprinted)
        self.assertFalse(decode(request()).fingerprinted)
        self.assertRaises(MalformedDatagram, decode, request(), requireFingerprint=True)

    def test_last(self) -> None:
        """
        Nothing follows it.
        """
        datagram = extend(request(), SOFTWARE, b"")
        length = (len(datagram) + 8 - 20 + 4).to_bytes(2, "big")
        announced = datagram[:2] + length + datagram[4:]
        value = (crc32(announced) ^ 0x5354554E).to_bytes(4, "big")
        complete = extend(extend(datagram, FINGERPRINT, value), SOFTWARE, b"")
        error = self.assertRaises(MalformedDatagram, decode, complete)
        self.assertIn("follows FINGERPRINT", str(error))

    def test_length(self) -> None:
        """
        It has 4 bytes.
        """
        error = self.assertRaises(
            MalformedDatagram, decode, extend(request(), FINGERPRINT, bytes(8))
        )
        self.assertIn("4 bytes", str(error))

    def test_withoutIntegrity(self) -> None:
        """
        It needs no integrity before it.
        """
        datagram = encode(MessageClass.INDICATION, 1, ID, fingerprint=True)
        self.assertTrue(decode(datagram, requireFingerprint=True).fingerprinted)


class EncodeTests(SynchronousTestCase):
    """
    What cannot be encoded is a mistake of the caller.
    """

    def test_mistakes(self) -> None:
        """
        Each wrong argument raises at once.
        """
        for method, transactionID, attributes in (
            (1, ID[:11], []),
            (0x1000, ID, []),
            (-1, ID, []),
            (1, ID, [(6, bytes(MAX_MESSAGE_LENGTH + 1))]),
            (1, ID, [(6, bytes(MAX_MESSAGE_LENGTH - 20))]),
        ):
            self.assertRaises(
                LocalUsageError, encode, MessageClass.REQUEST, method, transactionID, attributes
            )

    def test_longest(self) -> None:
        """
        The longest message there is can be read.
        """
        datagram = request((6, bytes(MAX_MESSAGE_LENGTH - 24)))
        self.assertEqual(len(datagram), MAX_MESSAGE_LENGTH)
        self.assertEqual(len(decode(datagram).attributes[0][1]), MAX_MESSAGE_LENGTH - 24)


attributeLists = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 0xFFFF), st.sampled_from([*AttributeType]).map(int)),
        st.binary(max_size=40),
    ),
    max_size=10,
)


class FuzzTests(SynchronousTestCase):
    """
    Whatever comes, it is a message or it is malformed.
    """

    @settings(max_examples=500)
    @given(st.binary(max_size=200))
    @example(IPV4_RESPONSE.datagram)
    def test_anything(self, datagram: bytes) -> None:
        """
        Random bytes, with and without the look of a header.
        """
        length = max(0, len(datagram) - 20).to_bytes(2, "big")
        dressed = datagram[:2] + length + request()[4:8] + datagram[8:]
        for each in (datagram, dressed):
            try:
                message = decode(each)
            except MalformedDatagram:
                continue
            message.verify(KEY)
            message.unknownRequired(frozenset())

    @settings(max_examples=300)
    @given(st.sampled_from(MessageClass), st.integers(0, 0xFFF), attributeLists)
    def test_anyAttributes(
        self, messageClass: MessageClass, method: int, attributes: list[tuple[int, bytes]]
    ) -> None:
        """
        Any attributes, the codec's own ones in wrong places included.
        """
        datagram = encode(messageClass, method, ID, attributes)
        try:
            message = decode(datagram)
        except MalformedDatagram:
            return
        self.assertFalse(message.verify(KEY))
        self.assertLessEqual(len(message.attributes), len(attributes))

    @settings(max_examples=300)
    @given(attributeLists, st.booleans(), st.booleans())
    def test_roundTrip(
        self, attributes: list[tuple[int, bytes]], sha256: bool, fingerprint: bool
    ) -> None:
        """
        What is encoded is decoded, and verifies.
        """
        plain = [each for each in attributes if each[0] not in (INTEGRITY, SHA256, FINGERPRINT)]
        datagram = encode(
            MessageClass.SUCCESS, 1, ID, plain, key=KEY, sha256=sha256, fingerprint=fingerprint
        )
        message = decode(datagram, requireFingerprint=fingerprint)
        self.assertEqual(message.attributes, tuple(plain))
        self.assertTrue(message.verify(KEY))
        self.assertFalse(message.verify(KEY + b"!"))
