"""
Whole peers whose paths change under a session: nothing is lost, doubled or reordered.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from hashlib import sha256
from itertools import pairwise, product
from random import Random

from twisted.internet.task import LoopingCall

from p2ptwist.errors import SessionLost
from p2ptwist.testing import NAT, Filtering, Link, PortAllocation, Router
from p2ptwist.testing.packet import Protocol as PacketProtocol
from tests.sim.sessions import Caller, SessionCase, SessionPairs, Talk, block

# How many seeds the tests run that take one; more for a night.
SEEDS = int(os.environ.get("P2PTWIST_SESSION_SEEDS", "100"))
# Bytes each way.  More seeds find more than more bytes do.
TRANSFER = int(os.environ.get("P2PTWIST_SESSION_BYTES", "1000000"))
# Moments of change at which the longest silence is measured.
GAP_SEEDS = 240
# Changes of a NAT, by name.
CHANGES: dict[str, Callable[[Router], object]] = {
    "forgets": lambda router: router.reboot(),
    "changes ports": lambda router: router.reboot(NAT(allocation=PortAllocation.RANDOM)),
    "changes address": lambda router: router.changeExternal("203.0.113.77"),
}


class Flow:
    """
    A message every 100 ms in one direction.

    @ivar receiver: where they arrive.
    """

    def __init__(self, sender: Talk, receiver: Talk) -> None:
        self.receiver = receiver
        self._sender = sender
        self._sent = 0
        self._call = LoopingCall(self._send)
        self._call.clock = sender.clock
        self._call.start(0.1)

    def _send(self) -> None:
        self._sender.transport.write(self._sent.to_bytes(4, "big"))
        self._sent += 1

    def stop(self) -> None:
        """
        Send no more.
        """
        self._call.stop()

    @property
    def whole(self) -> bool:
        """
        Whether every message came, once and in order.
        """
        sent = b"".join(number.to_bytes(4, "big") for number in range(self._sent))
        return self.receiver.data == sent

    @property
    def gap(self) -> float:
        """
        Seconds of the longest silence.
        """
        times = [time for time, _ in self.receiver.received]
        return max(later - time for time, later in pairwise(times))


class PathCase(SessionCase):
    """
    What the tests of changing paths share.
    """

    def direct(self, pairs: SessionPairs, link: Link | None = None) -> tuple[Talk, Talk]:
        """
        @return: both ends of a stream between two peers, on a direct path for a while.
        """
        a, b = pairs.two() if link is None else pairs.two(link=link)
        talks = b.offers("talk", lambda: Talk(b.host))
        talk = pairs.talk(a, b, "talk")
        pairs.internet.advance(40.0)
        self.assertEqual(talk.transport.getPeer().kind, "direct")
        return talk, talks.made[0]

    def callers(self, pairs: SessionPairs) -> tuple[Caller, Caller]:
        """
        @return: both peers.
        """
        a, b = pairs.callers
        return a, b


class GapTests(PathCase):
    """
    What an application notices that says something every 100 ms.

    @ivar changedAt: when the change came.
    """

    changedAt: float

    def flow(self, pairs: SessionPairs, backwards: bool, change: Callable[[], object]) -> Flow:
        """
        Change something while messages flow.
        """
        ends = self.direct(pairs)
        flow = Flow(*(reversed(ends) if backwards else ends))
        pairs.internet.advance(5.0)
        self.changedAt = pairs.internet.seconds()
        change()
        pairs.internet.advance(30.0)
        flow.stop()
        pairs.internet.advance(2.0)
        return flow

    def test_natChanges(self) -> None:
        """
        The NAT of either side forgets everything, the link to the node included, and gives out
        other ports or another address from then on: no gap is longer than 1 s in either direction,
        and the path is direct again within 10 s.
        """
        for change in CHANGES.values():
            for router in ("a-router", "b-router"):
                for backwards in (False, True):
                    pairs = self.pairs()
                    flow = self.flow(
                        pairs,
                        backwards,
                        lambda pairs=pairs, router=router, change=change: change(  # type: ignore[misc]
                            pairs.internet.routers[router]
                        ),
                    )
                    self.assertTrue(flow.whole)
                    self.assertLessEqual(flow.gap, 1.0)
                    a, b = self.callers(pairs)
                    for caller, other in ((a, b), (b, a)):
                        path = caller.peer.path(other.peerID)
                        assert path is not None
                        self.assertEqual(path.kind, "direct")
                        self.assertLessEqual(caller.events[-1][0], self.changedAt + 10.0)
                    pairs.close()

    def test_seeds(self) -> None:
        """
        So it is whenever the change comes, and whichever way the messages go, on site links of 20
        ms and a node's of 5 ms.
        """
        cases = list(product(CHANGES, ("a-router", "b-router"), (False, True)))
        for seed in range(GAP_SEEDS):
            name, router, backwards = cases[seed % len(cases)]
            pairs = self.pairs(seed)
            a, b = pairs.two()
            talks = b.offers("talk", lambda b=b: Talk(b.host))  # type: ignore[misc]
            ends = [pairs.talk(a, b, "talk")]
            pairs.internet.advance(3.0)
            ends += talks.made
            flow = Flow(*(reversed(ends) if backwards else ends))
            pairs.internet.advance(3.0 + Random(seed).random())
            CHANGES[name](pairs.internet.routers[router])
            pairs.internet.advance(8.0)
            flow.stop()
            pairs.internet.advance(1.0)
            self.assertTrue(flow.whole, f"seed {seed}")
            self.assertLessEqual(flow.gap, 1.0, f"seed {seed}: {name}, {router}")
            pairs.close()

    def test_followed(self) -> None:
        """
        Where the other side's NAT lets a check in from anywhere, the path follows the one that
        changed: it stays direct, and there is no new attempt.
        """
        for change, backwards in product(("changes ports", "changes address"), (False, True)):
            pairs = self.pairs()
            anywhere = NAT(filtering=Filtering.ENDPOINT_INDEPENDENT)
            routers = pairs.twoRouters(natB=anywhere)
            hosts = [router.host(name) for router, name in zip(routers, "ab", strict=True)]
            a, b = (pairs.caller(host) for host in hosts)
            pairs.ready()
            talks = b.offers("talk", lambda b=b: Talk(b.host))  # type: ignore[misc]
            ends = [pairs.talk(a, b, "talk")]
            pairs.internet.advance(10.0)
            ends += talks.made
            flow = Flow(*(reversed(ends) if backwards else ends))
            pairs.internet.advance(5.0)
            CHANGES[change](pairs.internet.routers["a-router"])
            pairs.internet.advance(10.0)
            flow.stop()
            pairs.internet.advance(1.0)
            self.assertTrue(flow.whole)
            self.assertLessEqual(flow.gap, 0.5)
            for caller in (a, b):
                self.assertEqual({event.kind for _, event in caller.events}, {"direct"})
            pairs.close()

    def test_directCut(self) -> None:
        """
        UDP is blocked in the middle: the relay carries within a second, and the program is told;
        when UDP passes again the path becomes direct again.
        """
        pairs = self.pairs()
        undo: list[Callable[[], None]] = []

        def cut() -> None:
            undo.extend(block(caller.host, PacketProtocol.UDP) for caller in pairs.callers)

        flow = self.flow(pairs, False, cut)
        self.assertTrue(flow.whole)
        self.assertLessEqual(flow.gap, 1.0)
        a, b = self.callers(pairs)
        self.assertEqual(self.kinds(a.events), ["direct", "relayed"])
        self.assertEqual(self.kinds(b.events), ["direct", "relayed"])
        for each in undo:
            each()
        pairs.internet.advance(60.0)
        self.assertEqual(self.kinds(a.events), ["direct", "relayed", "direct"])
        self.assertEqual(self.kinds(b.events), ["direct", "relayed", "direct"])
        pairs.close()

    def test_nodeKilled(self) -> None:
        """
        The node is gone for a minute: a direct stream does not notice.
        """
        pairs = self.pairs()
        flow = self.flow(pairs, False, pairs.node.cutPower)
        pairs.internet.advance(30.0)
        self.assertTrue(flow.whole)
        self.assertLessEqual(flow.gap, 0.11)
        pairs.close()


class RelayedTests(PathCase):
    """
    Sessions that stay relayed.
    """

    def test_nodeRestarted(self) -> None:
        """
        The node is killed and comes back after 3 s: the stream continues within 5 s of its return,
        and nothing is lost.
        """
        for direction in (False, True):
            pairs = self.pairs()
            a, b = pairs.two(blockUDP=True)
            talks = b.offers("talk", lambda b=b: Talk(b.host))  # type: ignore[misc]
            ends = (pairs.talk(a, b, "talk"), talks)
            pairs.internet.advance(1.0)
            pair = (ends[0], talks.made[0])
            flow = Flow(*(reversed(pair) if direction else pair))
            pairs.internet.advance(35.0)
            pairs.killNode()
            pairs.internet.advance(3.0)
            pairs.startNode()
            returned = pairs.internet.seconds()
            pairs.internet.advance(30.0)
            flow.stop()
            pairs.internet.advance(2.0)
            self.assertTrue(flow.whole)
            after = [time for time, _ in flow.receiver.received if time > returned]
            self.assertLessEqual(after[0] - returned, 5.0)
            pairs.close()

    def test_nodeGone(self) -> None:
        """
        A node that never comes back ends the relayed sessions in minutes.
        """
        pairs = self.pairs()
        a, b = pairs.two(blockUDP=True)
        b.echoes()
        talk = pairs.talk(a, b)
        talk.transport.write(b"hello")
        pairs.internet.advance(5.0)
        pairs.killNode()
        talk.transport.write(b"hello")
        pairs.internet.advance(300.0)
        assert talk.lost is not None
        self.assertIsInstance(talk.lost.value, SessionLost)
        pairs.close()


class TransferTests(PathCase):
    """
    Much while a NAT does its worst: the digests are equal.
    """

    def transfer(self, seed: int, link: Link) -> None:
        """
        Move bytes, a tenth of them the other way, and change NATs meanwhile.
        """
        random = Random(seed)
        pairs = self.pairs(seed)
        ends = self.direct(pairs, link)
        ends = ends if seed % 2 else (ends[1], ends[0])
        payloads = [random.randbytes(count // 10) * 10 for count in (TRANSFER, TRANSFER // 10)]
        for end, payload in zip(ends, payloads, strict=True):
            end._keep = False
            end.transport.write(payload)
        for number, change in enumerate(CHANGES.values()):
            self.arrived(pairs, ends[1], len(payloads[0]) * (number + random.random()) / 4, seed)
            change(pairs.internet.routers[random.choice(("a-router", "b-router"))])
        for end, payload in zip(ends, reversed(payloads), strict=True):
            self.arrived(pairs, end, len(payload), seed)
            self.assertEqual(end.count, len(payload), f"seed {seed}")
            self.assertEqual(end.digest.digest(), sha256(payload).digest(), f"seed {seed}")
        pairs.close()

    def arrived(self, pairs: SessionPairs, end: Talk, count: float, seed: int) -> None:
        """
        Wait until so many bytes have come to one end, and something every 15 s, also where changes
        follow each other within a second.
        """
        last, since = -1, 0.0
        while end.count < count:
            if end.count > last:
                last, since = end.count, pairs.internet.seconds()
            pairs.internet.advance(0.01)
            stalled = pairs.internet.seconds() - since
            self.assertLess(stalled, 15.0, f"seed {seed}: only {end.count} bytes came")

    def test_changes(self) -> None:
        """
        A NAT forgets, changes its ports, then its address in the middle.  P2PTWIST_SESSION_SEEDS
        says how many seeds to run, P2PTWIST_SESSION_BYTES how much each moves.
        """
        for seed in range(SEEDS):
            link = Link(latency=0.02, bandwidth=5_000_000.0, loss=0.002 * (seed % 3))
            self.transfer(seed, link)
