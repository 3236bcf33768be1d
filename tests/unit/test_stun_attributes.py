"""
Tests for L{p2ptwist.core.stun.attributes}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.address import HostPort
from p2ptwist.core.errors import LocalUsageError, MalformedDatagram
from p2ptwist.core.stun.attributes import (
    decodeAddress,
    decodeErrorCode,
    decodeUInt32,
    decodeUInt64,
    decodeUnknownAttributes,
    decodeXORAddress,
    encodeAddress,
    encodeErrorCode,
    encodeUInt32,
    encodeUInt64,
    encodeUnknownAttributes,
    encodeXORAddress,
)

ID = bytes(range(12))
addresses = st.tuples(st.ip_addresses().map(str), st.integers(0, 65535))


class AddressTests(SynchronousTestCase):
    """
    MAPPED-ADDRESS and XOR-MAPPED-ADDRESS.
    """

    def test_bytes(self) -> None:
        """
        The layout of RFC 8489 sections 14.1 and 14.2.
        """
        self.assertEqual(encodeAddress(("192.0.2.1", 32853)), bytes.fromhex("0001 8055 c0000201"))
        self.assertEqual(
            encodeXORAddress(("192.0.2.1", 32853), ID), bytes.fromhex("0001 a147 e112a643")
        )
        self.assertEqual(
            encodeXORAddress(("2001:db8::1", 1), ID),
            bytes.fromhex("0002 2113 0113a9fa 00010203 04050607 08090a0a"),
        )

    @given(addresses)
    def test_roundTrip(self, address: HostPort) -> None:
        """
        Every address comes back as its canonical self.
        """
        host, port = address
        mapped = host.lower().startswith("::ffff:")
        for decoded in (
            decodeAddress(encodeAddress(address)),
            decodeXORAddress(encodeXORAddress(address, ID), ID),
        ):
            self.assertEqual(decoded[1], port)
            if not mapped:
                self.assertEqual(decoded[0], host)

    def test_mapped(self) -> None:
        """
        An IPv4-mapped address is the IPv4 address, on the way in and on the way out.
        """
        self.assertEqual(encodeAddress(("::ffff:192.0.2.1", 7)), encodeAddress(("192.0.2.1", 7)))
        value = b"\0\2\0\7" + bytes(10) + b"\xff\xff\xc0\0\2\1"
        self.assertEqual(decodeAddress(value), ("192.0.2.1", 7))

    def test_mistakes(self) -> None:
        """
        A name, and a port that is none, raise at once.
        """
        for address in (("example.org", 1), ("192.0.2.1", 65536), ("192.0.2.1", -1)):
            self.assertRaises(LocalUsageError, encodeAddress, address)
            self.assertRaises(LocalUsageError, encodeXORAddress, address, ID)

    def test_malformed(self) -> None:
        """
        Family and length belong together.
        """
        for text in ("", "00010001c00002", "00020001c0000201", "00030001c0000201"):
            self.assertRaises(MalformedDatagram, decodeAddress, bytes.fromhex(text))
            self.assertRaises(MalformedDatagram, decodeXORAddress, bytes.fromhex(text), ID)
        self.assertRaises(MalformedDatagram, decodeAddress, b"\0\1\0\1" + bytes(16))


class ErrorCodeTests(SynchronousTestCase):
    """
    ERROR-CODE.
    """

    def test_bytes(self) -> None:
        """
        The layout of RFC 8489 section 14.8.
        """
        self.assertEqual(encodeErrorCode(420, "no"), bytes.fromhex("00000414") + b"no")
        self.assertEqual(decodeErrorCode(bytes.fromhex("00000414") + b"no"), (420, "no"))

    @given(st.integers(300, 699), st.text(max_size=127))
    def test_roundTrip(self, code: int, reason: str) -> None:
        """
        Every code and reason comes back.
        """
        reason = reason.encode(errors="replace").decode()
        self.assertEqual(decodeErrorCode(encodeErrorCode(code, reason)), (code, reason))

    def test_reserved(self) -> None:
        """
        Reserved bits mean nothing; a reason that is not UTF-8 is shown all the same.
        """
        self.assertEqual(decodeErrorCode(b"\xff\xff\xfc\x14\xff"), (420, "\ufffd"))

    def test_mistakes(self) -> None:
        """
        Codes and reasons have bounds.
        """
        self.assertRaises(LocalUsageError, encodeErrorCode, 299, "")
        self.assertRaises(LocalUsageError, encodeErrorCode, 700, "")
        self.assertRaises(LocalUsageError, encodeErrorCode, 420, "x" * 128)

    def test_malformed(self) -> None:
        """
        So they have in what comes.
        """
        for value in (
            b"\0\0\4",
            b"\0\0\4\x64",
            b"\0\0\2\x14",
            b"\0\0\7\x14",
            b"\0\0\4\x14" + bytes(764),
        ):
            self.assertRaises(MalformedDatagram, decodeErrorCode, value)


class NumberTests(SynchronousTestCase):
    """
    UNKNOWN-ATTRIBUTES and plain numbers.
    """

    @given(st.lists(st.integers(0, 0xFFFF), max_size=20))
    def test_unknownAttributes(self, types: list[int]) -> None:
        """
        A list of types comes back.
        """
        value = encodeUnknownAttributes(types)
        self.assertEqual(len(value), 2 * len(types))
        self.assertEqual(decodeUnknownAttributes(value), tuple(types))

    def test_oddUnknownAttributes(self) -> None:
        """
        Half a type is malformed.
        """
        self.assertRaises(MalformedDatagram, decodeUnknownAttributes, bytes(3))

    def test_numbers(self) -> None:
        """
        Numbers of 4 and 8 bytes, from their least to their greatest, and no further.
        """
        cases: list[tuple[Callable[[int], bytes], Callable[[bytes], int], int]] = [
            (encodeUInt32, decodeUInt32, 4),
            (encodeUInt64, decodeUInt64, 8),
        ]
        for encode, decode, size in cases:
            for number in (0, 1, 256**size - 1):
                self.assertEqual(decode(encode(number)), number)
            self.assertEqual(encode(1), bytes(size - 1) + b"\1")
            self.assertRaises(LocalUsageError, encode, -1)
            self.assertRaises(LocalUsageError, encode, 256**size)
            self.assertRaises(MalformedDatagram, decode, bytes(size - 1))
            self.assertRaises(MalformedDatagram, decode, bytes(size + 1))


class FuzzTests(SynchronousTestCase):
    """
    Whatever a value is, it is decoded or it is malformed.
    """

    @given(st.binary(max_size=40))
    def test_anything(self, value: bytes) -> None:
        """
        Random bytes for every decoder.
        """
        decoders: list[Callable[[bytes], Any]] = [
            decodeAddress,
            lambda value: decodeXORAddress(value, ID),
            decodeErrorCode,
            decodeUnknownAttributes,
            decodeUInt32,
            decodeUInt64,
        ]
        for decoder in decoders:
            try:
                decoder(value)
            except MalformedDatagram:
                continue
