"""
Links that are lost while somebody waits for them, on ways to the node that change again and again.
"""

from __future__ import annotations

from random import Random

from p2ptwist.core.link.limits import Limits
from p2ptwist.core.tokenbucket import Rate
from p2ptwist.errors import RendezvousRefused
from p2ptwist.peer.identity import generateIdentity
from p2ptwist.testing import NAT, PortAllocation
from tests.sim.rendezvous import GENEROUS, Peer, RendezvousCase

PATIENCE = 0.15  # seconds that a session gives a link
ROUND_TRIP = 0.05  # seconds from a peer to the node and back


class HasteTests(RendezvousCase):
    """
    How soon a link is back.
    """

    def changed(self) -> None:
        """
        The NAT of the first peer forgets everything, and gives out other ports.
        """
        self.internet.routers["home0"].reboot(NAT(allocation=PortAllocation.RANDOM))

    def untilHeard(self, peer: Peer, other: Peer) -> float:
        """
        @return: seconds until something that C{other} has relayed comes to C{peer}, who asks for a
            sign of life again and again, as a session does.
        """
        start = self.internet.seconds()
        before = len(peer.times("relayed"))
        while len(peer.times("relayed")) == before:
            peer.link.probe(PATIENCE)
            for _ in range(6):
                other.link.sendRelayed(peer.key, b"")
                self.internet.advance(0.05)
            self.assertLess(self.internet.seconds() - start, 60.0)
        return peer.times("relayed")[before] - start

    def test_changesAgain(self) -> None:
        """
        The NAT changes once more while the link is made anew, at whichever moment of that: it is
        back within 1.2 s, as no step of the handshake is waited for longer than it takes.
        """
        peer, other = self.started(), self.started()
        for hundredths in range(60):
            self.changed()
            peer.link.probe(PATIENCE)
            self.internet.advance(hundredths / 100)
            self.changed()
            took = self.untilHeard(peer, other)
            self.assertLessEqual(took, 1.2, f"changed again after {hundredths} hundredths")
            self.internet.advance(20.0)
        self.stopAll()

    def test_changesOften(self) -> None:
        """
        So it is when it changes three times more, at any moments of a second.
        """
        peer, other = self.started(), self.started()
        random = Random(1)
        for number in range(60):
            self.changed()
            peer.link.probe(PATIENCE)
            for _ in range(3):
                self.internet.advance(random.uniform(0.0, 0.33))
                self.changed()
                peer.link.probe(PATIENCE)
            took = self.untilHeard(peer, other)
            self.assertLessEqual(took, 2.5, f"number {number}")
            self.internet.advance(20.0)
        self.stopAll()

    def test_behindTheProof(self) -> None:
        """
        What is sent leaves right behind the proof, a round trip before the welcome; the program is
        told once that the link is up.
        """
        peer, other = self.started(), self.started()
        self.changed()
        doubted = self.internet.seconds()
        peer.link.probe(PATIENCE)
        while not other.times("relayed"):
            peer.link.sendRelayed(other.key, b"early")
            self.internet.advance(0.001)
        took = other.times("relayed")[0] - doubted
        # Two round trips until the hello, and one way through the node.
        self.assertAlmostEqual(took, PATIENCE + 3 * ROUND_TRIP, places=2)
        self.internet.advance(1.0)
        self.assertEqual(len(peer.times("up")), 2)
        self.assertNotEqual(peer.last("up"), self.successResultOf(peer.link.whenUp()))
        self.stopAll()

    def test_otherNode(self) -> None:
        """
        A node of another name is sent nothing before its welcome.
        """
        peer, other = self.started(), self.started()
        peer.link.probe(PATIENCE)
        self.node.kill()
        self.serve(name="other")
        while not peer.times("down"):
            self.internet.advance(0.001)
        while len(peer.times("up")) < 2:
            self.assertFalse(peer.link.sendRelayed(other.key, b""))
            self.internet.advance(0.001)
        self.assertTrue(peer.link.sendRelayed(other.key, b""))
        self.assertEqual(peer.last("up").nodeName, "other")
        self.stopAll()

    def test_ownProof(self) -> None:
        """
        A link that is displaced in haste comes back at once: it was an earlier proof of its own,
        perhaps, that the node has only now got round to.
        """
        identity = generateIdentity()
        peer, late = self.started(identity=identity), self.peer(identity=identity)
        late.link._instance = peer.link._instance
        peer.link.probe(PATIENCE)
        late.link.startService()
        self.internet.runUntil(late.link.whenUp())
        self.internet.advance(5 * ROUND_TRIP)
        self.assertEqual([word for word, _, _ in peer.told], ["up", "down", "up"])
        self.stopAll()

    def test_otherProgram(self) -> None:
        """
        If it was another program it stands by a moment later, and the other one keeps its link.
        """
        identity = generateIdentity()
        peer, other = self.started(identity=identity), self.peer(identity=identity)
        peer.link.probe(PATIENCE)
        other.link.startService()
        self.internet.advance(1800.0)
        self.assertEqual(peer.last("down").reason, "displaced")
        self.assertEqual([word for word, _, _ in peer.told].count("down"), 2)
        self.assertEqual([word for word, _, _ in other.told], ["up"])
        self.stopAll()

    def test_refusedAfterAll(self) -> None:
        """
        When the node refuses the proof after all, what was sent behind it is lost, and the program
        is told that the link is down.
        """
        self.internet.runUntil(self.service.stopService())
        self.serve(Limits(siteAcceptRate=GENEROUS, registrationRate=Rate(0.01, 1)))
        peer = self.started()
        self.changed()
        peer.link.probe(PATIENCE)
        self.internet.advance(1.0)
        self.assertEqual([word for word, _, _ in peer.told], ["up", "down", "up", "down"])
        self.assertIsInstance(peer.last("down"), RendezvousRefused)
        self.assertEqual(peer.last("down").reason, "too-fast")
        self.stopAll()

    def test_refusedWithoutAWord(self) -> None:
        """
        A node that is so busy that it only closes connections is left alone for a moment, as one
        that says why.
        """
        self.internet.runUntil(self.service.stopService())
        self.serve(Limits(siteAcceptRate=Rate(0.1, 1.0), refusalRate=Rate(0.0, 0.0)))
        peer = self.started()
        self.changed()
        peer.link.probe(PATIENCE)
        self.internet.advance(0.4)
        self.assertEqual(self.service.counters.ignored, 1)
        self.internet.advance(60.0)
        self.assertEqual(len(peer.times("up")), 2)
        self.stopAll()

    def test_nodeGone(self) -> None:
        """
        A node that is not there is asked at once only once: it has other peers as well.
        """
        peer = self.started()
        peer.link.probe(PATIENCE)
        self.node.kill()
        self.internet.advance(2.5 * ROUND_TRIP)
        self.serve()
        self.internet.advance(0.15)
        self.assertEqual(len(peer.times("up")), 1)
        self.internet.advance(10.0)
        self.assertEqual(len(peer.times("up")), 2)
        self.stopAll()
