"""
Tests for L{p2ptwist.core.ice.agent}: two agents find each other, or do not; restarts; the end.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.address import HostPort
from p2ptwist.core.errors import LocalUsageError
from p2ptwist.core.ice.agent import Agent
from p2ptwist.core.ice.candidate import CandidateType, makeCandidate
from p2ptwist.core.ice.check import decodeCheck
from p2ptwist.core.ice.checklist import PairState
from p2ptwist.core.ice.events import (
    DataReceived,
    EndKind,
    PathMoved,
    PathOpened,
    SessionEnded,
    SignalQueued,
)
from p2ptwist.core.ice.generation import LIMIT, PATIENCE
from p2ptwist.core.ice.reason import explainFailure, explainSilence
from p2ptwist.core.ice.signal import Description, Goodbye, MoreCandidates, SignalType
from p2ptwist.core.nat import NATBehavior, NATFiltering, NATMapping
from p2ptwist.core.stun.message import decode
from tests.unit.icewire import (
    ELSEWHERE,
    A,
    B,
    Peer,
    Wire,
    drainEvents,
    drainTransmits,
    hostCandidates,
    isRequest,
)

SYMMETRIC = NATBehavior(
    NATMapping.ADDRESS_AND_PORT_DEPENDENT, NATFiltering.ADDRESS_AND_PORT_DEPENDENT
)
HOME = NATBehavior(NATMapping.ENDPOINT_INDEPENDENT, NATFiltering.ADDRESS_AND_PORT_DEPENDENT)


def ended(event: object) -> SessionEnded:
    """
    @return: the event, which is the end.
    """
    assert isinstance(event, SessionEnded), event
    return event


class ConnectTests(SynchronousTestCase):
    """
    Two agents find each other.
    """

    def test_opens(self) -> None:
        """
        Both sides open a path to the other's address, and data crosses both ways.
        """
        wire = Wire()
        wire.connect()
        self.assertEqual(wire.kinds("a"), ["PathOpened"])
        self.assertEqual(wire.kinds("b"), ["PathOpened"])
        self.assertEqual(wire.last("a"), PathOpened(B))
        self.assertEqual(wire.last("b"), PathOpened(A))
        wire.a.write(b"hello", 1.0)
        wire.b.write(b"world", 1.0)
        wire.run(2.0)
        self.assertEqual(wire.events["b"][-1], (1.04, DataReceived(b"hello")))
        self.assertEqual(wire.events["a"][-1], (1.04, DataReceived(b"world")))

    def test_firstData(self) -> None:
        """
        What was written before there was a path arrives one way after the answer did: the
        offering side's check meets the other side's, and its data follows.
        """
        wire = Wire()
        wire.a.write(b"first", 0.0)
        wire.connect()
        arrived = [time for time, event in wire.events["b"] if isinstance(event, DataReceived)]
        # Offer and answer take 0.05 s each, a datagram 0.04 s.
        self.assertEqual([round(time, 6) for time in arrived], [0.14])

    def test_flowing(self) -> None:
        """
        Data flows on a path with consent: not before there is one, and after a pause only when
        consent was renewed.
        """
        wire = Wire()
        self.assertFalse(wire.a.isFlowing(0.0))
        wire.connect()
        self.assertTrue(wire.a.isFlowing(wire.now))
        self.assertFalse(wire.a.isFlowing(wire.now + 30.0))

    def test_many(self) -> None:
        """
        Many datagrams at once go past the agent only where nothing has to wait.
        """
        wire = Wire()
        self.assertIsNone(wire.a.passMany(0.0))
        wire.connect()
        self.assertEqual(wire.a.passMany(wire.now), B)
        self.assertIsNone(wire.a.passMany(wire.now + 30.0))
        wire.a.close("done", wire.now)
        self.assertIsNone(wire.a.passMany(wire.now))

    def test_pair(self) -> None:
        """
        An open path tells its addresses and its round trip.
        """
        wire = Wire()
        self.assertIsNone(wire.a.pair)
        wire.connect()
        pair = wire.a.pair
        assert pair is not None
        self.assertEqual((pair.address, pair.mapped), (B, A))
        self.assertAlmostEqual(pair.roundTrip or 0.0, 0.08)
        self.assertTrue(wire.a.acceptsFrom(B))
        self.assertFalse(wire.a.acceptsFrom(A))

    def test_nomination(self) -> None:
        """
        The controlling side nominates one pair with a check of its own (RFC 8445 section 8.1.1),
        and then no more checks are sent.
        """
        wire = Wire()
        wire.connect()
        nominating = [
            time for time, message, _ in wire.checks("a") if decodeCheck(message).nominates
        ]
        self.assertEqual(len(nominating), 1)
        self.assertFalse(any(decodeCheck(message).nominates for _, message, _ in wire.checks("b")))
        for agent in wire.agents.values():
            self.assertTrue(agent._lineage.current.completed)
        self.assertLess(len(wire.checks("a")) + len(wire.checks("b")), 10)
        before = len(wire.checks("a"))
        wire.run(14.0)
        self.assertEqual(len(wire.checks("a")), before)

    def test_severalCandidates(self) -> None:
        """
        Of several addresses that work the one with the highest priority is chosen by both.
        """
        wire = Wire()
        second: HostPort = ("2001:db8::2", 4002)
        wire.b.addCandidates(hostCandidates(B), 0.0)
        wire.offer()
        wire.b.addCandidates(hostCandidates(second), 0.0)
        wire.connect()
        self.assertEqual(wire.last("a"), PathOpened(B))
        self.assertEqual(wire.b._lineage.current.checklist.get(A), wire.b.pair)

    def test_peerReflexive(self) -> None:
        """
        A side whose candidates are all wrong is found where its checks come from.
        """
        wire = Wire()
        for side, agent in wire.agents.items():
            wrong = ("10.9.9.9", 4000) if side == "b" else wire.address[side]
            agent.addCandidates(hostCandidates(wrong), 0.0)
            agent.endCandidates(0.0)
        wire.a.start(0.0)
        wire.run(2.0)
        self.assertEqual(wire.last("a"), PathOpened(B))
        self.assertEqual(wire.last("b"), PathOpened(A))
        pair = wire.a.pair
        assert pair is not None
        self.assertEqual(pair.remote.type, CandidateType.PEER_REFLEXIVE)
        # The priority is the one that B's checks said (RFC 8445 section 7.3.1.3).
        self.assertEqual(pair.remote.priority >> 24, 110)

    def test_earlyChecks(self) -> None:
        """
        Checks that come before the answer are answered, and their address is the first that is
        checked when it has come.
        """
        wire = Wire(signalDelay=0.05)
        answers: list[Callable[[], None]] = []
        carry = wire.signal

        def slow(to: str, signal: object) -> None:
            """
            Keep what goes to the offering side for a second.
            """
            if to == "a":
                wire.later(1.0, lambda: carry("a", signal))  # type: ignore[arg-type]
            else:
                carry(to, signal)  # type: ignore[arg-type]

        wire.signal = slow  # type: ignore[method-assign]
        wire.offer()
        wire.run(1.0)
        self.assertEqual(answers, [])
        self.assertEqual(wire.checks("a"), [])
        # B's checks were answered, so B has proved A.
        self.assertEqual(wire.last("b"), PathOpened(A))
        self.assertEqual(wire.b._lineage.current.checklist.get(A), wire.b.pair)
        wire.run(2.0)
        self.assertEqual(wire.last("a"), PathOpened(B))
        first = wire.checks("a")[0]
        self.assertEqual((round(first[0], 6), first[2]), (1.1, B))

    def test_start(self) -> None:
        """
        The answering side makes no offer; before an answer the path is closed.
        """
        wire = Wire()
        self.assertRaises(LocalUsageError, wire.b.start, 0.0)
        self.assertTrue(wire.a.controlling)
        self.assertFalse(wire.b.controlling)
        wire.a.start(0.0)
        (event,) = drainEvents(wire.a)
        assert isinstance(event, SignalQueued)
        offer = event.signal
        assert isinstance(offer, Description)
        self.assertEqual((offer.type, offer.generation), (SignalType.OFFER, 0))
        self.assertEqual(wire.a.fragments, (offer.fragment,))
        self.assertEqual(offer.session, wire.b.session)
        self.assertEqual(drainTransmits(wire.a), [])

    def test_awaits(self) -> None:
        """
        An agent knows the transactions of its own checks.
        """
        peer = Peer()
        peer.describe(hostCandidates(B))
        peer.agent.handleTimeout(0.0)
        (request,) = peer.requests()
        transactionID = decode(request.data).transactionID
        self.assertTrue(peer.agent.awaits(transactionID))
        self.assertFalse(peer.agent.awaits(bytes(12)))
        peer.answer(request, 0.1)
        self.assertFalse(peer.agent.awaits(transactionID))


class TrickleTests(SynchronousTestCase):
    """
    Candidates that come after the description (RFC 8838).
    """

    def test_trickled(self) -> None:
        """
        Candidates that are found late are told and checked.
        """
        wire = Wire()
        wire.a.start(0.0)
        wire.run(0.2)
        for side, agent in wire.agents.items():
            agent.addCandidates(hostCandidates(wire.address[side]), wire.now)
            agent.endCandidates(wire.now)
        wire.run(1.0)
        self.assertEqual(wire.kinds("a"), ["PathOpened"])
        self.assertEqual(wire.kinds("b"), ["PathOpened"])

    def test_nothingNew(self) -> None:
        """
        What is known already is not told again.
        """
        wire = Wire()
        wire.a.addCandidates(hostCandidates(A), 0.0)
        self.assertEqual(drainEvents(wire.a), [])
        wire.a.start(0.0)
        drainEvents(wire.a)
        wire.a.addCandidates(hostCandidates(A), 0.0)
        self.assertEqual(drainEvents(wire.a), [])
        for _ in range(2):
            wire.a.setBehavior(HOME)
            wire.a.endCandidates(0.0)
        told = []
        for event in drainEvents(wire.a):
            assert isinstance(event, SignalQueued) and isinstance(event.signal, MoreCandidates)
            told.append((event.signal.complete, event.signal.behavior))
        self.assertEqual(told, [(False, HOME), (True, HOME)])

    def test_notNeeded(self) -> None:
        """
        When a pair was nominated, candidates that come later are kept for a restart.
        """
        wire = Wire()
        wire.offer(complete=False)
        wire.run(2.0)
        wire.dropSignals = True
        wire.a.addCandidates(hostCandidates(ELSEWHERE), 2.0)
        self.assertEqual(drainEvents(wire.a), [])
        wire.a.restart(2.0)
        (event,) = drainEvents(wire.a)
        assert isinstance(event, SignalQueued)
        assert isinstance(event.signal, Description)
        self.assertEqual(len(event.signal.candidates), 2)

    def test_disorder(self) -> None:
        """
        Signals of one session that are reordered, repeated or, but for the last, lost do no harm.
        """
        for seed in range(50):
            wire = Wire(seed)
            drawn: list[float] = []

            def carry(
                to: str, signal: object, wire: Wire = wire, drawn: list[float] = drawn
            ) -> None:
                """
                Deliver it up to three times, at any time within half a second.
                """
                first = isinstance(signal, Description)
                for _ in range(wire.random.randint(1 if first else 0, 3)):
                    drawn.append(wire.random.random() / 2)
                    wire.later(
                        drawn[-1],
                        lambda: wire.agents[to].receiveSignal(signal, wire.now),  # type: ignore[arg-type]
                    )

            wire.signal = carry  # type: ignore[method-assign]
            wire.a.start(0.0)
            for step, side in enumerate("abab"):
                wrong = hostCandidates(("10.0.0.1", 4000 + step))
                wire.agents[side].addCandidates(
                    wrong if step < 2 else hostCandidates(wire.address[side]), wire.now
                )
                wire.run(wire.now + 0.1)
            for agent in wire.agents.values():
                agent.endCandidates(wire.now)
            wire.run(1.0)
            # Nothing was lost that a last signal would not make up for.
            for side, other in ("ab", "ba"):
                more = wire.agents[side]._localSide.more(0)
                wire.agents[other].receiveSignal(more, wire.now)
            wire.run(6.0)
            self.assertEqual(wire.kinds("a")[0], "PathOpened", seed)
            self.assertEqual(wire.kinds("b")[0], "PathOpened", seed)
            self.assertNotIn("SessionEnded", wire.kinds("a") + wire.kinds("b"))

    def test_foreign(self) -> None:
        """
        Signals of another session change nothing.
        """
        peer = Peer()
        peer.agent.receiveSignal(Goodbye(b"xxxxxxxx", "bye"), 0.0)
        self.assertEqual(peer.poll(), [])
        self.assertIsNotNone(peer.agent.deadline())


class FailureTests(SynchronousTestCase):
    """
    There is no path.
    """

    def test_nothingAnswers(self) -> None:
        """
        When all was tried and both sides have no more candidates, the session fails after 10 s,
        with a reason that names both NATs.
        """
        wire = Wire()
        wire.drop = lambda side, data, to: True
        for agent, behavior in ((wire.a, SYMMETRIC), (wire.b, HOME)):
            agent.setBehavior(behavior)
        wire.connect(30.0)
        time, event = wire.events["a"][-1]
        self.assertEqual(time, PATIENCE)
        end = ended(event)
        self.assertEqual(end.kind, EndKind.FAILED)
        self.assertEqual((end.elapsed, end.checks), (PATIENCE, 7))
        self.assertEqual(
            end.reason,
            "no direct path in 10.0 s: 7 checks to 1 addresses were not answered; "
            "birthday spraying was not tried, as it is switched off here; "
            "this side's NAT has address-and-port-dependent mapping with "
            "address-and-port-dependent filtering, the other side's has endpoint-independent "
            "mapping with address-and-port-dependent filtering; this side's NAT uses another port "
            "for every destination: a forwarded port there would help",
        )
        other = ended(wire.last("b"))
        self.assertEqual(other.kind, EndKind.FAILED)
        self.assertIn("; the other side's NAT uses another port", other.reason)
        for agent in wire.agents.values():
            self.assertIsNone(agent.deadline())

    def test_moreMayCome(self) -> None:
        """
        While either side may still find candidates, it is tried for 20 s.
        """
        wire = Wire()
        wire.drop = lambda side, data, to: True
        wire.dropSignals = False
        wire.offer(complete=False)
        wire.run(60.0)
        self.assertEqual(wire.events["a"][-1][0], LIMIT)

    def test_noCandidates(self) -> None:
        """
        Without any address the session fails in the same time.
        """
        peer = Peer()
        peer.describe()
        peer.step(30.0)
        self.assertEqual(ended(peer.events[-1]).elapsed, PATIENCE)

    def test_noAnswer(self) -> None:
        """
        When the other side never says anything, that is the reason.
        """
        wire = Wire()
        wire.dropSignals = True
        wire.connect(30.0)
        end = ended(wire.last("a"))
        self.assertEqual(end.kind, EndKind.FAILED)
        self.assertEqual(end.reason, explainSilence(LIMIT))

    def test_heardOnly(self) -> None:
        """
        When the other side is heard but its NAT lets no answer in, an opened path is lost.
        """
        peer = Peer()
        peer.describe()
        peer.check(0.0)
        self.assertEqual(peer.poll(), [PathOpened(B)])
        peer.step(30.0)
        self.assertEqual(ended(peer.events[-1]).kind, EndKind.LOST)

    def test_reasons(self) -> None:
        """
        The advice names the sides whose NAT needs it.
        """
        unknown = NATBehavior()
        self.assertTrue(
            explainFailure(1.0, 2, 3, unknown, HOME).endswith(
                "this side's NAT has unknown mapping with unknown filtering, the other side's has "
                "endpoint-independent mapping with address-and-port-dependent filtering"
            )
        )
        self.assertIn(
            "; the other side's NAT uses another port", explainFailure(1, 2, 3, HOME, SYMMETRIC)
        )
        self.assertIn(
            "; this side's and the other side's NAT uses another port",
            explainFailure(1, 2, 3, SYMMETRIC, SYMMETRIC),
        )


class EndTests(SynchronousTestCase):
    """
    After the end there is nothing.
    """

    def assertOver(self, peer: Peer) -> None:
        """
        Whatever is done with the agent, nothing comes of it.
        """
        agent, now = peer.agent, 100.0
        drainTransmits(agent)
        peer.poll()
        said = len(peer.signals) + len(peer.events)
        agent.write(b"data", now)
        agent.close("again", now)
        agent.restart(now)
        agent.handleTimeout(now)
        if agent.controlling:
            agent.start(now)
        agent.addCandidates(hostCandidates(ELSEWHERE), now)
        agent._localSide.complete = False
        agent.endCandidates(now)
        peer.describe(hostCandidates(B), generation=1)
        self.assertFalse(peer.check(now))
        self.assertFalse(agent.receiveDatagram(b"data", B, now))
        self.assertIsNone(agent.deadline())
        self.assertIsNone(agent.pollTransmit())
        self.assertIsNone(agent.pollEvent())
        self.assertEqual(len(peer.signals) + len(peer.events), said)
        self.assertEqual(agent.counters.late, 1)

    def test_closeWhileChecking(self) -> None:
        """
        Closing ends all checks at once; the other side is told why.
        """
        peer = Peer(controlling=True)
        peer.agent.start(0.0)
        peer.describe(hostCandidates(B, ELSEWHERE), kind=SignalType.ANSWER)
        peer.agent.handleTimeout(0.0)
        requests = peer.requests()
        self.assertEqual(len(requests), 2)
        peer.agent.close("changed my mind", 0.01)
        self.assertEqual(
            drainEvents(peer.agent),
            [SignalQueued(Goodbye(peer.agent.session, "changed my mind"))],
        )
        self.assertFalse(peer.answer(requests[0], 0.02))
        self.assertOver(peer)

    def test_closeOpen(self) -> None:
        """
        Closing an open path forgets the events that nobody took, but tells the other side.
        """
        peer = Peer()
        peer.connect()
        peer.agent.receiveDatagram(b"data", B, 1.0)
        peer.agent.close("done", 1.0)
        self.assertEqual(
            drainEvents(peer.agent), [SignalQueued(Goodbye(peer.agent.session, "done"))]
        )
        self.assertOver(peer)

    def test_goodbye(self) -> None:
        """
        The other side's goodbye ends the session with its reason, and is not answered.
        """
        peer = Peer()
        peer.connect()
        peer.agent.receiveSignal(Goodbye(peer.agent.session, "enough"), 2.0)
        self.assertEqual(
            drainEvents(peer.agent),
            [SessionEnded(EndKind.LEFT, "the other side ended it: enough", 2.0, 1)],
        )
        self.assertOver(peer)

    def test_lost(self) -> None:
        """
        A path that died leaves nothing behind.
        """
        peer = Peer()
        peer.connect()
        peer.step(60.0)
        self.assertEqual(ended(peer.events[-1]).kind, EndKind.LOST)
        self.assertIsInstance(peer.signals[-1], Goodbye)
        self.assertOver(peer)

    def test_failed(self) -> None:
        """
        A session that failed leaves nothing behind, and nothing of it is sent any more.
        """
        peer = Peer()
        peer.describe(hostCandidates(B))
        sent = peer.step(60.0)
        self.assertEqual(ended(peer.events[-1]).kind, EndKind.FAILED)
        self.assertLess(max(time for time, _ in sent), PATIENCE)
        self.assertOver(peer)

    def test_lateTimer(self) -> None:
        """
        When the timer comes so late that the session is over, the checks that were due with it
        are not sent.
        """
        peer = Peer()
        peer.describe(hostCandidates(B), complete=False)
        drainTransmits(peer.agent)
        peer.agent.handleTimeout(LIMIT + 5.0)
        self.assertEqual(ended(peer.poll()[-1]).kind, EndKind.FAILED)
        self.assertEqual(drainTransmits(peer.agent), [])
        self.assertOver(peer)


class RestartTests(SynchronousTestCase):
    """
    A session begins anew (RFC 8445 section 9).
    """

    def connected(self) -> Wire:
        """
        @return: a wire at 1 s with an open path.
        """
        wire = Wire()
        wire.connect()
        return wire

    def pour(self, wire: Wire, until: float) -> None:
        """
        Send data both ways, every 10 ms.
        """
        while wire.now < until:
            for agent in wire.agents.values():
                agent.write(b"data", wire.now)
            wire.run(wire.now + 0.01)

    def assertNothingLost(self, wire: Wire) -> None:
        """
        All that was written has arrived.
        """
        wire.run(wire.now + 1.0)
        for side, other in ("ab", "ba"):
            written = len(wire.payloads(side))
            self.assertEqual(wire.kinds(other).count("DataReceived"), written)

    def test_sameAddresses(self) -> None:
        """
        A restart takes fresh credentials and numbers, and no data is lost by it.
        """
        wire = self.connected()
        fragments = wire.a.fragments
        self.pour(wire, 2.0)
        wire.a.restart(2.0)
        self.assertEqual(wire.a.fragments[1:], fragments)
        self.pour(wire, 4.0)
        self.assertNothingLost(wire)
        for agent in wire.agents.values():
            self.assertEqual(agent._lineage.current.number, 1)
            self.assertTrue(agent._lineage.current.completed)
            self.assertIs(agent._path.generation, agent._lineage.current)
        self.assertEqual(wire.kinds("a").count("PathOpened"), 1)

    def test_newAddress(self) -> None:
        """
        A side whose address changed offers the new one, and the path moves there.
        """
        wire = self.connected()
        moved: HostPort = ("198.51.100.7", 4007)
        wire.address["a"] = moved
        wire.a.restart(1.0, hostCandidates(moved))
        wire.run(2.0)
        self.assertEqual(wire.last("b"), PathMoved(moved))
        wire.a.write(b"from there", 2.0)
        wire.b.write(b"to there", 2.0)
        wire.run(3.0)
        self.assertEqual(wire.last("b"), DataReceived(b"from there"))
        self.assertEqual(wire.last("a"), DataReceived(b"to there"))

    def test_bothAtOnce(self) -> None:
        """
        Two restarts that cross are one.
        """
        wire = self.connected()
        self.pour(wire, 2.0)
        wire.a.restart(2.0)
        wire.b.restart(2.0)
        self.pour(wire, 4.0)
        self.assertNothingLost(wire)
        for agent in wire.agents.values():
            self.assertEqual(agent._lineage.current.number, 1)
            self.assertIs(agent._path.generation, agent._lineage.current)

    def test_crossingNumbers(self) -> None:
        """
        Restarts in quick succession, on both sides, end with the highest number.
        """
        wire = self.connected()
        wire.a.restart(1.0)
        wire.a.restart(1.0)
        wire.b.restart(1.0)
        wire.run(3.0)
        for agent in wire.agents.values():
            self.assertEqual(agent._lineage.current.number, 2)
            self.assertTrue(agent._lineage.current.completed)
        self.assertNotIn("SessionEnded", wire.kinds("a") + wire.kinds("b"))

    def test_beforePath(self) -> None:
        """
        A restart before there is a path is as good as a start.
        """
        wire = Wire()
        wire.offer()
        wire.run(0.02)
        wire.a.restart(0.02)
        wire.run(2.0)
        self.assertEqual((wire.kinds("a"), wire.kinds("b")), (["PathOpened"], ["PathOpened"]))

    def test_failedRestart(self) -> None:
        """
        A restart that nobody answers, or that finds nothing, leaves the open path as it was.
        """
        wire = self.connected()
        wire.dropSignals = True
        wire.a.restart(1.0)
        wire.run(40.0)
        self.assertEqual(wire.a._lineage.current.number, 0)
        wire.a.write(b"data", 40.0)
        wire.run(41.0)
        self.assertEqual(wire.last("b"), DataReceived(b"data"))
        self.assertEqual(wire.kinds("a"), ["PathOpened"])

    def test_afterFailedRestart(self) -> None:
        """
        The next restart is understood by a side that still has the failed one.
        """
        wire = self.connected()
        generation = wire.b._lineage.current
        wire.a.restart(1.0)
        # The offer is lost on its way back, and with it the answer's credentials.
        wire.agents["b"] = Agent(False, wire.random.randbytes, 1.0)
        wire.run(1.2)
        wire.agents["b"] = wire.b
        wire.run(30.0)
        self.assertEqual(wire.a._lineage.current.number, 0)
        self.assertIs(wire.b._lineage.current, generation)
        wire.a.restart(30.0)
        wire.run(32.0)
        for agent in wire.agents.values():
            self.assertEqual(agent._lineage.current.number, 2)
            self.assertIs(agent._path.generation, agent._lineage.current)

    def test_deadPath(self) -> None:
        """
        When the path dies while a restart is under way, data waits, and goes on where the restart
        found a path.
        """
        wire = self.connected()
        self.pour(wire, 1.5)
        # Both sides ask for consent by 7.1 s at the latest, and have the path dead by 12.1 s.
        wire.drop = lambda side, data, to: True
        self.pour(wire, 9.0)
        wire.a.restart(9.0)
        wire.run(12.2)
        for agent in wire.agents.values():
            self.assertIsNone(agent._path.consent)
            agent.write(b"waited", wire.now)
        wire.run(12.3)
        self.assertNotIn(b"waited", [data for _, data, _ in wire.payloads("a")])
        wire.drop = lambda side, data, to: False
        wire.run(14.0)
        for side in "ab":
            self.assertEqual(wire.last(side), DataReceived(b"waited"))

    def test_deadPathNoOther(self) -> None:
        """
        When the path dies and the restart finds nothing either, the session is lost.
        """
        wire = self.connected()
        wire.drop = lambda side, data, to: True
        wire.dropSignals = True
        wire.a.restart(1.0)
        self.pour(wire, 2.0)
        wire.run(60.0)
        self.assertEqual(ended(wire.last("a")).kind, EndKind.LOST)

    def test_oldPathComesBack(self) -> None:
        """
        An answer on a path that was thought dead brings it back while the restart goes on.
        """
        peer = Peer()
        peer.connect()
        peer.agent.write(b"data", 1.0)
        drainTransmits(peer.agent)
        peer.agent.restart(1.0)
        requests = [each for _, each in peer.step(12.0, 1.0) if isRequest(each.data)]
        self.assertIsNone(peer.agent._path.consent)
        peer.agent.write(b"more", 12.0)
        self.assertEqual(drainTransmits(peer.agent), [])
        peer.answer(requests[-1], 12.0)
        self.assertEqual([each.data for each in drainTransmits(peer.agent)], [b"more"])

    def test_unprovedPath(self) -> None:
        """
        A path that was only heard of is kept through a restart, within its credit.
        """
        peer = Peer()
        peer.describe()
        peer.check(0.0)
        peer.agent.restart(0.1)
        drainTransmits(peer.agent)
        peer.agent.write(b"data", 0.1)
        self.assertEqual([each.data for each in drainTransmits(peer.agent)], [b"data"])

    def test_lateMover(self) -> None:
        """
        The side that moved first goes on answering and hearing the other one on the old path.
        """
        peer = Peer()
        peer.connect()
        old = peer.remote
        peer.describe(hostCandidates(ELSEWHERE), generation=1, now=1.0)
        new = peer.remote
        peer.agent.handleTimeout(1.0)
        peer.check(1.0, ELSEWHERE, nominates=True)
        for request in peer.requests():
            peer.answer(request, 1.1)
        self.assertEqual(peer.poll(), [PathMoved(ELSEWHERE)])
        self.assertTrue(peer.agent._lineage.current.completed)
        drainTransmits(peer.agent)
        peer.remote = old
        self.assertTrue(peer.check(1.2, B))
        self.assertEqual(len(drainTransmits(peer.agent)), 1)
        self.assertTrue(peer.agent.receiveDatagram(b"late", B, 1.2))
        self.assertEqual(peer.poll(), [DataReceived(b"late")])
        peer.remote = new
        self.assertTrue(peer.check(1.3, ELSEWHERE))

    def test_limit(self) -> None:
        """
        A session restarts 255 times and no more, whichever side used them up.
        """
        peer = Peer(controlling=True)
        for _ in range(255):
            peer.agent.restart(0.0)
        self.assertEqual(peer.agent._lineage.current.number, 255)
        other = Peer()
        other.describe(generation=255)
        for each in (peer, other):
            self.assertEqual(each.poll(), [])
            each.agent.restart(1.0)
            (event,) = each.poll()
            self.assertEqual(ended(event).kind, EndKind.LOST)
            self.assertIsNone(each.agent.deadline())

    def test_puttingOff(self) -> None:
        """
        The other side cannot put off the end of a session that has no path, by restarting it.
        """
        peer = Peer(controlling=True)
        peer.agent.start(0.0)
        for number in range(100):
            peer.describe(hostCandidates(B), generation=number, now=number / 2)
            peer.step(number / 2 + 0.5, number / 2)
        end = ended(peer.events[-1])
        self.assertEqual((end.kind, end.elapsed), (EndKind.FAILED, LIMIT))

    def test_repeatedDescription(self) -> None:
        """
        A description that comes twice, or for a generation that is over, changes nothing.
        """
        peer = Peer()
        peer.connect()
        signals = len(peer.signals)
        peer.describe(hostCandidates(ELSEWHERE))
        peer.describe(hostCandidates(ELSEWHERE), generation=2)
        self.assertEqual(len(peer.signals), signals + 1)
        peer.describe(hostCandidates(ELSEWHERE), generation=1)
        self.assertEqual(len(peer.signals), signals + 1)
        self.assertEqual(peer.pairs(), {ELSEWHERE: PairState.IN_PROGRESS})

    def test_lateAnswerOfForgottenGeneration(self) -> None:
        """
        A late answer for a generation before the former one does not move an open path.
        """
        peer = Peer()
        low = makeCandidate(CandidateType.RELAYED, ELSEWHERE)
        peer.describe([low, *hostCandidates(B)], complete=False)
        peer.agent.handleTimeout(0.0)
        requests = {each.address: each for each in peer.requests()}
        for number in (1, 2):
            peer.describe(hostCandidates(B), generation=number, now=0.1)
            peer.agent.handleTimeout(0.1)
            for request in peer.requests():
                peer.answer(request, 0.2)
        peer.poll()
        peer.answer(requests[ELSEWHERE], 0.3)
        self.assertEqual(peer.poll(), [])
        pair = peer.agent.pair
        assert pair is not None
        self.assertEqual(pair.address, B)
