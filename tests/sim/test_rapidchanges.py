"""
Sessions whose NATs change again before they have recovered, and sessions on ways that lose packets.
"""

from __future__ import annotations

import os
from hashlib import sha256
from itertools import product
from random import Random

from p2ptwist.testing import Link
from tests.sim.sessions import SessionPairs, Talk
from tests.sim.test_sessionpaths import CHANGES, Flow, PathCase

# How many seeds the tests run; more for a night.
SEEDS = int(os.environ.get("P2PTWIST_RAPID_SEEDS", "10"))
TRANSFER = 4_000_000  # bytes: four seconds and more at the speed of the link
LOSSY = Link(latency=0.02, loss=0.01)


class RapidTests(PathCase):
    """
    Three changes within a second.
    """

    def silence(self, seed: int) -> float:
        """
        @return: seconds of the longest silence of a transfer that NATs disturb three times.
        """
        random = Random(seed)
        pairs = self.pairs(seed)
        link = Link(latency=0.02, bandwidth=1_000_000.0, loss=0.002 * (seed % 3))
        a, b = pairs.two(link=link)
        talks = b.offers("talk", lambda: Talk(b.host))
        ends = [pairs.talk(a, b, "talk")]
        pairs.internet.advance(10.0)
        ends += talks.made
        sender, receiver = ends if seed % 2 else reversed(ends)
        receiver._keep = False
        payload = random.randbytes(TRANSFER // 10) * 10
        sender.transport.write(payload)
        self.planChanges(pairs, random)
        longest = self.longest(pairs, receiver, seed)
        self.assertEqual(receiver.digest.digest(), sha256(payload).digest(), f"seed {seed}")
        pairs.close()
        return longest

    def planChanges(self, pairs: SessionPairs, random: Random) -> None:
        """
        Have all changes come at random moments of one second, each to the NAT of either side.
        """
        for change in random.sample(list(CHANGES.values()), len(CHANGES)):
            router = pairs.internet.routers[random.choice(("a-router", "b-router"))]
            pairs.callers[0].host.callLater(0.5 + random.random(), change, router)

    def longest(self, pairs: SessionPairs, receiver: Talk, seed: int) -> float:
        """
        @return: seconds of the longest silence until everything has come.
        """
        last, since, longest = 0, pairs.internet.seconds(), 0.0
        while receiver.count < TRANSFER:
            now = pairs.internet.seconds()
            if receiver.count > last:
                last, since = receiver.count, now
            longest = max(longest, now - since)
            self.assertLess(longest, 30.0, f"seed {seed}: only {last} bytes came")
            pairs.internet.advance(0.01)
        return longest

    def test_transfers(self) -> None:
        """
        A transfer is never silent for 6 s, and as a rule not for 2 s, and arrives whole.  It was 11
        to 20 s in one run of six, when a link that hung in its handshake was given 10 s.
        """
        silences = sorted(self.silence(seed) for seed in range(SEEDS))
        self.assertLess(silences[-1], 6.0)
        self.assertLess(silences[SEEDS // 2], 2.0)


class LossTests(PathCase):
    """
    A message every 100 ms, on links of both sides that lose one packet in a hundred.
    """

    def test_gaps(self) -> None:
        """
        The NAT of either side changes: there is no gap of more than a second around that.
        """
        cases = list(product(CHANGES, ("a-router", "b-router"), (False, True)))
        for seed in range(3 * SEEDS):
            name, router, backwards = cases[seed % len(cases)]
            pairs = self.pairs(seed)
            a, b = pairs.two(link=LOSSY)
            talks = b.offers("talk", lambda b=b: Talk(b.host))  # type: ignore[misc]
            ends = [pairs.talk(a, b, "talk")]
            pairs.internet.advance(3.0)
            ends += talks.made
            flow = Flow(*(reversed(ends) if backwards else ends))
            pairs.internet.advance(3.0 + Random(seed).random())
            CHANGES[name](pairs.internet.routers[router])
            pairs.internet.advance(3.0)
            flow.stop()
            pairs.internet.advance(3.0)
            self.assertTrue(flow.whole, f"seed {seed}")
            self.assertLessEqual(flow.gap, 1.0, f"seed {seed}: {name}, {router}")
            pairs.close()
