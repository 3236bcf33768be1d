"""
Tests for L{p2ptwist.core.ladder} against an authenticated peer that means harm: whatever it says,
in whatever order, a ladder sends little, only where the peer offered to be, and not for long.
"""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.address import HostPort
from p2ptwist.core.ice.candidate import GATEWAY_PORTS, LOWEST_PORT
from p2ptwist.core.ladder.action import Fire, Observe, Open, Over, Say
from p2ptwist.core.ladder.budget import LADDER_LIMIT, SECOND_LIMIT, Budget
from p2ptwist.core.ladder.ground import ROUND_LIMIT, SCATTER_SOCKETS, TIME_LIMIT
from p2ptwist.core.ladder.ladder import PATIENCE, Ladder
from p2ptwist.core.ladder.memory import PairMemory
from p2ptwist.core.ladder.message import Busy, LadderMessage, Stand
from p2ptwist.core.ladder.posture import Posture
from p2ptwist.core.ladder.proposer import BUSY_LIMIT, BUSY_LONGEST
from p2ptwist.core.ladder.responder import GRACE
from p2ptwist.core.nat import NATBehavior
from tests.unit.ladderworld import (
    A_HOST,
    AIMED,
    B_HOST,
    DOWNWARD,
    LOOSE,
    SCATTERED,
    SESSION,
    STEADY,
    UNKNOWN,
)

# Of one ladder, whatever is said to it: what fits in its time.
FIRED_LIMIT = int((TIME_LIMIT + GRACE) * SECOND_LIMIT)
# Seconds of a ladder that is told to wait as long and as often as can be.
WAITING_LIMIT = (BUSY_LIMIT + 1) * BUSY_LONGEST
OFFERED = ("11.0.0.2", "11.0.0.7")
OTHERS = ("11.5.5.5", "127.0.0.1", "10.0.0.1", "192.168.1.1", "224.0.0.1", "255.255.255.255")

behaviors = st.sampled_from([STEADY, LOOSE, AIMED, DOWNWARD, SCATTERED, UNKNOWN])
hosts = st.sampled_from(OFFERED + OTHERS)
ports = st.one_of(st.sampled_from([1, 53, 1023, 1900, 5060, 5351]), st.integers(1024, 65535))
stands: st.SearchStrategy[LadderMessage] = st.builds(
    lambda number, reply, posture, host, port: Stand(SESSION, number, reply, posture, (host, port)),
    st.integers(0, 9) | st.just(255),
    st.booleans(),
    st.sampled_from(Posture),
    hosts,
    ports,
)
busies: st.SearchStrategy[LadderMessage] = st.builds(
    Busy, st.just(SESSION), st.integers(0, 9), st.sampled_from([0, 1, 20, 65535])
)
gaps = st.sampled_from([0.0, 0.0, 0.01, 0.3, 1.0, 2.5, 7.0, 21.0])
words = st.lists(st.tuples(gaps, stands | busies), max_size=60)


class Victim:
    """
    One ladder whose other side says what it likes.

    @ivar fired: when it sent what where.
    @ivar opened: how many sockets it opened, each time.
    @ivar asked: how often it asked a STUN server.
    @ivar said: its own words.
    """

    def __init__(
        self,
        local: NATBehavior,
        remote: NATBehavior,
        controlling: bool,
        budget: Budget | None = None,
        sockets: int = 10**6,
    ) -> None:
        self.now = 0.0
        self.fired: list[tuple[float, HostPort]] = []
        self.opened: list[int] = []
        self.asked = 0
        self.said: list[LadderMessage] = []
        self.over: list[Over] = []
        self._sockets = sockets
        self.ladder = Ladder(SESSION, controlling, budget or Budget(), Random(1), PairMemory())
        self.ladder.learn(local, (A_HOST, 5000), remote, frozenset(OFFERED), 0.0)
        self.drain()

    def hear(self, message: LadderMessage) -> None:
        """
        The other side says something.
        """
        self.ladder.receive(message, self.now)
        self.drain()

    def run(self, until: float) -> None:
        """
        Let time pass.
        """
        while (due := self.ladder.deadline(self.now)) is not None and due <= until:
            self.now = max(self.now, due)
            self.ladder.handleTimeout(self.now)
            self.drain()
        self.now = max(self.now, until)

    def drain(self) -> None:
        """
        Do what the ladder asks for.
        """
        while (action := self.ladder.pollAction()) is not None:
            if isinstance(action, Fire):
                self.fired.append((self.now, action.shot.address))
            elif isinstance(action, Say):
                self.said.append(action.message)
            elif isinstance(action, Open):
                self.opened.append(action.count)
                self.ladder.opened(min(action.count, self._sockets), self.now)
            elif isinstance(action, Observe):
                self.asked += 1
                self.ladder.observed((A_HOST, 6000 + self.asked), self.now)
            else:
                self.over.append(action)

    def obey(self, test: SynchronousTestCase) -> None:
        """
        See that the bounds were kept.
        """
        times = [time for time, _ in self.fired]
        test.assertLessEqual(len(times), FIRED_LIMIT)
        for first, last in zip(times, times[LADDER_LIMIT:], strict=False):
            test.assertGreaterEqual(last - first, 1.0 - 1e-9)
        for host, port in {address for _, address in self.fired}:
            test.assertIn(host, OFFERED)
            test.assertGreaterEqual(port, LOWEST_PORT)
            test.assertNotIn(port, GATEWAY_PORTS)
        test.assertLessEqual(len(self.opened), ROUND_LIMIT)
        test.assertLessEqual(max(self.opened, default=0), SCATTER_SOCKETS)
        test.assertLessEqual(self.asked, ROUND_LIMIT + BUSY_LIMIT)
        test.assertLessEqual(len(self.over), 1)


class HostileTests(SynchronousTestCase):
    """
    One ladder, and a peer that wants it to send.
    """

    @settings(max_examples=300, deadline=None)
    @given(behaviors, behaviors, st.booleans(), words)
    def test_anything(
        self,
        local: NATBehavior,
        remote: NATBehavior,
        controlling: bool,
        said: list[tuple[float, LadderMessage]],
    ) -> None:
        """
        Any words in any order: few datagrams, only to hosts that were offered, to no port of a
        service, never more than a hundred a second; and an end that nothing undoes.
        """
        victim = Victim(local, remote, controlling)
        for gap, message in said:
            victim.run(victim.now + gap)
            victim.hear(message)
        heard = victim.now
        victim.run(heard + WAITING_LIMIT + TIME_LIMIT + PATIENCE + GRACE + 1.0)
        self.assertIsNone(victim.ladder.deadline(victim.now))
        self.assertFalse(victim.ladder.active)
        if victim.fired:
            self.assertLessEqual(
                victim.fired[-1][0] - victim.fired[0][0],
                TIME_LIMIT + GRACE + WAITING_LIMIT,
            )
        victim.obey(self)
        sent = len(victim.fired)
        for _, message in said:
            victim.hear(message)
        victim.run(victim.now + 100.0)
        self.assertEqual((len(victim.fired), len(victim.over) <= 1), (sent, True))

    @settings(max_examples=100, deadline=None)
    @given(st.lists(behaviors, min_size=2, max_size=4), words)
    def test_many(
        self, locals_: list[NATBehavior], said: list[tuple[float, LadderMessage]]
    ) -> None:
        """
        Several sessions with such peers share one budget: a hundred a second, all together.
        """
        budget = Budget()
        victims = [Victim(local, STEADY, False, budget) for local in locals_]
        victims += [Victim(STEADY, local, True, budget) for local in locals_]
        now = 0.0
        for gap, message in said:
            until = now + min(gap, 2.5)
            while now < until:
                dues = [victim.ladder.deadline(now) for victim in victims]
                now = max(now, min([until, *(due for due in dues if due is not None)]))
                for victim in victims:
                    victim.run(now)
            for victim in victims:
                victim.hear(message)
        times = sorted(time for victim in victims for time, _ in victim.fired)
        for first, last in zip(times, times[LADDER_LIMIT:], strict=False):
            self.assertGreaterEqual(last - first, 1.0 - 1e-9)

    def test_storm(self) -> None:
        """
        A proposal a hundred times, then all of them at once: each round is taken once, what was
        begun for an older one ends.
        """
        for behavior in (AIMED, SCATTERED):
            victim = Victim(behavior, STEADY, False)
            for number in (*[0] * 100, *range(256), *range(256)):
                victim.hear(Stand(SESSION, number, False, Posture.STEADY, (B_HOST, 5000)))
            self.assertEqual(len(victim.opened), ROUND_LIMIT)
            victim.run(100.0)
            self.assertEqual(len(victim.over), 1)
            victim.obey(self)

    def test_busyStorm(self) -> None:
        """
        A thousand times busy, for as long as can be said: asked again three times, within four
        minutes, and no datagram.
        """
        victim = Victim(STEADY, SCATTERED, True)
        for _ in range(1000):
            if victim.said:
                victim.hear(Busy(SESSION, victim.said[-1].round, 65535))
            due = victim.ladder.deadline(victim.now)
            if due is not None:
                victim.run(due)
        self.assertEqual(len(victim.said), BUSY_LIMIT + 1)
        self.assertLess(victim.now, WAITING_LIMIT)
        self.assertEqual((victim.fired, victim.over), ([], [Over(False)]))

    def test_busyToSpray(self) -> None:
        """
        Being busy does not give anybody more sprays, or longer ones.
        """
        victim = Victim(STEADY, SCATTERED, True)
        for _ in range(50):
            number = victim.said[-1].round if victim.said else 0
            victim.hear(Busy(SESSION, number, 1))
            victim.run(victim.now + 1.1)
            victim.hear(Stand(SESSION, number, True, Posture.SCATTERED, (B_HOST, 5000)))
        victim.run(300.0)
        self.assertEqual(len(victim.over), 1)
        victim.obey(self)

    def test_unasked(self) -> None:
        """
        Replies that nobody asked for, and proposals to a side that proposes itself, do nothing.
        """
        for local, remote in ((STEADY, SCATTERED), (STEADY, AIMED), (AIMED, AIMED)):
            victim = Victim(local, remote, True)
            for number in range(10):
                for reply in (True, False):
                    victim.hear(Stand(SESSION, number, reply, Posture.AIMED, (B_HOST, 5000)))
                    victim.hear(Stand(SESSION, number, reply, Posture.SCATTERED, (B_HOST, 5000)))
            self.assertEqual((victim.fired, victim.opened), ([], []))

    def test_movingHosts(self) -> None:
        """
        A host that is not offered any more is not sent to in a new round.
        """
        victim = Victim(SCATTERED, STEADY, False)
        victim.hear(Stand(SESSION, 0, False, Posture.STEADY, (B_HOST, 5000)))
        victim.run(1.0)
        victim.ladder.learn(SCATTERED, (A_HOST, 5000), STEADY, frozenset({"11.0.0.9"}), 1.0)
        victim.hear(Stand(SESSION, 1, False, Posture.STEADY, (B_HOST, 5000)))
        self.assertEqual(len(victim.opened), 1)
