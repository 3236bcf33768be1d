"""
Whole peers: who may have a session, and what becomes of it.
"""

from __future__ import annotations

from functools import partial

from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure

from p2ptwist.errors import (
    LinkDown,
    LocalUsageError,
    PeerUnreachable,
    SessionLost,
    SessionRefused,
    StreamRefused,
)
from p2ptwist.peer.service import PeerService, allowing
from tests.sim.neighborhood import UNIT
from tests.sim.sessions import IDENTITIES, SessionCase, Talk, Talks


def _same(talk: Talk) -> Talk:
    return talk


class ConnectTests(SessionCase):
    """
    Peers that may talk.
    """

    def test_firstByte(self) -> None:
        """
        The first byte is echoed within 1.6 units of the call, and soon the path is direct.
        """
        pairs = self.pairs()
        a, b = pairs.two()
        b.echoes()
        began = pairs.internet.seconds()
        talk = pairs.talk(a, b)
        talk.transport.write(b"hello")
        self.assertEqual(talk.transport.getPeer().kind, "relayed")
        self.assertEqual(talk.transport.getPeer().peerID, b.peerID)
        self.assertEqual(talk.transport.getHost().peerID, a.peerID)
        pairs.internet.advance(1.0)
        self.assertEqual(talk.data, b"hello")
        self.assertLessEqual(talk.received[0][0] - began, 1.6 * UNIT)
        self.assertEqual(self.kinds(a.events), ["direct"])
        self.assertLessEqual(a.events[0][0] - began, 2.2 * UNIT)
        self.assertEqual(talk.transport.getPeer().kind, "direct")
        path = a.peer.path(b.peerID)
        assert path is not None
        self.assertEqual(path.remote, talk.transport.getPeer().remote)
        pairs.close()

    def test_secondStream(self) -> None:
        """
        Another connection to the same peer is open at once, in the same session.
        """
        pairs = self.pairs()
        a, b = pairs.two()
        echoes = b.echoes()
        pairs.talk(a, b)
        pairs.internet.advance(1.0)
        connecting = a.peer.connect(b.peerID, "echo", Talks(lambda: Talk(a.host)))
        second = self.successResultOf(connecting)
        assert isinstance(second, Talk)
        second.transport.write(b"more")
        pairs.internet.advance(0.2)
        self.assertEqual(second.data, b"more")
        self.assertEqual(len(echoes.made), 2)
        pairs.close()

    def test_backwards(self) -> None:
        """
        The called side opens streams in the same session, to services of the caller.
        """
        pairs = self.pairs()
        a, b = pairs.two()
        b.echoes()
        a.echoes("back")
        pairs.talk(a, b)
        pairs.internet.advance(1.0)
        talk = self.successResultOf(b.peer.connect(a.peerID, "back", Talks(lambda: Talk(b.host))))
        assert isinstance(talk, Talk)
        talk.transport.write(b"hello")
        pairs.internet.advance(0.2)
        self.assertEqual(talk.data, b"hello")
        pairs.close()

    def test_atOnce(self) -> None:
        """
        Both call each other at the same moment, or a little apart: one session, and both streams
        work.
        """
        for apart in (0.0, 0.01, 0.03, 0.05, 0.06, 0.09, 0.12, 0.2):
            for turned in (False, True):
                pairs = self.pairs()
                a, b = pairs.two()
                a.echoes()
                b.echoes()
                if turned:
                    a, b = b, a
                talks = []
                for caller, callee in ((a, b), (b, a)):
                    talk = Talk(caller.host)
                    talks.append(talk)
                    caller.peer.connect(callee.peerID, "echo", Talks(partial(_same, talk)))
                    pairs.internet.advance(apart)
                pairs.internet.advance(2.0)
                for talk in talks:
                    self.assertIsNone(talk.lost)
                    talk.transport.write(b"hello")
                pairs.internet.advance(1.0)
                self.assertEqual([talk.data for talk in talks], [b"hello"] * 2)
                for peer in (a, b):
                    self.assertEqual(len(peer.peer._sessions._held), 1)
                pairs.close()

    def test_cancel(self) -> None:
        """
        A connection that is being made can be given up at any moment; others that wait for the
        same session are not disturbed.
        """
        for after in (0.0, 0.04, 0.08, 0.1):
            pairs = self.pairs()
            a, b = pairs.two()
            echoes = b.echoes()
            given = a.peer.connect(b.peerID, "echo", Talks(partial(Talk, a.host)))
            kept = a.peer.connect(b.peerID, "echo", Talks(partial(Talk, a.host)))
            pairs.internet.advance(after)
            given.cancel()
            self.failureResultOf(given, CancelledError)
            talk = pairs.internet.runUntil(kept)
            assert isinstance(talk, Talk)
            pairs.internet.advance(1.0)
            self.assertEqual(len(echoes.made), 1)
            pairs.close()

    def test_messages(self) -> None:
        """
        Datagrams go both ways within a session, and do not need a stream of their own.
        """
        pairs = self.pairs()
        a, b = pairs.two()
        b.echoes()
        got: list[tuple[str, bytes]] = []
        a.peer.receiveMessages(lambda peerID, data: got.append((peerID, data)))
        b.peer.receiveMessages(lambda peerID, data: b.peer.sendMessage(peerID, data * 2))
        self.assertRaises(SessionLost, a.peer.sendMessage, b.peerID, b"nobody")
        pairs.talk(a, b)
        pairs.internet.advance(1.0)
        a.peer.sendMessage(b.peerID, b"ping")
        self.assertRaises(ValueError, a.peer.sendMessage, b.peerID, bytes(1151))
        pairs.internet.advance(1.0)
        self.assertEqual(got, [(b.peerID, b"pingping")])
        for _ in range(1000):
            a.peer.sendMessage(b.peerID, bytes(575))
        pairs.internet.advance(2.0)
        self.assertLess(len(got), 200, "a flood is dropped, not kept")
        pairs.close()

    def test_brokenObservers(self) -> None:
        """
        Observers and receivers that fail disturb nobody.
        """

        def broken(*arguments: object) -> None:
            raise ZeroDivisionError

        pairs = self.pairs()
        a, b = pairs.two()
        b.echoes()
        a.peer.observe(broken)
        b.peer.receiveMessages(broken)
        talk = pairs.talk(a, b)
        pairs.internet.advance(1.0)
        a.peer.sendMessage(b.peerID, b"ping")
        b.peer.sendMessage(a.peerID, b"for nobody")
        talk.transport.write(b"hello")
        pairs.internet.advance(1.0)
        self.assertEqual(talk.data, b"hello")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)
        pairs.close()

    def test_twoNodes(self) -> None:
        """
        Peers that have links to two nodes talk through the second when the first is gone, and a
        relayed stream goes on when its node dies.
        """
        pairs = self.pairs()
        a, b = pairs.two(blockUDP=True, nodes=2)
        b.echoes()
        talk = pairs.talk(a, b)
        talk.transport.write(b"one")
        pairs.internet.advance(1.0)
        pairs.killNode()
        for _ in range(20):
            talk.transport.write(b".")
            pairs.internet.advance(1.0)
        self.assertEqual(talk.data, b"one" + 20 * b".")
        pairs.close()

    def test_blockedUDP(self) -> None:
        """
        Where UDP is blocked on both sides the session stays relayed, and is as fast to the first
        byte.
        """
        pairs = self.pairs()
        a, b = pairs.two(blockUDP=True)
        b.echoes()
        began = pairs.internet.seconds()
        talk = pairs.talk(a, b)
        talk.transport.write(b"hello")
        pairs.internet.advance(30.0)
        self.assertEqual(talk.data, b"hello")
        self.assertLessEqual(talk.received[0][0] - began, 1.6 * UNIT)
        self.assertEqual(a.events + b.events, [])
        path = a.peer.path(b.peerID)
        assert path is not None
        self.assertEqual((path.kind, path.transport), ("relayed", "tcp"))
        pairs.close()


class RefusalTests(SessionCase):
    """
    Peers that may not talk, or cannot: the error has a name and comes within 10 s.
    """

    def lossOf(self, talk: Talk, began: float) -> BaseException:
        """
        @return: why C{talk} ended, which took 10 s at most.
        """
        assert talk.lost is not None and talk.lost.value is not None
        self.assertLessEqual(talk.lostAt - began, 10.0)
        self.assertEqual(talk.losses, 1)
        return talk.lost.value

    def test_policy(self) -> None:
        """
        A peer that the policy does not admit is told so, and no factory hears of it.
        """
        pairs = self.pairs()
        a, b = pairs.two(policy=allowing([]))
        echoes = b.echoes()
        began = pairs.internet.seconds()
        talk = pairs.talk(a, b)
        talk.transport.write(b"hello")
        pairs.internet.advance(10.0)
        error = self.lossOf(talk, began)
        assert isinstance(error, SessionLost)
        self.assertEqual(error.word, "not-admitted")
        self.assertEqual(echoes.made, [])
        pairs.close()

    def test_policyOfTheCaller(self) -> None:
        """
        Having called a peer is not having admitted it.
        """
        pairs = self.pairs()
        routers = pairs.twoRouters()
        a = pairs.caller(routers[0].host("a"), policy=allowing([]))
        b = pairs.caller(routers[1].host("b"))
        pairs.ready()
        b.echoes()
        secret = a.echoes("secret")
        pairs.talk(a, b)
        pairs.internet.advance(1.0)
        talk = pairs.talk(b, a, "secret")
        talk.transport.write(b"hello")
        began = pairs.internet.seconds()
        pairs.internet.advance(1.0)
        self.assertIsInstance(self.lossOf(talk, began), StreamRefused)
        self.assertEqual(secret.made, [])
        pairs.close()

    def test_brokenPolicy(self) -> None:
        """
        A policy that fails admits nobody.
        """

        def policy(peerID: str) -> bool:
            raise ZeroDivisionError

        pairs = self.pairs()
        a, b = pairs.two(policy=policy)
        b.echoes()
        began = pairs.internet.seconds()
        talk = pairs.talk(a, b)
        pairs.internet.advance(2.0)
        self.assertIsInstance(self.lossOf(talk, began), SessionLost)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        pairs.close()

    def test_nothingOffered(self) -> None:
        """
        A peer that listens for nothing has no sessions.
        """
        pairs = self.pairs()
        a, b = pairs.two()
        began = pairs.internet.seconds()
        talk = pairs.talk(a, b)
        pairs.internet.advance(2.0)
        error = self.lossOf(talk, began)
        assert isinstance(error, SessionLost)
        self.assertEqual(error.word, "not-admitted")
        pairs.close()

    def test_unknownService(self) -> None:
        """
        A service that is not there is said not to be; the session goes on.
        """
        pairs = self.pairs()
        a, b = pairs.two()
        b.echoes()
        good = pairs.talk(a, b)
        began = pairs.internet.seconds()
        bad = pairs.talk(a, b, "nonsense")
        bad.transport.write(bytes(100_000))
        pairs.internet.advance(2.0)
        error = self.lossOf(bad, began)
        assert isinstance(error, StreamRefused)
        self.assertEqual(error.word, "not-admitted")
        self.assertIn("nonsense", str(error))
        good.transport.write(b"still there")
        pairs.internet.advance(1.0)
        self.assertEqual(good.data, b"still there")
        pairs.close()

    def test_brokenFactory(self) -> None:
        """
        A factory that fails is as good as no service.
        """

        def broken() -> Talk:
            raise ZeroDivisionError

        pairs = self.pairs()
        a, b = pairs.two()
        b.offers("broken", broken)
        began = pairs.internet.seconds()
        talk = pairs.talk(a, b, "broken")
        pairs.internet.advance(2.0)
        self.assertIsInstance(self.lossOf(talk, began), StreamRefused)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        pairs.close()

    def test_unknownPeer(self) -> None:
        """
        A peer that the node does not know is unreachable, after one round trip to the node.
        """
        pairs = self.pairs()
        a, _ = pairs.two()
        began = pairs.internet.seconds()
        connecting = a.peer.connect(IDENTITIES[3].peerID, "echo", Talks(lambda: Talk(a.host)))
        with self.assertRaises(PeerUnreachable):
            pairs.internet.runUntil(connecting)
        self.assertLess(pairs.internet.seconds() - began, 0.1)
        pairs.close()

    def test_silentPeer(self) -> None:
        """
        A peer that has a link and says nothing costs 10 s.
        """
        pairs = self.pairs()
        a, b = pairs.two()
        b.host.link.cut()
        began = pairs.internet.seconds()
        connecting = a.peer.connect(b.peerID, "echo", Talks(lambda: Talk(a.host)))
        with self.assertRaises(SessionRefused) as refusing:
            pairs.internet.runUntil(connecting)
        self.assertEqual(refusing.exception.word, "late")
        self.assertLessEqual(pairs.internet.seconds() - began, 10.0)
        b.host.link.restore()
        pairs.close()

    def test_misuse(self) -> None:
        """
        What the program gets wrong raises at once.
        """
        pairs = self.pairs()
        a, b = pairs.two()
        factory = Talks(lambda: Talk(a.host))
        self.assertRaises(LocalUsageError, PeerService, a.host, a.identity, [])
        for peerID, service in (
            ("nonsense", "echo"),
            (a.peerID, "echo"),
            (b.peerID, ""),
            (b.peerID, "x" * 65),
        ):
            self.assertRaises(LocalUsageError, a.peer.connect, peerID, service, factory)
        pairs.close()

    def test_stopped(self) -> None:
        """
        A peer that is not running connects to nobody, and says so.
        """
        pairs = self.pairs()
        a, b = pairs.two()
        pairs.close()
        connecting = a.peer.connect(b.peerID, "echo", Talks(lambda: Talk(a.host)))
        self.failureResultOf(connecting, LinkDown)


class RestartTests(SessionCase):
    """
    Peers and nodes that go away and come back.
    """

    def test_caller(self) -> None:
        """
        A caller that lost its memory calls again: the called side ends the old session with a
        reason when the new one is admitted, and not before.
        """
        pairs = self.pairs()
        a, b = pairs.two()
        echoes = b.echoes()
        old = pairs.talk(a, b)
        old.transport.write(b"hello")
        pairs.internet.advance(2.0)
        a.host.cutPower()
        pairs.internet.advance(1.0)
        pairs.callers.remove(a)
        router = pairs.internet.routers["a-router"]
        again = pairs.caller(router.host("again"), IDENTITIES[0])
        pairs.ready()
        self.assertIsNone(echoes.made[0].lost)
        new = pairs.talk(again, b)
        new.transport.write(b"hello again")
        pairs.internet.advance(1.0)
        self.assertEqual(new.data, b"hello again")
        error = echoes.made[0].lost.value
        self.assertIsInstance(error, SessionLost)
        self.assertEqual(error.word, "replaced")
        self.assertEqual(echoes.made[0].losses, 1)
        pairs.close()

    def test_callerWithinTheCall(self) -> None:
        """
        A caller that is restarted in the middle of its call, and calls again: who waited for the
        first call on the called side is served by the second.
        """
        pairs = self.pairs()
        a, b = pairs.two()
        a.echoes()
        b.echoes()
        a.peer.connect(b.peerID, "echo", Talks(partial(Talk, a.host))).addErrback(lambda _: None)
        pairs.internet.advance(0.06)
        a.host.link.cut()
        pairs.internet.advance(0.05)
        waiting = Talk(b.host)
        b.peer.connect(a.peerID, "echo", Talks(partial(_same, waiting)))
        pairs.internet.advance(0.5)
        pairs.callers.remove(a)
        again = pairs.caller(pairs.internet.routers["a-router"].host("again"), IDENTITIES[0])
        again.echoes()
        pairs.internet.runUntil(again.peer.whenLinked(), timeout=5.0)
        new = pairs.talk(again, b)
        pairs.internet.advance(2.0)
        for talk in (new, waiting):
            talk.transport.write(b"hello")
        pairs.internet.advance(1.0)
        self.assertEqual((new.data, waiting.data), (b"hello", b"hello"))
        pairs.close()

    def test_called(self) -> None:
        """
        The called side lost its memory: the caller's session ends with a reason as soon as it is
        used, and a new one is made.
        """
        for idle in (0.0, 120.0):
            pairs = self.pairs()
            a, b = pairs.two()
            b.echoes()
            old = pairs.talk(a, b)
            old.transport.write(b"hello")
            pairs.internet.advance(2.0)
            b.host.cutPower()
            pairs.internet.advance(1.0)
            pairs.callers.remove(b)
            router = pairs.internet.routers["b-router"]
            again = pairs.caller(router.host("again"), IDENTITIES[1])
            again.echoes()
            pairs.ready()
            pairs.internet.advance(idle)
            began = pairs.internet.seconds()
            if old.lost is None:
                old.transport.write(b"are you there?")
            pairs.internet.advance(10.0)
            assert old.lost is not None
            self.assertIsInstance(old.lost.value, SessionLost)
            self.assertLessEqual(old.lostAt - began, 10.0)
            new = pairs.talk(a, again)
            new.transport.write(b"hello again")
            pairs.internet.advance(1.0)
            self.assertEqual(new.data, b"hello again")
            pairs.close()

    def test_gone(self) -> None:
        """
        A peer that never comes back ends its sessions in minutes, not in hours.
        """
        for silent in (False, True):
            pairs = self.pairs()
            a, b = pairs.two()
            b.echoes()
            talk = pairs.talk(a, b)
            talk.transport.write(b"hello")
            pairs.internet.advance(2.0)
            if silent:
                b.host.link.cut()
            else:
                b.host.cutPower()
            pairs.callers.remove(b)
            talk.transport.write(b"are you there?")
            pairs.internet.advance(300.0)
            assert talk.lost is not None
            self.assertIsInstance(talk.lost.value, SessionLost)
            pairs.close()

    def test_stopInEveryState(self) -> None:
        """
        A peer that is stopped at any moment leaves nothing behind, and tells the other side.
        """
        for after in (0.0, 0.02, 0.05, 0.08, 0.1, 0.12, 0.15, 0.2, 0.25, 0.3, 1.0, 5.0):
            for stopped in (0, 1):
                pairs = self.pairs()
                peers = pairs.two()
                peers[1].echoes()
                talk = Talk(peers[0].host)
                outcome: list[object] = []
                connecting = peers[0].peer.connect(
                    peers[1].peerID, "echo", Talks(partial(_same, talk))
                )
                connecting.addBoth(outcome.append)
                pairs.internet.advance(after)
                pairs.internet.runUntil(peers[stopped].peer.stopService(), timeout=30.0)
                self.assertEqual(peers[stopped].host.getDelayedCalls(), [])
                pairs.internet.advance(11.0)
                self.assertEqual(len(outcome), 1)
                if not isinstance(outcome[0], Failure):
                    self.assertEqual(talk.losses, 1)
                pairs.close()
