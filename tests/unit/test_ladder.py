"""
Tests for L{p2ptwist.core.ladder}: two ladders, a channel between them, and counting NATs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from random import Random

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.address import HostPort
from p2ptwist.core.errors import MalformedDatagram
from p2ptwist.core.ladder.action import Action, Fire, Observe, Open, Over, Say
from p2ptwist.core.ladder.budget import QUIET_TIME, SECOND_LIMIT, SPRAY_LIMIT, Budget
from p2ptwist.core.ladder.ground import AIM_DEPTHS, ROUND_LIMIT, SCATTER_SOCKETS
from p2ptwist.core.ladder.ladder import PATIENCE, Ladder
from p2ptwist.core.ladder.message import Busy, LadderMessage, Stand, decodeMessage, encodeMessage
from p2ptwist.core.ladder.posture import Posture, Rung, begins, postureOf, rungAt, rungs
from p2ptwist.core.ladder.proposer import BUSY_LIMIT, REPLY_LIMIT
from p2ptwist.core.ladder.responder import GRACE
from p2ptwist.core.ladder.volley import KNOCK_GAPS, Shot, Volley, knock, prime, scatter, spray
from p2ptwist.core.nat import NATBehavior, NATFiltering, NATMapping, PortAllocation

SESSION = b"8 bytes!"
STRICT = NATFiltering.ADDRESS_AND_PORT_DEPENDENT
STEADY = NATBehavior(NATMapping.ENDPOINT_INDEPENDENT, STRICT)
LOOSE = NATBehavior(NATMapping.ENDPOINT_INDEPENDENT, NATFiltering.ENDPOINT_INDEPENDENT)
SYMMETRIC = NATMapping.ADDRESS_AND_PORT_DEPENDENT
AIMED = NATBehavior(SYMMETRIC, STRICT, PortAllocation.SEQUENTIAL, 1)
DOWNWARD = NATBehavior(SYMMETRIC, STRICT, PortAllocation.SEQUENTIAL, -2)
SCATTERED = NATBehavior(SYMMETRIC, STRICT, PortAllocation.RANDOM)
UNKNOWN = NATBehavior()
A_HOST, B_HOST = "11.0.0.1", "11.0.0.2"
DELAY = 0.05  # seconds of the channel, and of a datagram


class CountingNAT:
    """
    External ports of one side, as its NAT gives them out.
    """

    def __init__(self, behavior: NATBehavior, seed: int, others: float = 0.0) -> None:
        """
        @param others: mappings that other hosts behind it make, a second.
        """
        self.behavior = behavior
        self._random = Random(seed)
        self._others = others
        self._port = self._random.randrange(20000, 30000)
        self._at = 0.0
        self._mappings: dict[tuple[int | None, HostPort | None], int] = {}

    def port(self, socket: int | None, address: HostPort, now: float) -> int:
        """
        @return: the port that a datagram from C{socket} to C{address} leaves from.
        """
        steady = self.behavior.mapping is NATMapping.ENDPOINT_INDEPENDENT
        key = (socket, None if steady else address)
        if key not in self._mappings:
            self._mappings[key] = self.next(now)
        return self._mappings[key]

    def next(self, now: float) -> int:
        """
        @return: the port of a new mapping.
        """
        if postureOf(self.behavior) is Posture.SCATTERED:
            return self._random.randrange(1024, 65536)
        step = self.behavior.step or 1
        while self._others and (self._at + self._random.expovariate(self._others)) < now:
            self._at += self._random.expovariate(self._others)
            self._port += step
        self._at = now
        self._port += step
        return self._port

    def forget(self) -> None:
        """
        Other sockets were opened.
        """
        own = {key: port for key, port in self._mappings.items() if key[0] is None}
        self._mappings = own


class Side:
    """
    One side: a ladder, its NAT, and what it let out.
    """

    def __init__(
        self,
        name: str,
        behavior: NATBehavior,
        controlling: bool,
        seed: int,
        others: float = 0.0,
        budget: Budget | None = None,
    ) -> None:
        self.host = name
        self.behavior = behavior
        self.budget = budget or Budget()
        self.ladder = Ladder(SESSION, controlling, self.budget, Random(seed))
        self.nat = CountingNAT(behavior, seed, others)
        self.fired: list[tuple[float, HostPort, HostPort]] = []
        self.near = 0
        self.sockets: list[int] = []
        self.outcome: Over | None = None

    @property
    def address(self) -> HostPort:
        """
        What a STUN server said of the main socket.
        """
        return self.host, self.nat.port(None, ("11.9.9.9", 3478), 0.0)


class World:
    """
    Two sides in virtual time: datagrams arrive where the port is open for their source.
    """

    def __init__(self, a: Side, b: Side, *, answers: bool = True, sockets: int = 10**6) -> None:
        """
        @param answers: whether STUN servers answer.
        @param sockets: how many may be opened at once.
        """
        self.sides = (a, b)
        self.now = 0.0
        self.met: float | None = None
        self.said: list[LadderMessage] = []
        self._answers = answers
        self._sockets = sockets
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._open: set[tuple[HostPort, HostPort]] = set()
        self._counter = 0

    def start(self) -> None:
        """
        Each side learns of the other.
        """
        for side, other in (self.sides, self.sides[::-1]):
            hosts = frozenset({other.host})
            side.ladder.learn(side.behavior, side.address, other.behavior, hosts, self.now)
            self.drain(side)

    def run(self, until: float) -> None:
        """
        Go on until they meet, or until that time.
        """
        while self.met is None:
            times = [side.ladder.deadline(self.now) for side in self.sides]
            times += [min(self._later)[0]] if self._later else []
            following = min((time for time in times if time is not None), default=None)
            if following is None or following > until:
                self.now = until
                return
            self.now = max(self.now, following)
            self._deliver()
            for side in self.sides:
                side.ladder.handleTimeout(self.now)
                self.drain(side)

    def drain(self, side: Side) -> None:
        """
        Do what the ladder asks for.
        """
        while (action := side.ladder.pollAction()) is not None:
            self._act(side, action)

    def _act(self, side: Side, action: Action) -> None:
        other = self.sides[side is self.sides[0]]
        if isinstance(action, Say):
            self.said.append(action.message)
            message = decodeMessage(encodeMessage(action.message))
            self._schedule(lambda: other.ladder.receive(message, self.now))
        elif isinstance(action, Observe):
            seen = (side.host, side.nat.next(self.now)) if self._answers else None
            self._schedule(lambda: side.ladder.observed(seen, self.now))
        elif isinstance(action, Open):
            side.nat.forget()
            side.sockets.append(action.count)
            side.ladder.opened(min(action.count, self._sockets), self.now)
        elif isinstance(action, Fire):
            self._shoot(side, action.shot)
        else:
            side.outcome = action

    def _shoot(self, side: Side, shot: Shot) -> None:
        source = (side.host, side.nat.port(shot.socket, shot.address, self.now))
        side.fired.append((self.now, source, shot.address))
        side.near += shot.near
        self._open.add((source, shot.address))
        if not shot.near:
            self._schedule(lambda: self._arrive(source, shot.address))

    def _arrive(self, source: HostPort, address: HostPort) -> None:
        if (address, source) in self._open and self.met is None:
            self.met = self.now

    def _schedule(self, call: Callable[[], None]) -> None:
        self._counter += 1
        self._later.append((self.now + DELAY, self._counter, call))

    def _deliver(self) -> None:
        while self._later and min(self._later)[0] <= self.now:
            event = min(self._later)
            self._later.remove(event)
            event[2]()


def climb(
    a: NATBehavior, b: NATBehavior, seed: int = 1, others: float = 0.0, until: float = 60.0
) -> World:
    """
    @return: a world in which A, controlling, and B have met, or given up.
    """
    world = World(Side(A_HOST, a, True, seed, others), Side(B_HOST, b, False, seed + 1, others))
    world.start()
    world.run(until)
    return world


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
        port = 0 if posture is Posture.SCATTERED else port
        stand = Stand(SESSION, number, reply, posture, (str(host), port))
        self.assertEqual(decodeMessage(encodeMessage(stand)), stand)

    def test_malformed(self) -> None:
        """
        Every other length, an unknown version, type, posture or flag, and ports that contradict the
        posture.
        """
        good = encodeMessage(Stand(SESSION, 3, True, Posture.AIMED, ("11.0.0.1", 5000)))
        bad = [good[:length] for length in range(len(good))] + [good + b"\0"]
        bad += [b"\x02" + good[1:], b"\x01\x09" + good[2:], good[:11] + b"\x02" + good[12:]]
        bad += [good[:12] + b"\x09" + good[13:], good[:12] + b"\x03" + good[13:]]
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
        A hundred in any second.
        """
        budget = Budget()
        taken = [now / 1000 for now in range(5000) if budget.take(now / 1000)]
        self.assertEqual(len(taken), 5 * SECOND_LIMIT)
        for first, last in zip(taken, taken[SECOND_LIMIT:], strict=False):
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
        for _ in range(SECOND_LIMIT):
            budget.take(0.0)
        times = self.fire(spray(B_HOST, Random(1)), budget, 30.0)
        self.assertGreaterEqual(times[0], 1.0)
        for first, last in zip(times, times[SECOND_LIMIT:], strict=False):
            self.assertGreaterEqual(last - first, 1.0 - 1e-9)

    def test_prime(self) -> None:
        """
        Every socket dies on the way once, and goes all of it twice.
        """
        shots = list(prime(3, (B_HOST, 5000)))
        self.assertEqual([shot.socket for shot in shots], [0, 1, 2] * 3)
        self.assertEqual([shot.near for shot in shots], [True] * 3 + [False] * 6)

    def test_early(self) -> None:
        """
        Nothing before its time, and nothing of an empty volley.
        """
        volley = Volley(scatter(2, (B_HOST, 5000)), Budget(), 0.0)
        self.assertIsNone(volley.take(0.0))
        empty = Volley(scatter(0, (B_HOST, 5000)), Budget(), 0.0)
        self.assertIsNone(empty.deadline(0.0))
        self.assertIsNone(empty.take(0.0))

    def test_spray(self) -> None:
        """
        No port twice, and none that a router acts on.
        """
        ports = [shot.address[1] for shot in spray(B_HOST, Random(1))]
        self.assertEqual(len(ports), len(set(ports)))
        self.assertGreater(len(ports), 1800)
        self.assertGreaterEqual(min(ports), 1024)
        crowded = {port for seed in range(60) for port in _ports(seed)}
        self.assertNotIn(5060, crowded)


def _ports(seed: int) -> list[int]:
    return [shot.address[1] for shot in spray(B_HOST, Random(seed))]


class ClimbTests(SynchronousTestCase):
    """
    Two ladders.
    """

    def test_steadyAimed(self) -> None:
        """
        One round, whoever offered: proposal, STUN, reply, knock.
        """
        for a, b in ((STEADY, AIMED), (AIMED, STEADY), (STEADY, DOWNWARD)):
            world = climb(a, b)
            self.assertAlmostEqual(world.met or 0.0, 4 * DELAY)

    def test_aimedAimed(self) -> None:
        """
        Each tells the other its port.
        """
        world = climb(AIMED, DOWNWARD)
        self.assertAlmostEqual(world.met or 0.0, 5 * DELAY)
        self.assertEqual([side.sockets for side in world.sides], [[AIM_DEPTHS[0]]] * 2)

    def test_aimedInACrowd(self) -> None:
        """
        Where others make 20 mappings a second, deeper aims find what the first one missed.
        """
        for a, b, share in ((STEADY, AIMED, 95), (AIMED, AIMED, 90)):
            worlds = [climb(a, b, seed, others=20.0) for seed in range(100)]
            met = [world for world in worlds if world.met is not None]
            self.assertGreaterEqual(len(met), share)

    def test_scattered(self) -> None:
        """
        Within 20 s nearly always, and half of the time in 5 s; never more than a hundred checks a
        second, from 256 sockets, and none by a side that was not asked.
        """
        worlds = [climb(STEADY, SCATTERED, seed) for seed in range(100)]
        times = sorted(world.met or 100.0 for world in worlds)
        self.assertLess(times[50], 5.0)
        self.assertLess(times[94], 20.0)
        for side in (side for world in worlds for side in world.sides):
            stamps = [time for time, _, _ in side.fired]
            for first, last in zip(stamps, stamps[SECOND_LIMIT:], strict=False):
                self.assertGreaterEqual(last - first, 1.0 - 1e-9)
        self.assertEqual({tuple(world.sides[1].sockets) for world in worlds}, {(SCATTER_SOCKETS,)})

    def test_primesFirst(self) -> None:
        """
        The first shots of the side with many sockets die on the way; the others follow later.
        """
        for behavior in (AIMED, SCATTERED):
            world = climb(STEADY, behavior)
            self.assertGreater(world.sides[1].near, 0)
            self.assertEqual(world.sides[0].near, 0)

    def test_mayMeet(self) -> None:
        """
        Where ordinary checks have a chance they come first.
        """
        self.assertAlmostEqual(climb(LOOSE, AIMED).met or 0.0, PATIENCE + 4 * DELAY)

    def test_nothingToDo(self) -> None:
        """
        Nobody says or sends anything, whoever proposes.
        """
        for a, b in ((SCATTERED, SCATTERED), (STEADY, STEADY), (UNKNOWN, AIMED)):
            world = climb(a, b)
            self.assertEqual((world.said, world.met), ([], None))

    def test_gaveUp(self) -> None:
        """
        An aim that is always wrong is followed by a spray; after 20 s there is silence.
        """
        aside = NATBehavior(SYMMETRIC, STRICT, PortAllocation.SEQUENTIAL, 7)
        world = World(Side(A_HOST, STEADY, True, 1), Side(B_HOST, aside, False, 2))
        world.sides[1].nat.behavior = SCATTERED
        world.sides[1].nat.next = lambda now: 1  # type: ignore[method-assign]
        world.start()
        world.run(100.0)
        self.assertEqual(world.sides[1].sockets, [*AIM_DEPTHS, SCATTER_SOCKETS])
        for side, end in zip(world.sides, (SPRAY_LIMIT, SPRAY_LIMIT + GRACE), strict=True):
            self.assertEqual(side.outcome, Over(True))
            self.assertLess(max(time for time, _, _ in side.fired), end + 1.0)
            self.assertIsNone(side.ladder.deadline(world.now))

    def test_stopped(self) -> None:
        """
        A path is open: nothing more is sent, whatever comes.
        """
        world = climb(STEADY, SCATTERED, until=1.0)
        for side in world.sides:
            fired = side.ladder.fired
            side.ladder.stop(world.now)
            world.drain(side)
            self.assertEqual(side.outcome, Over(False))
            side.ladder.receive(Stand(SESSION, 5, False, Posture.STEADY, (A_HOST, 5000)), 2.0)
            side.ladder.observed((A_HOST, 1), 2.0)
            side.ladder.opened(3, 2.0)
            side.ladder.handleTimeout(2.0)
            side.ladder.learn(STEADY, side.address, AIMED, frozenset({B_HOST}), 2.0)
            side.ladder.stop(3.0)
            self.assertIsNone(side.ladder.pollAction())
            self.assertEqual(side.ladder.fired, fired)


class TroubleTests(SynchronousTestCase):
    """
    What goes wrong, or is made to.
    """

    def test_noSTUN(self) -> None:
        """
        Nobody can tell the port: an aimed side that proposes gives up, and one that replies leaves
        it to the next rung.
        """
        world = World(Side(A_HOST, AIMED, True, 1), Side(B_HOST, AIMED, False, 2), answers=False)
        world.start()
        world.run(100.0)
        self.assertEqual((world.said, world.sides[0].outcome), ([], Over(True)))
        world = World(Side(A_HOST, STEADY, True, 1), Side(B_HOST, AIMED, False, 2), answers=False)
        world.start()
        world.run(100.0)
        self.assertEqual(world.sides[1].sockets, [SCATTER_SOCKETS])

    def test_noSockets(self) -> None:
        """
        A side that cannot open any stays silent; one that can open some uses those.
        """
        world = World(Side(A_HOST, STEADY, True, 1), Side(B_HOST, SCATTERED, False, 2), sockets=0)
        world.start()
        world.run(5.0)
        self.assertEqual([len(side.fired) for side in world.sides], [0, 0])
        world = World(Side(A_HOST, STEADY, True, 1), Side(B_HOST, SCATTERED, False, 2), sockets=9)
        world.start()
        world.run(1.0)
        sources = {source for _, source, _ in world.sides[1].fired}
        self.assertEqual(len(sources), 9)

    def test_silentSide(self) -> None:
        """
        Nobody replies: every round is proposed, and then that was all.
        """
        side = Side(A_HOST, STEADY, True, 1)
        side.ladder.learn(STEADY, side.address, AIMED, frozenset({B_HOST}), 0.0)
        said = self.runAlone(side)
        self.assertEqual([message.round for message in said], list(range(len(said))))
        self.assertLessEqual(len(said), ROUND_LIMIT)
        self.assertEqual(side.outcome, Over(True))

    def runAlone(self, side: Side, until: float = 1000.0) -> list[LadderMessage]:
        """
        @return: what a side says to nobody.
        """
        said, now = [], 0.0
        while True:
            while (action := side.ladder.pollAction()) is not None:
                if isinstance(action, Say):
                    said.append(action.message)
                elif isinstance(action, Over):
                    side.outcome = action
            due = side.ladder.deadline(now)
            if due is None or due > until:
                return said
            now = max(now, due)
            side.ladder.handleTimeout(now)

    def test_roundLimit(self) -> None:
        """
        Not even quick failures make more than so many rounds.
        """
        world = World(Side(A_HOST, AIMED, True, 1), Side(B_HOST, AIMED, False, 2), answers=False)
        world.start()
        world.run(100.0)
        self.assertLess(world.now, 101.0)
        self.assertEqual(world.sides[0].outcome, Over(True))

    def test_busy(self) -> None:
        """
        The other side sprays for somebody else: it says so, and is asked again when that is over.
        """
        b = Side(B_HOST, SCATTERED, False, 2)
        b.budget.beginSpray("somebody", 0.0)
        world = World(Side(A_HOST, STEADY, True, 1), b)
        world.start()
        world.run(10.0)
        b.budget.endSpray("somebody", world.now)
        world.run(100.0)
        self.assertGreater(world.met or 0.0, SPRAY_LIMIT)
        self.assertEqual(len([each for each in world.said if isinstance(each, Busy)]), 2)

    def test_busyForever(self) -> None:
        """
        A side that is always busy is not asked for ever; and the spray is free for others.
        """
        side = Side(A_HOST, STEADY, True, 1)
        side.ladder.learn(STEADY, side.address, SCATTERED, frozenset({B_HOST}), 0.0)
        now = 0.0
        for _ in range(BUSY_LIMIT + 1):
            now = max(now, side.ladder.deadline(now) or now)
            side.ladder.handleTimeout(now)
            side.budget.endSpray("nobody", now)
            while isinstance(action := side.ladder.pollAction(), Say):
                self.assertEqual(action.message.round, 0)
            side.ladder.receive(Busy(SESSION, 0, 65535), now)
            now += QUIET_TIME
        outcome = side.ladder.pollAction()
        self.assertEqual(outcome, Over(False))
        self.assertEqual(side.budget.beginSpray("another", now + QUIET_TIME), 0.0)

    def test_ownSpray(self) -> None:
        """
        This side sprays for another session: its own round waits.
        """
        a = Side(A_HOST, STEADY, True, 1)
        a.budget.beginSpray("somebody", 0.0)
        world = World(a, Side(B_HOST, SCATTERED, False, 2))
        world.start()
        world.run(5.0)
        self.assertEqual(world.said, [])
        a.budget.endSpray("somebody", world.now)
        world.run(200.0)
        self.assertIsNotNone(world.met)

    def test_strangers(self) -> None:
        """
        Addresses that the other side did not offer are not sent to, nor ports of services, nor
        another session's; and words that fit nothing change nothing.
        """
        b = Side(B_HOST, SCATTERED, False, 2)
        b.ladder.learn(SCATTERED, b.address, STEADY, frozenset({A_HOST}), 0.0)
        a = (A_HOST, 5000)
        for message in (
            Stand(SESSION, 0, False, Posture.STEADY, ("11.7.7.7", 5000)),
            Stand(SESSION, 0, False, Posture.STEADY, (A_HOST, 53)),
            Stand(SESSION, ROUND_LIMIT, False, Posture.STEADY, a),
            Stand(b"another.", 0, False, Posture.STEADY, a),
            Stand(SESSION, 0, True, Posture.STEADY, a),
            Stand(SESSION, 0, False, Posture.SCATTERED, (A_HOST, 0)),
            Busy(SESSION, 0, 1),
        ):
            b.ladder.receive(message, 1.0)
        self.assertIsNone(b.ladder.pollAction())
        self.assertIsNone(b.ladder.deadline(1.0))
        b.ladder.receive(Stand(SESSION, 0, False, Posture.STEADY, a), 1.0)
        self.assertEqual(b.ladder.pollAction(), Open(SCATTER_SOCKETS))
        b.ladder.receive(Stand(SESSION, 0, False, Posture.STEADY, a), 1.0)
        self.assertIsNone(b.ladder.pollAction())

    def test_wrongReplies(self) -> None:
        """
        A reply from elsewhere, for another round, or that fits no rung, is none.
        """
        a = Side(A_HOST, STEADY, True, 1)
        a.ladder.learn(STEADY, a.address, AIMED, frozenset({B_HOST}), 0.0)
        a.ladder.receive(Stand(SESSION, 0, True, Posture.AIMED, (B_HOST, 5000)), 0.0)
        a.ladder.handleTimeout(0.0)
        self.assertIsInstance(a.ladder.pollAction(), Say)
        for message in (
            Stand(SESSION, 0, True, Posture.AIMED, ("11.7.7.7", 5000)),
            Stand(SESSION, 1, True, Posture.AIMED, (B_HOST, 5000)),
            Stand(SESSION, 0, True, Posture.SCATTERED, (B_HOST, 0)),
            Stand(SESSION, 0, False, Posture.AIMED, (B_HOST, 5000)),
            Stand(SESSION, 0, True, Posture.STEADY, (B_HOST, 5000)),
        ):
            a.ladder.receive(message, 0.1)
        a.ladder.observed((A_HOST, 5000), 0.1)
        a.ladder.opened(5, 0.1)
        self.assertIsNone(a.ladder.pollAction())
        a.ladder.receive(Stand(SESSION, 0, True, Posture.AIMED, (B_HOST, 5000)), 0.1)
        self.assertIsInstance(a.ladder.pollAction(), Fire)

    def test_wrongProposals(self) -> None:
        """
        A steady side is no goal for a spray, and where nothing is possible nothing is answered.
        """
        for local, remote in ((STEADY, SCATTERED), (SCATTERED, SCATTERED), (UNKNOWN, STEADY)):
            b = Side(B_HOST, local, False, 2)
            b.ladder.learn(local, None, remote, frozenset({A_HOST}), 0.0)
            b.ladder.receive(Stand(SESSION, 0, False, Posture.STEADY, (A_HOST, 5000)), 0.0)
            b.ladder.observed((B_HOST, 5000), 0.0)
            b.ladder.opened(5, 0.0)
            self.assertIsNone(b.ladder.pollAction())

    def test_noAddress(self) -> None:
        """
        A scattered side that does not know its own host cannot say it; a steady one cannot begin,
        and ends when it loses its address.
        """
        b = Side(B_HOST, SCATTERED, False, 2)
        b.ladder.learn(SCATTERED, None, STEADY, frozenset({A_HOST}), 0.0)
        b.ladder.receive(Stand(SESSION, 0, False, Posture.STEADY, (A_HOST, 5000)), 0.0)
        self.assertEqual(b.ladder.pollAction(), Open(SCATTER_SOCKETS))
        b.ladder.opened(SCATTER_SOCKETS, 0.0)
        self.assertIsNone(b.ladder.pollAction())
        a = Side(A_HOST, STEADY, True, 1)
        a.ladder.learn(STEADY, None, AIMED, frozenset({B_HOST}), 0.0)
        self.assertIsNone(a.ladder.deadline(0.0))
        a.ladder.learn(STEADY, a.address, AIMED, frozenset({B_HOST}), 0.0)
        a.ladder.learn(STEADY, None, AIMED, frozenset({B_HOST}), 0.0)
        a.ladder.handleTimeout(1.0)
        self.assertEqual(a.ladder.pollAction(), Over(True))

    def test_lateTimes(self) -> None:
        """
        A reply that never came is waited for so long; deadlines never lie behind.
        """
        a = Side(A_HOST, STEADY, True, 1)
        a.ladder.learn(STEADY, a.address, AIMED, frozenset({B_HOST}), 0.0)
        a.ladder.handleTimeout(0.0)
        self.assertEqual(a.ladder.deadline(0.0), REPLY_LIMIT)
