"""
Tests for L{p2ptwist.core.session.rotation}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.session.rotation import (
    AGAIN,
    ATTEMPTS,
    LADDER_RATIO,
    LEAST,
    MOST,
    PROMPT,
    RATIO,
    Rotation,
)

OWN, OTHER = "203.0.113.1", "203.0.113.2"


def ends(
    own: int | None = 1000, other: int = 2000
) -> tuple[tuple[str, int] | None, tuple[str, int]]:
    """
    @return: the addresses of a path.
    """
    return (None if own is None else (OWN, own), (OTHER, other))


class RotationTests(SynchronousTestCase):
    """
    One session.
    """

    def setUp(self) -> None:
        """
        A session with a path.
        """
        self.rotation = Rotation()
        self.rotation.opened(ends(), False, 0.0)

    def repair(self, at: float, own: int | None = 1000, other: int = 2000) -> None:
        """
        The path dies, and half a second later there is another.
        """
        self.rotation.lost(at)
        self.rotation.opened(ends(own, other), False, at + 0.5)

    def test_learned(self) -> None:
        """
        The first mapping may be older than the path; the second one's age is known; the third is
        replaced in time.
        """
        self.repair(30.0, own=1001)
        self.assertIsNone(self.rotation.life)
        self.assertIsNone(self.rotation.deadline())
        self.repair(90.0, own=1002)
        self.assertEqual(self.rotation.life, 60.0)
        self.assertEqual(self.rotation.deadline(), 90.0 + RATIO * 60.0)

    def test_otherSide(self) -> None:
        """
        It may be the other side's NAT that forgets, and both may.
        """
        self.repair(30.0, other=2001)
        self.repair(80.0, own=1001, other=2001)
        self.assertEqual(self.rotation.life, 50.0)

    def test_shortest(self) -> None:
        """
        The shortest life counts.
        """
        self.repair(30.0, own=1001)
        self.repair(90.0, own=1002)
        self.repair(165.0, own=1003)
        self.assertEqual(self.rotation.life, 59.5)  # the path was as old as that
        self.repair(215.0, own=1004)
        self.assertEqual(self.rotation.life, 49.5)
        self.assertEqual(self.rotation.deadline(), 215.0 + RATIO * 49.5)

    def test_moved(self) -> None:
        """
        The same where the path follows the NAT and does not die.
        """
        self.rotation.seen(ends(), 10.0)
        self.rotation.seen(ends(None), 11.0)
        self.rotation.seen(ends(1001), 30.0)
        self.rotation.seen(ends(1001), 31.0)
        self.assertIsNone(self.rotation.deadline())
        self.rotation.seen(ends(1002), 85.0)
        self.assertEqual(self.rotation.life, 55.0)
        self.assertEqual(self.rotation.deadline(), 85.0 + RATIO * 55.0)

    def test_died(self) -> None:
        """
        Paths from fresh ports cannot be compared; but when two in a row die at about the same age,
        that is the life.
        """
        self.rotation.lost(53.0)
        self.rotation.opened(ends(5000, 6000), True, 60.0)
        self.rotation.lost(112.0)
        self.assertEqual(self.rotation.life, 52.0)
        self.rotation.opened(ends(5001, 6001), True, 113.0)
        self.assertEqual(self.rotation.deadline(), 113.0 + RATIO * 52.0)

    def test_diedAnyhow(self) -> None:
        """
        Ages that differ, or are no fixed life, mean nothing.
        """
        for first, second in ((30.0, 60.0), (60.0, 30.0), (5.0, 40.0), (40.0, 5.0), (400.0, 400.0)):
            rotation = Rotation()
            rotation.opened(ends(5000, 6000), True, 0.0)
            rotation.lost(first)
            rotation.opened(ends(5001, 6001), True, 1000.0)
            rotation.lost(1000.0 + second)
            self.assertIsNone(rotation.life)

    def test_diedEarly(self) -> None:
        """
        The mappings of a first path may be older than that: the second path's age is the life,
        if that is not much less.
        """
        for first, fresh, life in (
            (5.0, True, 60.0),
            (70.0, True, 60.0),
            (100.0, True, None),
            (5.0, False, None),
            (70.0, False, 60.0),
        ):
            rotation = Rotation()
            rotation.opened(ends(), False, 0.0)
            rotation.lost(first)
            rotation.opened(ends(), fresh, 1000.0)
            rotation.lost(1060.0)
            self.assertEqual(rotation.life, life, (first, fresh))

    def test_climbed(self) -> None:
        """
        What a ladder found has other addresses anyway, is not replaced at once, and is replaced
        earlier.
        """
        self.rotation.lost(53.0)
        self.rotation.opened(ends(other=2001), False, 60.0, climbed=True)
        self.rotation.lost(120.0)
        self.rotation.opened(ends(other=2002), False, 125.0, climbed=True)
        self.assertEqual(self.rotation.life, 53.0)
        self.assertEqual(self.rotation.deadline(), 125.0 + LADDER_RATIO * 53.0)
        self.rotation.opened(ends(5000, 6000), True, 152.0)
        self.assertEqual(self.rotation.deadline(), 152.0 + RATIO * 53.0)

    def test_late(self) -> None:
        """
        A path that opens before this side's address is known is compared when it is.
        """
        self.repair(30.0, own=1001)
        self.repair(90.0, own=None)
        self.assertIsNone(self.rotation.life)
        self.rotation.seen(ends(1002), 90.6)
        self.assertAlmostEqual(self.rotation.life or 0.0, 60.6)
        self.rotation.opened(ends(None, 6000), True, 100.0)
        self.rotation.seen(ends(5000, 6000), 100.1)
        self.assertAlmostEqual(self.rotation.life or 0.0, 60.6)

    def test_otherReasons(self) -> None:
        """
        A path that dies and comes back as it was, or in another network, says nothing of mappings;
        nor do ages that are no fixed life.
        """
        self.repair(30.0)
        self.repair(100.0)
        self.assertIsNone(self.rotation.life)
        self.rotation.lost(110.0)
        self.rotation.opened((("198.51.100.1", 7), (OTHER, 2000)), False, 111.0)
        self.assertIsNone(self.rotation.life)
        for age in (LEAST - 1.0, MOST + 1.0):
            rotation = Rotation()
            rotation.opened(ends(), False, 0.0)
            rotation.seen(ends(1001), 10.0)
            rotation.seen(ends(1002), 10.0 + age)
            self.assertIsNone(rotation.life)

    def test_fresh(self) -> None:
        """
        A path from fresh ports is as old as its mappings, and has other addresses anyway.
        """
        self.rotation.life = 60.0
        self.rotation.opened(ends(5000, 6000), True, 40.0)
        self.assertEqual(self.rotation.life, 60.0)
        self.assertEqual(self.rotation.deadline(), 40.0 + RATIO * 60.0)
        self.rotation.opened(ends(5001, 6001), True, 80.0)
        self.assertEqual((self.rotation.life, self.rotation.deadline()), (60.0, 80.0 + RATIO * 60))
        self.rotation.seen(ends(5002, 6001), 120.0)
        self.assertEqual(self.rotation.life, 40.0)
        self.rotation.lost(130.0)
        self.rotation.seen(ends(5003, 6001), 130.0)
        self.assertIsNone(self.rotation.deadline())

    def test_known(self) -> None:
        """
        Where the life is known from another session, the first path is replaced at once: its
        mappings may be old.
        """
        rotation = Rotation()
        rotation.life = 50.0
        rotation.seen(ends(), 0.0)
        self.assertIsNone(rotation.deadline())
        rotation.opened(ends(), False, 7.0)
        self.assertEqual(rotation.deadline(), 7.0 + PROMPT)
        rotation.begun()
        self.assertIsNone(rotation.deadline())
        rotation.opened(ends(5000, 6000), True, 8.0)
        self.assertEqual(rotation.deadline(), 8.0 + RATIO * 50.0)

    def test_failed(self) -> None:
        """
        What does not open is tried again, a few times, while the old path lives.
        """
        self.rotation.life = 50.0
        self.rotation.opened(ends(), True, 0.0)
        for number in range(1, ATTEMPTS):
            self.rotation.failed(40.0)
            self.assertEqual(self.rotation.deadline(), 40.0 + AGAIN, number)
        self.rotation.failed(50.0)
        self.assertIsNone(self.rotation.deadline())
        self.rotation.opened(ends(), True, 60.0)
        self.rotation.lost(70.0)
        self.rotation.failed(71.0)
        self.assertIsNone(self.rotation.deadline())
