"""
Sessions of real peers behind NATs that forget every mapping after a while, however much it is used:
the next path is open before the old one dies.

C{benchmarks/fixed_life.py} does the same for longer.
"""

from __future__ import annotations

from twisted.trial import unittest

from p2ptwist.testing.nat import NAT, Mapping, PortAllocation
from tests.kernel.lab.fixedlife import Outcome, talkAll

# Seconds that mappings last: a third of a carrier's, and so is the test.
_LIFE = (20.0, 24.0)
_SECONDS = 110.0
# How long a silence may last once the life is known, in seconds.
_GAP = 0.5
# A machine that is busy with something else for half a second is measured once more.
_TRIES = 3
_CARRIER = NAT(allocation=PortAllocation.RANDOM, udpLife=_LIFE)
_COUNTING = NAT(
    mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT,
    allocation=PortAllocation.SEQUENTIAL,
    udpLife=_LIFE,
)
# Seconds until the life is known and the session direct again for good: two losses of each router
# that forgets, which fall together, and after each up to ten seconds on the relay.
_SETTLED = 75.0
# By name: the two routers.
_PAIRS = {
    "one side": (_CARRIER, NAT()),
    "both sides": (_CARRIER, _CARRIER),
    "a symmetric one": (NAT(), _COUNTING),
}


class FixedLifeTests(unittest.SynchronousTestCase):
    """
    A number every tenth of a second, and its echo.
    """

    def test_renewed(self) -> None:
        """
        Two short silences for each router that forgets, with the relay after each; and none from
        its third mapping on, as each path is replaced before its mappings are gone.
        """
        for _ in range(_TRIES):
            outcomes = dict(zip(_PAIRS, talkAll([*_PAIRS.values()], _SECONDS), strict=True))
            disturbed = [name for name, each in outcomes.items() if _disturbed(each)]
            if not disturbed:
                break
        self.assertEqual(disturbed, [], str(outcomes))
        for name, outcome in outcomes.items():
            told = f"{name}: {outcome}"
            self.assertTrue(outcome.whole, told)
            assert outcome.life is not None, told
            self.assertLessEqual(outcome.life, _LIFE[1] + 1.0, told)


def _disturbed(outcome: Outcome) -> bool:
    """
    @return: whether the session was silent for too long, or lost its path too late, or it was not
        renewed in time.
    """
    inTime = len(outcome.ages) > 1 and max(outcome.ages) < _LIFE[0]
    return outcome.after > _GAP or outcome.settled > _SETTLED or not inTime
