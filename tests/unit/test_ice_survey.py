"""
Tests for L{p2ptwist.core.ice.survey}, what it finds in an agent, and checks that stand in no
checklist.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.ice.candidate import Candidate, CandidateType, makeCandidate
from p2ptwist.core.ice.check import Credentials
from p2ptwist.core.ice.checklist import QUICK_GAPS
from p2ptwist.core.ice.events import EndKind, PathOpened, SessionEnded
from p2ptwist.core.ice.generation import LIMIT, PATIENCE, PROOF_TIME
from p2ptwist.core.ice.reason import explainFailure
from p2ptwist.core.ice.signal import Description, Goodbye, SignalType
from p2ptwist.core.ladder.message import Busy
from p2ptwist.core.nat import NATBehavior, NATMapping, PortAllocation
from p2ptwist.core.stun.message import decode
from tests.unit.icewire import A, B, Peer, drainTransmits, hostCandidates, isRequest

STEADY = NATBehavior(NATMapping.ENDPOINT_INDEPENDENT)
SYMMETRIC = NATBehavior(NATMapping.ADDRESS_DEPENDENT, allocation=PortAllocation.RANDOM)


def reflexive(host: str, port: int) -> Candidate:
    """
    @return: what a STUN server saw.
    """
    return makeCandidate(CandidateType.SERVER_REFLEXIVE, (host, port))


class SurveyTests(SynchronousTestCase):
    """
    What both sides have said.
    """

    def test_addresses(self) -> None:
        """
        This side's address is the first server-reflexive one of IPv4, the other side's hosts are
        all of those.
        """
        peer = Peer(hosts=[("192.168.1.2", 4001), ("2001:db8::7", 4001), ("127.0.0.1", 4001)])
        survey = peer.agent.survey
        self.assertIsNone(survey.address)
        self.assertEqual(survey.remoteHosts, frozenset())
        self.assertIsNone(survey.networks)
        peer.agent.addCandidates(
            [
                reflexive("2001:db8::1", 4001),
                reflexive("8.8.4.4", 4002),
                reflexive("8.8.4.5", 4003),
            ],
            0.0,
        )
        self.assertEqual(survey.address, ("8.8.4.4", 4002))
        peer.describe(
            [
                *hostCandidates(B),
                reflexive("8.8.8.8", 4004),
                reflexive("8.8.8.9", 4005),
                reflexive("2001:db8::2", 4006),
            ]
        )
        self.assertEqual(survey.remoteHosts, {"8.8.8.8", "8.8.8.9"})
        self.assertEqual(survey.networks, ("8.8.4.4", "8.8.8.8"))

    def test_untranslated(self) -> None:
        """
        A host that no NAT is in front of is seen at its own address, and so has no server-reflexive
        candidate: its host candidate is what others aim at, and spray from.
        """
        own, other = ("8.8.4.4", 4001), ("8.8.8.8", 4002)
        peer = Peer(hosts=[("10.0.0.2", 4001), own])
        survey = peer.agent.survey
        self.assertEqual(survey.address, own)
        inner = [("192.168.1.2", 4002), ("2001:db8::2", 4002), ("127.0.0.1", 4002)]
        peer.describe(hostCandidates(*inner, other))
        self.assertEqual(survey.remoteHosts, {"8.8.8.8"})
        self.assertEqual(survey.networks, ("8.8.4.4", "8.8.8.8"))
        peer.agent.addCandidates([reflexive("8.8.4.5", 4003)], 0.0)
        peer.more([reflexive("8.8.8.9", 4004)])
        self.assertEqual(survey.address, ("8.8.4.5", 4003))
        self.assertEqual(survey.remoteHosts, {"8.8.8.9"})

    def test_innerAddresses(self) -> None:
        """
        Addresses of inner networks, where a router there maps ports, are not aimed at, nor told to
        aim at, unless there are no others: then the whole network is one's own.
        """
        peer = Peer(hosts=[("10.0.0.2", 4001)])
        survey = peer.agent.survey
        peer.agent.addCandidates([reflexive("100.64.0.2", 4001)], 0.0)
        inner = [reflexive(host, 4002) for host in ("10.0.0.1", "192.168.1.1", "100.64.0.3")]
        peer.describe(inner)
        self.assertEqual(survey.address, ("100.64.0.2", 4001))
        self.assertEqual(survey.remoteHosts, {"10.0.0.1", "192.168.1.1", "100.64.0.3"})
        peer.agent.addCandidates([reflexive("8.8.4.4", 4003)], 0.0)
        self.assertEqual(survey.address, ("8.8.4.4", 4003))
        self.assertEqual(survey.remoteHosts, frozenset())
        peer.more([*inner, reflexive("8.8.8.8", 4004)])
        self.assertEqual(survey.remoteHosts, {"8.8.8.8"})

    def test_behaviors(self) -> None:
        """
        Ordinary checks ought to meet where both are steady, or nobody knows better.
        """
        peer = Peer()
        survey = peer.agent.survey
        self.assertTrue(survey.ordinary)
        peer.agent.setBehavior(STEADY)
        self.assertEqual(survey.local, STEADY)
        self.assertTrue(survey.ordinary)
        signal = Description(
            SignalType.OFFER, peer.agent.session, 0, b"peer", b"p" * 24, (), True, SYMMETRIC
        )
        peer.agent.receiveSignal(signal, 0.0)
        self.assertEqual(survey.remote, SYMMETRIC)
        self.assertFalse(survey.ordinary)
        peer.agent.setBehavior(SYMMETRIC)
        self.assertFalse(survey.ordinary)

    def test_fresh(self) -> None:
        """
        A fresh port is told of in this side's description.
        """
        peer = Peer(controlling=True)
        peer.agent.survey.markFresh()
        peer.agent.start(0.0)
        peer.poll()
        offer = peer.signals[0]
        assert isinstance(offer, Description)
        self.assertTrue(offer.fresh)

    def test_check(self) -> None:
        """
        A stray check is authentic, as any other, but no answer to it counts; there is none before
        the other side's credentials are known.
        """
        peer = Peer()
        survey = peer.agent.survey
        self.assertIsNone(survey.check())
        peer.describe()
        data = survey.check()
        assert data is not None
        self.assertTrue(isRequest(data))
        message = decode(data)
        self.assertTrue(message.verify(peer.local.password))
        self.assertFalse(peer.agent.awaits(message.transactionID))
        self.assertNotEqual(survey.check(), data)

    def test_strayAnswered(self) -> None:
        """
        Another agent answers a stray check, and checks where it came from.
        """
        peer, other = Peer(controlling=True), Peer()
        peer.agent.start(0.0)
        peer.poll()
        offer = peer.signals[0]
        assert isinstance(offer, Description)
        other.local = Credentials(offer.fragment, offer.password)
        other.agent.session = peer.agent.session
        other.agent.receiveSignal(offer, 0.0)
        other.poll()
        peer.agent.receiveSignal(other.signals[0], 0.0)
        drainTransmits(other.agent)
        data = peer.agent.survey.check()
        assert data is not None
        self.assertTrue(other.agent.receiveDatagram(data, B, 0.1))
        sent = [each.address for each in drainTransmits(other.agent)]
        self.assertEqual(sent[:2], [B, B])

    def test_explained(self) -> None:
        """
        The checks of a ladder are told of, and while it is at work nobody gives up.
        """
        peer = Peer()
        peer.describe(hostCandidates(B))
        survey = peer.agent.survey
        survey.climb, survey.climbs, survey.climbing = "it found nothing", True, True
        self.assertNotIn("it found nothing", survey.explain(3.0))  # as UDP does not get out at all
        self.assertEqual(survey.blocked, (True, True))
        peer.agent.setBehavior(STEADY)
        self.assertEqual(survey.blocked, (False, True))
        self.assertIn("blocked on the other side", survey.explain(3.0))
        peer.more([reflexive("8.8.8.8", 4004)])
        self.assertIn("; it found nothing; this side's NAT has", survey.explain(3.0))
        survey.look = lambda: setattr(survey, "climb", "it is under way")
        self.assertEqual(survey.tellClimb(), "it is under way")
        peer.step(100.0)
        self.assertEqual(peer.events, [])
        survey.climbing = False
        peer.step(101.0, 100.0)
        peer.agent.handleTimeout(101.0)
        ended = peer.poll() or peer.events
        assert isinstance(ended[0], SessionEnded)
        self.assertIs(ended[0].kind, EndKind.FAILED)

    def test_othersGoodbye(self) -> None:
        """
        A side that gave up says why by its own names: here that is told by this side's.
        """
        peer = Peer()
        survey = peer.agent.survey
        vain = Goodbye(peer.agent.session, explainFailure(1.0, 2, 3, SYMMETRIC, STEADY))
        refusal = Goodbye(peer.agent.session, "not today")
        self.assertIs(survey.read(vain, 1.0)[0], EndKind.LEFT)
        peer.describe()
        self.assertEqual(survey.read(vain, 1.0), (EndKind.FAILED, survey.explain(1.0)))
        expected = (EndKind.LEFT, "the other side ended it: not today")
        self.assertEqual(survey.read(refusal, 1.0), expected)

    def test_foundLate(self) -> None:
        """
        Whom a ladder found after a long time is given some more to answer.
        """
        late = 2 * LIMIT
        for wait, kinds in ((PROOF_TIME - 0.1, []), (PATIENCE, [SessionEnded])):
            peer = Peer()
            peer.describe(hostCandidates(B))
            peer.agent.survey.climbing = True
            peer.step(late)
            peer.check(late, source=(B[0], B[1] + 1))
            self.assertEqual([type(each) for each in peer.poll()], [PathOpened])
            peer.agent.survey.climbing = False
            peer.step(late + wait, late)
            self.assertEqual([type(each) for each in peer.events[1:]], kinds)

    def test_ladderMessage(self) -> None:
        """
        What is said about rounds is none of the agent's.
        """
        peer = Peer()
        peer.agent.receiveSignal(Busy(peer.agent.session, 0, 1), 0.0)
        self.assertEqual((peer.poll(), drainTransmits(peer.agent)), ([], []))


class PrimeTests(SynchronousTestCase):
    """
    Checks that die on the way.
    """

    def test_once(self) -> None:
        """
        Each address is checked once before the time, and in earnest after it.
        """
        peer = Peer()
        peer.agent.addCandidates([reflexive("8.8.4.4", 4002)], 0.0)
        peer.agent.survey.prime(1.0)
        address = ("8.8.8.8", 4004)
        peer.describe([reflexive(*address)])
        times = [time for time, each in peer.step(1.05) if each.address == address]
        self.assertEqual(times[0], 0.0)
        self.assertEqual([time for time in times[1:] if time < 1.0], [])
        self.assertEqual(times[1], 1.0)
        self.assertAlmostEqual(times[2] - times[1], QUICK_GAPS[1])

    def test_primes(self) -> None:
        """
        Not after the time, and not where the other side has proved to be.
        """
        peer = Peer()
        survey = peer.agent.survey
        survey.prime(1.0)
        self.assertTrue(survey.primes(B, 0.9))
        self.assertFalse(survey.primes(B, 1.0))
        peer.connect(0.1)
        self.assertFalse(survey.primes(B, 0.2))
        self.assertTrue(survey.primes(A, 0.2))

    def test_heard(self) -> None:
        """
        Where the other side was heard its NAT is open, and nobody waits.
        """
        peer = Peer()
        peer.agent.survey.prime(5.0)
        peer.describe([reflexive(*B)])
        self.assertEqual(len(peer.requests()), 1)
        self.assertTrue(peer.check(0.5))
        self.assertEqual([each.address for each in peer.requests()], [B])
