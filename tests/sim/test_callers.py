"""
Whoever waits for a session gets one, or is told in time why not, whatever the other side does.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, succeed

from p2ptwist.core.session.control import CloseCode
from p2ptwist.errors import LinkDown, SessionRefused
from p2ptwist.peer.callers import PATIENCE
from p2ptwist.peer.session import Session
from p2ptwist.testing import NAT, Link
from tests.hardpairs import RANDOM
from tests.sim.sessions import Caller, SessionCase, SessionPairs, Talk, Talks

# Of the caller's steps; the called side has the first datagrams by then, and nothing more.
_CALLED = 0.06


class CallerTests(SessionCase):
    """
    Calls that cross others, dead ones among them.
    """

    def begin(self, caller: Caller, callee: Caller) -> Deferred[Any]:
        """
        @return: what a connection fires.
        """
        return caller.peer.connect(callee.peerID, "echo", Talks(partial(Talk, caller.host)))

    def callAndDie(self, pairs: SessionPairs, caller: Caller, callee: Caller) -> Caller:
        """
        A peer calls, and its program dies and starts again.

        @return: what it is now.
        """
        self.begin(caller, callee).addErrback(lambda _: None)
        pairs.internet.advance(_CALLED)
        self.assertEqual(len(callee.peer._sessions._held), 1)
        caller.host.kill()
        pairs.callers.remove(caller)
        reborn = pairs.caller(caller.host, caller.identity)
        reborn.echoes()
        pairs.internet.runUntil(reborn.peer.whenReady(), timeout=60.0)
        return reborn

    def test_theirsDied(self) -> None:
        """
        The call of a program that died amid it does not keep this side from calling.
        """
        for number in (0, 1):
            pairs = self.pairs()
            two = pairs.two()
            here, there = two[number], two[1 - number]
            here.echoes()
            there = self.callAndDie(pairs, there, here)
            began = here.host.seconds()
            talk = pairs.internet.runUntil(self.begin(here, there), timeout=30.0)
            self.assertLess(here.host.seconds() - began, PATIENCE + 1.0)
            talk.transport.write(b"hello")
            pairs.internet.advance(1.0)
            self.assertEqual(talk.data, b"hello")
            pairs.close()

    def test_theirsSlow(self) -> None:
        """
        A call that is only slow is waited for: both have their streams, in one session.
        """
        for number in (0, 1):
            pairs = self.pairs()
            two = pairs.two(link=Link(latency=0.9))
            here, there = two[number], two[1 - number]
            here.echoes()
            there.echoes()
            theirs = self.begin(there, here)
            pairs.internet.advance(1.9)
            self.assertEqual(len(here.peer._sessions._held), 1)
            ours = self.begin(here, there)
            talks = [pairs.internet.runUntil(each, timeout=30.0) for each in (ours, theirs)]
            pairs.internet.advance(5.0)
            for talk in talks:
                talk.transport.write(b"hello")
            pairs.internet.advance(10.0)
            self.assertEqual([talk.data for talk in talks], [b"hello", b"hello"])
            self.assertEqual([len(each.peer._sessions._held) for each in two], [1, 1])
            pairs.close()

    def test_theirsRefused(self) -> None:
        """
        Who may not call can be called, also amid its own attempt.
        """
        pairs = self.pairs()
        routers = pairs.twoRouters()
        here = pairs.caller(routers[0].host("a"), policy=lambda peerID: False)
        there = pairs.caller(routers[1].host("b"))
        pairs.ready()
        here.echoes()
        there.echoes()
        theirs = self.begin(there, here)
        theirs.addErrback(lambda _: None)
        pairs.internet.advance(_CALLED)
        talk = pairs.internet.runUntil(self.begin(here, there), timeout=30.0)
        talk.transport.write(b"hello")
        pairs.internet.advance(3.0)
        self.assertEqual(talk.data, b"hello")
        pairs.close()

    def test_replacedForEver(self) -> None:
        """
        A peer that ends every call as replaced is believed after a few.
        """
        pairs = self.pairs()
        here, there = pairs.two()
        there.echoes()
        calls: list[Session] = []

        def admits(session: Session) -> bool:
            calls.append(session)
            session.close(CloseCode.REPLACED, "another one took its place")
            return False

        there.peer.admits = admits  # type: ignore[method-assign]
        with self.assertRaises(SessionRefused) as refusing:
            pairs.internet.runUntil(here.peer.call(there.peerID), timeout=30.0)
        self.assertEqual(refusing.exception.word, "replaced")
        self.assertLessEqual(len(calls), 4)
        pairs.close()

    def callAgain(self, pairs: SessionPairs, caller: Caller, callee: Caller) -> list[Deferred[Any]]:
        """
        Have a stream, whose protocol calls again as soon as it is lost.

        @return: where that call will be.
        """
        again: list[Deferred[Any]] = []
        talk: Any = pairs.talk(caller, callee)
        talk.connectionLost = lambda reason: again.append(self.begin(caller, callee))
        return again

    def test_fromConnectionLost(self) -> None:
        """
        Who calls again at the very moment when a stream is lost has a new session.
        """
        pairs = self.pairs()
        here, there = pairs.two()
        there.echoes()
        again = self.callAgain(pairs, here, there)
        pairs.internet.advance(1.0)
        session = there.peer._sessions.current(here.identity.publicKey)
        assert session is not None
        session.close(CloseCode.CLOSED, "enough")
        pairs.internet.advance(2.0)
        talk = self.successResultOf(again[0])
        talk.transport.write(b"hello")
        pairs.internet.advance(1.0)
        self.assertEqual(talk.data, b"hello")
        pairs.close()

    def test_whileItStops(self) -> None:
        """
        Who calls again because the peer stops, be it for a call of its own or of the other side's
        that ended, gets none, and nothing is left behind.
        """
        for theirs in (False, True):
            pairs = self.pairs()
            here, there = pairs.two()
            here.echoes()
            there.echoes()
            if theirs:
                self.begin(there, here).addErrback(lambda _: None)
                pairs.internet.advance(_CALLED)
                again = [self.begin(here, there)]
            else:
                again = self.callAgain(pairs, here, there)
            pairs.internet.runUntil(here.peer.stopService(), timeout=30.0)
            self.failureResultOf(again[0], LinkDown)
            self.assertEqual(len(here.peer._sessions._held), 0)
            pairs.internet.advance(60.0)
            pairs.close()

    def test_vaguePolicy(self) -> None:
        """
        A policy that says neither yes nor no admits nobody: a Deferred is no consent.
        """
        pairs = self.pairs()
        routers = pairs.twoRouters()
        policy: Any = lambda peerID: succeed(False)  # noqa: E731 - a program's mistake
        here = pairs.caller(routers[0].host("a"))
        there = pairs.caller(routers[1].host("b"), policy=policy)
        pairs.ready()
        there.echoes()
        with self.assertRaises(SessionRefused) as refusing:
            pairs.internet.runUntil(here.peer.call(there.peerID), timeout=30.0)
        self.assertEqual(refusing.exception.word, "not-admitted")
        self.assertTrue(self.flushLoggedErrors(TypeError))
        pairs.close()


class GraceTests(SessionCase):
    """
    A peer that no node knows any more.
    """

    def test_direct(self) -> None:
        """
        A session that becomes direct after its peer's link was lost goes on, however long there is
        no link.
        """
        pairs = self.pairs()
        routers = pairs.twoRouters(NAT(), RANDOM)
        here, there = (
            pairs.caller(each.host(name)) for each, name in zip(routers, "ab", strict=True)
        )
        pairs.ready()
        there.echoes()
        talk = pairs.talk(here, there)
        pairs.internet.advance(1.0)
        (held,) = here.peer._sessions._held.values()
        self.assertIsNone(held.session.carrier.direct)
        here.peer._sessions.unreachable(held.link, there.identity.publicKey)
        pairs.killNode()
        pairs.internet.advance(300.0)
        self.assertIsNone(talk.lost)
        talk.transport.write(b"still there")
        pairs.internet.advance(3.0)
        self.assertEqual(talk.data, b"still there")
        pairs.close()
