"""
Tests for how much a node relays: L{p2ptwist.core.link.relay}.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.link.limits import Limits
from p2ptwist.core.link.outbox import Outbox
from p2ptwist.core.link.relay import RelayAllowances, RelayVerdict
from p2ptwist.core.tokenbucket import Rate

NONE = Rate(float("inf"), float("inf"))


def share(
    offered: Sequence[float],
    capacity: Rate,
    seconds: float = 5.0,
    relayRate: Rate = NONE,
    size: int = 1200,
) -> list[float]:
    """
    Offer each sender's bytes a second to a node, as frames of C{size} bytes at random times.

    @return: the bytes a second that it passed of each.
    """
    allowances = RelayAllowances(Limits(relayRate=relayRate, relayCapacity=capacity), 0.0)
    senders = [allowances.allowance(bytes((n,)) * 32, 0.0) for n in range(len(offered))]
    chance = random.Random(1)
    frames = sorted(
        (chance.random() * seconds, number)
        for number, rate in enumerate(offered)
        for _ in range(int(rate * seconds / size))
    )
    passed = [0.0] * len(offered)
    for now, number in frames:
        if allowances.judge(senders[number], size, now) is RelayVerdict.PASS:
            passed[number] += size / seconds
    return passed


class CapacityTests(SynchronousTestCase):
    """
    A node that has less to give than is asked for gives it fairly.
    """

    def test_enough(self) -> None:
        """
        Where there is enough, everybody gets what they ask for.
        """
        passed = share([300_000, 100_000], Rate(1_000_000, 200_000))
        self.assertTrue(passed[0] > 299_000 and passed[1] > 99_000, passed)

    def test_alone(self) -> None:
        """
        Who is alone may have it all.
        """
        (passed,) = share([2_000_000], Rate(1_000_000, 100_000))
        self.assertTrue(980_000 < passed < 1_050_000, passed)

    def test_heavyAndLight(self) -> None:
        """
        Who asks for less than a fair share gets nearly all of it, whatever the others ask for;
        together they get what there is.
        """
        passed = share([1_000_000] * 7 + [100_000], Rate(1_000_000, 200_000))
        self.assertGreater(passed[7], 90_000)
        self.assertTrue(950_000 < sum(passed) < 1_050_000, passed)

    def test_equal(self) -> None:
        """
        Those who all ask for too much get about the same.
        """
        passed = share([1_000_000] * 8, Rate(1_000_000, 200_000))
        self.assertTrue(all(100_000 < each < 150_000 for each in passed), passed)

    def test_large(self) -> None:
        """
        It is the same with the largest frames, as long as one of each sender fits into half a
        burst.
        """
        passed = share([1_000_000] * 7 + [50_000], Rate(1_000_000, 400_000), 20.0, size=16_000)
        self.assertGreater(passed[7], 40_000)
        self.assertTrue(930_000 < sum(passed) < 1_050_000, passed)

    def test_rate(self) -> None:
        """
        A sender's own rate holds in the long run.
        """
        (passed,) = share([3_000_000], NONE, relayRate=Rate(1_000_000, 100_000))
        self.assertTrue(980_000 < passed < 1_030_000, passed)

    def test_overRateTakesNothing(self) -> None:
        """
        Who is over its own allowance takes nothing from the node's.
        """
        own = Rate(100_000, 20_000)
        passed = share([1_000_000, 90_000], Rate(200_000, 40_000), relayRate=own)
        self.assertGreater(passed[1], 88_000)


class OutboxTests(SynchronousTestCase):
    """
    What waits for a blocked transport is bounded.
    """

    def test_blockedAgain(self) -> None:
        """
        What was queued just before a transport blocks counts as well.
        """
        outbox = Outbox()
        outbox.frames.append(bytes(600))
        outbox.setBlocked(True)
        self.assertFalse(outbox.addMessage(bytes(500), 10, 1000))
        self.assertTrue(outbox.addMessage(bytes(400), 10, 1000))
        self.assertEqual(len(outbox.take()), 1000)
        self.assertFalse(outbox)

    @given(
        st.lists(
            st.tuples(st.sampled_from(["message", "relayed", "turn"]), st.integers(0, 500)),
            max_size=60,
        )
    )
    def test_bounded(self, steps: list[tuple[str, int]]) -> None:
        """
        Whatever comes, no more than is allowed waits; every message that was taken on leaves, in
        order; and of the datagrams, all that were not dropped.
        """
        outbox = Outbox()
        outbox.setBlocked(True)
        messages: list[bytes] = []
        relayed = 0
        for number, (kind, length) in enumerate(steps):
            frame = bytes((number,)) + bytes(length)
            if kind == "message":
                relayed -= outbox.makeRoom(2000 - len(frame))
                if outbox.addMessage(frame, 5, 2000):
                    messages.append(frame)
            elif kind == "relayed":
                relayed += outbox.addRelayed(frame, 2000)
            else:
                outbox.setBlocked(False)
                data = outbox.take()
                self.assertLessEqual(len(data), 2000)
                self.assertTrue(data.startswith(b"".join(messages)))
                messages.clear()
                outbox.setBlocked(True)
                relayed = 0
            self.assertGreaterEqual(relayed, 0)
        self.assertEqual(outbox.clear(), relayed)
        self.assertFalse(outbox)
