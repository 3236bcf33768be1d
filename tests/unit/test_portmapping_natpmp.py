"""
Tests for L{p2ptwist.core.portmapping.natpmp}.
"""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.errors import LocalUsageError, MalformedDatagram
from p2ptwist.core.portmapping.natpmp import (
    Opcode,
    Request,
    Response,
    ResultCode,
    decodeRequest,
    decodeResponse,
    encodeRequest,
    encodeResponse,
    nameOf,
)

# By hand, from the figures of RFC 6886 sections 3.2 and 3.3.
MAP_REQUEST = bytes.fromhex("00010000" "13881770" "00000e10")  # fmt: skip
MAP_RESPONSE = bytes.fromhex("00810000" "0000004d" "13881770" "00000e10")  # fmt: skip
ADDRESS_RESPONSE = bytes.fromhex("00800000" "0000004d" "0b000001")  # fmt: skip

ports = st.integers(0, 65535)
longs = st.integers(0, 2**32 - 1)


class FormatTests(SynchronousTestCase):
    """
    The octets of the standard.
    """

    def test_requests(self) -> None:
        """
        Requests are laid out as the standard draws them.
        """
        mapping = Request(Opcode.MAP_UDP, 5000, 6000, 3600)
        for request, data in ((mapping, MAP_REQUEST), (Request(Opcode.ADDRESS), b"\0\0")):
            self.assertEqual(encodeRequest(request), data)
            self.assertEqual(decodeRequest(data), request)

    def test_responses(self) -> None:
        """
        So are responses.
        """
        mapped = Response(Opcode.MAP_UDP, 0, 77, None, 5000, 6000, 3600)
        told = Response(Opcode.ADDRESS, 0, 77, "11.0.0.1")
        for response, data in ((mapped, MAP_RESPONSE), (told, ADDRESS_RESPONSE)):
            self.assertEqual(encodeResponse(response), data)
            self.assertEqual(decodeResponse(data), response)

    def test_errors(self) -> None:
        """
        An error may be as short as its header; an address in it says nothing.
        """
        refusal = Response(7, ResultCode.UNSUPPORTED_OPCODE, 77)
        self.assertEqual(encodeResponse(refusal), bytes.fromhex("008700050000004d"))
        self.assertEqual(decodeResponse(encodeResponse(refusal)), refusal)
        failed = Response(Opcode.ADDRESS, ResultCode.NETWORK_FAILURE, 77)
        self.assertEqual(decodeResponse(encodeResponse(failed)), failed)
        self.assertEqual(nameOf(3), "NETWORK_FAILURE")
        self.assertEqual(nameOf(300), "RESULT_300")

    @given(st.sampled_from([1, 2]), ports, ports, longs, longs)
    def test_roundTrip(
        self, opcode: int, internal: int, external: int, lifetime: int, epoch: int
    ) -> None:
        """
        What is written is read.
        """
        request = Request(opcode, internal, external, lifetime)
        self.assertEqual(decodeRequest(encodeRequest(request)), request)
        response = Response(opcode, 0, epoch, None, internal, external, lifetime)
        self.assertEqual(decodeResponse(encodeResponse(response)), response)


class HostileTests(SynchronousTestCase):
    """
    What is not NAT-PMP.
    """

    @given(st.binary(max_size=40))
    def test_bytes(self, data: bytes) -> None:
        """
        Whatever comes is read or complained about in one way.
        """
        for decode in (decodeRequest, decodeResponse):
            with contextlib.suppress(MalformedDatagram):
                decode(data)

    def test_refusedRequests(self) -> None:
        """
        Lengths, versions and directions must be right; an opcode that is not known is the server's
        to answer.
        """
        for data in (b"\0", b"\1\0", b"\0\x80", b"\0\0\0", MAP_REQUEST[:-1], MAP_REQUEST + b"\0"):
            self.assertRaises(MalformedDatagram, decodeRequest, data)
        self.assertEqual(decodeRequest(b"\0\x09anything"), Request(9))

    def test_refusedResponses(self) -> None:
        """
        So must those of responses.
        """
        for data in (
            MAP_RESPONSE[:7],
            MAP_RESPONSE[:8],
            MAP_RESPONSE[:12],
            MAP_RESPONSE + b"\0",
            ADDRESS_RESPONSE + bytes(4),
            b"\1" + MAP_RESPONSE[1:],
            b"\0\1" + MAP_RESPONSE[2:],
            b"\0\x85" + MAP_RESPONSE[2:],
        ):
            self.assertRaises(MalformedDatagram, decodeResponse, data)

    def test_misuse(self) -> None:
        """
        What does not fit is complained about at once.
        """
        self.assertRaises(LocalUsageError, encodeRequest, Request(1, 70000))
        self.assertRaises(LocalUsageError, encodeResponse, Response(1, 0, -1))
        self.assertRaises(LocalUsageError, encodeResponse, Response(0, 0, 0, "2001:db8::1"))
