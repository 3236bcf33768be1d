"""
Relayed datagrams on the simulated Internet: full transports, floods, and peers that are cut off.
"""

from __future__ import annotations

from p2ptwist.errors import LinkDown, LocalUsageError
from tests.sim.rendezvous import Peer, RendezvousCase


class RelayTests(RendezvousCase):
    """
    Relayed datagrams.
    """

    def payloads(self, peer: Peer) -> list[bytes]:
        """
        @return: the datagrams that C{peer} was told of.
        """
        return [what[1] for word, _, what in peer.told if word == "relayed"]  # type: ignore[index]

    def test_relay(self) -> None:
        """
        Datagrams arrive, from the key that was proved; an absent peer is unreachable.
        """
        alice, bob = self.started(), self.started()
        self.assertEqual(alice.link.maxPayload, 16_351)
        for payload in (b"one", b"", bytes(alice.link.maxPayload)):
            self.assertTrue(alice.link.sendRelayed(bob.key, payload))
        self.assertTrue(alice.link.sendRelayed(bytes(32), b"nobody"))
        self.internet.advance(1.0)
        self.assertEqual(self.payloads(bob), [b"one", b"", bytes(16_351)])
        self.assertEqual(bob.last("relayed")[0], alice.key)
        self.assertEqual(alice.last("unreachable"), bytes(32))
        self.stopAll()

    def test_noLink(self) -> None:
        """
        Without a link a datagram is dropped, and the program is told; what no frame carries is
        refused.
        """
        peer = self.peer()
        self.assertFalse(peer.link.sendRelayed(bytes(32), b""))
        peer.link.probe()
        peer.link.startService()
        self.internet.runUntil(peer.link.whenUp())
        self.assertRaises(LocalUsageError, peer.link.sendRelayed, bytes(31), b"")
        self.assertRaises(LocalUsageError, peer.link.sendRelayed, bytes(32), bytes(16_352))
        self.assertTrue(peer.link.sendRelayed(peer.key, b"last words"))
        self.internet.runUntil(peer.link.stopService())
        self.assertFalse(peer.link.sendRelayed(bytes(32), b""))
        self.internet.advance(1.0)
        self.assertEqual(self.service.counters.relayed, 1)
        self.stopAll()

    def test_together(self) -> None:
        """
        What is sent in one turn leaves together, from inside a callback as well.
        """
        alice, bob = self.started(), self.started()
        self.internet.advance(1.0)
        told = bob.relayedReceived

        def answer(sender: bytes, payload: bytes) -> None:
            told(sender, payload)
            bob.link.sendRelayed(sender, payload)

        bob.relayedReceived = answer  # type: ignore[method-assign]
        before = alice.host.counters.packetsSent, bob.host.counters.packetsSent
        for _ in range(10):
            alice.link.sendRelayed(bob.key, b"x")
        self.internet.advance(1.0)
        self.assertEqual(len(self.payloads(alice)), 10)
        after = alice.host.counters.packetsSent, bob.host.counters.packetsSent
        # The datagrams, and an acknowledgment of what came.
        self.assertLessEqual(after[0] - before[0], 3)
        self.assertLessEqual(after[1] - before[1], 3)
        self.stopAll()

    def test_full(self) -> None:
        """
        When the transport is full, datagrams are dropped where they are sent; messages have room
        of their own, and arrive.
        """
        alice, bob = self.started(), self.started()
        alice.host.link.cut()
        accepted = 0
        while alice.link.sendRelayed(bob.key, bytes(10_000)):
            accepted += 1
            self.assertLess(accepted, 100)
        for number in range(6):
            self.assertFalse(alice.link.sendRelayed(bob.key, b"x"))
            alice.link.send(bob.key, bytes((number,)) * 10_000)
        alice.link.send(bob.key, bytes(10_000))
        self.assertRaises(LinkDown, alice.link.send, bob.key, b"one too many")
        alice.host.link.restore()
        self.internet.advance(5.0)
        self.assertEqual(len(bob.times("message")), 7)
        self.assertEqual(len(self.payloads(bob)), accepted)
        self.assertTrue(alice.link.sendRelayed(bob.key, b"again"))
        self.stopAll()

    def test_delivering(self) -> None:
        """
        It is the same for a receiver that sends without end from inside a callback.
        """
        alice, bob = self.started(), self.started()
        counts = []

        def flood(sender: bytes, payload: bytes) -> None:
            accepted = 0
            while accepted < 1000 and bob.link.sendRelayed(sender, bytes(10_000)):
                accepted += 1
            counts.append(accepted)

        bob.relayedReceived = flood  # type: ignore[method-assign]
        alice.link.sendRelayed(bob.key, b"go")
        self.internet.advance(1.0)
        self.assertTrue(0 < counts[0] < 20, counts)
        self.assertEqual(len(self.payloads(alice)), counts[0])
        self.stopAll()

    def relay(self, sender: Peer, receiver: Peer, seconds: float, rate: float) -> int:
        """
        Relay for some time at C{rate} bytes a second.

        @return: how many datagrams left.
        """
        accepted = 0
        for _ in range(int(seconds * 50)):
            for _ in range(int(rate / 50 / 5000)):
                accepted += sender.link.sendRelayed(receiver.key, bytes(5000))
            self.internet.advance(0.02)
        return accepted

    def test_cut(self) -> None:
        """
        A receiver that is cut off for some seconds loses datagrams, but not its link; others are
        not affected; and when the cable is back the newest datagrams come.
        """
        alice, bob, other = self.started(), self.started(), self.started()
        bob.host.link.cut()
        accepted = self.relay(alice, bob, 8.0, 500_000)
        self.assertGreater(self.service.counters.relayLost, 100)
        alice.link.send(other.key, b"on time")
        self.internet.advance(0.1)
        self.assertEqual(len(other.times("message")), 1)
        bob.host.link.restore()
        self.internet.advance(20.0)
        accepted += self.relay(alice, bob, 2.0, 500_000)
        self.internet.advance(1.0)
        counters = self.service.counters
        self.assertEqual(accepted, counters.relayed)
        self.assertEqual(len(self.payloads(bob)), counters.relayed - counters.relayLost)
        self.assertEqual((counters.tooSlow, bob.times("down")), (0, []))
        self.stopAll()

    def test_cutForLong(self) -> None:
        """
        A receiver that stays away is told to be unreachable in the end, and is reached again when
        it is back.
        """
        alice, bob = self.started(), self.started()
        bob.host.link.cut()
        self.relay(alice, bob, 150.0, 250_000)
        self.assertEqual(self.service.counters.tooSlow, 0)
        self.assertEqual(alice.last("unreachable"), bob.key)
        self.assertEqual(alice.times("down"), [])
        bob.host.link.restore()
        self.internet.runUntil(bob.link.whenUp().addErrback(lambda _: bob.link.whenUp()))
        alice.link.sendRelayed(bob.key, b"welcome back")
        self.internet.advance(1.0)
        self.assertEqual(self.payloads(bob)[-1], b"welcome back")
        self.stopAll()

    def test_signaling(self) -> None:
        """
        Messages of a peer that floods the node with datagrams are late by less than a second, and
        by nothing when it keeps to its allowance.
        """
        for rate, late in ((900_000, 0.06), (20_000_000, 1.0)):
            alice, bob, other = self.started(), self.started(), self.started()
            for _ in range(10):
                sent = self.internet.seconds()
                alice.link.send(other.key, b"hi")
                self.relay(alice, bob, 1.0, rate)
                self.assertLess(other.times("message")[-1] - sent, late)
            self.assertEqual(len(other.times("message")), 10)
        counters = self.service.counters
        self.assertGreater(counters.relayLimited, 1000)
        self.assertLess(counters.relayedBytes, 2 * (10.1 * 1_000_000 + 262_144))
        self.stopAll()
