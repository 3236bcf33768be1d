"""
Tests for L{p2ptwist.peer.calls}.
"""

from __future__ import annotations

from itertools import count

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.address import HostPort
from p2ptwist.core.ice.candidate import CandidateType, makeCandidate
from p2ptwist.net.puncher import Punch, Puncher
from p2ptwist.peer.calls import PEER_LIMIT, PENDING_LIMIT, SESSION_LIMIT, Calls

ALICE, BOB = b"a" * 32, b"b" * 32


class CallsTests(SynchronousTestCase):
    """
    Sessions are kept while they last, and counted by who began them.
    """

    def setUp(self) -> None:
        """
        Make the sessions' own puncher, and one for what others offer.
        """
        self.clock = Clock()
        numbers = count(1)
        self.here: HostPort = ("127.0.0.1", 4001)
        self.there: HostPort = ("127.0.0.1", 4002)

        def randomBytes(length: int) -> bytes:
            return next(numbers).to_bytes(length, "big")

        self.puncher = Puncher(self.clock, self.send, randomBytes)
        self.calls = Calls()

    def send(self, data: bytes, address: HostPort) -> None:
        """
        What is sent reaches this very puncher, from the other address.
        """
        source = self.here if address == self.there else self.there
        self.clock.callLater(0.01, self.puncher.datagramReceived, data, source)

    def session(self, peer: bytes, *, outgoing: bool) -> Punch:
        """
        @return: a session without a path, which is kept.
        """
        punch = self.puncher.call(lambda signal: None, [])
        self.calls.add(peer, punch, outgoing=outgoing)
        return punch

    def opened(self, peer: bytes) -> Punch:
        """
        @return: a session with a path that C{peer} began.
        """
        toSecond: list[bytes] = []
        toFirst: list[bytes] = []
        first = self.puncher.call(toSecond.append, [makeCandidate(CandidateType.HOST, self.here)])
        second = self.puncher.answer(
            toSecond[0], toFirst.append, [makeCandidate(CandidateType.HOST, self.there)]
        )
        first.signalReceived(toFirst[0])
        self.calls.add(peer, second, outgoing=False)
        self.clock.pump([0.01] * 20)
        self.assertIsNotNone(second.openedAfter)
        return second

    def test_empty(self) -> None:
        """
        At first there are none.
        """
        self.assertEqual(len(self.calls), 0)
        self.assertIsNone(self.calls.find(ALICE, b"12345678"))
        self.assertEqual((self.calls.pending(), self.calls.outgoing(ALICE)), ([], []))
        self.assertTrue(self.calls.mayAdmit(ALICE))

    def test_find(self) -> None:
        """
        A session is found by its name and by the peer that it is with, together.
        """
        punch = self.session(ALICE, outgoing=True)
        self.assertIs(self.calls.find(ALICE, punch.session), punch)
        self.assertIsNone(self.calls.find(BOB, punch.session))

    def test_over(self) -> None:
        """
        A session that is over is forgotten, and so is the peer without another.
        """
        first, second = (self.session(ALICE, outgoing=True) for _ in range(2))
        first.close()
        self.assertEqual(self.calls.outgoing(ALICE), [second])
        second.close()
        self.assertEqual(len(self.calls), 0)
        self.assertEqual(self.calls._byPeer, {})

    def test_overAlready(self) -> None:
        """
        A session that ended before it was added is not kept.
        """
        punch = self.puncher.call(lambda signal: None, [])
        punch.close()
        self.calls.add(ALICE, punch, outgoing=True)
        self.assertEqual(len(self.calls), 0)

    def test_pending(self) -> None:
        """
        Pending are those without a path, whoever began them; outgoing only this side's.
        """
        mine = self.session(ALICE, outgoing=True)
        theirs = self.session(ALICE, outgoing=False)
        elsewhere = self.session(BOB, outgoing=True)
        self.opened(ALICE)
        self.assertEqual(self.calls.pending(), [mine, theirs, elsewhere])
        self.assertEqual(self.calls.outgoing(ALICE), [mine])
        self.assertEqual(len(self.calls), 4)

    def test_pendingLimit(self) -> None:
        """
        A peer opens so many at once; this side's own calls to it do not count.
        """
        for _ in range(3):
            self.session(ALICE, outgoing=True)
        punches = []
        for _ in range(PENDING_LIMIT):
            self.assertTrue(self.calls.mayAdmit(ALICE))
            punches.append(self.session(ALICE, outgoing=False))
        self.assertFalse(self.calls.mayAdmit(ALICE))
        self.assertTrue(self.calls.mayAdmit(BOB))
        punches[0].close()
        self.assertTrue(self.calls.mayAdmit(ALICE))

    def test_peerLimit(self) -> None:
        """
        A peer has so many in all, so that others have room.
        """
        for _ in range(PEER_LIMIT):
            self.assertTrue(self.calls.mayAdmit(ALICE))
            self.opened(ALICE)
        self.assertFalse(self.calls.mayAdmit(ALICE))
        self.assertTrue(self.calls.mayAdmit(BOB))

    def test_sessionLimit(self) -> None:
        """
        All peers together have so many.
        """
        for number in range(SESSION_LIMIT):
            self.session(number.to_bytes(32, "big"), outgoing=True)
        self.assertFalse(self.calls.mayAdmit(ALICE))
        self.puncher.close()
        self.assertTrue(self.calls.mayAdmit(ALICE))
        self.assertEqual((len(self.calls), len(self.puncher)), (0, 0))
        self.assertEqual(self.clock.getDelayedCalls(), [])
