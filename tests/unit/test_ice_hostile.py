"""
What a peer that is authentic but malicious can make an agent do, and what bad weather can: whole
agents under Hypothesis, and a thousand seeds.
"""

from __future__ import annotations

import os

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.address import HostPort
from p2ptwist.core.ice.candidate import CandidateType, makeCandidate
from p2ptwist.core.ice.events import DataReceived, EndKind, SessionEnded
from p2ptwist.core.ice.generation import LIMIT
from p2ptwist.core.ice.signal import Goodbye, SignalType
from p2ptwist.core.machine import Transmit
from p2ptwist.core.stun.message import isSTUN
from tests.unit.icewire import (
    ELSEWHERE,
    B,
    Peer,
    Weather,
    Wire,
    busiestSecond,
    drainTransmits,
    hostCandidates,
    isRequest,
)

SEEDS = int(os.environ.get("P2PTWIST_SEEDS", "1000"))
BAD = Weather(delay=0.04, jitter=0.05, loss=0.1, duplication=0.1)


def victims(first: int, count: int) -> list[HostPort]:
    """
    @return: addresses of somebody who asked for nothing.
    """
    return [("192.0.2.66", 10000 + each) for each in range(first, first + count)]


class HostileOfferTests(SynchronousTestCase):
    """
    A peer whose candidates are somebody else's addresses.
    """

    def aim(self, peer: Peer, until: float, every: float = 0.1) -> list[tuple[float, Transmit]]:
        """
        Keep the agent trickled, triggered and full of data, and answer none of its checks.

        @return: what it sent.
        """
        sent, now, number = [], 0.0, 0
        while now < until and peer.agent.deadline() is not None:
            number += 1
            peer.more(hostCandidates(*victims(20 * number, 20)), now=now)
            peer.agent.write(b"data" * 100, now)
            sent.extend(peer.step(now + every, now))
            now += every
        return sent

    def test_offer(self) -> None:
        """
        An offer of many addresses gets at most 24 of them checked, with 200 packets in all, 25 in
        any second, and not one byte of the application's.
        """
        peer = Peer()
        peer.describe(hostCandidates(*victims(0, 20)), complete=False)
        sent = self.aim(peer, 60.0)
        self.assertEqual(len({each.address for _, each in sent}), 24)
        self.assertLessEqual(len(sent), 200)
        self.assertEqual(len(sent), 24 * 7)
        self.assertLessEqual(busiestSecond(time for time, _ in sent), 25)
        self.assertTrue(all(isRequest(each.data) for _, each in sent))
        end = peer.events[-1]
        assert isinstance(end, SessionEnded)
        self.assertEqual((end.kind, end.elapsed), (EndKind.FAILED, LIMIT))

    def test_restarts(self) -> None:
        """
        To restart again and again, with other addresses, gets no more packets sent.
        """
        peer = Peer()
        sent = []
        for number in range(60):
            now = 1.0 * number
            peer.describe(hostCandidates(*victims(20 * number, 20)), generation=number, now=now)
            sent.extend(peer.step(now + 1.0, now))
        self.assertLessEqual(len(sent), 200)
        self.assertGreater(len(sent), 190)
        self.assertLessEqual(busiestSecond(time for time, _ in sent), 25)

    def test_realPeer(self) -> None:
        """
        A peer that is real itself, and proves its own address in every generation, cannot aim more
        at others either.
        """
        peer = Peer()
        sent = []
        for number in range(100):
            now = 2.0 * number
            own = makeCandidate(CandidateType.RELAYED, B)
            peer.describe(
                [own, *hostCandidates(*victims(20 * number, 20))], generation=number, now=now
            )
            for time, each in peer.step(now + 2.0, now):
                if each.address == B:
                    peer.answer(each, now + 2.0)
                else:
                    sent.append((time, each))
        self.assertLessEqual(len(sent), 200)
        self.assertGreater(len(sent), 190)
        self.assertTrue(all(isRequest(each.data) for _, each in sent))

    def test_spoofedTriggers(self) -> None:
        """
        Checks with the victim's address as their source trigger no more than the budget, and get
        no more bytes of data than they bring.
        """
        peer = Peer()
        peer.describe()
        sent: list[Transmit] = []
        spoofed = []
        for number in range(1500):
            now = number / 100.0
            check = peer.makeCheck()
            spoofed.append(check)
            peer.agent.write(b"data" * 10, now)
            peer.agent.receiveDatagram(check, ELSEWHERE, now)
            peer.agent.handleTimeout(now)
            sent.extend(drainTransmits(peer.agent))
        requests = [each for each in sent if isRequest(each.data)]
        data = [each for each in sent if not isSTUN(each.data)]
        answers = len(sent) - len(requests) - len(data)
        self.assertLessEqual(len(requests), 200)
        self.assertEqual(answers, len(spoofed))
        self.assertLessEqual(
            sum(len(each.data) for each in data), sum(len(each) for each in spoofed)
        )

    def test_refusals(self) -> None:
        """
        A peer that answers every check with 487 gets the same few.
        """
        peer = Peer()
        peer.describe(hostCandidates(B))
        now, count = 0.0, 0
        while peer.agent.deadline() is not None:
            now += 0.01
            peer.agent.handleTimeout(now)
            for request in peer.requests():
                count += 1
                peer.refuse(request, now)
        self.assertLessEqual(count, 200)
        self.assertLess(now, LIMIT + 0.1)


# Steps of a peer that knows the rules and keeps none.
moves = st.one_of(
    st.tuples(st.just("check"), st.integers(0, 30), st.booleans(), st.booleans(), st.booleans()),
    st.tuples(st.just("repeat")),
    st.tuples(st.just("answer"), st.integers(0, 30)),
    st.tuples(st.just("late answer"), st.integers(0, 30)),
    st.tuples(st.just("refuse"), st.integers(0, 30)),
    st.tuples(st.just("describe"), st.integers(0, 3), st.integers(0, 20), st.booleans()),
    st.tuples(st.just("more"), st.integers(0, 3), st.integers(0, 20), st.booleans()),
    st.tuples(st.just("goodbye"), st.integers(0, 20)),
    st.tuples(st.just("data"), st.integers(0, 30)),
    st.tuples(st.just("write"), st.integers(1, 1200)),
    st.tuples(st.just("restart")),
    st.tuples(st.just("wait"), st.floats(0.0, 20.0)),
)


class Game:
    """
    An agent that an authentic peer plays with.

    @ivar checks: times of the checks that went to addresses which never answered.
    """

    def __init__(self, controlling: bool, start: float) -> None:
        self.peer = Peer(controlling, start)
        self.now = start
        self.generation = 0
        self.asked: list[Transmit] = []
        self.last: tuple[bytes, HostPort] | None = None
        self.came: dict[HostPort, int] = {}
        self.left: dict[HostPort, int] = {}
        self.proved: set[HostPort] = set()
        self.times: list[float] = []
        self.ended = False
        if controlling:
            self.peer.agent.start(start)
            self.peer.poll()

    def address(self, number: int) -> HostPort:
        """
        @return: one of 30 addresses, of which one is nobody's to send to.
        """
        return ("192.0.2.66", 10000 + number) if number else ("192.0.2.66", 53)

    def play(self, move: tuple[object, ...]) -> None:
        """
        Make one move, and take what the agent sends for it.
        """
        name, *arguments = move
        getattr(self, f"play_{str(name).replace(' ', '_')}")(*arguments)
        self.collect([(self.now, each) for each in drainTransmits(self.peer.agent)])

    def collect(self, sent: list[tuple[float, Transmit]]) -> None:
        """
        Look at what the agent sent.
        """
        for time, each in sent:
            if isRequest(each.data):
                self.asked.append(each)
                if each.address not in self.proved:
                    self.times.append(time)
            elif not isSTUN(each.data):
                self.left[each.address] = self.left.get(each.address, 0) + len(each.data)
        self.peer.poll()
        ends = [isinstance(event, SessionEnded) for event in self.peer.events]
        assert not any(ends[:-1]), "something followed the end"
        self.ended = any(ends)

    def play_check(self, number: int, controlling: bool, high: bool, nominates: bool) -> None:
        """
        Check from somewhere, in some role.
        """
        data = self.peer.makeCheck(
            controlling=controlling, tieBreaker=2**64 - 1 if high else 0, nominates=nominates
        )
        source = self.address(number)
        self.last = (data, source)
        self.came[source] = self.came.get(source, 0) + len(data)
        self.peer.agent.receiveDatagram(data, source, self.now)

    def play_repeat(self) -> None:
        """
        Send the last check again.
        """
        if self.last is not None:
            self.peer.agent.receiveDatagram(*self.last, self.now)

    def play_answer(self, number: int) -> None:
        """
        Answer one of the latest checks.
        """
        if self.asked:
            request = self.asked[-1 - number % len(self.asked)]
            if self.peer.answer(request, self.now):
                self.proved.add(request.address)

    def play_late_answer(self, number: int) -> None:
        """
        Answer one of the oldest checks.
        """
        self.play_answer(-1 - number)

    def play_refuse(self, number: int) -> None:
        """
        Answer a check with a conflict of roles.
        """
        if self.asked:
            self.peer.refuse(self.asked[-1 - number % len(self.asked)], self.now)

    def play_describe(self, ahead: int, first: int, complete: bool) -> None:
        """
        Describe this or a later generation.
        """
        self.generation = min(self.generation + ahead, 200)
        self.peer.describe(
            hostCandidates(*(self.address(first + each) for each in range(10))),
            generation=self.generation,
            complete=complete,
            kind=SignalType.OFFER if ahead else SignalType.ANSWER,
            now=self.now,
        )

    def play_more(self, ahead: int, first: int, complete: bool) -> None:
        """
        Trickle candidates.
        """
        self.peer.more(
            hostCandidates(*(self.address(first + each) for each in range(10))),
            generation=self.generation + ahead,
            complete=complete,
            now=self.now,
        )

    def play_goodbye(self, chance: int) -> None:
        """
        Say goodbye, once in a while.
        """
        if chance == 13:
            self.peer.agent.receiveSignal(Goodbye(self.peer.agent.session, "bye"), self.now)

    def play_data(self, number: int) -> None:
        """
        Send data from somewhere.
        """
        self.peer.agent.receiveDatagram(b"data", self.address(number), self.now)

    def play_write(self, length: int) -> None:
        """
        Let the application send.
        """
        self.peer.agent.write(b"d" * length, self.now)

    def play_restart(self) -> None:
        """
        Let the application restart.
        """
        self.peer.agent.restart(self.now)

    def play_wait(self, seconds: float) -> None:
        """
        Let time pass, as far as the agent has something to do.
        """
        self.collect(self.peer.step(self.now + seconds, self.now))
        self.now += seconds


class GameTests(SynchronousTestCase):
    """
    Whatever an authentic peer does, the bounds hold.
    """

    @settings(max_examples=200)
    @given(st.booleans(), st.sampled_from([0.0, 1.7e9]), st.lists(moves, max_size=60))
    def test_bounds(
        self, controlling: bool, start: float, played: list[tuple[object, ...]]
    ) -> None:
        """
        Nothing raises or spins; checks to addresses that never answered stay within the pace and
        the budget; addresses that proved nothing get no more data than came from them; nothing
        follows the end; and a session without a path ends.
        """
        game = Game(controlling, start)
        agent = game.peer.agent
        for move in played:
            game.play(move)
            for address, left in game.left.items():
                if address not in game.proved:
                    self.assertLessEqual(left, game.came.get(address, 0))
            self.assertLessEqual(len(agent._conversation._answered), 64)
            self.assertLessEqual(len(agent._lineage.current.checklist), 24)
            self.assertLessEqual(len(agent._lineage.current.checklist._triggered), 24)
        self.assertLessEqual(len(game.times), 200 + (game.now - start) / 60)
        self.assertLessEqual(busiestSecond(game.times), 25)
        self.assertNotIn(("192.0.2.66", 53), {each.address for each in game.asked})
        if game.ended:
            self.assertIsNone(agent.deadline())
            self.assertEqual(drainTransmits(agent), [])
        elif agent.pair is None:
            game.play(("wait", LIMIT + 1.0))
            self.assertTrue(game.ended or agent.pair is not None)


class WeatherTests(SynchronousTestCase):
    """
    Nothing hangs.
    """

    def test_seeds(self) -> None:
        """
        With a tenth of all datagrams lost, a tenth sent twice and many out of order, the path opens
        on both sides with every seed, data crosses, and all of it comes to an end.
        """
        for seed in range(SEEDS):
            wire = Wire(seed, BAD, signalDelay=0.01 + slowness(seed))
            wire.connect(4.0)
            for side, other in ("ab", "ba"):
                self.assertEqual(wire.kinds(side)[:1], ["PathOpened"], seed)
                for number in range(20):
                    wire.agents[side].write(b"%d" % number, wire.now)
                wire.run(wire.now + 0.2)
                self.assertTrue(
                    any(isinstance(event, DataReceived) for _, event in wire.events[other]), seed
                )
            for agent in wire.agents.values():
                self.assertTrue(agent._lineage.current.completed, seed)
            wire.a.close("done", wire.now)
            wire.run(wire.now + 1.0)
            self.assertIsNone(wire.b.deadline())
            self.assertEqual(wire.queue, [])

    def test_restartSeeds(self) -> None:
        """
        The same for a restart of one side, of both, or of a side that moved.
        """
        for seed in range(SEEDS // 5):
            wire = Wire(seed, BAD, signalDelay=0.01 + slowness(seed))
            wire.connect(3.0)
            moved: HostPort = ("198.51.100.7", 4007)
            if seed % 3 == 2:
                wire.address["a"] = moved
            wire.a.restart(3.0, hostCandidates(wire.address["a"]))
            if seed % 3 == 1:
                wire.b.restart(3.0)
            wire.run(8.0)
            for side, other in ("ab", "ba"):
                agent = wire.agents[side]
                pair = agent.pair
                assert pair is not None
                self.assertEqual(pair.address, wire.address[other], seed)
                self.assertEqual(agent._lineage.current.number, 1, seed)
                self.assertIs(agent._path.generation, agent._lineage.current, seed)
                self.assertNotIn("SessionEnded", wire.kinds(side), seed)

    def test_heavyLoss(self) -> None:
        """
        With a third of all datagrams lost in each direction nearly every seed connects, and those
        that do not say so.
        """
        opened = 0
        for seed in range(SEEDS // 10):
            wire = Wire(seed, Weather(loss=0.33))
            wire.connect(25.0)
            for side in "ab":
                self.assertIn(wire.kinds(side)[0], ("PathOpened", "SessionEnded"))
            opened += wire.kinds("a")[0] == wire.kinds("b")[0] == "PathOpened"
        self.assertGreaterEqual(opened, SEEDS // 10 * 0.97)


def slowness(seed: int) -> float:
    """
    @return: how long signals take: from no time to half a second.
    """
    return (seed % 11) * 0.05
