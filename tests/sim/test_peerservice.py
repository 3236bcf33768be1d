"""
What a program may do with its peer at any moment: start, stop, give up, ask.
"""

from __future__ import annotations

from functools import partial

from twisted.application.service import IService
from twisted.internet.defer import CancelledError

from p2ptwist.core.errors import LocalUsageError
from p2ptwist.errors import SessionRefused
from p2ptwist.peer.service import allowing, everyone
from p2ptwist.testing.packet import Protocol as PacketProtocol
from tests.sim.sessions import Caller, SessionCase, SessionPairs, Talk, Talks, block


class CancelTests(SessionCase):
    """
    Connecting that is given up.
    """

    def sessions(self, *callers: Caller) -> list[int]:
        """
        @return: how many sessions each peer has, half-made ones included.
        """
        return [len(caller.peer._sessions._held) for caller in callers]

    def test_nothingIsLeft(self) -> None:
        """
        When the only one who waits for a session gives up there is no session, on neither side.
        """
        for after in (0.0, 0.01, 0.03, 0.06, 0.09):
            pairs = self.pairs()
            a, b = pairs.two()
            b.echoes()
            connecting = a.peer.connect(b.peerID, "echo", Talks(partial(Talk, a.host)))
            pairs.internet.advance(after)
            connecting.cancel()
            self.failureResultOf(connecting, CancelledError)
            self.assertEqual(self.sessions(a), [0], after)
            pairs.internet.advance(11.0)
            self.assertEqual(self.sessions(a, b), [0, 0], after)
            pairs.talk(a, b)
            self.assertEqual(self.sessions(a, b), [1, 1], after)
            pairs.close()

    def test_others(self) -> None:
        """
        Who waits for the same session gets it, and the last one who gives up ends it.
        """
        pairs = self.pairs()
        a, b = pairs.two()
        b.echoes()
        three = [a.peer.connect(b.peerID, "echo", Talks(partial(Talk, a.host))) for _ in range(3)]
        for given in three:
            self.assertEqual(self.sessions(a), [1])
            given.cancel()
            self.failureResultOf(given, CancelledError)
        self.assertEqual(self.sessions(a), [0])
        pairs.close()

    def test_theirs(self) -> None:
        """
        Who waits for the other side's call, and gives up, leaves that alone.
        """
        pairs = self.pairs()
        a, b = sorted(pairs.two(), key=lambda caller: caller.identity.publicKey)
        a.echoes()
        theirs = b.peer.connect(a.peerID, "echo", Talks(partial(Talk, b.host)))
        pairs.internet.advance(0.07)
        self.assertEqual(self.sessions(a), [1])
        given = a.peer.connect(b.peerID, "echo", Talks(partial(Talk, a.host)))
        given.cancel()
        self.failureResultOf(given, CancelledError)
        self.assertIsInstance(pairs.internet.runUntil(theirs, timeout=10.0), Talk)
        pairs.close()


class StartTests(SessionCase):
    """
    Starting and stopping.
    """

    def test_again(self) -> None:
        """
        A peer that has stopped can be started again, calls and is called, and offers what it did.
        """
        pairs = self.pairs()
        a, b = pairs.two()
        for caller in (a, b):
            caller.echoes()
        for caller, other in ((a, b), (b, a)):
            pairs.talk(caller, other)
            pairs.internet.runUntil(caller.peer.stopService(), timeout=30.0)
            caller.peer.startService()
            pairs.internet.runUntil(caller.peer.whenReady(), timeout=30.0)
            for one, another in ((caller, other), (other, caller)):
                talk = pairs.talk(one, another)
                talk.transport.write(b"again")
                pairs.internet.advance(10.0)
                self.assertEqual(talk.data, b"again")
                path = one.peer.path(another.peerID)
                assert path is not None
                self.assertEqual(path.kind, "direct")
        pairs.close()

    def test_twice(self) -> None:
        """
        One that runs, or is about to stop, refuses to start, in one clear line, and goes on.
        """
        pairs = self.pairs()
        a, b = pairs.two()
        b.echoes()
        talk = pairs.talk(a, b)
        refused = self.assertRaises(LocalUsageError, a.peer.startService)
        self.assertIn("runs already", str(refused))
        talk.transport.write(b"still there")
        stopping = a.peer.stopService()
        refused = self.assertRaises(LocalUsageError, a.peer.startService)
        self.assertIn("still stopping", str(refused))
        pairs.internet.runUntil(stopping, timeout=30.0)
        a.peer.startService()
        pairs.talk(a, b)
        pairs.close()

    def test_stopTwice(self) -> None:
        """
        Stopping what is stopping, or has stopped, does no harm.
        """
        pairs = self.pairs()
        a, _ = pairs.two()
        first, second = a.peer.stopService(), a.peer.stopService()
        pairs.internet.runUntil(first, timeout=30.0)
        pairs.internet.runUntil(second, timeout=30.0)
        pairs.close()

    def test_node(self) -> None:
        """
        A node that has stopped can be started again, and serves its peers as before; one that runs,
        or is about to stop, refuses.
        """
        pairs = self.pairs()
        a, b = pairs.two()
        b.echoes()
        node = pairs.service
        refused = self.assertRaises(LocalUsageError, node.startService)
        self.assertIn("runs already", str(refused))
        stopping = node.stopService()
        refused = self.assertRaises(LocalUsageError, IService(node).startService)
        self.assertIn("still stopping", str(refused))
        pairs.internet.runUntil(stopping, timeout=30.0)
        node.startService()
        pairs.internet.advance(20.0)
        talk = pairs.talk(a, b)
        talk.transport.write(b"hello again")
        pairs.internet.advance(2.0)
        self.assertEqual(talk.data, b"hello again")
        self.assertEqual(node.counters.proven, 2)
        pairs.close()


class PathTests(SessionCase):
    """
    What is told of a path.
    """

    def check(self, pairs: SessionPairs, caller: Caller, other: Caller, seconds: float) -> None:
        """
        See that a relayed path tells its round trip.
        """
        path = caller.peer.path(other.peerID)
        assert path is not None and path.roundTrip is not None
        self.assertEqual(path.kind, "relayed")
        self.assertLess(abs(path.roundTrip - seconds), 0.03)

    def test_relayedRoundTrip(self) -> None:
        """
        A relayed path has a round trip as well, on either side, as soon as there is a stream.
        """
        pairs = self.pairs()
        a, b = pairs.two(blockUDP=True)
        echoes = b.echoes()
        pairs.talk(a, b)
        self.check(pairs, a, b, 0.1)
        while not echoes.made:
            pairs.internet.advance(0.01)
        self.check(pairs, b, a, 0.1)
        pairs.close()

    def test_directRoundTrip(self) -> None:
        """
        Whatever is told of a direct path, and whoever checked it first, has a round trip.
        """
        for seed in range(5):
            pairs = self.pairs(seed)
            a, b = pairs.two()
            b.echoes()
            pairs.talk(a, b)
            pairs.internet.advance(3.0)
            events = [event for _, event in a.events + b.events]
            self.assertEqual({event.kind for event in events}, {"direct"})
            for event in events:
                assert event.roundTrip is not None
                self.assertLess(abs(event.roundTrip - 0.09), 0.03)
            pairs.close()

    def test_fallback(self) -> None:
        """
        And when the direct path has died.
        """
        pairs = self.pairs()
        a, b = pairs.two()
        b.echoes()
        talk = pairs.talk(a, b)
        pairs.internet.advance(2.0)
        for caller in (a, b):
            block(caller.host, PacketProtocol.UDP)
        for _ in range(50):
            talk.transport.write(b".")
            pairs.internet.advance(0.1)
        self.check(pairs, a, b, 0.1)
        self.assertEqual(a.events[-1][1].kind, "relayed")
        self.assertIsNotNone(a.events[-1][1].roundTrip)
        pairs.close()


class DatagramTests(SessionCase):
    """
    Sessions for datagrams alone.
    """

    def test_withoutStreams(self) -> None:
        """
        A peer that takes datagrams needs no service, and who sends them no stream.
        """
        pairs = self.pairs()
        a, b = pairs.two()
        came: list[tuple[str, bytes]] = []
        b.peer.receiveMessages(lambda *message: came.append(message))
        pairs.internet.runUntil(a.peer.call(b.peerID), timeout=10.0)
        pairs.internet.advance(0.2)
        a.peer.sendMessage(b.peerID, b"hello")
        pairs.internet.advance(1.0)
        self.assertEqual(came, [(a.peerID, b"hello")])
        self.assertEqual((a.peer.streams, b.peer.streams), (0, 0))
        self.assertRaises(LocalUsageError, a.peer.sendMessage, b.peerID, bytes(1151))
        self.assertRaises(LocalUsageError, a.peer.call, a.peerID)
        pairs.close()

    def test_refused(self) -> None:
        """
        Nobody calls who is not admitted, or where nothing is wanted.
        """
        for wants, policy in ((True, allowing([])), (False, everyone)):
            pairs = self.pairs()
            routers = pairs.twoRouters()
            a = pairs.caller(routers[0].host("a"))
            b = pairs.caller(routers[1].host("b"), policy=policy)
            pairs.ready()
            if wants:
                b.peer.receiveMessages(lambda *message: None)
            calling = a.peer.call(b.peerID)
            with self.assertRaises(SessionRefused) as refusing:
                pairs.internet.runUntil(calling, timeout=10.0)
            self.assertEqual(refusing.exception.word, "not-admitted")
            pairs.close()
