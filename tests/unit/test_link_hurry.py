"""
Tests for L{p2ptwist.core.link.hurry}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.link.client import HANDSHAKE_DELAY
from p2ptwist.core.link.hurry import ROUNDS, WINDOW, Hurry


class HurryTests(SynchronousTestCase):
    """
    When there is haste, and how much of it.
    """

    def doubted(self) -> Hurry:
        """
        @return: one that has begun at 5 s.
        """
        hurry = Hurry()
        hurry.doubted(5.0)
        return hurry

    def test_none(self) -> None:
        """
        Without a doubt there is none, and a node has all the time there is.
        """
        hurry = Hurry()
        self.assertFalse(hurry.take(0.0))
        self.assertFalse(hurry.active)
        self.assertEqual(hurry.patience(0.05), HANDSHAKE_DELAY)

    def test_rounds(self) -> None:
        """
        A doubt makes four attempts hasty, each with twice the patience of the one before.
        """
        hurry = self.doubted()
        patience = []
        while hurry.take(6.0):
            self.assertTrue(hurry.active)
            patience.append(hurry.patience(0.05))
        self.assertEqual(patience, [0.5, 1.0, 2.0, 4.0])
        self.assertEqual(len(patience), ROUNDS)
        self.assertFalse(hurry.active)

    def test_window(self) -> None:
        """
        After ten seconds it is over.
        """
        hurry = self.doubted()
        self.assertTrue(hurry.take(5.0 + WINDOW - 0.1))
        self.assertFalse(hurry.take(5.0 + WINDOW))
        self.assertFalse(hurry.active)

    def test_again(self) -> None:
        """
        Another doubt begins it anew.
        """
        hurry = self.doubted()
        while hurry.take(6.0):
            pass
        hurry.doubted(7.0)
        self.assertTrue(hurry.take(7.0))
        self.assertEqual(hurry.patience(0.05), 0.5)

    def test_forgive(self) -> None:
        """
        One displacement is forgiven for each doubt, while there is haste.
        """
        self.assertFalse(Hurry().forgive(0.0))
        hurry = self.doubted()
        self.assertTrue(hurry.forgive(6.0))
        self.assertFalse(hurry.forgive(6.0))
        self.assertFalse(self.doubted().forgive(5.0 + WINDOW))

    def test_refused(self) -> None:
        """
        It ends when it is the node's doing.
        """
        hurry = self.doubted()
        self.assertTrue(hurry.take(6.0))
        hurry.refused()
        self.assertFalse(hurry.active)
        self.assertFalse(hurry.take(6.0))

    def test_roundTrips(self) -> None:
        """
        Far nodes have more time, but never more than any.
        """
        hurry = self.doubted()
        hurry.take(6.0)
        self.assertEqual(hurry.patience(0.4), 1.6)
        self.assertEqual(hurry.patience(5.0), HANDSHAKE_DELAY)
        self.assertEqual(hurry.gap(0.05), 0.25)
        self.assertAlmostEqual(hurry.gap(0.2), 0.6)
