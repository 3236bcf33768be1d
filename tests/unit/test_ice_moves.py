"""
Tests for an open path whose other side gets another address from its NAT, and for probes of it.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.ice.events import DataReceived, PathMoved
from tests.unit.icewire import ELSEWHERE, B, Peer, Wire, hostCandidates, isRequest

THIRD = ("192.0.2.77", 7777)


class MoveTests(SynchronousTestCase):
    """
    The other side is heard elsewhere.
    """

    def connected(self) -> Peer:
        """
        @return: the other side of an agent whose path to B is open for good.
        """
        peer = Peer()
        peer.connect()
        return peer

    def moves(self, peer: Peer, now: float, source: tuple[str, int]) -> bool:
        """
        Check from another address, and answer the check that this triggers.

        @return: whether data goes there.
        """
        peer.check(now, source)
        for request in peer.requests():
            peer.answer(request, now + 0.1)
        peer.poll()
        assert peer.agent.pair is not None
        return peer.agent.pair.address == source

    def test_moved(self) -> None:
        """
        A check from a new address is checked back, and when that is answered data goes there, with
        consent; what comes from there was taken at once.
        """
        peer = self.connected()
        peer.check(1.0, ELSEWHERE)
        self.assertTrue(peer.agent.hears(ELSEWHERE, 1.0))
        self.assertEqual(peer.agent.passMany(1.0), B)
        [request] = peer.requests()
        peer.answer(request, 1.1)
        self.assertEqual(peer.poll(), [PathMoved(ELSEWHERE)])
        self.assertEqual(peer.confirmed[-1:], [True])
        self.assertEqual(peer.agent.passMany(1.1), ELSEWHERE)

    def test_back(self) -> None:
        """
        It may move on, and back.
        """
        peer = self.connected()
        self.assertTrue(self.moves(peer, 1.0, ELSEWHERE))
        self.assertTrue(self.moves(peer, 2.0, THIRD))
        self.assertTrue(self.moves(peer, 3.0, B))

    def test_stillThere(self) -> None:
        """
        When the other side is heard at the old address again before the answer, nothing moves: the
        check was somebody's who had seen it and played it back, or an old one.
        """
        peer = self.connected()
        peer.check(1.0, ELSEWHERE)
        [request] = peer.requests()
        peer.check(1.05, B)
        peer.answer(request, 1.1)
        self.assertEqual(peer.poll(), [])
        self.assertEqual(peer.agent.passMany(1.1), B)

    def test_silent(self) -> None:
        """
        Where no check is answered no data goes.
        """
        peer = self.connected()
        peer.check(1.0, ELSEWHERE)
        self.assertEqual(len(peer.requests()), 1)
        self.assertEqual(peer.agent.passMany(1.1), B)

    def test_pace(self) -> None:
        """
        Checks from new addresses trigger no more checks than the pace allows.
        """
        peer = self.connected()
        sent = 0
        for number in range(20):
            peer.check(1.0, ("192.0.2.77", 7000 + number))
            sent += len(peer.requests())
        self.assertLess(sent, 10)

    def test_otherCandidate(self) -> None:
        """
        A late check from an address that was known before, and not chosen, moves nothing.
        """
        peer = Peer()
        peer.describe(hostCandidates(B, ELSEWHERE))
        peer.agent.handleTimeout(0.0)
        peer.check(0.0, nominates=True)
        for request in peer.requests():
            if request.address == B:
                peer.answer(request, 0.0)
        self.assertFalse(self.moves(peer, 0.1, ELSEWHERE))

    def test_early(self) -> None:
        """
        Before a pair is chosen for good checks decide as ever.
        """
        peer = Peer()
        peer.describe(hostCandidates(B))
        peer.agent.handleTimeout(0.0)
        peer.check(0.0)
        for request in peer.requests():
            peer.answer(request, 0.0)
        self.assertFalse(self.moves(peer, 0.1, ELSEWHERE))


class ProbeTests(SynchronousTestCase):
    """
    L{p2ptwist.core.ice.agent.Agent.probe}.
    """

    def test_wire(self) -> None:
        """
        A probe from an address that the NAT has changed moves the other side within two one-way
        times and a half, and data flows both ways.
        """
        wire = Wire()
        wire.connect()
        moved = ("198.51.100.7", 4007)
        wire.address["a"] = moved
        wire.a.probe(2.0)
        wire.run(2.5)
        self.assertEqual(wire.last("b"), PathMoved(moved))
        wire.b.write(b"to there", 2.5)
        wire.a.write(b"from there", 2.5)
        wire.run(3.0)
        self.assertEqual(wire.last("a"), DataReceived(b"to there"))
        self.assertEqual(wire.last("b"), DataReceived(b"from there"))

    def test_once(self) -> None:
        """
        It sends one check, repeats it while nothing is answered, and tells of the answer.
        """
        peer = Peer()
        peer.connect()
        peer.agent.probe(1.0)
        peer.agent.probe(1.01)
        [request] = peer.requests()
        self.assertTrue(isRequest(request.data))
        peer.confirmed.clear()
        peer.agent.handleTimeout(1.25)
        [again] = peer.requests()
        peer.answer(again, 1.3)
        peer.poll()
        self.assertEqual(peer.confirmed, [True])
        peer.agent.handleTimeout(3.0)
        self.assertEqual(peer.requests(), [])

    def test_noPath(self) -> None:
        """
        Without a path that is proved, and after the end, it does nothing.
        """
        peer = Peer()
        peer.agent.probe(0.0)
        self.assertEqual(peer.requests(), [])
        peer.connect()
        peer.agent.close("over", 1.0)
        peer.agent.probe(1.0)
        self.assertEqual(peer.requests(), [])
