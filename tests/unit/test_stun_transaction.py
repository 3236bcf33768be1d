"""
Tests for L{p2ptwist.core.stun.transaction}.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.errors import MalformedDatagram
from p2ptwist.core.machine import Transmit
from p2ptwist.core.stun.message import MessageClass, Method, decode, encode
from p2ptwist.core.stun.transaction import Answered, ClientTransaction, TimedOut

SERVER = ("192.0.2.1", 3478)
ELSEWHERE = ("192.0.2.2", 3478)
ID = bytes(range(12))
REQUEST = encode(MessageClass.REQUEST, Method.BINDING, ID)
RESPONSE = encode(MessageClass.SUCCESS, Method.BINDING, ID)


def transaction(now: float = 10.0, **options: Any) -> ClientTransaction:
    """
    @return: one that has begun.
    """
    return ClientTransaction(REQUEST, ID, SERVER, now, **options)


def run(machine: ClientTransaction) -> list[float]:
    """
    Let time pass, from deadline to deadline, until the end.

    @return: when the request was sent.
    """
    sends = []
    now = 10.0
    while True:
        while machine.pollTransmit() is not None:
            sends.append(now)
        deadline = machine.deadline()
        if deadline is None:
            return sends
        now = deadline
        machine.handleTimeout(now)


class RetransmissionTests(SynchronousTestCase):
    """
    When requests are sent.
    """

    def test_schedule(self) -> None:
        """
        The times of RFC 8489 section 6.2.1: 7 requests, and the end after 39.5 s.
        """
        machine = transaction(0.0)
        deadlines = []
        while (deadline := machine.deadline()) is not None:
            deadlines.append(deadline)
            machine.handleTimeout(deadline)
        self.assertEqual(deadlines, [0.5, 1.5, 3.5, 7.5, 15.5, 31.5, 39.5])
        self.assertEqual(machine.pollEvent(), TimedOut(SERVER, 7))
        self.assertIsNone(machine.pollEvent())
        self.assertTrue(machine.finished)

    def test_sends(self) -> None:
        """
        The same request goes to the same server each time.
        """
        machine = transaction()
        self.assertEqual(machine.pollTransmit(), Transmit(REQUEST, SERVER))
        self.assertIsNone(machine.pollTransmit())
        self.assertEqual(len(run(machine)), 6)

    def test_parameters(self) -> None:
        """
        First timeout, number of requests and last wait can be chosen.
        """
        machine = transaction(rto=0.125, requestCount=3, lastFactor=8)
        self.assertEqual(run(machine), [10.0, 10.125, 10.375])
        self.assertEqual(machine.pollEvent(), TimedOut(SERVER, 3))

    def test_timeLimit(self) -> None:
        """
        It never lasts longer than its limit.
        """
        machine = transaction(timeLimit=2.0)
        self.assertEqual(run(machine), [10.0, 10.5, 11.5])
        self.assertEqual(machine.pollEvent(), TimedOut(SERVER, 3))

    def test_early(self) -> None:
        """
        Nothing happens before the deadline.
        """
        machine = transaction()
        machine.pollTransmit()
        machine.handleTimeout(10.49)
        self.assertIsNone(machine.pollTransmit())
        self.assertEqual(machine.deadline(), 10.5)

    def test_late(self) -> None:
        """
        A late call sends one request, not all that were missed.
        """
        machine = transaction()
        machine.handleTimeout(20.0)
        self.assertEqual(machine.sends, 2)
        self.assertEqual(machine.deadline(), 21.0)


class ResponseTests(SynchronousTestCase):
    """
    Which datagrams end a transaction.
    """

    def test_answered(self) -> None:
        """
        The response of the right server does, and tells the round trip.
        """
        machine = transaction()
        self.assertTrue(machine.receiveDatagram(RESPONSE, SERVER, 10.25))
        self.assertEqual(machine.pollEvent(), Answered(decode(RESPONSE), SERVER, 0.25))
        self.assertIsNone(machine.deadline())
        self.assertIsNone(machine.pollTransmit())

    def test_error(self) -> None:
        """
        So does an error.
        """
        machine = transaction()
        self.assertTrue(machine.receiveDatagram(encode(MessageClass.ERROR, 1, ID), SERVER, 10.1))

    def test_ambiguousRoundTrip(self) -> None:
        """
        After a retransmission nobody knows the round trip.
        """
        machine = transaction()
        machine.handleTimeout(10.5)
        machine.receiveDatagram(RESPONSE, SERVER, 10.6)
        self.assertEqual(machine.pollEvent(), Answered(decode(RESPONSE), SERVER, None))

    def test_once(self) -> None:
        """
        A second response, and a timeout after it, change nothing.
        """
        machine = transaction()
        machine.receiveDatagram(RESPONSE, SERVER, 10.1)
        self.assertFalse(machine.receiveDatagram(RESPONSE, SERVER, 10.2))
        machine.handleTimeout(50.0)
        self.assertIsInstance(machine.pollEvent(), Answered)
        self.assertIsNone(machine.pollEvent())

    def test_notItsResponse(self) -> None:
        """
        Another source, transaction, class or form changes nothing.
        """
        machine = transaction()
        for data, source in (
            (RESPONSE, ELSEWHERE),
            (RESPONSE, (SERVER[0], 3479)),
            (encode(MessageClass.SUCCESS, 1, bytes(12)), SERVER),
            (REQUEST, SERVER),
            (encode(MessageClass.INDICATION, 1, ID), SERVER),
            (RESPONSE + b"x", SERVER),
            (RESPONSE[:4] + bytes(4) + ID, SERVER),
            (b"", SERVER),
        ):
            self.assertFalse(machine.receiveDatagram(data, source, 10.1))
        self.assertIsNone(machine.pollEvent())
        self.assertFalse(machine.finished)

    def test_messageOfAnother(self) -> None:
        """
        A message that was decoded elsewhere is matched as well.
        """
        machine = transaction()
        other = decode(encode(MessageClass.SUCCESS, 1, bytes(12)))
        self.assertFalse(machine.receiveMessage(other, SERVER, 10.1))
        self.assertTrue(machine.receiveMessage(decode(RESPONSE), SERVER, 10.1))

    def test_alternateSource(self) -> None:
        """
        A request to be answered from elsewhere is, or from where it went.
        """
        for source in (ELSEWHERE, SERVER):
            machine = transaction(alternateSource=ELSEWHERE)
            self.assertFalse(machine.receiveDatagram(RESPONSE, ("192.0.2.3", 3478), 10.1))
            self.assertTrue(machine.receiveDatagram(RESPONSE, source, 10.1))
            event = machine.pollEvent()
            assert isinstance(event, Answered)
            self.assertEqual(event.source, source)

    def test_key(self) -> None:
        """
        With a key, an unsigned or wrongly signed response is as if it had never come.
        """
        machine = transaction(key=b"secret")
        wrong = encode(MessageClass.SUCCESS, 1, ID, key=b"other")
        self.assertFalse(machine.receiveDatagram(RESPONSE, SERVER, 10.1))
        self.assertFalse(machine.receiveDatagram(wrong, SERVER, 10.1))
        right = encode(MessageClass.SUCCESS, 1, ID, key=b"secret")
        self.assertTrue(machine.receiveDatagram(right, SERVER, 10.1))

    @given(st.binary(max_size=60))
    def test_anything(self, data: bytes) -> None:
        """
        Nothing that a stranger sends is taken, raises, or ends it.
        """
        machine = transaction()
        for each in (data, RESPONSE[:8] + ID + data):
            if each != RESPONSE:
                try:
                    decode(each)
                except MalformedDatagram:
                    self.assertFalse(machine.receiveDatagram(each, SERVER, 10.1))
