"""
Tests for what L{p2ptwist.core.ladder} is made of: postures, messages, the budget and volleys.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from random import Random

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.errors import MalformedDatagram
from p2ptwist.core.ladder.budget import (
    LADDER_LIMIT,
    QUIET_TIME,
    SPRAY_LIMIT,
    Budget,
)
from p2ptwist.core.ladder.message import Busy, Stand, decodeMessage, encodeMessage
from p2ptwist.core.ladder.posture import Posture, Rung, begins, postureOf, rungAt, rungs
from p2ptwist.core.ladder.volley import (
    AGAIN_GAPS,
    BLOCK,
    KNOCK_GAPS,
    Shot,
    Volley,
    charge,
    knock,
    prime,
    scatter,
    spray,
)
from p2ptwist.core.nat import NATBehavior, PortAllocation
from tests.unit.ladderworld import (
    AIMED,
    B_HOST,
    DOWNWARD,
    SCATTERED,
    SESSION,
    STEADY,
    STRICT,
    SYMMETRIC,
    UNKNOWN,
)

SEEN = B_HOST, 30000


class PostureTests(SynchronousTestCase):
    """
    What NATs allow.
    """

    def test_postures(self) -> None:
        """
        A step that nobody measured foretells nothing.
        """
        stepless = NATBehavior(SYMMETRIC, STRICT, PortAllocation.SEQUENTIAL)
        found = [postureOf(each) for each in (UNKNOWN, STEADY, AIMED, DOWNWARD, SCATTERED)]
        self.assertEqual(
            found, [None, Posture.STEADY, Posture.AIMED, Posture.AIMED, Posture.SCATTERED]
        )
        self.assertIs(postureOf(stepless), Posture.SCATTERED)

    def test_rungs(self) -> None:
        """
        Cheapest first; nothing for two that scatter, nor where ordinary checks are enough.
        """
        self.assertEqual(rungs(STEADY, AIMED), (Rung.PREDICTION, Rung.SPRAYING))
        self.assertEqual(rungs(SCATTERED, STEADY), (Rung.SPRAYING,))
        self.assertEqual(rungs(AIMED, DOWNWARD), (Rung.PREDICTION,))
        for pair in ((STEADY, STEADY), (AIMED, SCATTERED), (SCATTERED,) * 2, (STEADY, UNKNOWN)):
            self.assertEqual(rungs(*pair), ())

    def test_rungAt(self) -> None:
        """
        Three predictions, then the next rung, if there is one.
        """
        names = [rungAt(number, STEADY, AIMED) for number in range(5)]
        self.assertEqual(names, [Rung.PREDICTION] * 3 + [Rung.SPRAYING] * 2)
        self.assertIs(rungAt(7, AIMED, AIMED), Rung.PREDICTION)
        self.assertIs(rungAt(0, SCATTERED, STEADY), Rung.SPRAYING)
        self.assertIsNone(rungAt(0, STEADY, STEADY))

    def test_begins(self) -> None:
        """
        Exactly one side proposes, if there is something to propose.
        """
        self.assertTrue(begins(STEADY, AIMED, False))
        self.assertFalse(begins(AIMED, STEADY, True))
        self.assertTrue(begins(AIMED, AIMED, True))
        self.assertFalse(begins(AIMED, AIMED, False))
        self.assertFalse(begins(STEADY, STEADY, True))


class MessageTests(SynchronousTestCase):
    """
    The wire.
    """

    def test_bytes(self) -> None:
        """
        As C{docs/ladder.md} has them.
        """
        stand = Stand(SESSION, 3, True, Posture.AIMED, ("11.0.0.1", 0x1234))
        self.assertEqual(
            encodeMessage(stand), b"\x01\x05" + SESSION + b"\x03\x01\x02\x0b\0\0\x01\x12\x34"
        )
        self.assertEqual(
            encodeMessage(Busy(SESSION, 2, 20)), b"\x01\x06" + SESSION + b"\x02\x00\x14"
        )
        self.assertEqual(decodeMessage(encodeMessage(Busy(SESSION, 2, 10**6))).round, 2)

    @given(
        st.integers(0, 255),
        st.booleans(),
        st.sampled_from(Posture),
        st.ip_addresses(v=4),
        st.integers(1, 65535),
    )
    def test_roundTrip(
        self, number: int, reply: bool, posture: Posture, host: object, port: int
    ) -> None:
        """
        Everything comes back.
        """
        stand = Stand(SESSION, number, reply, posture, (str(host), port))
        self.assertEqual(decodeMessage(encodeMessage(stand)), stand)

    def test_malformed(self) -> None:
        """
        Every other length, an unknown version, type, posture or flag, and port 0.
        """
        good = encodeMessage(Stand(SESSION, 3, True, Posture.AIMED, ("11.0.0.1", 5000)))
        bad = [good[:length] for length in range(len(good))] + [good + b"\0"]
        bad += [b"\x02" + good[1:], b"\x01\x09" + good[2:], good[:11] + b"\x02" + good[12:]]
        bad += [good[:12] + b"\x09" + good[13:], good[:12] + b"\x00" + good[13:]]
        bad += [good[:17] + b"\0\0", encodeMessage(Busy(SESSION, 1, 1)) + b"\0"]
        for data in bad:
            self.assertRaises(MalformedDatagram, decodeMessage, data)

    @given(st.binary(max_size=40))
    def test_random(self, data: bytes) -> None:
        """
        Nothing but L{MalformedDatagram} is raised.
        """
        with contextlib.suppress(MalformedDatagram):
            decodeMessage(b"\x01\x05" + data)


class BudgetTests(SynchronousTestCase):
    """
    What one process may send.
    """

    def test_second(self) -> None:
        """
        So many in any second, at its beginning if nobody had any before.
        """
        budget = Budget()
        taken = [now / 1000 for now in range(5000) if budget.take(B_HOST, now / 1000)]
        self.assertEqual(len(taken), 5 * LADDER_LIMIT)
        for first, last in zip(taken, taken[LADDER_LIMIT:], strict=False):
            self.assertGreaterEqual(last - first, 1.0 - 1e-9)
        self.assertEqual(budget.readyAt(100.0), 100.0)

    def test_oneSpray(self) -> None:
        """
        One at a time, and quiet after it; who did not spray ends nothing.
        """
        budget = Budget()
        self.assertEqual(budget.beginSpray("one", 0.0), 0.0)
        self.assertEqual(budget.beginSpray("one", 1.0), 0.0)
        self.assertEqual(budget.beginSpray("two", 1.0), SPRAY_LIMIT)
        budget.endSpray("two", 2.0)
        self.assertEqual(budget.beginSpray("two", 2.0), SPRAY_LIMIT)
        budget.endSpray("one", 3.0)
        self.assertEqual(budget.beginSpray("two", 4.0), QUIET_TIME - 1.0)
        self.assertEqual(budget.beginSpray("two", 3.0 + QUIET_TIME), 0.0)


class VolleyTests(SynchronousTestCase):
    """
    Shots in time.
    """

    def fire(self, shots: Iterator[Shot], budget: Budget, until: float) -> list[float]:
        """
        @return: when each shot left.
        """
        volley, now, times = Volley(shots, budget, 0.0), 0.0, []
        while (due := volley.deadline(now)) is not None and due <= until:
            now = due
            if volley.take(now) is not None:
                times.append(now)
        return times

    def test_knock(self) -> None:
        """
        Each gap counts from the shot before.
        """
        times = self.fire(knock((B_HOST, 5000)), Budget(), 10.0)
        expected = [sum(KNOCK_GAPS[: number + 1]) for number in range(len(KNOCK_GAPS))]
        self.assertEqual([round(time, 6) for time in times], [round(each, 6) for each in expected])

    def test_budget(self) -> None:
        """
        Never more than the budget allows, whoever else uses it.
        """
        budget = Budget()
        for _ in range(LADDER_LIMIT):
            budget.take("192.0.2.1", 0.0)
        times = self.fire(spray(SEEN, Random(1)), budget, 30.0)
        self.assertGreaterEqual(times[0], 1.0)
        for first, last in zip(times, times[LADDER_LIMIT:], strict=False):
            self.assertGreaterEqual(last - first, 1.0 - 1e-9)

    def test_prime(self) -> None:
        """
        Every socket dies on the way once, and goes all of it twice.
        """
        shots = list(prime(3, (B_HOST, 5000)))
        self.assertEqual([shot.socket for shot in shots], [0, 1, 2] * 3)
        self.assertEqual([shot.near for shot in shots], [True] * 3 + [False] * 6)

    def test_charge(self) -> None:
        """
        The other of two aimed sides sends from all of its sockets three times, all of it the whole
        way.
        """
        shots = list(charge(2, (B_HOST, 5000)))
        self.assertEqual([shot.socket for shot in shots], [0, 1] * 3)
        self.assertFalse(any(shot.near for shot in shots))
        times = self.fire(charge(2, (B_HOST, 5000)), Budget(), 10.0)
        self.assertEqual(times[::2], [0.0, AGAIN_GAPS[0], sum(AGAIN_GAPS)])

    def test_early(self) -> None:
        """
        Nothing before its time, and nothing of an empty volley.
        """
        volley = Volley(spray(SEEN, Random(1)), Budget(), 0.0)
        self.assertIsNone(volley.take(0.0))
        empty = Volley(scatter(0, (B_HOST, 5000)), Budget(), 0.0)
        self.assertIsNone(empty.deadline(0.0))
        self.assertIsNone(empty.take(0.0))

    def test_scatter(self) -> None:
        """
        Every socket dies on the way twice; every other one goes all of it, at last.
        """
        shots = list(scatter(4, (B_HOST, 5000)))
        near = [shot.socket for shot in shots if shot.near]
        self.assertEqual(near, [0, 1, 2, 3] * 2)
        self.assertEqual([shot.socket for shot in shots[len(near) :]], [0, 2])
        self.assertFalse(any(shot.near for shot in shots[len(near) :]))

    def test_scatterSoon(self) -> None:
        """
        A third of 256 sockets are open at once, and all of them in little more than two seconds;
        the packets that go all the way wait for half of the time.
        """
        times = self.fire(scatter(256, (B_HOST, 5000)), Budget(), 30.0)
        self.assertLess(times[LADDER_LIMIT - 1], 0.1)
        self.assertLess(times[255], 2.2)
        self.assertGreater(times[512], 10.0)

    def test_sprayNear(self) -> None:
        """
        Every other port is one of those around the port that was seen, also at the ends of the
        range.
        """
        for port in (80, 1024, 30000, 65535):
            tried = [shot.address[1] for shot in spray((B_HOST, port), Random(1))]
            middle = min(max(port, 2048), 64512)
            near = [each for each in tried if middle - BLOCK <= each < middle + BLOCK]
            self.assertGreater(len(near), 0.45 * len(tried))
            self.assertLess(len(near), 0.55 * len(tried))
            self.assertGreater(len([each for each in tried[:88] if each in near]), 40)

    def test_spray(self) -> None:
        """
        No port twice, and none that a router acts on.
        """
        ports = [shot.address[1] for shot in spray(SEEN, Random(1))]
        self.assertEqual(len(ports), len(set(ports)))
        self.assertGreater(len(ports), 1700)
        self.assertLessEqual(len(ports), SPRAY_LIMIT * LADDER_LIMIT)
        self.assertGreaterEqual(min(ports), 1024)
        crowded = {port for seed in range(60) for port in _ports(seed)}
        self.assertNotIn(5060, crowded)


def _ports(seed: int) -> list[int]:
    return [shot.address[1] for shot in spray(SEEN, Random(seed))]
