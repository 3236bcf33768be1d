"""
Tests for L{p2ptwist.core.portmapping.pcp} and L{p2ptwist.core.portmapping.grant}.
"""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.errors import LocalUsageError, MalformedDatagram
from p2ptwist.core.portmapping.answers import isExternal, isPublic
from p2ptwist.core.portmapping.grant import MappingRequest, mappingNonce
from p2ptwist.core.portmapping.pcp import (
    Mapping,
    Opcode,
    Request,
    Response,
    ResultCode,
    decodeRequest,
    decodeResponse,
    encodeRequest,
    encodeResponse,
    nameOf,
    unsupportedVersion,
)

NONCE = bytes(range(12))
MAPPING = Mapping(NONCE, 17, 5000, 6000, "11.0.0.1")
# By hand, from the figures of RFC 6887 sections 7.1, 7.2 and 11.1.
MAP_REQUEST = bytes.fromhex(
    "02010000" "00000e10" "00000000000000000000ffff0a000005"
    "000102030405060708090a0b" "11000000" "13881770" "00000000000000000000ffff0b000001"
)  # fmt: skip
MAP_RESPONSE = bytes.fromhex(
    "02810000" "00000e10" "0000004d" "000000000000000000000000"
    "000102030405060708090a0b" "11000000" "13881770" "00000000000000000000ffff0b000001"
)  # fmt: skip

hosts = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.sampled_from(["2001:db8::1", "::", "fe80::1", "2a11:7::5"]),
)
ports = st.integers(0, 65535)
longs = st.integers(0, 2**32 - 1)
mappings = st.builds(
    Mapping, st.binary(min_size=12, max_size=12), st.integers(0, 255), ports, ports, hosts
)
# Few and short enough for 1,100 octets.
optionLists = st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=100)), max_size=5).map(
    tuple
)


class FormatTests(SynchronousTestCase):
    """
    The octets of the standard.
    """

    def test_request(self) -> None:
        """
        A MAP request is laid out as the standard draws it.
        """
        request = Request(Opcode.MAP, 3600, "10.0.0.5", MAPPING)
        self.assertEqual(encodeRequest(request), MAP_REQUEST)
        self.assertEqual(decodeRequest(MAP_REQUEST), request)

    def test_response(self) -> None:
        """
        So is a MAP response.
        """
        response = Response(Opcode.MAP, ResultCode.SUCCESS, 3600, 77, MAPPING)
        self.assertEqual(encodeResponse(response), MAP_RESPONSE)
        self.assertEqual(decodeResponse(MAP_RESPONSE), response)

    def test_announce(self) -> None:
        """
        An ANNOUNCE message is a header.
        """
        request = Request(Opcode.ANNOUNCE, 0, "2001:db8::5")
        self.assertEqual(len(encodeRequest(request)), 24)
        self.assertEqual(decodeRequest(encodeRequest(request)), request)

    def test_otherOpcodes(self) -> None:
        """
        What belongs to an opcode that is not used here is not looked at.
        """
        data = b"\x02\x02" + MAP_REQUEST[2:] + bytes(20)
        self.assertEqual(decodeRequest(data), Request(Opcode.PEER, 3600, "10.0.0.5"))

    def test_reserved(self) -> None:
        """
        What is reserved is not looked at (RFC 6887 section 7).
        """
        data = MAP_RESPONSE[:2] + b"\xff" + MAP_RESPONSE[3:12] + b"\xff" * 12 + MAP_RESPONSE[24:]
        self.assertEqual(decodeResponse(data), decodeResponse(MAP_RESPONSE))

    def test_options(self) -> None:
        """
        Options are padded to four octets.
        """
        options = ((3, b"\x01"), (128, b""))
        data = encodeRequest(Request(Opcode.MAP, 1, "10.0.0.5", MAPPING, options))
        self.assertEqual(data[60:], bytes.fromhex("030000010100000080000000"))
        self.assertEqual(decodeRequest(data).options, options)

    @given(mapping=mappings, lifetime=longs, client=hosts, options=optionLists)
    def test_requests(self, mapping: Mapping, lifetime: int, client: str, options: Any) -> None:
        """
        What is written is read.
        """
        request = Request(Opcode.MAP, lifetime, client, mapping, options)
        self.assertEqual(decodeRequest(encodeRequest(request)), request)

    @given(mapping=mappings, lifetime=longs, epoch=longs, result=st.integers(0, 255))
    def test_responses(self, mapping: Mapping, lifetime: int, epoch: int, result: int) -> None:
        """
        What is written is read.
        """
        response = Response(Opcode.MAP, result, lifetime, epoch, mapping)
        self.assertEqual(decodeResponse(encodeResponse(response)), response)

    def test_names(self) -> None:
        """
        Result codes have the standard's names, also those that it does not know.
        """
        self.assertEqual(nameOf(2), "NOT_AUTHORIZED")
        self.assertEqual(nameOf(99), "RESULT_99")


class HostileTests(SynchronousTestCase):
    """
    What is not PCP.
    """

    @given(st.binary(max_size=1200))
    def test_bytes(self, data: bytes) -> None:
        """
        Whatever comes is read or complained about in one way.
        """
        for decode in (decodeRequest, decodeResponse):
            with contextlib.suppress(MalformedDatagram):
                decode(data)

    @given(st.binary(max_size=120), st.sampled_from([MAP_REQUEST, MAP_RESPONSE]))
    def test_tails(self, tail: bytes, head: bytes) -> None:
        """
        So is a message with anything behind it.
        """
        decode = decodeRequest if head is MAP_REQUEST else decodeResponse
        try:
            options = decode(head + tail).options
        except MalformedDatagram:
            return
        self.assertEqual(sum(4 + len(each) + -len(each) % 4 for _, each in options), len(tail))

    def test_refused(self) -> None:
        """
        Lengths, versions and directions must be right.
        """
        wrong = [
            MAP_REQUEST[:-1],
            MAP_REQUEST[:20],
            MAP_REQUEST[:56],
            MAP_REQUEST + bytes(1044),
            b"\x01" + MAP_REQUEST[1:],
            MAP_RESPONSE,
            MAP_REQUEST + b"\x03\x00\x00\x05" + bytes(4),
        ]
        for data in wrong:
            self.assertRaises(MalformedDatagram, decodeRequest, data)
        for data in (b"\x03" + MAP_RESPONSE[1:], MAP_REQUEST):
            self.assertRaises(MalformedDatagram, decodeResponse, data)

    def test_misuse(self) -> None:
        """
        What does not fit is complained about at once.
        """
        wrong = [
            Request(Opcode.MAP, 2**32, "10.0.0.5", MAPPING),
            Request(Opcode.MAP, 1, "10.0.0.5"),
            Request(Opcode.ANNOUNCE, 1, "10.0.0.5", MAPPING),
            Request(Opcode.MAP, 1, "10.0.0.5", Mapping(b"short", 17, 1, 1, "::")),
            Request(Opcode.MAP, 1, "10.0.0.5", Mapping(NONCE, 17, 70000, 1, "::")),
            Request(Opcode.MAP, 1, "10.0.0.5", MAPPING, ((1, bytes(1100)),)),
        ]
        for request in wrong:
            self.assertRaises(LocalUsageError, encodeRequest, request)
        response = Response(Opcode.MAP, 256, 0, 0, MAPPING)
        self.assertRaises(LocalUsageError, encodeResponse, response)

    def test_unsupportedVersion(self) -> None:
        """
        A router that speaks NAT-PMP alone says so in its own way, others in that of PCP.
        """
        self.assertEqual(unsupportedVersion(bytes.fromhex("0081000100000000"), 1), 0)
        self.assertEqual(unsupportedVersion(b"\x01\x81\x00\x01" + bytes(20), 1), 1)
        for data in (
            b"\x00\x81\x00\x01",  # too short
            bytes.fromhex("0080000100000000"),  # another opcode
            bytes.fromhex("0081000200000000"),  # another error
            bytes.fromhex("0081010100000000"),
            b"\x02\x81\x00\x01" + bytes(20),  # this version
            b"\x01\x81\x00\x01" + bytes(4),  # too short for PCP
            b"\x00\x81\x00\x01" + bytes(1100),
        ):
            self.assertIsNone(unsupportedVersion(data, 1))


class RequestTests(SynchronousTestCase):
    """
    What may be asked for.
    """

    def test_wrong(self) -> None:
        """
        Ports of the system, leases without an end and the like are never asked for.
        """
        right: dict[str, Any] = {
            "transport": "udp",
            "internalHost": "10.0.0.5",
            "internalPort": 5000,
            "externalPort": None,
            "lifetime": 3600.0,
            "nonce": NONCE,
        }
        MappingRequest(**right)
        wrong: list[dict[str, Any]] = [
            {"transport": "sctp"},
            {"internalPort": 1023},
            {"externalPort": 80},
            {"externalPort": 65536},
            {"lifetime": 0.0},
            {"lifetime": float("inf")},
            {"nonce": b"short"},
        ]
        for each in wrong:
            self.assertRaises(LocalUsageError, MappingRequest, **{**right, **each})

    def test_nonce(self) -> None:
        """
        A nonce depends on the secret and on everything that tells one mapping from another, and on
        nothing else.
        """
        nonces = {
            mappingNonce(secret, *names)
            for secret in (b"a" * 32, b"b" * 32)
            for names in (("udp", 5000), ("tcp", 5000), ("udp", 5001))
        }
        self.assertEqual({len(each) for each in nonces}, {12})
        self.assertEqual(len(nonces), 6)
        again = mappingNonce(b"a" * 32, "udp", 5000)
        self.assertIn(again, nonces)


class AddressTests(SynchronousTestCase):
    """
    What addresses tell.
    """

    def test_public(self) -> None:
        """
        Private, shared, link-local and reserved addresses are not the Internet's.
        """
        for host in ("11.0.0.1", "203.0.113.7", "100.128.0.1", "2001:db8::1", "2a11:7::5"):
            self.assertTrue(isPublic(host), host)
        for host in (
            "10.1.2.3",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "169.254.1.1",
            "172.31.0.1",
            "192.0.0.2",
            "192.168.1.1",
            "0.0.0.0",
            "239.1.1.1",
            "255.255.255.255",
            "::1",
            "fd00::1",
            "fe80::1",
            "ff02::1",
        ):
            self.assertFalse(isPublic(host), host)

    def test_external(self) -> None:
        """
        No router has an external address of nothing, of this host or of a group.
        """
        self.assertTrue(isExternal(("10.0.0.1", 1)))
        for address in (
            ("0.0.0.0", 1),
            ("::", 1),
            ("127.0.0.1", 1),
            ("224.0.0.1", 1),
            ("11.0.0.1", 0),
        ):
            self.assertFalse(isExternal(address), address)
