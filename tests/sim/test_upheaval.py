"""
Two programs that connect, give up, stop, crash and start again at any moment, and a node that does
as well: whoever waits is told in the end, nothing fails out of sight, and afterwards all is well.
"""

from __future__ import annotations

from functools import partial
from random import Random
from typing import Any

from twisted.internet.defer import Deferred

from p2ptwist.testing import Link
from tests.sim.sessions import Caller, SessionCase, SessionPairs, Talk, Talks

SEEDS = range(1, 25)
STEPS = 25
PAUSES = (0.0, 0.01, 0.03, 0.05, 0.07, 0.1, 0.3, 1.0, 5.0)  # seconds from one step to the next
SIZES = (1, 1000, 200_000)  # bytes that are sent on a new stream
# Seconds after the last step: a key that has started again five times waits for half a minute
# before the node takes it once more.
PEACE = 45.0


class Upheaval:
    """
    One run.

    @ivar waiting: those who wait for a stream, each with the program that they are part of.
    """

    def __init__(self, pairs: SessionPairs, random: Random) -> None:
        self.waiting: list[tuple[Caller, Deferred[Any]]] = []
        self._pairs = pairs
        self._random = random
        self._talks: list[tuple[Caller, Talk]] = []
        link = Link(latency=random.choice((0.005, 0.02, 0.1)), loss=random.choice((0.0, 0.02, 0.1)))
        self.callers = list(pairs.two(link=link))
        for each in self.callers:
            each.echoes()

    def step(self) -> None:
        """
        Something happens, and a moment passes.
        """
        steps = (
            *(self.call,) * 3,
            self.callBoth,
            self.giveUp,
            self.close,
            self.stop,
            self.restart,
            self.restartNode,
            *(lambda number: None,) * 2,
        )
        self._random.choice(steps)(self._random.randrange(2))
        self._pairs.internet.advance(self._random.choice(PAUSES))

    def call(self, number: int) -> None:
        """
        One of the two wants a stream to the other.
        """
        caller, callee = self.callers[number], self.callers[1 - number]
        talk = Talk(caller.host)
        connecting = caller.peer.connect(callee.peerID, "echo", Talks(lambda: talk))
        self.waiting.append((caller, connecting))
        connecting.addCallbacks(partial(self._connected, caller), lambda _: None)

    def callBoth(self, number: int) -> None:
        """
        Both do, at once.
        """
        self.call(number)
        self.call(1 - number)

    def giveUp(self, number: int) -> None:
        """
        Somebody waits no longer.
        """
        under = [each for caller, each in self.waiting if not each.called]
        if under:
            self._random.choice(under).cancel()

    def close(self, number: int) -> None:
        """
        All streams of one program end, in good order or not.
        """
        for caller, talk in self._talks:
            if caller is self.callers[number] and talk.lost is None:
                transport = talk.transport
                self._random.choice((transport.loseConnection, transport.abortConnection))()

    def stop(self, number: int) -> None:
        """
        A peer stops, and starts again.
        """
        peer = self.callers[number].peer
        self._pairs.internet.runUntil(peer.stopService(), timeout=60.0)
        peer.startService()

    def restart(self, number: int) -> None:
        """
        A program dies, with a word of its kernel's or without, and starts again.
        """
        dead = self.callers[number]
        self._random.choice((dead.host.kill, dead.host.cutPower))()
        self._pairs.callers.remove(dead)
        self.waiting = [each for each in self.waiting if each[0] is not dead]
        self._talks = [each for each in self._talks if each[0] is not dead]
        self.callers[number] = self._pairs.caller(dead.host, dead.identity)
        self.callers[number].echoes()

    def restartNode(self, number: int) -> None:
        """
        The node dies, and is there again after a moment.
        """
        self._pairs.killNode()
        self._pairs.internet.advance(self._random.uniform(0.0, 3.0))
        self._pairs.startNode()

    def _connected(self, caller: Caller, talk: Any) -> None:
        self._talks.append((caller, talk))
        talk.transport.write(bytes(self._random.choice(SIZES)))


class UpheavalTests(SessionCase):
    """
    Anything at any time.
    """

    def test_seeds(self) -> None:
        """
        In the end nobody waits any more, both can connect, and when they stop nothing is left.
        """
        for seed in SEEDS:
            pairs = self.pairs(seed)
            upheaval = Upheaval(pairs, Random(seed))
            for _ in range(STEPS):
                upheaval.step()
            pairs.internet.advance(PEACE)
            waiting = [each for _, each in upheaval.waiting if not each.called]
            self.assertEqual(waiting, [], f"seed {seed}")
            for caller, callee in (upheaval.callers, upheaval.callers[::-1]):
                talk = pairs.talk(caller, callee)
                talk.transport.write(b"all is well")
                pairs.internet.advance(10.0)
                self.assertEqual(talk.data, b"all is well", f"seed {seed}")
            pairs.close()
