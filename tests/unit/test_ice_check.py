"""
Tests for L{p2ptwist.core.ice.check} and L{p2ptwist.core.ice.exchange}.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.address import HostPort
from p2ptwist.core.errors import MalformedDatagram
from p2ptwist.core.ice.candidate import CandidateType, candidatePriority, makeCandidate
from p2ptwist.core.ice.check import (
    Check,
    Credentials,
    decodeCheck,
    encodeAnswer,
    encodeCheck,
    encodeRefusal,
    encodeRoleConflict,
    errorCode,
    mappedAddress,
    userNameFragments,
)
from p2ptwist.core.ice.checklist import Pace, Pair
from p2ptwist.core.ice.exchange import ANSWER_LIFETIME, OUTSTANDING_LIMIT, Exchange
from p2ptwist.core.ice.generation import Generation
from p2ptwist.core.ice.localside import LocalSide
from p2ptwist.core.stun.attributes import (
    decodeUInt32,
    decodeUInt64,
    decodeUnknownAttributes,
    encodeErrorCode,
    encodeXORAddress,
)
from p2ptwist.core.stun.message import (
    AttributeType,
    Message,
    MessageClass,
    Method,
    decode,
    encode,
)
from tests.unit.icewire import ELSEWHERE, A, B

LOCAL = Credentials(b"local", b"l" * 22)
REMOTE = Credentials(b"remote", b"r" * 22)
TID = b"transaction!"


def request(attributes: Sequence[tuple[int, bytes]]) -> Message:
    """
    @return: an authentic Binding request with those attributes.
    """
    return decode(
        encode(
            MessageClass.REQUEST,
            Method.BINDING,
            TID,
            attributes,
            key=LOCAL.password,
            fingerprint=True,
        )
    )


def answer(
    messageClass: MessageClass,
    attributes: Sequence[tuple[int, bytes]],
    key: bytes = REMOTE.password,
) -> Message:
    """
    @return: an answer with those attributes.
    """
    return decode(encode(messageClass, Method.BINDING, TID, attributes, key=key, fingerprint=True))


class RequestTests(SynchronousTestCase):
    """
    The bytes of a check (RFC 8445 section 7.2.2).
    """

    def test_attributes(self) -> None:
        """
        A check has the user name of RFC 8445 section 7.2.2, PRIORITY, the role with the
        tie-breaker, integrity under the remote password and FINGERPRINT, in this order.
        """
        message = decode(encodeCheck(TID, Check(0x6E0001FF, True, 2**63 + 1), LOCAL, REMOTE))
        self.assertEqual(message.messageClass, MessageClass.REQUEST)
        self.assertEqual(message.transactionID, TID)
        self.assertEqual(
            [each for each, _ in message.attributes],
            [AttributeType.USERNAME, AttributeType.PRIORITY, AttributeType.ICE_CONTROLLING],
        )
        values = [value for _, value in message.attributes]
        self.assertEqual(values[0], b"remote:local")
        self.assertEqual(decodeUInt32(values[1]), 0x6E0001FF)
        self.assertEqual(decodeUInt64(values[2]), 2**63 + 1)
        self.assertTrue(message.fingerprinted)
        self.assertTrue(message.verify(REMOTE.password))
        self.assertFalse(message.verify(LOCAL.password))

    @given(
        st.builds(
            Check,
            st.integers(1, 2**31 - 1),
            st.booleans(),
            st.integers(0, 2**64 - 1),
            st.booleans(),
        )
    )
    def test_roundTrip(self, check: Check) -> None:
        """
        What one side says of itself is what the other side reads.
        """
        message = decode(encodeCheck(TID, check, LOCAL, REMOTE))
        self.assertEqual(decodeCheck(message), check)
        self.assertEqual(userNameFragments(message), (b"remote", b"local"))

    def test_notAsked(self) -> None:
        """
        A check with a missing, doubled or impossible statement is malformed.
        """
        priority = (int(AttributeType.PRIORITY), b"\0\0\0\1")
        controlling = (int(AttributeType.ICE_CONTROLLING), bytes(8))
        controlled = (int(AttributeType.ICE_CONTROLLED), bytes(8))
        cases = [
            [],
            [priority],
            [controlled],
            [priority, controlling, controlled],
            [(AttributeType.PRIORITY, b"\0\0\0\0"), controlled],
            [(AttributeType.PRIORITY, b"\x80\0\0\0"), controlled],
            [(AttributeType.PRIORITY, b"\1"), controlled],
            [priority, (AttributeType.ICE_CONTROLLING, b"\1")],
        ]
        for attributes in cases:
            self.assertRaises(MalformedDatagram, decodeCheck, request(attributes))
        self.assertEqual(decodeCheck(request([priority, controlled])), Check(1, False, 0, False))

    def test_userName(self) -> None:
        """
        A user name without a colon names nobody.
        """
        name = int(AttributeType.USERNAME)
        self.assertIsNone(userNameFragments(request([])))
        self.assertIsNone(userNameFragments(request([(name, b"local")])))
        self.assertEqual(userNameFragments(request([(name, b"a:b:c")])), (b"a", b"b:c"))


class AnswerTests(SynchronousTestCase):
    """
    The bytes of the answers.
    """

    def check(self, length: int = 5) -> Message:
        """
        @return: a check, as it came.
        """
        data = encodeCheck(TID, Check(1, True, 0), Credentials(b"x" * length, b""), LOCAL)
        return decode(data)

    def test_success(self) -> None:
        """
        The answer says where the check came from, under the password of the check.
        """
        for source in (A, ("2001:db8::1", 4000)):
            message = decode(encodeAnswer(self.check(), source, LOCAL.password))
            self.assertEqual(message.messageClass, MessageClass.SUCCESS)
            self.assertEqual(message.transactionID, TID)
            self.assertEqual(mappedAddress(message), source)
            self.assertTrue(message.fingerprinted)
            self.assertTrue(message.verify(LOCAL.password))

    def test_unknownAttributes(self) -> None:
        """
        What must be understood and is not is answered with 420 and a list (RFC 8489 section
        6.3.1); what may be ignored is.
        """
        self.assertIsNone(encodeRefusal(self.check(), LOCAL.password))
        self.assertIsNone(encodeRefusal(request([(0x8099, b"")]), LOCAL.password))
        asked = request([(0x7F00 + each, b"") for each in range(6)])
        data = encodeRefusal(asked, LOCAL.password)
        assert data is not None
        refusal = decode(data)
        self.assertEqual(refusal.messageClass, MessageClass.ERROR)
        self.assertEqual(errorCode(refusal), 420)
        listed = refusal.get(AttributeType.UNKNOWN_ATTRIBUTES)
        assert listed is not None
        self.assertEqual(decodeUnknownAttributes(listed), (0x7F00, 0x7F01, 0x7F02, 0x7F03))
        self.assertTrue(refusal.verify(LOCAL.password))

    def test_roleConflict(self) -> None:
        """
        A conflict of roles is answered with 487 (RFC 8445 section 7.3.1.1).
        """
        conflict = decode(encodeRoleConflict(self.check(), LOCAL.password))
        self.assertEqual(conflict.messageClass, MessageClass.ERROR)
        self.assertEqual(conflict.transactionID, TID)
        self.assertEqual(errorCode(conflict), 487)
        self.assertTrue(conflict.verify(LOCAL.password))

    def test_noAmplification(self) -> None:
        """
        No answer is longer than the shortest check that gets it.
        """
        shortest = len(encodeCheck(TID, Check(1, True, 0), Credentials(b"", b""), LOCAL))
        self.assertLess(
            len(encodeAnswer(self.check(), ("2001:db8::1", 4000), LOCAL.password)), shortest
        )
        self.assertLess(len(encodeRoleConflict(self.check(), LOCAL.password)), shortest)
        for count in range(1, 7):
            attributes = [(0x7F00 + each, b"") for each in range(count)]
            name = (int(AttributeType.USERNAME), LOCAL.fragment + b":")
            asked = encode(
                MessageClass.REQUEST,
                Method.BINDING,
                TID,
                [name, *attributes],
                key=LOCAL.password,
                fingerprint=True,
            )
            data = encodeRefusal(decode(asked), LOCAL.password)
            assert data is not None
            self.assertLessEqual(len(data), len(asked))

    def test_incomplete(self) -> None:
        """
        An answer that does not say what it must, or asks for more than is understood, is
        malformed.
        """
        mapped = (int(AttributeType.XOR_MAPPED_ADDRESS), encodeXORAddress(A, TID))
        error = (int(AttributeType.ERROR_CODE), encodeErrorCode(400, "no"))
        alien = (0x7FFF, b"")
        for attributes in ([], [alien, mapped], [(AttributeType.XOR_MAPPED_ADDRESS, b"")]):
            message = answer(MessageClass.SUCCESS, attributes)
            self.assertRaises(MalformedDatagram, mappedAddress, message)
        for attributes in ([], [alien, error], [(AttributeType.ERROR_CODE, b"")]):
            self.assertRaises(MalformedDatagram, errorCode, answer(MessageClass.ERROR, attributes))
        self.assertEqual(mappedAddress(answer(MessageClass.SUCCESS, [mapped])), A)
        self.assertEqual(errorCode(answer(MessageClass.ERROR, [error])), 400)


class ExchangeTests(SynchronousTestCase):
    """
    Answers are matched with requests by transaction, source and key.
    """

    def setUp(self) -> None:
        """
        An exchange with one request to B.
        """
        self.random = Random(5)
        self.exchange = Exchange(self.random.randbytes)
        self.generation = Generation(
            0, True, LocalSide(b"12345678"), Pace(0.0), self.random.randbytes, 0.0
        )
        self.pair = Pair(makeCandidate(CandidateType.HOST, B), 1, True)
        self.pair.nominating = True
        self.transmit = self.exchange.request(self.generation, REMOTE, self.pair, True, 3.0)
        self.message = decode(self.transmit.data)

    def reply(self, key: bytes = REMOTE.password) -> Message:
        """
        @return: an answer to the request.
        """
        return decode(encodeAnswer(self.message, A, key))

    def matches(self, message: Message, source: HostPort = B, now: float = 3.1) -> bool:
        """
        @return: whether a request fits.
        """
        return self.exchange.match(message, source, now) is not None

    def test_request(self) -> None:
        """
        The request says what this side is, with the priority of a peer-reflexive candidate
        (RFC 8445 section 7.1.1), and goes to the pair's address.
        """
        self.assertEqual(self.transmit.address, B)
        self.assertEqual(
            decodeCheck(self.message),
            Check(
                candidatePriority(CandidateType.PEER_REFLEXIVE, B[0]),
                True,
                self.exchange.tieBreaker,
                True,
            ),
        )
        self.assertEqual(
            userNameFragments(self.message), (b"remote", self.generation.local.fragment)
        )
        self.assertEqual(self.exchange.sent, 1)

    def test_match(self) -> None:
        """
        The answer in time, from the right address, with the right key fits, until it is
        forgotten.
        """
        found = self.exchange.match(self.reply(), B, 3.1)
        assert found is not None
        self.assertIs(found.generation, self.generation)
        self.assertIs(found.pair, self.pair)
        self.assertEqual((found.sentAt, found.nominates, found.controlling), (3.0, True, True))
        self.assertNotIn("rrrr", repr(found))
        self.assertIn(self.message.transactionID, self.exchange)
        self.exchange.forget(self.message.transactionID)
        self.assertNotIn(self.message.transactionID, self.exchange)
        self.assertFalse(self.matches(self.reply()))

    def test_noMatch(self) -> None:
        """
        An answer to another transaction, from elsewhere, under another key, without a key, or
        after half a minute does not fit.
        """
        self.assertFalse(self.matches(answer(MessageClass.SUCCESS, [])))
        self.assertFalse(self.matches(self.reply(), ELSEWHERE))
        self.assertFalse(self.matches(self.reply(LOCAL.password)))
        unsigned = encode(MessageClass.SUCCESS, Method.BINDING, self.message.transactionID)
        self.assertFalse(self.matches(decode(unsigned)))
        self.assertTrue(self.matches(self.reply(), now=3.0 + ANSWER_LIFETIME))
        self.assertFalse(self.matches(self.reply(), now=3.1 + ANSWER_LIFETIME))

    def test_bound(self) -> None:
        """
        The oldest of very many unanswered requests are forgotten.
        """
        for _ in range(OUTSTANDING_LIMIT):
            latest = self.exchange.request(self.generation, REMOTE, self.pair, True, 3.0)
        self.assertNotIn(self.message.transactionID, self.exchange)
        self.assertIn(decode(latest.data).transactionID, self.exchange)
        self.exchange.clear()
        self.assertNotIn(decode(latest.data).transactionID, self.exchange)

    def test_tieBreaker(self) -> None:
        """
        The tie-breaker has 64 random bits, and there is another one when it is asked for.
        """
        former = self.exchange.tieBreaker
        self.exchange.changeTieBreaker()
        self.assertNotEqual(self.exchange.tieBreaker, former)
        self.assertLess(self.exchange.tieBreaker, 2**64)
