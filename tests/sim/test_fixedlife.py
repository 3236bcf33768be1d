"""
Sessions through NATs that forget every mapping after 50 to 75 s, however much it is used.

C{P2PTWIST_FIXED_LIFE_SEEDS} says with how many seeds pairs are tried; more for a night.
"""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import pairwise

from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.session.rotation import RATIO
from p2ptwist.net.climb import memoryOf
from p2ptwist.net.datagramport import DatagramPort
from p2ptwist.testing import NAT, Filtering, Mapping, PortAllocation
from tests.sim.sessions import Caller, SessionPairs, Talk
from tests.sim.test_pairs import A_EXTERNAL, B_EXTERNAL

SEEDS = int(os.environ.get("P2PTWIST_FIXED_LIFE_SEEDS", "1"))
GAP = 0.1  # seconds from one message to the next
SLIGHT = 0.2  # seconds between two echoes that nobody notices
HOME = NAT()
CARRIER = NAT(udpLife=(50.0, 75.0), allocation=PortAllocation.RANDOM)
OPEN = NAT(filtering=Filtering.ENDPOINT_INDEPENDENT)
COUNTING = NAT(mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT, allocation=PortAllocation.SEQUENTIAL)
SCATTERING = replace(COUNTING, allocation=PortAllocation.RANDOM)
BY_HOST = replace(SCATTERING, mapping=Mapping.ADDRESS_DEPENDENT)
# Seconds in which a session that lost its path waits, and climbs.
CLIMB = 25.0


def forgetful(nat: NAT) -> NAT:
    """
    @return: the same, but for how long its mappings last.
    """
    return replace(nat, udpLife=CARRIER.udpLife)


class FixedLifeCase(SynchronousTestCase):
    """
    A message every tenth of a second, and its echo.
    """

    def start(self, a: NAT, b: NAT, seed: int = 1) -> tuple[Caller, Caller]:
        """
        @return: two peers behind such routers.
        """
        self.pairs = SessionPairs(seed)
        self.pairs.internet.showOnFailure(self)
        first, second = (
            self.pairs.caller(router.host(name))
            for router, name in zip(self.pairs.twoRouters(a, b), "ab", strict=True)
        )
        self.pairs.ready()
        second.echoes()
        return first, second

    def chat(self, talk: Talk, seconds: float) -> None:
        """
        Send for so long.
        """
        for _ in range(round(seconds / GAP)):
            talk.transport.write(b"tick")
            self.pairs.internet.advance(GAP)

    def gaps(self, talk: Talk) -> list[tuple[float, float]]:
        """
        @return: when nothing was heard for longer than is slight, and for how long.
        """
        times = [time for time, _ in talk.received]
        between = pairwise(times)
        return [(first, last - first) for first, last in between if last - first > SLIGHT]


class FixedLifeTests(FixedLifeCase):
    """
    Pairs that ordinary checks meet through.
    """

    def check(self, a: NAT, b: NAT, seed: int, turned: bool) -> None:
        """
        See that there are two gaps at most for each NAT that forgets, short ones, and none from its
        third mapping on.
        """
        first, second = self.start(a, b, seed)
        caller, callee = (second, first) if turned else (first, second)
        callee.echoes("talk")
        talk = self.pairs.talk(caller, callee, "talk")
        began = self.pairs.internet.seconds()
        self.chat(talk, 300.0)
        gaps = self.gaps(talk)
        forgetful = (a, b).count(CARRIER)
        self.assertLessEqual(len(gaps), 2 * forgetful, f"seed {seed}: {gaps}")
        for time, length in gaps:
            self.assertLess(time - began, 2 * 75.0 + 1.0, f"seed {seed}: {gaps}")
            self.assertLess(length, 1.0, f"seed {seed}: {gaps}")
        self.assertEqual(talk.count, 4 * 3000)
        for each in (caller, callee):
            self.assertLessEqual(len(each.host.getReaders()), 6)  # no pile of old ports
        self.pairs.close()

    def test_oneSide(self) -> None:
        """
        One of the NATs is such a one, the caller's or the other.
        """
        for seed in range(SEEDS):
            for turned in (False, True):
                self.check(CARRIER, HOME, seed, turned)

    def test_bothSides(self) -> None:
        """
        Both are.
        """
        for seed in range(SEEDS):
            self.check(CARRIER, CARRIER, seed, turned=False)

    def test_followed(self) -> None:
        """
        The other side's NAT lets in whoever comes, so that the path moves and does not die.
        """
        for turned in (False, True):
            self.check(CARRIER, OPEN, 1, turned)

    def test_samePort(self) -> None:
        """
        Where the new mapping is the same as the old one an echo is late now and then, which
        nothing can be done about.
        """
        first, second = self.start(replace(CARRIER, allocation=PortAllocation.PRESERVING), HOME)
        talk = self.pairs.talk(first, second)
        self.chat(talk, 300.0)
        self.assertLess(max(length for _, length in self.gaps(talk)), 0.4)
        self.assertEqual([event.kind for _, event in first.events], ["direct"])
        self.pairs.close()

    def test_remembered(self) -> None:
        """
        The next session between the same networks has no gap at all.
        """
        first, second = self.start(CARRIER, HOME)
        life = 55.0
        for caller, pair in ((first, (A_EXTERNAL, B_EXTERNAL)), (second, (B_EXTERNAL, A_EXTERNAL))):
            memoryOf(caller.host).lasts(pair, life)
        talk = self.pairs.talk(first, second)
        self.chat(talk, 300.0)
        self.assertEqual(self.gaps(talk), [])
        times = [time for time, _ in first.events]
        self.assertGreaterEqual(len(times), 300.0 / (RATIO * life))
        self.pairs.close()

    def test_learned(self) -> None:
        """
        What one session has learned is there for the next one.
        """
        first, second = self.start(CARRIER, HOME)
        talk = self.pairs.talk(first, second)
        self.chat(talk, 160.0)
        life = memoryOf(first.host).life((A_EXTERNAL, B_EXTERNAL))
        assert life is not None
        self.assertTrue(40.0 <= life <= 76.0, life)
        self.pairs.close()

    def test_noRoom(self) -> None:
        """
        Where no fresh port is to be had the path lives as long as it can, and is repaired as any
        other; and whoever closes while a path is to be opened leaves nothing behind.
        """
        first, second = self.start(CARRIER, HOME)
        memoryOf(first.host).lasts((A_EXTERNAL, B_EXTERNAL), 55.0)
        port = first.peer._requireReach().port
        port.another = lambda: DatagramPort(  # type: ignore[method-assign]
            first.host, "", port.localPort
        )
        talk = self.pairs.talk(first, second)
        self.chat(talk, 150.0)
        kinds = [event.kind for _, event in first.events]
        self.assertEqual(kinds[:3], ["direct", "relayed", "direct"])
        self.assertLess(max(length for _, length in self.gaps(talk)), 1.0)
        del port.another
        self.pairs.close()

    def test_quiet(self) -> None:
        """
        Where mappings last nothing is renewed.
        """
        first, second = self.start(HOME, HOME)
        talk = self.pairs.talk(first, second)
        self.chat(talk, 300.0)
        self.assertEqual(len(first.events), 1)
        self.pairs.close()


class LadderTests(FixedLifeCase):
    """
    Pairs that need a ladder: the next path is climbed for while the old one carries.
    """

    def check(self, a: NAT, b: NAT, turned: bool = False) -> None:
        """
        See that there are two short gaps at most for each NAT that forgets, and none from its third
        mapping on.
        """
        for seed in range(SEEDS):
            first, second = self.start(a, b, seed)
            caller, callee = (second, first) if turned else (first, second)
            callee.echoes("talk")
            talk = self.pairs.talk(caller, callee, "talk")
            began = self.pairs.internet.seconds()
            self.chat(talk, 300.0)
            gaps = self.gaps(talk)
            losses = 2 * [a.udpLife, b.udpLife].count(CARRIER.udpLife)
            self.assertLessEqual(len(gaps), losses, f"seed {seed}: {gaps}")
            for time, length in gaps:
                self.assertLess(time - began, 2 * (75.0 + CLIMB), f"seed {seed}: {gaps}")
                self.assertLess(length, 1.0, f"seed {seed}: {gaps}")
            self.assertEqual(talk.count, 4 * 3000)
            kinds = ["relayed", *(event.kind for _, event in caller.events)]
            self.assertLessEqual(kinds.count("relayed") - 1, losses, f"seed {seed}: {kinds}")
            after = kinds[::-1].index("relayed")
            self.assertGreaterEqual(after, 3, f"seed {seed}: {kinds}")  # one, and two that follow
            self.pairs.close()
            for each in (caller, callee):
                self.assertEqual(each.host.getReaders(), [])

    def test_counting(self) -> None:
        """
        The symmetric side forgets, and its ports are foretold, whoever calls.
        """
        for turned in (False, True):
            self.check(HOME, forgetful(COUNTING), turned)

    def test_scattering(self) -> None:
        """
        The symmetric side forgets, and its port is found by spraying: another for each address, or
        for each host.
        """
        self.check(HOME, forgetful(SCATTERING))
        self.check(forgetful(BY_HOST), HOME)

    def test_steadySide(self) -> None:
        """
        The other side forgets, or both do: what its servers told of may be gone when the ladder
        begins anew.
        """
        self.check(CARRIER, COUNTING)
        self.check(CARRIER, SCATTERING)
        self.check(CARRIER, forgetful(SCATTERING))

    def test_twoSymmetric(self) -> None:
        """
        Both foretell, and forget.
        """
        self.check(forgetful(COUNTING), forgetful(COUNTING))

    def test_lenient(self) -> None:
        """
        The other side's NAT does not look at ports: ordinary checks from fresh ports do.
        """
        self.check(replace(HOME, filtering=Filtering.ADDRESS_DEPENDENT), forgetful(SCATTERING))
