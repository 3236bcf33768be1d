"""
Sessions between the NATs of L{tests.hardpairs}, in virtual time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from p2ptwist.net.stunstreams import STUNStreamService
from p2ptwist.testing import NAT, Host, Router
from tests.hardpairs import Pair
from tests.sim.neighborhood import NODE, STUN_PORT
from tests.sim.sessions import Caller, SessionPairs
from tests.sim.test_pairs import A_EXTERNAL, B_EXTERNAL

LIMIT = 22.0  # seconds for a direct path; the ladder gives up after 20
COUNT = 60_000  # bytes there and back, to see which way they go; the first go both ways
_STEP = 0.05  # seconds between two looks
_TRANSFER = 3.0  # seconds for the bytes


@dataclass(frozen=True, slots=True)
class Try:
    """
    What came of one session.

    @ivar seconds: from the call until it was direct on both sides; infinite when it was not.
    @ivar transport: what the direct path goes over; C{None} without one.
    @ivar relayed: bytes that the node sent while L{COUNT} bytes went there and back.
    """

    seconds: float
    transport: str | None
    relayed: int

    @property
    def direct(self) -> bool:
        """
        Whether both sides say so, and the bytes did not pass the node.
        """
        return self.seconds < float("inf") and self.relayed < COUNT / 2


def tryOnce(pair: Pair, seed: int) -> Try:
    """
    @return: what comes of one session.
    """
    pairs = SessionPairs(seed)
    STUNStreamService(pairs.node, (NODE, STUN_PORT)).startService()
    alice, bob = (pairs.caller(host) for host in _hosts(pairs, pair))
    pairs.ready()
    bob.echoes()
    internet = pairs.internet
    began = internet.seconds()
    talk = pairs.talk(alice, bob)
    talk.transport.write(b"!")
    while internet.seconds() - began < LIMIT and not (_isDirect(alice) and _isDirect(bob)):
        internet.advance(_STEP)
    seconds = float("inf")
    if _isDirect(alice) and _isDirect(bob):
        seconds = max(each.events[-1][0] for each in (alice, bob)) - began
    transport = alice.events[-1][1].transport if _isDirect(alice) else None
    before = pairs.node.counters.octetsSent
    talk.transport.write(bytes(COUNT))
    internet.advance(_TRANSFER)
    assert talk.count == COUNT + 1, talk.count
    relayed = pairs.node.counters.octetsSent - before
    pairs.close()
    return Try(seconds, transport, relayed)


def _hosts(pairs: SessionPairs, pair: Pair) -> tuple[Host, Host]:
    a = pairs.site("a-router", A_EXTERNAL, pair.near[0])
    b = a if pair.shared else pairs.site("b-router", B_EXTERNAL, pair.far[0])
    near = _innermost(a, "a", pair.near[1:]).host("a")
    far = _innermost(b, "b", pair.far if pair.shared else pair.far[1:]).host("b")
    return near, far


def _innermost(router: Router, name: str, nats: Sequence[NAT]) -> Router:
    for depth, nat in enumerate(nats):
        router = router.router(f"{name}-inner{depth}", nat=nat)
    return router


def _isDirect(caller: Caller) -> bool:
    return bool(caller.events) and caller.events[-1][1].kind == "direct"
