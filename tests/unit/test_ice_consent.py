"""
Tests for L{p2ptwist.core.ice.consent} and L{p2ptwist.core.ice.datapath}, and for both in an agent.
"""

from __future__ import annotations

from itertools import pairwise
from random import Random

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.ice.candidate import CandidateType, makeCandidate
from p2ptwist.core.ice.checklist import Pace, Pair, PairState
from p2ptwist.core.ice.consent import Consent, keepaliveFor
from p2ptwist.core.ice.datapath import HELD_LIMIT, PARKED_LIMIT, DataPath
from p2ptwist.core.ice.events import DataReceived, EndKind, PathMoved, PathOpened, SessionEnded
from p2ptwist.core.ice.generation import Generation
from p2ptwist.core.ice.localside import LocalSide
from p2ptwist.core.machine import Transmit
from p2ptwist.core.nat import NATBehavior
from p2ptwist.core.stun.message import isSTUN
from tests.unit.icewire import ELSEWHERE, A, B, Peer, Weather, Wire, drainTransmits, isRequest


def consentAt(now: float, controlling: bool = True, seed: int = 1) -> Consent:
    """
    @return: a path's clock that was granted consent at C{now}.
    """
    consent = Consent(Random(seed), controlling, now)
    consent.granted(now, 0.04)
    return consent


def checkTimes(consent: Consent, until: float) -> list[float]:
    """
    Send the checks that are due, none of which is answered.

    @return: their times, until the path is dead.
    """
    times: list[float] = []
    while (now := consent.deadline()) <= until and consent.silentFor(now) is None:
        if consent.due(now):
            consent.checkSent(now)
            times.append(now)
    return times


class KeepaliveTests(SynchronousTestCase):
    """
    How often a path is kept alive.
    """

    def test_half(self) -> None:
        """
        At half of the shorter lifetime, within 5 and 15 s.
        """
        for local, remote, seconds in (
            (None, None, 15.0),
            (60.0, None, 15.0),
            (None, 30.0, 15.0),
            (20.0, None, 10.0),
            (40.0, 16.0, 8.0),
            (12.0, 40.0, 6.0),
            (2.0, None, 5.0),
        ):
            behaviors = (NATBehavior(lifetime=local), NATBehavior(lifetime=remote))
            self.assertEqual(keepaliveFor(*behaviors), seconds)
        self.assertEqual(keepaliveFor(), 15.0)


class ClockTests(SynchronousTestCase):
    """
    The clock of one path, with literal times.
    """

    def test_renewal(self) -> None:
        """
        While data flows consent is renewed 4 to 6 s after it was granted, spread evenly.
        """
        renewals = []
        for seed in range(200):
            consent = consentAt(100.0, seed=seed)
            self.assertTrue(consent.mayPass(101.0))
            renewals.append(consent.deadline() - 100.0)
        self.assertGreaterEqual(min(renewals), 4.0)
        self.assertLessEqual(max(renewals), 6.0)
        self.assertLess(min(renewals), 4.2)
        self.assertGreater(max(renewals), 5.8)

    def test_idle(self) -> None:
        """
        An idle path is checked every 15 s by the controlling side, and 2 s later by the other,
        which therefore never does.
        """
        self.assertEqual(consentAt(100.0).deadline(), 115.0)
        controlled = consentAt(100.0, controlling=False)
        self.assertEqual(controlled.deadline(), 117.0)
        controlled.answered(115.0)
        self.assertEqual(controlled.deadline(), 132.0)

    def test_lastData(self) -> None:
        """
        Data is followed by one renewal, and then by nothing.
        """
        consent = consentAt(100.0)
        self.assertTrue(consent.mayPass(103.0))
        due = consent.deadline()
        self.assertTrue(104.0 <= due <= 106.0)
        self.assertTrue(consent.due(due))
        consent.checkSent(due)
        consent.granted(due, 0.04)
        self.assertEqual(consent.deadline(), due + 15.0)

    def test_pause(self) -> None:
        """
        After a pause data waits for an answered check, which is due at once.
        """
        consent = consentAt(100.0)
        self.assertFalse(consent.mayPass(107.0))
        self.assertTrue(consent.due(107.0))
        consent.checkSent(107.0)
        self.assertFalse(consent.due(107.1))
        self.assertFalse(consent.mayPass(107.1))
        consent.granted(107.2, 0.04)
        self.assertTrue(consent.mayPass(107.2))
        self.assertTrue(consent.mayPass(113.2))
        self.assertFalse(consent.mayPass(119.3))

    def test_retransmission(self) -> None:
        """
        A check that is not answered is repeated, until nothing was heard for 5 s.
        """
        consent = consentAt(100.0)
        consent.mayPass(107.0)
        consent.checkSent(107.0)
        times = checkTimes(consent, 200.0)
        self.assertEqual(times, [107.25, 107.5, 108.0, 108.75, 109.5, 110.25, 111.0, 111.75])
        self.assertEqual(consent.deadline(), 112.0)
        self.assertIsNone(consent.silentFor(111.9))
        self.assertEqual(consent.silentFor(112.0), 12.0)

    def test_longRoundTrip(self) -> None:
        """
        On long ways a check is not repeated before its answer may be there.
        """
        consent = Consent(Random(1), True, 100.0)
        consent.granted(100.0, 1.0)
        consent.checkSent(115.0)
        self.assertEqual(checkTimes(consent, 200.0), [116.5, 118.0, 119.5])

    def test_heardButNoConsent(self) -> None:
        """
        When the other side is heard but does not answer, the path is dead 24 s after the check,
        which is 30 s after the last answer at most.
        """
        consent = consentAt(100.0)
        now = 100.0
        while consent.silentFor(now) is None:
            consent.mayPass(now)
            consent.heard(now)
            if consent.due(now):
                consent.checkSent(now)
            now = round(now + 0.1, 6)
            self.assertLess(now, 131.0)
        self.assertGreaterEqual(now, 128.0)
        self.assertLessEqual(now, 130.1)

    def test_suspended(self) -> None:
        """
        A machine that slept for an hour asks before it concludes that the path is dead.
        """
        consent = consentAt(100.0)
        self.assertIsNone(consent.silentFor(3700.0))
        self.assertTrue(consent.due(3700.0))
        consent.checkSent(3700.0)
        self.assertIsNone(consent.silentFor(3704.9))

    @given(
        st.lists(
            st.tuples(
                st.floats(0.0, 8.0), st.sampled_from(["data", "answer", "heard", "checked", "none"])
            ),
            max_size=40,
        ),
        st.booleans(),
    )
    def test_bounds(self, steps: list[tuple[float, str]], controlling: bool) -> None:
        """
        Whatever happens, data leaves within 30 s of an answer alone, the clock makes progress,
        and no mapping is idle for 20 s.
        """
        consent = consentAt(0.0, controlling)
        now = granted = touched = 0.0
        for pause, what in steps:
            until, spins = now + pause, 0
            while consent.deadline() <= until and consent.silentFor(now) is None:
                spins = spins + 1 if consent.deadline() <= now else 0
                self.assertLess(spins, 5)
                now = max(now, consent.deadline())
                if consent.silentFor(now) is None and consent.due(now):
                    consent.checkSent(now)
                    self.assertLess(now - touched, 20.0)
                    touched = now
            if consent.silentFor(max(now, until)) is not None:
                return
            now = max(now, until)
            if what == "data" and consent.mayPass(now):
                self.assertLessEqual(now - granted, 30.0)
                touched = now
            elif what == "answer":
                consent.granted(now, 0.04)
                granted = now
            elif what == "heard":
                consent.heard(now)
            elif what == "checked":
                consent.answered(now)
                touched = now


class DataPathTests(SynchronousTestCase):
    """
    What waits, and what may leave.
    """

    def setUp(self) -> None:
        """
        A closed path, and a pair.
        """
        self.path = DataPath(Random(1))
        self.pair = Pair(makeCandidate(CandidateType.HOST, B), 1, True)
        side = LocalSide(b"12345678")
        self.generation = Generation(0, True, side, Pace(0.0), Random(1).randbytes, 0.0)

    def test_held(self) -> None:
        """
        64 datagrams wait for the path, in order.
        """
        for number in range(HELD_LIMIT):
            self.assertTrue(self.path.hold(b"%d" % number))
        self.assertFalse(self.path.hold(b"more"))
        self.assertEqual(HELD_LIMIT, 64)
        self.assertIsNone(self.path.takeSendable(0.0))
        self.path.prove(self.generation, self.pair, True, 0.0)
        self.assertEqual(
            [self.path.takeSendable(0.0) for _ in range(65)],
            [*(Transmit(b"%d" % number, B) for number in range(64)), None],
        )

    def test_credit(self) -> None:
        """
        Before the address is proved, as many bytes leave as came, and not in pieces.
        """
        self.path.open(self.generation, self.pair, 0.0)
        self.pair.hear(10)
        for data in (b"1234", b"5678", b"9012"):
            self.path.hold(data)
        self.assertEqual(self.path.takeSendable(0.0), Transmit(b"1234", B))
        self.assertEqual(self.path.takeSendable(0.0), Transmit(b"5678", B))
        self.assertIsNone(self.path.takeSendable(0.0))
        self.pair.hear(2)
        self.assertEqual(self.path.takeSendable(0.0), Transmit(b"9012", B))

    def test_suspended(self) -> None:
        """
        A dead path sends nothing, whatever its address had to its credit, and one that was never
        open neither.
        """
        self.path.suspend()
        self.path.prove(self.generation, self.pair, True, 0.0)
        self.pair.hear(1000)
        self.path.suspend()
        self.path.hold(b"data")
        self.assertIsNone(self.path.takeSendable(0.0))
        self.path.prove(self.generation, self.pair, True, 1.0)
        self.assertEqual(self.path.takeSendable(1.0), Transmit(b"data", B))

    def test_sameProof(self) -> None:
        """
        To prove the pair in use again changes nothing.
        """
        self.path.prove(self.generation, self.pair, True, 0.0)
        consent = self.path.consent
        self.path.prove(self.generation, self.pair, True, 1.0)
        self.assertIs(self.path.consent, consent)

    def test_parked(self) -> None:
        """
        16 datagrams wait for the proof of their senders; those of others go on waiting.
        """
        self.assertTrue(self.path.park(b"other", A))
        for number in range(1, PARKED_LIMIT):
            self.assertTrue(self.path.park(b"%d" % number, B))
        self.assertFalse(self.path.park(b"more", B))
        self.assertEqual(PARKED_LIMIT, 16)
        self.assertEqual(self.path.unpark(B), [b"%d" % number for number in range(1, 16)])
        self.assertEqual(self.path.unpark(B), [])
        self.assertEqual(self.path.unpark(A), [b"other"])

    def test_clear(self) -> None:
        """
        Nothing is left of what waited.
        """
        self.path.hold(b"held")
        self.path.park(b"parked", B)
        self.path.clear()
        self.path.prove(self.generation, self.pair, True, 0.0)
        self.assertIsNone(self.path.takeSendable(0.0))
        self.assertEqual(self.path.unpark(B), [])

    def test_heard(self) -> None:
        """
        Signs of life count for the path in use alone.
        """
        self.path.heardFrom(B, 1.0)
        self.path.prove(self.generation, self.pair, True, 0.0)
        consent = self.path.consent
        assert consent is not None
        consent.checkSent(15.0)
        self.path.heardFrom(ELSEWHERE, 18.0)
        self.assertEqual(consent.silentFor(20.0), 20.0)
        self.path.heardFrom(B, 18.0)
        self.assertIsNone(consent.silentFor(20.0))
        other = Pair(makeCandidate(CandidateType.HOST, A), 1, True)
        self.path.confirm(other, True, 22.0)
        self.assertEqual(consent.silentFor(23.0), 5.0)
        self.path.confirm(self.pair, True, 22.0)
        self.assertIsNone(consent.silentFor(23.0))


class FlowTests(SynchronousTestCase):
    """
    Two agents whose path is open.
    """

    def connect(self, **kwargs: object) -> Wire:
        """
        @return: a wire on which the path was opened and nominated.
        """
        wire = Wire(**kwargs)  # type: ignore[arg-type]
        wire.connect()
        return wire

    def talk(self, wire: Wire, until: float, every: float = 0.1, sides: str = "ab") -> None:
        """
        Let each side send data, at even times.
        """
        while wire.now < until:
            for side in sides:
                wire.agents[side].write(b"data", wire.now)
            wire.run(wire.now + every)

    def test_renewals(self) -> None:
        """
        While data flows each side asks every 4 to 6 s, and no more often.
        """
        wire = self.connect()
        self.talk(wire, 121.0)
        for side in "ab":
            times = [time for time, *_ in wire.checks(side, 1.0)]
            gaps = [second - first for first, second in pairwise(times)]
            self.assertGreaterEqual(min(gaps), 4.0)
            # The answer takes one round trip, and the renewal counts from there.
            self.assertLessEqual(max(gaps), 6.0 + 0.08 + 1e-6)
            self.assertEqual(len(wire.payloads(side)), len(wire.payloads("a")))
        self.assertEqual(wire.kinds("a").count("DataReceived"), len(wire.payloads("b")))

    def test_oneWay(self) -> None:
        """
        The side that only listens does not ask.
        """
        wire = self.connect()
        self.talk(wire, 60.0, sides="a")
        self.assertEqual(wire.checks("b", 1.0), [])
        self.assertGreaterEqual(len(wire.checks("a", 1.0)), 9)

    def test_pause(self) -> None:
        """
        After a pause the first data waits for one round trip, whose answer is asked for at once.
        """
        wire = self.connect()
        wire.run(10.0)
        wire.a.write(b"first", 10.0)
        wire.a.write(b"second", 10.01)
        wire.run(11.0)
        self.assertEqual([round(time, 6) for time, *_ in wire.checks("a", 10.0)], [10.0])
        self.assertEqual(
            [(round(time, 6), data) for time, data, _ in wire.payloads("a", 10.0)],
            [(10.08, b"first"), (10.08, b"second")],
        )
        wire.a.write(b"third", 11.0)
        self.assertEqual(drainTransmits(wire.a), [Transmit(b"third", B)])

    def test_idle(self) -> None:
        """
        For ten idle minutes one side sends one check every 15 s: eight packets a minute and side
        at most, and neither NAT sees a silence of 20 s.
        """
        wire = self.connect()
        wire.run(661.0)
        self.assertEqual(wire.checks("b", 61.0), [])
        for side in "ab":
            times = [time for time, *_ in wire.sent[side] if time >= 61.0]
            for minute in range(10):
                begin = 61.0 + 60.0 * minute
                self.assertEqual(sum(begin <= time < begin + 60.0 for time in times), 4)
            gaps = [second - first for first, second in pairwise(times)]
            self.assertLess(max(gaps), 16.0)
        self.assertEqual((wire.kinds("a"), wire.kinds("b")), (["PathOpened"], ["PathOpened"]))

    def test_idleUnderShortMappings(self) -> None:
        """
        Where either NAT is known to forget sooner, the checks of an idle path are half of that
        apart, also when it becomes known only later; what the other side says does not make them
        more frequent than 5 s.
        """
        for side, lifetime, gap in (("a", 24.0, 12.0), ("b", 12.0, 6.0), ("b", 1.0, 5.0)):
            wire = self.connect()
            wire.run(100.0)
            wire.agents[side].setBehavior(NATBehavior(lifetime=lifetime))
            wire.run(300.0)
            for each in "ab":
                times = [time for time, *_ in wire.sent[each] if time >= 140.0]
                gaps = [second - first for first, second in pairwise(times)]
                self.assertLess(max(gaps), gap + 0.2)
                self.assertGreater(len(times), 160.0 / gap - 2)
                self.assertLess(len(times), 160.0 / gap + 3)

    def test_idleThroughLoss(self) -> None:
        """
        The same through loss: what is lost is repeated, and no mapping is forgotten.
        """
        wire = self.connect(weather=Weather(loss=0.1, duplication=0.05, jitter=0.02), seed=3)
        wire.run(661.0)
        for side in "ab":
            times = [time for time, *_ in wire.sent[side] if time >= 61.0]
            gaps = [second - first for first, second in pairwise(times)]
            self.assertLess(max(gaps), 20.0)
            self.assertLess(len(times), 80)
        self.assertEqual(wire.kinds("a"), ["PathOpened"])

    def vanish(self, seed: int, sides: str) -> list[tuple[float, SessionEnded]]:
        """
        Let data flow, then cut the wire at 20 s, signals included.

        @return: how the sessions of C{sides} ended, and how many seconds after anything came.
        """
        wire = self.connect(seed=seed)
        self.talk(wire, 20.0, sides=sides)
        wire.drop = lambda side, data, to: True
        wire.dropSignals = True
        self.talk(wire, 40.0, sides=sides)
        ends = []
        for side in sides:
            (heard, _), (time, event) = wire.events[side][-2:]
            assert isinstance(event, SessionEnded)
            ends.append((time - heard, event))
            self.assertIsNone(wire.agents[side].deadline())
        return ends

    def test_vanished(self) -> None:
        """
        When the other side vanishes while data flows, the end is told within 5 to 11 s, with its
        reason.
        """
        for seed in range(20):
            for silence, event in self.vanish(seed, "ab"):
                self.assertTrue(5.0 <= silence <= 11.0, silence)
                self.assertEqual(event.kind, EndKind.LOST)
                self.assertRegex(event.reason, r"^nothing came from the other side for \d+\.\d s$")

    def test_vanishedWhileIdle(self) -> None:
        """
        On an idle path the end is told by the next keepalive and 5 s.
        """
        wire = self.connect()
        wire.drop = lambda side, data, to: True
        wire.run(60.0)
        time, event = wire.events["a"][-1]
        assert isinstance(event, SessionEnded)
        self.assertLess(time, 1.0 + 15.0 + 5.0)
        # The other side learned of it by a signal.
        left = wire.last("b")
        assert isinstance(left, SessionEnded)
        self.assertEqual(left.kind, EndKind.LEFT)
        self.assertEqual(left.reason, f"the other side ended it: {event.reason}")

    def test_consentWithdrawn(self) -> None:
        """
        A side that sends data but answers no check has withdrawn its consent: within 30 s of its
        last answer nothing goes there any more.
        """
        peer = Peer()
        peer.connect(0.0)
        now = sent = 0.0
        while peer.agent.deadline() is not None:
            now = round(now + 0.1, 6)
            peer.agent.receiveDatagram(b"data", B, now)
            peer.agent.handleTimeout(now)
            peer.agent.write(b"data", now)
            if any(not isSTUN(each.data) for each in drainTransmits(peer.agent)):
                sent = now
            self.assertLess(now, 31.0)
        self.assertTrue(27.0 < sent <= 30.0, sent)
        ended = peer.poll()[-1]
        assert isinstance(ended, SessionEnded)
        self.assertEqual(ended.kind, EndKind.LOST)

    def test_loss(self) -> None:
        """
        A tenth of all datagrams lost in each direction does not end a path that is in use.
        """
        wire = self.connect(weather=Weather(loss=0.1), seed=11)
        self.talk(wire, 600.0, every=0.5)
        self.assertNotIn("SessionEnded", wire.kinds("a") + wire.kinds("b"))


class OpeningTests(SynchronousTestCase):
    """
    What may be sent, and what is taken, before the path is proved.
    """

    def test_followsCheck(self) -> None:
        """
        Where the other side was heard the path opens with the triggered check, and within the
        bytes that came data follows at once.
        """
        peer = Peer()
        peer.describe()
        peer.agent.write(b"x" * 60, 0.0)
        peer.agent.write(b"y" * 60, 0.0)
        self.assertEqual(drainTransmits(peer.agent), [])
        check = peer.makeCheck()
        peer.agent.receiveDatagram(check, B, 0.0)
        sent = drainTransmits(peer.agent)
        self.assertEqual([isRequest(each.data) for each in sent], [False, True, False])
        self.assertEqual(sent[2], Transmit(b"x" * 60, B))
        self.assertLess(len(check), 120)
        self.assertEqual(peer.poll(), [PathOpened(B)])
        peer.answer(sent[1], 0.04)
        self.assertEqual(drainTransmits(peer.agent), [Transmit(b"y" * 60, B)])
        self.assertEqual(peer.poll(), [])

    @given(st.lists(st.tuples(st.booleans(), st.integers(1, 400)), max_size=40))
    def test_neverMore(self, steps: list[tuple[bool, int]]) -> None:
        """
        Whatever is written and however often the other side checks, an address that proved
        nothing gets no more bytes of data than came from it.
        """
        peer = Peer()
        peer.describe()
        came = left = 0
        for check, length in steps:
            if check:
                data = peer.makeCheck()
                came += len(data)
                peer.agent.receiveDatagram(data, B, 0.0)
            else:
                peer.agent.write(b"d" * length, 0.0)
            left += sum(
                len(each.data) for each in drainTransmits(peer.agent) if not isSTUN(each.data)
            )
            self.assertLessEqual(left, came)

    def test_overflow(self) -> None:
        """
        What does not fit into the queue is dropped and counted.
        """
        peer = Peer()
        for _ in range(HELD_LIMIT + 3):
            peer.agent.write(b"data", 0.0)
        self.assertEqual(peer.agent.counters.overflowed, 3)

    def test_parked(self) -> None:
        """
        Data that overtakes the check which proves its sender is delivered after it; what is too
        much, or from somewhere else, is counted.
        """
        peer = Peer()
        peer.describe(())
        self.assertFalse(peer.agent.receiveDatagram(b"stray", B, 0.0))
        peer.more(peer.agent._localSide.more(0).candidates)
        for number in range(PARKED_LIMIT):
            self.assertTrue(peer.agent.receiveDatagram(b"%d" % number, A, 0.0))
        self.assertFalse(peer.agent.receiveDatagram(b"too much", A, 0.0))
        self.assertEqual(peer.agent.counters.stray, 2)
        self.assertEqual(peer.poll(), [])
        peer.check(0.1, A)
        self.assertEqual(
            peer.poll(),
            [*(DataReceived(b"%d" % number) for number in range(PARKED_LIMIT)), PathOpened(A)],
        )
        self.assertTrue(peer.agent.acceptsFrom(A))
        self.assertFalse(peer.agent.acceptsFrom(B))

    def test_moves(self) -> None:
        """
        Data goes where a check was answered first, and moves when a better address answers.
        """
        peer = Peer()
        low = makeCandidate(CandidateType.RELAYED, ELSEWHERE)
        peer.describe([low, makeCandidate(CandidateType.HOST, B)], complete=False)
        peer.agent.handleTimeout(0.0)
        requests = {each.address: each for each in peer.requests()}
        peer.answer(requests[ELSEWHERE], 0.1)
        self.assertEqual(peer.poll(), [PathOpened(ELSEWHERE)])
        peer.agent.write(b"data", 0.1)
        self.assertEqual(drainTransmits(peer.agent)[-1], Transmit(b"data", ELSEWHERE))
        peer.answer(requests[B], 0.2)
        self.assertEqual(peer.poll(), [PathMoved(B)])
        peer.agent.write(b"data", 0.2)
        self.assertEqual(drainTransmits(peer.agent)[-1], Transmit(b"data", B))
        self.assertEqual(peer.pair(B).mapped, A)
        self.assertEqual(peer.pairs(), {B: PairState.SUCCEEDED, ELSEWHERE: PairState.SUCCEEDED})

    def test_noWayBack(self) -> None:
        """
        Data does not move to an address of lower priority that answers later.
        """
        peer = Peer()
        low = makeCandidate(CandidateType.RELAYED, ELSEWHERE)
        peer.describe([low, makeCandidate(CandidateType.HOST, B)], complete=False)
        peer.agent.handleTimeout(0.0)
        requests = {each.address: each for each in peer.requests()}
        peer.answer(requests[B], 0.1)
        peer.answer(requests[ELSEWHERE], 0.2)
        self.assertEqual(peer.poll(), [PathOpened(B)])
