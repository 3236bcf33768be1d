"""
L{p2ptwist.core.tcppath.upkeep}, with literal times.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.tcppath.upkeep import Upkeep


class UpkeepTests(SynchronousTestCase):
    """
    When an open path is asked, and when it is dead.
    """

    def test_idle(self) -> None:
        """
        An idle path is asked after 45 s by the controlling side, after 60 s by the other.
        """
        for controlling, expected in ((True, 55.0), (False, 70.0)):
            upkeep = Upkeep(controlling, 0.0)
            upkeep.heard(10.0)
            self.assertEqual(upkeep.deadline(), expected)
            self.assertFalse(upkeep.isDue(expected - 0.1))
            self.assertTrue(upkeep.isDue(expected))

    def test_doubt(self) -> None:
        """
        A path that data was sent on, and nothing came back on, is asked after a second.
        """
        upkeep = Upkeep(True, 0.0)
        upkeep.sent(3.0)
        upkeep.sent(3.9)
        self.assertEqual(upkeep.deadline(), 4.0)
        upkeep.heard(3.95)
        self.assertFalse(upkeep.isDue(4.0))

    def test_dead(self) -> None:
        """
        It is dead 5 s after it was asked, when nothing at all has come.
        """
        upkeep = Upkeep(True, 0.0)
        upkeep.sent(3.0)
        upkeep.asked(4.0)
        upkeep.asked(6.0)
        self.assertFalse(upkeep.isDue(4.5))
        self.assertIsNone(upkeep.silentFor(8.9))
        self.assertEqual(upkeep.deadline(), 9.0)
        self.assertEqual(upkeep.silentFor(9.0), 9.0)
        upkeep.heard(9.0)
        self.assertIsNone(upkeep.silentFor(99.0))
