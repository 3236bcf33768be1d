"""
Tests for L{p2ptwist.core.stun.server} and L{p2ptwist.core.stun.binding}.
"""

from __future__ import annotations

from itertools import product

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.address import HostPort
from p2ptwist.core.errors import LocalUsageError, MalformedDatagram
from p2ptwist.core.stun.attributes import (
    decodeAddress,
    decodeUnknownAttributes,
    encodeAddress,
    encodeErrorCode,
    encodeUInt32,
)
from p2ptwist.core.stun.binding import (
    CHANGE_HOST,
    CHANGE_PORT,
    bindingRequest,
    errorOf,
    otherAddress,
    reflexiveAddress,
)
from p2ptwist.core.stun.message import (
    MAX_MESSAGE_LENGTH,
    AttributeType,
    Message,
    MessageClass,
    decode,
    encode,
    encodeAttribute,
)
from p2ptwist.core.stun.server import PLAIN_REQUEST, Responder, ServerAddresses

A1P1 = ("192.0.2.1", 3478)
A1P2 = ("192.0.2.1", 3479)
A2P1 = ("192.0.2.2", 3478)
A2P2 = ("192.0.2.2", 3479)
CLIENT = ("203.0.113.7", 40000)
CLIENT6 = ("2001:db8::7", 40000)
ID = bytes(range(12))
CLASSIC_ID = bytes(range(16))
UNKNOWN = 0x7ABC


def classic(*attributes: tuple[int, bytes]) -> bytes:
    """
    @return: a Binding request of RFC 3489.
    """
    body = b"".join(encodeAttribute(*each) for each in attributes)
    return b"\0\1" + len(body).to_bytes(2, "big") + CLASSIC_ID + body


def classicAttributes(datagram: bytes) -> dict[int, HostPort]:
    """
    @return: the addresses in a Binding response of RFC 3489.
    """
    assert datagram[:2] == b"\1\1" and datagram[4:20] == CLASSIC_ID
    found = {}
    for start in range(20, len(datagram), 12):
        attributeType = int.from_bytes(datagram[start : start + 2], "big")
        found[attributeType] = decodeAddress(datagram[start + 4 : start + 12])
    return found


def request(*attributes: tuple[int, bytes], fingerprint: bool = False) -> bytes:
    """
    @return: a Binding request.
    """
    return encode(MessageClass.REQUEST, 1, ID, attributes, fingerprint=fingerprint)


class ResponderTestCase(SynchronousTestCase):
    """
    Helpers for what answers a L{Responder} gives.
    """

    def responder(self, alternate: HostPort | None = None, software: str = "") -> Responder:
        """
        @return: one at C{A1P1}.
        """
        return Responder(ServerAddresses(A1P1, alternate), software)

    def answer(
        self, responder: Responder, datagram: bytes, local: HostPort = A1P1
    ) -> tuple[Message, HostPort]:
        """
        @return: the answer to C{CLIENT}, and where it is sent from.
        """
        reply = responder.answer(datagram, CLIENT, local)
        assert reply is not None
        return decode(reply.data), reply.origin


class ServerAddressesTests(SynchronousTestCase):
    """
    The addresses of L{ServerAddresses}.
    """

    def test_all(self) -> None:
        """
        Two hosts and two ports are four addresses, the primary one first.
        """
        self.assertEqual(ServerAddresses(A1P1).all(), (A1P1,))
        self.assertEqual(ServerAddresses(A1P1, A1P2).all(), (A1P1, A1P2))
        self.assertEqual(ServerAddresses(A1P1, A2P1).all(), (A1P1, A2P1))
        self.assertEqual(ServerAddresses(A1P1, A2P2).all(), (A1P1, A1P2, A2P1, A2P2))

    def test_changed(self) -> None:
        """
        Table 1 of RFC 5780 section 6.1, from each of the four.
        """
        addresses = ServerAddresses(A1P1, A2P2)
        for local, host, port in product(addresses.all(), (False, True), (False, True)):
            changed = addresses.changed(local, host, port)
            assert changed is not None
            self.assertEqual(changed[0] != local[0], host)
            self.assertEqual(changed[1] != local[1], port)
            self.assertIn(changed, addresses.all())

    def test_missing(self) -> None:
        """
        What is not there cannot be changed to.
        """
        onePort = ServerAddresses(A1P1, A2P1)
        self.assertEqual(onePort.changed(A2P1, True, False), A1P1)
        self.assertIsNone(onePort.changed(A1P1, False, True))
        oneHost = ServerAddresses(A1P1, A1P2)
        self.assertEqual(oneHost.changed(A1P1, False, True), A1P2)
        self.assertIsNone(oneHost.changed(A1P1, True, True))
        alone = ServerAddresses(A1P1)
        self.assertEqual(alone.changed(A1P1, False, False), A1P1)
        self.assertIsNone(alone.changed(A1P1, True, False))

    def test_other(self) -> None:
        """
        The other address differs as much as possible.
        """
        self.assertIsNone(ServerAddresses(A1P1).other(A1P1))
        self.assertEqual(ServerAddresses(A1P1, A2P2).other(A2P1), A1P2)
        self.assertEqual(ServerAddresses(A1P1, A1P2).other(A1P2), A1P1)
        self.assertEqual(ServerAddresses(A1P1, A2P1).other(A1P1), A2P1)

    def test_mistakes(self) -> None:
        """
        The primary address is no alternate, and one family cannot test the other.
        """
        self.assertRaises(LocalUsageError, ServerAddresses, A1P1, A1P1)
        self.assertRaises(LocalUsageError, ServerAddresses, A1P1, ("2001:db8::1", 3478))


class BindingTests(ResponderTestCase):
    """
    Binding requests of RFC 8489.
    """

    def test_plain(self) -> None:
        """
        The shortest request gets the shortest answer: the address, and nothing else.
        """
        message, origin = self.answer(self.responder(), bindingRequest(ID))
        self.assertEqual(origin, A1P1)
        self.assertEqual(message.messageClass, MessageClass.SUCCESS)
        self.assertEqual(message.transactionID, ID)
        self.assertEqual([each for each, _ in message.attributes], [0x0020])
        self.assertEqual(reflexiveAddress(message), CLIENT)
        self.assertIsNone(otherAddress(message))

    def test_ipv6(self) -> None:
        """
        An IPv6 client sees its IPv6 address.
        """
        responder = Responder(ServerAddresses(("2001:db8::1", 3478)))
        reply = responder.answer(bindingRequest(ID), CLIENT6, ("2001:db8::1", 3478))
        assert reply is not None
        self.assertEqual(reflexiveAddress(decode(reply.data)), CLIENT6)

    def test_plainAnswer(self) -> None:
        """
        The constant parts make the very answer that L{Responder.answer} gives.
        """
        for alternate, software in ((None, ""), (None, "node"), (A2P2, ""), (A1P2, "n")):
            responder = self.responder(alternate, software)
            for local in responder.addresses.all():
                reply = responder.answer(bindingRequest(ID), CLIENT, local)
                assert reply is not None
                head, middle, tail = responder.plainAnswer(local)
                port = (CLIENT[1] ^ 0x2112).to_bytes(2, "big")
                host = bytes(
                    a ^ b for a, b in zip(b"\xcb\0\x71\7", b"\x21\x12\xa4\x42", strict=True)
                )
                self.assertEqual(head + ID + middle + port + host + tail, reply.data)

    def test_plainAnswerIPv6(self) -> None:
        """
        So they do over IPv6.
        """
        local = ("2001:db8::1", 3478)
        responder = Responder(ServerAddresses(local))
        reply = responder.answer(bindingRequest(ID), CLIENT6, local)
        assert reply is not None
        head, middle, tail = responder.plainAnswer(local)
        self.assertEqual(head + ID + middle, reply.data[:26])
        self.assertEqual((len(reply.data), tail), (44, b""))

    def test_plainRequest(self) -> None:
        """
        The constant is how every plain request begins.
        """
        self.assertEqual(bindingRequest(ID), PLAIN_REQUEST + ID)

    def test_fingerprint(self) -> None:
        """
        Who sends a FINGERPRINT gets one.
        """
        message, _ = self.answer(self.responder(), request(fingerprint=True))
        self.assertTrue(message.fingerprinted)

    def test_software(self) -> None:
        """
        A server that was given a name tells it; the name has a bound.
        """
        message, _ = self.answer(self.responder(software="node"), request())
        self.assertEqual(message.get(AttributeType.SOFTWARE), b"node")
        self.assertRaises(LocalUsageError, self.responder, None, "x" * 65)

    def test_harmless(self) -> None:
        """
        Credentials, which this server has no use for, and optional attributes do no harm.
        """
        datagram = encode(
            MessageClass.REQUEST,
            1,
            ID,
            [(AttributeType.USERNAME, b"me"), (AttributeType.SOFTWARE, b"x"), (0xFFFF, b"")],
            key=b"secret",
        )
        message, _ = self.answer(self.responder(), datagram)
        self.assertEqual(reflexiveAddress(message), CLIENT)

    def test_unknown(self) -> None:
        """
        Attributes that must be understood, and are not, are refused by name.
        """
        responder = self.responder()
        datagram = request((UNKNOWN, b""), (AttributeType.PADDING, b""), (UNKNOWN, b""))
        message, origin = self.answer(responder, datagram)
        self.assertEqual(message.messageClass, MessageClass.ERROR)
        self.assertEqual(origin, A1P1)
        self.assertEqual(errorOf(message), (420, ""))
        value = message.get(AttributeType.UNKNOWN_ATTRIBUTES)
        assert value is not None
        self.assertEqual(decodeUnknownAttributes(value), (UNKNOWN, AttributeType.PADDING))
        self.assertEqual(responder.counters.refused, 1)

    def test_responsePort(self) -> None:
        """
        An answer can go to another port of the host that asked, unless services have it.
        """
        for alternate in (A2P2, None):
            responder = self.responder(alternate)
            reply = responder.answer(bindingRequest(ID, responsePort=1024), CLIENT, A1P1)
            assert reply is not None
            self.assertEqual((reply.origin, reply.port), (A1P1, 1024))
            self.assertEqual(reflexiveAddress(decode(reply.data)), CLIENT)
        for low in (0, 53, 1023):
            responder = self.responder()
            refused = responder.answer(bindingRequest(ID, responsePort=low), CLIENT, A1P1)
            self.assertIsNone(refused)
            self.assertEqual(responder.counters.malformed, 1)

    def test_ignored(self) -> None:
        """
        Indications, responses, errors and other methods are not answered.
        """
        responder = self.responder()
        for messageClass, method in ((1, 1), (2, 1), (3, 1), (0, 3)):
            datagram = encode(MessageClass(messageClass), method, ID)
            self.assertIsNone(responder.answer(datagram, CLIENT, A1P1))
        self.assertEqual(responder.counters.ignored, 4)

    def test_malformed(self) -> None:
        """
        What is no STUN is counted and dropped.
        """
        responder = self.responder()
        wrongFingerprint = bytearray(request(fingerprint=True))
        wrongFingerprint[-1] ^= 1
        for datagram in (b"", request() + b"x", bytes(wrongFingerprint), bytes(20)):
            self.assertIsNone(responder.answer(datagram, CLIENT, A1P1))
        self.assertEqual(responder.counters.malformed, 4)


class BehaviorTests(ResponderTestCase):
    """
    RFC 5780.
    """

    def test_addresses(self) -> None:
        """
        Every answer tells where it was sent from, and the other address.
        """
        responder = self.responder(A2P2)
        for local in responder.addresses.all():
            message, origin = self.answer(responder, request(), local)
            value = message.get(AttributeType.RESPONSE_ORIGIN)
            assert value is not None
            self.assertEqual(decodeAddress(value), local)
            self.assertEqual(origin, local)
            self.assertEqual(otherAddress(message), responder.addresses.other(local))

    def test_change(self) -> None:
        """
        CHANGE-REQUEST chooses where the answer is sent from, never where it goes.
        """
        responder = self.responder(A2P2)
        for flags, expected in (
            (0, A1P1),
            (CHANGE_PORT, A1P2),
            (CHANGE_HOST, A2P1),
            (CHANGE_HOST | CHANGE_PORT, A2P2),
            (0xFFFFFFF9, A1P1),
        ):
            datagram = request((AttributeType.CHANGE_REQUEST, encodeUInt32(flags)))
            message, origin = self.answer(responder, datagram)
            self.assertEqual(origin, expected)
            self.assertEqual(otherAddress(message), A2P2)

    def test_changeImpossible(self) -> None:
        """
        A server that cannot, says so.
        """
        for alternate, flags in (
            (None, 0),
            (None, CHANGE_PORT),
            (A1P2, CHANGE_HOST),
            (A2P1, CHANGE_HOST | CHANGE_PORT),
        ):
            datagram = request((AttributeType.CHANGE_REQUEST, encodeUInt32(flags)))
            message, origin = self.answer(self.responder(alternate), datagram)
            self.assertEqual(errorOf(message)[0], 420)
            self.assertEqual(origin, A1P1)

    def test_changeMalformed(self) -> None:
        """
        Flags are 4 bytes.
        """
        responder = self.responder(A2P2)
        datagram = request((AttributeType.CHANGE_REQUEST, b"\0\0\6"))
        self.assertIsNone(responder.answer(datagram, CLIENT, A1P1))
        self.assertEqual(responder.counters.malformed, 1)


class ClassicTests(ResponderTestCase):
    """
    RFC 3489.
    """

    def test_answer(self) -> None:
        """
        The answer has 16 bytes of transaction ID and three addresses, none of them XORed.
        """
        responder = self.responder(A2P2)
        reply = responder.answer(classic(), CLIENT, A1P1)
        assert reply is not None
        self.assertEqual(classicAttributes(reply.data), {1: CLIENT, 4: A1P1, 5: A2P2})
        self.assertEqual(responder.counters.classic, 1)

    def test_change(self) -> None:
        """
        CHANGE-REQUEST works as in RFC 5780.
        """
        responder = self.responder(A2P2)
        for flags, expected in ((2, A1P2), (4, A2P1), (6, A2P2)):
            reply = responder.answer(classic((3, encodeUInt32(flags))), CLIENT, A1P1)
            assert reply is not None
            self.assertEqual(reply.origin, expected)
            self.assertEqual(classicAttributes(reply.data)[4], expected)

    def test_alone(self) -> None:
        """
        A server without alternate names itself, and is silent where an old client would take an
        error for a loss.
        """
        responder = self.responder()
        reply = responder.answer(classic(), CLIENT, A1P1)
        assert reply is not None
        self.assertEqual(classicAttributes(reply.data), {1: CLIENT, 4: A1P1, 5: A1P1})
        self.assertIsNone(responder.answer(classic((3, encodeUInt32(6))), CLIENT, A1P1))
        self.assertEqual(responder.counters.ignored, 1)

    def test_ipv6(self) -> None:
        """
        There was no IPv6 then.
        """
        self.assertIsNone(self.responder().answer(classic(), CLIENT6, A1P1))

    def test_optional(self) -> None:
        """
        Optional attributes are passed over.
        """
        self.assertIsNotNone(self.responder().answer(classic((0x8022, b"old!")), CLIENT, A1P1))

    def test_malformed(self) -> None:
        """
        RESPONSE-ADDRESS, which would aim answers at others, other messages and wrong lengths are
        dropped.
        """
        responder = self.responder()
        for datagram in (
            classic((2, encodeAddress(CLIENT))),
            b"\0\2" + classic()[2:],
            b"\1\1" + classic()[2:],
            classic() + b"x",
            classic()[:19],
            b"\0\1\0\2" + CLASSIC_ID + b"xx",
            b"\0\1"
            + MAX_MESSAGE_LENGTH.to_bytes(2, "big")
            + CLASSIC_ID
            + bytes(MAX_MESSAGE_LENGTH),
        ):
            self.assertIsNone(responder.answer(datagram, CLIENT, A1P1))
        self.assertEqual(responder.counters.malformed, 7)


class AmplificationTests(ResponderTestCase):
    """
    What a forged source costs its owner.
    """

    def ratio(self, responder: Responder, datagram: bytes, source: HostPort) -> float:
        """
        @return: bytes on the wire out for each one in, IP and UDP headers included.
        """
        reply = responder.answer(datagram, source, A1P1)
        assert reply is not None
        headers = 48 if ":" in source[0] else 28
        return (len(reply.data) + headers) / (len(datagram) + headers)

    def test_alone(self) -> None:
        """
        A server with one address makes the most of no request of RFC 8489.
        """
        responder = self.responder()
        for source in (CLIENT, CLIENT6):
            for datagram in (
                bindingRequest(ID),
                request(fingerprint=True),
                request((UNKNOWN, b"")),
                request((UNKNOWN, b""), (UNKNOWN + 1, b"")),
                request((AttributeType.CHANGE_REQUEST, encodeUInt32(6))),
                request(*((each, b"") for each in range(0x7F00, 0x7F3F))),
            ):
                self.assertLessEqual(self.ratio(responder, datagram, source), 1.4)

    def test_alternate(self) -> None:
        """
        What RFC 5780 and RFC 3489 demand costs more, and has its bound as well.
        """
        responder = self.responder(A2P2)
        self.assertLessEqual(self.ratio(responder, bindingRequest(ID), CLIENT), 1.75)
        self.assertLessEqual(self.ratio(responder, classic(), CLIENT), 1.75)
        responder = Responder(ServerAddresses(("2001:db8::1", 1), ("2001:db8::2", 2)))
        reply = responder.answer(bindingRequest(ID), CLIENT6, ("2001:db8::1", 1))
        assert reply is not None
        self.assertLessEqual((len(reply.data) + 48) / (20 + 48), 2.06)


class BindingClientTests(SynchronousTestCase):
    """
    What a client reads in an answer.
    """

    def success(self, *attributes: tuple[int, bytes]) -> Message:
        """
        @return: a success with these attributes.
        """
        return decode(encode(MessageClass.SUCCESS, 1, ID, attributes))

    def test_mapped(self) -> None:
        """
        MAPPED-ADDRESS will do where there is no other.
        """
        value = encodeAddress(CLIENT)
        self.assertEqual(reflexiveAddress(self.success((0x0001, value))), CLIENT)

    def test_unusable(self) -> None:
        """
        No address, half an address, and an attribute that must be understood are malformed.
        """
        for attributes in (
            (),
            ((0x0020, b"\0\1"),),
            ((0x0001, encodeAddress(CLIENT)), (UNKNOWN, b"")),
        ):
            self.assertRaises(MalformedDatagram, reflexiveAddress, self.success(*attributes))

    def test_other(self) -> None:
        """
        An alternate address that cannot be read is none.
        """
        other = int(AttributeType.OTHER_ADDRESS)
        self.assertEqual(otherAddress(self.success((other, encodeAddress(A2P2)))), A2P2)
        self.assertIsNone(otherAddress(self.success((other, b"\0\1"))))

    def test_error(self) -> None:
        """
        An error tells code and reason, or is malformed.
        """
        value = encodeErrorCode(401, "who?")
        message = decode(encode(MessageClass.ERROR, 1, ID, [(AttributeType.ERROR_CODE, value)]))
        self.assertEqual(errorOf(message), (401, "who?"))
        self.assertRaises(MalformedDatagram, errorOf, decode(encode(MessageClass.ERROR, 1, ID)))


class FuzzTests(ResponderTestCase):
    """
    Whatever comes, at most one answer goes back, and nothing is raised.
    """

    @given(st.binary(max_size=100), st.booleans())
    @example(bytes(4), True)
    def test_anything(self, rest: bytes, alternate: bool) -> None:
        """
        Random bytes, as they are and behind the headers of both ages.
        """
        responder = self.responder(A2P2 if alternate else None)
        body = rest + bytes(-len(rest) % 4)
        length = len(body).to_bytes(2, "big")
        modern = b"\0\1" + length + b"\x21\x12\xa4\x42" + ID + body
        for datagram in (rest, modern, b"\0\1" + length + CLASSIC_ID + body):
            reply = responder.answer(datagram, CLIENT, A1P1)
            if reply is not None:
                self.assertIn(reply.origin, responder.addresses.all())
