"""
Tests for L{p2ptwist.core.nattests.filtering.FilteringTest}, with literal times, against the answers
of a real L{Responder}.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.address import HostPort
from p2ptwist.core.machine import Transmit
from p2ptwist.core.nattests.filtering import Answer, FilteringEvidence, FilteringTest
from p2ptwist.core.nattests.servers import testServer
from p2ptwist.core.stun.message import MessageClass, encode
from p2ptwist.core.stun.server import Reply, Responder, ServerAddresses

A1P1 = ("192.0.2.1", 3478)
A1P2 = ("192.0.2.1", 3479)
A2P1 = ("192.0.2.2", 3478)
A2P2 = ("192.0.2.2", 3479)
SEEN = ("203.0.113.7", 40000)


class Harness:
    """
    A test, a server, and whatever is between them.

    @ivar passes: whether an answer comes through.
    @ivar asked: when something was asked, in seconds since the start.
    """

    def __init__(self, other: HostPort = A2P2) -> None:
        self.responder = Responder(ServerAddresses(A1P1, other))
        self.now = 100.0
        self.machine = FilteringTest(testServer(A1P1, other), self.now, Random(1).randbytes)
        self.passes: Callable[[Reply], bool] = lambda reply: True
        self.change: Callable[[Reply], Reply] = lambda reply: reply
        self.asked: list[float] = []

    def exchange(self) -> None:
        """
        Deliver everything that is to be sent, and its answers, without time passing.
        """
        while (transmit := self.machine.pollTransmit()) is not None:
            self.asked.append(round(self.now - 100.0, 6))
            self.answer(transmit)

    def answer(self, transmit: Transmit) -> None:
        """
        Let the server answer.
        """
        reply = self.responder.answer(transmit.data, SEEN, transmit.address)
        assert reply is not None
        reply = self.change(reply)
        if self.passes(reply):
            self.machine.receiveDatagram(reply.data, reply.origin, self.now)

    def run(self) -> FilteringEvidence:
        """
        Let time pass until the end.

        @return: the event.
        """
        self.exchange()
        while (deadline := self.machine.deadline()) is not None:
            self.now = deadline
            self.machine.handleTimeout(self.now)
            self.exchange()
        event = self.machine.pollEvent()
        assert event is not None and self.machine.pollEvent() is None
        return event


class FilteringTestTests(SynchronousTestCase):
    """
    The machine.
    """

    def test_open(self) -> None:
        """
        It ends with the first answer from the other host, and takes no time.
        """
        harness = Harness()
        evidence = harness.run()
        self.assertIs(evidence.fromOther, Answer.AS_ASKED)
        self.assertEqual((evidence.rounds, harness.now), (1, 100.0))
        self.assertIsNone(harness.machine.pollTransmit())

    def test_otherPort(self) -> None:
        """
        An answer from the other port leaves the other host to be asked for, in ten rounds.
        """
        harness = Harness()
        harness.passes = lambda reply: reply.origin[0] == A1P1[0]
        evidence = harness.run()
        self.assertEqual(
            (evidence.fromOther, evidence.fromOtherPort), (Answer.NONE, Answer.AS_ASKED)
        )
        self.assertEqual((evidence.rounds, evidence.lost), (10, 0))
        # Three requests, and then two at a time.
        self.assertEqual(len(harness.asked), 3 + 9 * 2)

    def test_silence(self) -> None:
        """
        Ten rounds, 80 ms apart, and 0.8 s for the last answers.
        """
        harness = Harness()
        harness.passes = lambda reply: reply.origin == A1P1
        evidence = harness.run()
        self.assertEqual((evidence.fromOther, evidence.fromOtherPort), (Answer.NONE, Answer.NONE))
        self.assertEqual((evidence.rounds, evidence.lost), (10, 0))
        self.assertEqual(sorted(set(harness.asked)), [round(0.08 * i, 6) for i in range(10)])
        self.assertAlmostEqual(harness.now, 101.52)

    def test_lost(self) -> None:
        """
        Plain requests that are not answered are counted.
        """
        harness = Harness()
        harness.passes = lambda reply: False
        self.assertEqual(harness.run().lost, 10)

    def test_late(self) -> None:
        """
        An answer counts whichever round it is of; one that comes after the end does not.
        """
        harness = Harness()
        kept: list[Reply] = []

        def keep(reply: Reply) -> bool:
            kept.append(reply)
            return False

        harness.passes = keep
        harness.exchange()
        harness.now = 100.08
        harness.machine.handleTimeout(harness.now)
        for reply in kept:
            self.assertTrue(
                harness.machine.receiveDatagram(reply.data, reply.origin, 100.1)
                or harness.machine.deadline() is None
            )
        event = harness.machine.pollEvent()
        assert event is not None
        self.assertIs(event.fromOther, Answer.AS_ASKED)
        self.assertFalse(harness.machine.receiveDatagram(kept[0].data, kept[0].origin, 100.2))
        harness.machine.handleTimeout(200.0)
        self.assertIsNone(harness.machine.pollTransmit())

    def test_early(self) -> None:
        """
        Before its deadline nothing is due.
        """
        harness = Harness()
        harness.passes = lambda reply: False
        harness.exchange()
        harness.machine.handleTimeout(100.05)
        self.assertIsNone(harness.machine.pollTransmit())

    def test_less(self) -> None:
        """
        Of a server with one host or one port, what is there is asked for.
        """
        for other, answers in (
            (A1P2, (Answer.OTHERWISE, Answer.AS_ASKED)),
            (A2P1, (Answer.AS_ASKED, Answer.OTHERWISE)),
        ):
            evidence = Harness(other).run()
            self.assertEqual((evidence.fromOther, evidence.fromOtherPort), answers)
            self.assertEqual(evidence.rounds, 1)

    def test_otherwise(self) -> None:
        """
        Answers and errors from the address that was asked end the test.
        """
        for wrong in (
            lambda reply: Reply(reply.data, A1P1),
            lambda reply: Reply(encode(MessageClass.ERROR, 1, reply.data[8:20]), A1P1),
        ):
            harness = Harness()
            harness.change = wrong
            evidence = harness.run()
            self.assertEqual(
                (evidence.fromOther, evidence.fromOtherPort), (Answer.OTHERWISE, Answer.OTHERWISE)
            )

    def test_ignored(self) -> None:
        """
        What is malformed, no answer, not asked for, or from somewhere else is not taken.
        """
        for wrong in (
            lambda reply: Reply(reply.data, ("198.51.100.1", 3478)),
            lambda reply: Reply(encode(MessageClass.REQUEST, 1, reply.data[8:20]), reply.origin),
            lambda reply: Reply(encode(MessageClass.ERROR, 1, reply.data[8:20]), A2P2),
            lambda reply: Reply(reply.data[:20] + b"x", reply.origin),
            lambda reply: Reply(reply.data[:8] + bytes(12) + reply.data[20:], reply.origin),
            lambda reply: Reply(b"hello", reply.origin),
        ):
            harness = Harness()
            harness.passes = lambda reply: reply.origin != A1P1
            harness.change = wrong
            evidence = harness.run()
            self.assertEqual(
                (evidence.fromOther, evidence.fromOtherPort), (Answer.NONE, Answer.NONE)
            )

    @given(st.binary(max_size=60), st.sampled_from((A1P1, A1P2, A2P2)))
    def test_anything(self, data: bytes, source: HostPort) -> None:
        """
        Whatever comes does no harm.
        """
        harness = Harness()
        self.assertFalse(harness.machine.receiveDatagram(data, source, 100.0))
