"""
Tests for L{p2ptwist.core.outlook}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.nat import NATBehavior, NATFiltering, NATMapping, PortAllocation
from p2ptwist.core.outlook import PeerKind, Situation, Way, outlook, verdict, wayTo

STRICT = NATFiltering.ADDRESS_AND_PORT_DEPENDENT
INDEPENDENT = NATMapping.ENDPOINT_INDEPENDENT
SYMMETRIC = NATMapping.ADDRESS_AND_PORT_DEPENDENT
OPEN = NATBehavior(INDEPENDENT, NATFiltering.ENDPOINT_INDEPENDENT)
HOSTS = NATBehavior(INDEPENDENT, NATFiltering.ADDRESS_DEPENDENT)
HOME = NATBehavior(INDEPENDENT, STRICT, tcpMapping=INDEPENDENT)
COUNTING = NATBehavior(SYMMETRIC, STRICT, PortAllocation.SEQUENTIAL, 1)
RANDOM = NATBehavior(SYMMETRIC, STRICT, PortAllocation.RANDOM)
UNKNOWN = NATBehavior()


class OutlookTests(SynchronousTestCase):
    """
    Which kinds of peers will be direct.
    """

    def ways(self, here: Situation) -> list[Way | None]:
        """
        @return: the ways to all kinds of peers, but those without UDP.
        """
        return list(outlook(here).values())[:-1]

    def test_direct(self) -> None:
        """
        Whoever lets others in from any of their ports, or has a mapped port, reaches everybody.
        """
        for here in (
            Situation(True, OPEN),
            Situation(True, HOSTS),
            Situation(True, RANDOM, mapped=True),
        ):
            self.assertEqual(self.ways(here), [Way.DIRECT] * 4)
            self.assertIn("nearly all", verdict(here))

    def test_home(self) -> None:
        """
        The ordinary home router reaches all, some of them by effort.
        """
        here = Situation(True, HOME)
        expected = [Way.DIRECT, Way.DIRECT, Way.PREDICTED, Way.SPRAYED]
        self.assertEqual(self.ways(here), expected)
        self.assertIn("most peers", verdict(here))

    def test_counting(self) -> None:
        """
        A NAT that counts its ports can be foretold.
        """
        here = Situation(True, COUNTING)
        expected = [Way.DIRECT, Way.PREDICTED, Way.PREDICTED, Way.RELAYED]
        self.assertEqual(self.ways(here), expected)
        self.assertIn("a second or two", verdict(here))

    def test_random(self) -> None:
        """
        One with random ports needs steady peers.
        """
        here = Situation(True, RANDOM)
        expected = [Way.DIRECT, Way.SPRAYED, Way.RELAYED, Way.RELAYED]
        self.assertEqual(self.ways(here), expected)
        self.assertIn("some seconds", verdict(here))

    def test_unknown(self) -> None:
        """
        Nothing is guessed.
        """
        here = Situation(True, UNKNOWN)
        self.assertEqual(self.ways(here), [Way.DIRECT, None, None, None])
        self.assertIn("could not be found out", verdict(here))
        nothing = Situation(None, UNKNOWN)
        self.assertEqual(set(outlook(nothing).values()), {None})
        self.assertIn("Nothing is known", verdict(nothing))

    def test_blocked(self) -> None:
        """
        Without UDP there is TCP, where the mapping of that is steady, or no NAT is in front.
        """
        for here, way in (
            (Situation(False, HOME), Way.TCP),
            (Situation(False, UNKNOWN, public=True), Way.TCP),
            (Situation(False, NATBehavior(tcpMapping=SYMMETRIC)), Way.RELAYED),
        ):
            self.assertEqual(set(outlook(here).values()), {way})
            self.assertIn("UDP is blocked", verdict(here))
            self.assertEqual("TCP" in verdict(here), way is Way.TCP)
        unknown = Situation(False, UNKNOWN)
        self.assertEqual(set(outlook(unknown).values()), {None})
        self.assertIn("could not be found out", verdict(unknown))
        self.assertIs(wayTo(PeerKind.NO_UDP, Situation(True, HOME)), Way.TCP)

    def test_words(self) -> None:
        """
        Only what is relayed is not direct.
        """
        self.assertEqual([way for way in Way if not way.direct], [Way.RELAYED])
