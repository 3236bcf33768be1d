"""
The rendezvous node and its link on the simulated Internet: behind NATs, over links that break,
with nodes that stop, crash and come back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import ClientFactory, Protocol, ServerFactory

from p2ptwist.core.link.limits import Limits
from p2ptwist.errors import (
    LinkDown,
    LocalUsageError,
    NameNotResolved,
    P2PError,
    RendezvousRefused,
    RendezvousUnreachable,
)
from p2ptwist.interfaces import IWelcome
from p2ptwist.peer.identity import generateIdentity
from p2ptwist.rendezvous.linkclient import RendezvousLink
from tests.sim.rendezvous import ENDPOINT, GENEROUS, NODE, PORT, Peer, RendezvousCase


class ExchangeTests(RendezvousCase):
    """
    What a link is for.
    """

    def test_up(self) -> None:
        """
        A link is up two round trips after TCP's own, and says where it was seen to come from.
        """
        peer = self.peer()
        peer.link.startService()
        welcome = self.internet.runUntil(peer.link.whenUp())
        self.assertAlmostEqual(self.internet.seconds(), 3 * 2 * (0.02 + 0.005), places=2)
        self.assertEqual(welcome.nodeName, "node")
        self.assertEqual(welcome.stunServers, ((NODE, 3478),))
        self.assertEqual(welcome.observedAddress[0], "203.0.0.1")
        self.assertIs(self.successResultOf(peer.link.whenUp()), welcome)
        self.assertIs(peer.last("up"), welcome)
        self.stopAll()

    def test_messages(self) -> None:
        """
        Messages arrive in order, from the key that was proved; absent peers are unreachable.
        """
        alice, bob = self.started(), self.started()
        for payload in (b"one", b"", bytes(16_351)):
            alice.link.send(bob.key, payload)
        alice.link.send(bytes(32), b"nobody")
        self.internet.advance(1.0)
        messages = [what for word, _, what in bob.told if word == "message"]
        self.assertEqual(
            messages, [(alice.key, b"one"), (alice.key, b""), (alice.key, bytes(16_351))]
        )
        self.assertEqual(alice.last("unreachable"), bytes(32))
        self.assertEqual(bob.times("unreachable"), [])
        self.stopAll()

    def test_fromCallback(self) -> None:
        """
        A receiver may send, stop, or fail from inside any callback.
        """
        alice, bob = self.started(), self.started()
        answered = bob.messageReceived

        def answer(sender: bytes, payload: bytes) -> None:
            answered(sender, payload)
            bob.link.send(sender, b"answer")
            bob.link.stopService()
            raise ValueError("a receiver's bug")

        bob.messageReceived = answer  # type: ignore[method-assign]
        alice.link.send(bob.key, b"question")
        self.internet.advance(1.0)
        self.assertEqual(alice.last("message"), (bob.key, b"answer"))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertIsInstance(bob.last("down"), LinkDown)
        self.stopAll()

    def test_misuse(self) -> None:
        """
        A message that cannot be sent is refused at once, and the link goes on.
        """
        peer = self.peer()
        self.assertRaises(LinkDown, peer.link.send, bytes(32), b"")
        peer.link.startService()
        self.internet.runUntil(peer.link.whenUp())
        self.assertRaises(LocalUsageError, peer.link.send, bytes(31), b"")
        self.assertRaises(LocalUsageError, peer.link.send, bytes(32), bytes(16_352))
        self.assertEqual(peer.times("down"), [])
        self.stopAll()

    def test_throttled(self) -> None:
        """
        A peer that sends faster than it may loses nothing: the node reads it more slowly, and
        what does not fit in between is refused where it is sent.
        """
        alice, bob = self.started(), self.started()
        sent = 0
        with self.assertRaises(LinkDown) as caught:
            while True:
                alice.link.send(bob.key, bytes(10_000))
                sent += 1
        self.assertIn("does not keep up", str(caught.exception))
        self.internet.advance(30.0)
        alice.link.send(bob.key, b"again")
        self.internet.advance(30.0)
        self.assertEqual(len(bob.times("message")), sent + 1)
        self.assertEqual(alice.times("down"), [])
        self.stopAll()

    def test_idle(self) -> None:
        """
        An idle link costs its peer at most three packets a minute, both directions together.
        """
        peer = self.started()
        self.internet.advance(10.0)
        counters = peer.host.counters
        before = counters.packetsSent + counters.packetsReceived
        self.internet.advance(600.0)
        packets = counters.packetsSent + counters.packetsReceived - before
        self.assertLessEqual(packets, 30)
        self.assertGreaterEqual(packets, 18)
        self.assertEqual(peer.times("down"), [])
        self.stopAll()


class BreakTests(RendezvousCase):
    """
    Links that break, and come back.
    """

    def test_cut(self) -> None:
        """
        A peer that is cut off notices within an interval and 10 s, and is back within 30 s of the
        cable's return.
        """
        peer, other = self.started(), self.started()
        cut = self.internet.seconds()
        peer.host.link.cut()
        self.internet.advance(600.0)
        self.assertIsInstance(peer.last("down"), LinkDown)
        self.assertIn("did not answer a ping within 10 s", str(peer.last("down")))
        self.assertLess(peer.times("down")[0] - cut, 101.0)
        other.link.send(peer.key, b"anybody there?")
        self.internet.advance(1.0)
        self.assertEqual(other.last("unreachable"), peer.key)
        restored = self.internet.seconds()
        peer.host.link.restore()
        self.internet.runUntil(peer.link.whenUp().addErrback(lambda _: peer.link.whenUp()))
        self.assertLess(self.internet.seconds() - restored, 46.0)
        other.link.send(peer.key, b"welcome back")
        self.internet.advance(1.0)
        self.assertEqual(peer.last("message"), (other.key, b"welcome back"))
        self.stopAll()

    def test_doubt(self) -> None:
        """
        A NAT that forgets its mappings kills links without a word; a message sent on one, or a
        program's doubt, finds out within 10 s.
        """
        for sends in (True, False):
            peer = self.started()
            self.internet.advance(20.0)
            home = self.internet.routers[f"home{len(self.peers) - 1}"]
            home.reboot()
            doubted = self.internet.seconds()
            if sends:
                peer.link.send(bytes(32), b"lost")
            else:
                peer.link.probe()
            self.internet.advance(11.0)
            (down,) = peer.times("down")
            self.assertLessEqual(down - doubted, 10.0)
            self.internet.runUntil(peer.link.whenUp())
        self.stopAll()

    def test_sameProgramComesBack(self) -> None:
        """
        A peer that comes back while its old link still seems to live replaces it, at once and as
        often as it must.
        """
        peer, other = self.started(), self.started()
        for _ in range(3):
            home = self.internet.routers["home0"]
            home.reboot()
            peer.link.probe()
            self.internet.advance(10.1)
            self.internet.runUntil(peer.link.whenUp())
            other.link.send(peer.key, b"hi")
            self.internet.advance(1.0)
            self.assertEqual(peer.last("message"), (other.key, b"hi"))
        self.assertEqual(self.service.counters.displaced, 3)
        self.stopAll()

    def test_crash(self) -> None:
        """
        A node that is killed and started anew has all its peers back within 60 s, spread out.
        """
        self.checkReturn(self.node.kill, 5.0, 100)

    def test_powerCut(self) -> None:
        """
        So has a node that was away for six hours.
        """
        self.checkReturn(self.node.cutPower, 6 * 3600.0, 10)

    def checkReturn(self, kill: Callable[[], None], away: float, number: int) -> None:
        """
        Take the node away for some time and check how its peers come back.
        """
        peers = [self.peer() for _ in range(number)]
        for peer in peers:
            peer.link.startService()
        self.internet.advance(40.0)
        self.assertEqual([len(peer.times("up")) for peer in peers], [1] * number)
        kill()
        self.internet.advance(away)
        back = self.internet.seconds()
        self.serve()
        self.internet.advance(60.0)
        delays = [peer.times("up")[-1] - back for peer in peers]
        self.assertEqual([len(peer.times("up")) for peer in peers], [2] * number)
        self.assertEqual([len(peer.times("down")) for peer in peers], [1] * number)
        self.assertTrue(all(0 < delay <= 60 for delay in delays))
        busiest = max(sum(int(delay) == second for delay in delays) for second in range(60))
        self.assertLessEqual(busiest, 0.4 * number)
        self.stopAll()

    def test_drain(self) -> None:
        """
        A node that stops tells its peers, and is gone within 2 s; they try again spread over 10 s.
        """
        peers = [self.peer() for _ in range(50)]
        for peer in peers:
            peer.link.startService()
        self.internet.advance(10.0)
        started = self.internet.seconds()
        self.internet.runUntil(self.service.stopService())
        self.assertLess(self.internet.seconds() - started, 2.1)
        self.internet.advance(1.0)
        for peer in peers:
            reason = peer.last("down")
            self.assertIsInstance(reason, RendezvousRefused)
            self.assertEqual(reason.reason, "draining")
        self.serve()
        self.internet.advance(20.0)
        delays = [peer.times("up")[-1] - started for peer in peers]
        self.assertTrue(all(0 < delay < 16 for delay in delays), delays)
        self.assertGreater(sum(delay > 4 for delay in delays), 10)
        self.stopAll()

    def test_drainUnread(self) -> None:
        """
        A peer that is cut off does not hold the drain up for longer than 2 s.
        """
        peer = self.started()
        peer.host.link.cut()
        started = self.internet.seconds()
        self.internet.runUntil(self.service.stopService())
        self.assertLess(self.internet.seconds() - started, 2.1)
        peer.host.link.restore()
        self.stopAll()


class RefusalTests(RendezvousCase):
    """
    Nodes that refuse, and what only looks like a node.
    """

    def fails(self, kind: type[P2PError], within: float = 16.0, **options: Any) -> P2PError:
        """
        @return: what C{whenUp} of a new peer fails with.
        """
        peer = self.peer(**options)
        peer.link.startService()
        started = self.internet.seconds()
        with self.assertRaises(kind) as caught:
            self.internet.runUntil(peer.link.whenUp())
        self.assertLessEqual(self.internet.seconds() - started, within)
        self.assertEqual(peer.told, [])
        self.stopAll()
        error: P2PError = caught.exception
        return error

    def test_full(self) -> None:
        """
        A full node says so, and takes the peer when there is room.
        """
        self.internet.runUntil(self.service.stopService())
        self.serve(Limits(maxLinks=1))
        first, second = self.started(), self.peer()
        second.link.startService()
        with self.assertRaises(RendezvousRefused) as caught:
            self.internet.runUntil(second.link.whenUp())
        self.assertEqual(caught.exception.reason, "full")
        self.assertIn(ENDPOINT, str(caught.exception))
        self.internet.runUntil(first.link.stopService())
        self.internet.advance(30.0)
        self.successResultOf(second.link.whenUp())
        self.stopAll()

    def test_badSignature(self) -> None:
        """
        An identity whose signatures do not fit its key is refused.
        """
        identity, other = generateIdentity(), generateIdentity()

        class Confused:
            publicKey = identity.publicKey
            sign = other.sign

        error = self.fails(RendezvousRefused, identity=Confused())
        assert isinstance(error, RendezvousRefused)
        self.assertEqual(error.reason, "bad-signature")
        self.assertIn("check the identity file", str(error))

    def test_wrongNode(self) -> None:
        """
        A peer that wants one node takes no other.
        """
        error = self.fails(RendezvousRefused, nodeName="another")
        self.assertIn("'node', not 'another'", str(error))

    def test_noName(self) -> None:
        """
        A name without an address is named.
        """
        error = self.fails(NameNotResolved, endpoint="tcp:nowhere.example:8470")
        self.assertIn("tcp:nowhere.example:8470 has no address", str(error))

    def test_name(self) -> None:
        """
        A name with an address leads to its node.
        """
        self.internet.name("rendezvous.example", NODE)
        self.started(endpoint="tcp:rendezvous.example:8470")
        self.stopAll()

    def test_refused(self) -> None:
        """
        A host that runs no node.
        """
        error = self.fails(RendezvousUnreachable, endpoint=f"tcp:{NODE}:8471")
        self.assertIn(f"tcp:{NODE}:8471", str(error))
        self.assertIn("refused", str(error))

    def test_blackHole(self) -> None:
        """
        An address that swallows everything: 15 s, not more.
        """
        self.internet.host("hole", "192.0.2.9").link.cut()
        error = self.fails(RendezvousUnreachable, endpoint="tcp:192.0.2.9:8470")
        self.assertIn("check the address", str(error))

    def test_patientEndpoint(self) -> None:
        """
        An endpoint of the program's own, with more patience, gets no more time.
        """
        self.internet.host("hole", "192.0.2.9").link.cut()
        peer = self.peer()
        endpoint = TCP4ClientEndpoint(peer.host, "192.0.2.9", PORT, timeout=600)
        peer.link = RendezvousLink(peer.host, endpoint, generateIdentity())
        peer.link.startService()
        with self.assertRaises(RendezvousUnreachable) as caught:
            self.internet.runUntil(peer.link.whenUp())
        self.assertEqual(self.internet.seconds(), 15.0)
        self.assertIn("no answer within 15 s", str(caught.exception))
        self.stopAll()

    def test_silentReceiver(self) -> None:
        """
        A link without a receiver works as well, for who only wants to know that it is up.
        """
        peer, other = self.peer(), self.started()
        peer.link.receiver = None
        peer.link.startService()
        self.internet.runUntil(peer.link.whenUp())
        other.link.send(peer.key, b"hi")
        peer.link.send(bytes(32), b"nobody")
        self.internet.advance(1.0)
        self.assertEqual(peer.told, [])
        self.stopAll()

    def impostor(self, says: bytes, closes: bool = False) -> None:
        """
        Put something on port 99 of the node's host that is not a node.
        """

        class Impostor(Protocol):
            def connectionMade(self) -> None:
                assert self.transport is not None
                self.transport.write(says)
                if closes:
                    self.transport.loseConnection()

        factory = ServerFactory.forProtocol(Impostor)
        factory.noisy = False
        self.node.listenTCP(99, factory)  # type: ignore[arg-type]

    def test_silent(self) -> None:
        """
        A server that says nothing is given up on after 10 s.
        """
        self.impostor(b"")
        error = self.fails(RendezvousUnreachable, endpoint=f"tcp:{NODE}:99")
        self.assertIn("did not answer within 10 s: check that it is a rendezvous node", str(error))

    def test_garbage(self) -> None:
        """
        A server of another protocol is found out at its first words.
        """
        self.impostor(b"220 mail.example ESMTP\r\n")
        error = self.fails(RendezvousRefused, 1.0, endpoint=f"tcp:{NODE}:99")
        assert isinstance(error, RendezvousRefused)
        self.assertEqual(error.reason, "malformed")

    def test_closes(self) -> None:
        """
        A server that closes at once.
        """
        self.impostor(b"", closes=True)
        error = self.fails(RendezvousUnreachable, 1.0, endpoint=f"tcp:{NODE}:99")
        self.assertIn("closed the connection before the link was up", str(error))


class OneKeyTests(RendezvousCase):
    """
    Two programs with the same key.
    """

    def test_standby(self) -> None:
        """
        The second wins, the first is told and stands by; nobody is chased off again; when the
        second ends, the first takes over.
        """
        identity = generateIdentity()
        first, second = self.started(identity=identity), self.started(identity=identity)
        self.internet.advance(1800.0)
        self.assertEqual(first.last("down").reason, "displaced")
        self.assertEqual([word for word, _, _ in second.told], ["up"])
        self.assertEqual(self.service.counters.displaced, 1)
        with self.assertRaises(RendezvousRefused) as caught:
            self.internet.runUntil(first.link.whenUp())
        self.assertIn("another program uses the same key", str(caught.exception))
        self.internet.runUntil(second.link.stopService())
        ended = self.internet.seconds()
        self.internet.advance(31.0)
        self.assertLess(first.times("up")[-1] - ended, 31.0)
        other = self.started()
        other.link.send(identity.publicKey, b"hi")
        self.internet.advance(1.0)
        self.assertEqual(first.last("message"), (other.key, b"hi"))
        self.stopAll()


class StopTests(RendezvousCase):
    """
    A link that is stopped leaves nothing behind, whatever it was doing.
    """

    def stop(self, peer: Peer, within: float) -> None:
        """
        Stop C{peer}, whose waiters are told, and check that nothing is left.
        """
        waiter = peer.link.whenUp()
        started = self.internet.seconds()
        self.internet.runUntil(peer.link.stopService())
        self.assertLessEqual(self.internet.seconds() - started, within)
        self.failureResultOf(waiter, LinkDown)
        self.failureResultOf(peer.link.whenUp(), LinkDown)
        self.assertEqual(peer.host.getDelayedCalls(), [])
        self.assertRaises(LinkDown, peer.link.send, bytes(32), b"")
        self.assertEqual(peer.host.getReaders(), [])

    def test_neverStarted(self) -> None:
        """
        Before it was started, a link may be waited for, and stopped.
        """
        peer = self.peer()
        self.stop(peer, 0.0)

    def test_connecting(self) -> None:
        """
        While TCP connects.
        """
        peer = self.peer()
        peer.link.startService()
        self.internet.advance(0.01)
        self.stop(peer, 0.0)

    def test_handshaking(self) -> None:
        """
        While the node has still to answer; a server that never reads holds nothing up.
        """
        peer = self.peer()
        peer.link.startService()
        self.internet.advance(0.06)
        self.stop(peer, 2.0)

    def test_up(self) -> None:
        """
        While it is up: what was sent still arrives, and the receiver is told.
        """
        peer, other = self.started(), self.started()
        peer.link.send(other.key, b"last words")
        self.internet.runUntil(peer.link.stopService())
        self.internet.advance(1.0)
        self.assertEqual(other.last("message"), (peer.key, b"last words"))
        self.assertIn("was stopped", str(peer.last("down")))
        self.stopAll()

    def test_cutOff(self) -> None:
        """
        While it is up but cut off, and so cannot close politely.
        """
        peer = self.started()
        peer.host.link.cut()
        peer.link.send(bytes(32), b"lost")
        self.internet.runUntil(peer.link.stopService())
        self.assertEqual(peer.host.getDelayedCalls(), [])
        self.stopAll()

    def test_waiting(self) -> None:
        """
        While it waits for its next attempt.
        """
        peer = self.peer(endpoint=f"tcp:{NODE}:8471")
        peer.link.startService()
        self.internet.advance(0.06)
        self.stop(peer, 0.0)

    def test_twice(self) -> None:
        """
        Stopping twice, also while stopping, waits for the same end.
        """
        peer = self.started()
        first, second = peer.link.stopService(), peer.link.stopService()
        self.internet.runUntil(first)
        self.successResultOf(second)
        self.successResultOf(peer.link.stopService())
        self.stopAll()

    def test_restart(self) -> None:
        """
        A link may be started again: stopped, while it stops, and while it runs.
        """
        peer = self.started()
        stopped = peer.link.stopService()
        peer.link.startService()
        peer.link.startService()
        self.internet.runUntil(peer.link.whenUp())
        self.successResultOf(stopped)
        self.internet.runUntil(peer.link.stopService())
        peer.link.startService()
        self.internet.runUntil(peer.link.whenUp())
        self.assertEqual(len(peer.times("up")), 3)
        self.stopAll()

    def test_restartWhileConnecting(self) -> None:
        """
        Also while an attempt is on its way out, or stopped once more.
        """
        peer = self.peer()
        peer.link.startService()
        self.internet.advance(0.06)
        stopped = [peer.link.stopService()]
        peer.link.startService()
        stopped.append(peer.link.stopService())
        peer.link.startService()
        self.internet.runUntil(peer.link.whenUp())
        for done in stopped:
            self.successResultOf(done)
        self.stopAll()

    def test_cancel(self) -> None:
        """
        Waiting for a link may be cancelled; the link comes up all the same.
        """
        peer = self.peer()
        peer.link.startService()
        waiter: Deferred[IWelcome] = peer.link.whenUp()
        waiter.cancel()
        self.failureResultOf(waiter, CancelledError)
        self.internet.runUntil(peer.link.whenUp())
        self.stopAll()


class FloodTests(RendezvousCase):
    """
    A node among those who do not keep the rules.
    """

    def test_stalled(self) -> None:
        """
        Connections that stall before their proof, or in a frame, are gone within 12 s, and an
        honest peer comes up in between.
        """

        class Stalled(Protocol):
            def connectionMade(self) -> None:
                assert self.transport is not None
                self.transport.write(b"\x00")

        factory = ClientFactory.forProtocol(Stalled)
        factory.noisy = False
        attackers = [self.internet.host(f"attacker{n}", f"198.51.100.{1 + n}") for n in range(8)]
        for attacker in attackers:
            for _ in range(25):
                attacker.connectTCP(NODE, PORT, factory)  # type: ignore[arg-type]
        self.internet.advance(1.0)
        self.started()
        self.internet.advance(11.0)
        self.assertEqual([attacker.getReaders() for attacker in attackers], [[]] * 8)
        self.assertEqual(self.service.counters.proven, 1)
        self.stopAll()

    def test_slowReader(self) -> None:
        """
        A peer that does not read is cut off; the others are not affected.
        """
        self.internet.runUntil(self.service.stopService())
        self.serve(Limits(messageRate=GENEROUS, lookupRate=GENEROUS))
        slow, sender, other = self.started(), self.started(), self.started()
        slow.host.link.cut()
        for _ in range(300):
            for _ in range(3):
                sender.link.send(slow.key, bytes(16_000))
            sender.link.send(other.key, b"on time")
            self.internet.advance(0.2)
        self.assertEqual(len(other.times("message")), 300)
        self.assertEqual(self.service.counters.tooSlow, 1)
        slow.host.link.restore()
        self.stopAll()
