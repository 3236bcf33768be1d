"""
Hole punching of the plainest kind on the simulated Internet: which pairs of NATs meet, and that
thousands of runs are cheap.
"""

from __future__ import annotations

import itertools

from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.address import HostPort
from p2ptwist.testing import (
    NAT,
    Filtering,
    Host,
    Internet,
    Link,
    Mapping,
    PortAllocation,
)
from tests.sim.datagrams import Mirror, Recorder, listen

MIRROR: HostPort = ("192.0.2.1", 3478)
SYMMETRIC = NAT(mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT, allocation=PortAllocation.RANDOM)

# A run has some 200 hops and takes about 1 ms: 1,000 of them a second or two.
SEEDS = 1_000


class Puncher(Recorder):
    """
    Sends to its peer every 50 ms until it hears from it, and to wherever it is heard from.
    """

    def __init__(self, host: Host) -> None:
        super().__init__()
        self.host = host
        self.reflexive: HostPort | None = None
        self.met = False

    def datagramReceived(self, datagram: bytes, addr: HostPort) -> None:
        """
        The mirror tells this puncher's address; the peer says that it is there.
        """
        super().datagramReceived(datagram, addr)
        if addr == MIRROR:
            host, port = datagram.decode().split()
            self.reflexive = (host, int(port))
        elif datagram == b"yes":
            self.met = True
        else:
            self.send(b"yes", addr)
            if not self.met:
                self.send(b"there?", addr)

    def ask(self) -> None:
        """
        Ask the mirror until it has answered.
        """
        if self.reflexive is None:
            self.send(b"?", MIRROR)
            self.host.callLater(0.2, self.ask)

    def punch(self, peer: HostPort, tries: int = 40) -> None:
        """
        Send to C{peer} until it has answered.
        """
        if tries and not self.met:
            self.send(b"there?", peer)
            self.host.callLater(0.05, self.punch, peer, tries - 1)


def meet(seed: int, first: NAT, second: NAT, link: Link, nested: bool = False) -> bool:
    """
    @return: whether two hosts behind these NATs have met, both ways.
    """
    internet = Internet(seed, traceLength=0)
    mirror = internet.host("mirror", MIRROR[0])
    listen(mirror, Mirror(), MIRROR[1])
    punchers = []
    for number, nat in enumerate((first, second)):
        router = internet.router(f"r{number}", f"203.0.113.{number + 1}", nat=nat, link=link)
        if nested:
            router = router.router(f"inner{number}", nat=nat)
        host = router.host(f"h{number}")
        punchers.append(puncher := Puncher(host))
        listen(host, puncher)
        puncher.ask()
    internet.advance(3.0)
    one, other = punchers
    assert one.reflexive and other.reflexive
    before = mirror.counters.packets
    one.punch(other.reflexive)
    other.punch(one.reflexive)
    internet.advance(4.0)
    assert mirror.counters.packets == before, "punching does not pass the mirror"
    assert not internet.delayedCalls()
    return one.met and other.met


class PunchTests(SynchronousTestCase):
    """
    Pairs of NATs, links and seeds.
    """

    def test_pairs(self) -> None:
        """
        All filterings meet under endpoint-independent mapping; a symmetric NAT meets those alone
        that do not filter by port.
        """
        nats = [NAT(filtering=filtering) for filtering in Filtering] + [SYMMETRIC]
        failing = [
            (first.filtering, second.filtering)
            for first, second in itertools.product(nats, nats)
            if not meet(1, first, second, Link())
        ]
        portDependent = Filtering.ADDRESS_AND_PORT_DEPENDENT
        # Symmetric with itself, and with port-dependent filtering in both orders.
        self.assertEqual(failing, [(portDependent, portDependent)] * 3)

    def test_nested(self) -> None:
        """
        Two routers on each side are no harder than one.
        """
        for filtering in Filtering:
            nat = NAT(filtering=filtering)
            self.assertTrue(meet(2, nat, nat, Link(), nested=True), filtering)

    def test_seeds(self) -> None:
        """
        Thousands of runs over bad links all meet, for the plainest puncher tries often enough.
        """
        link = Link(latency=0.02, jitter=0.01, loss=0.1, duplication=0.05, reordering=0.1)
        failed = [seed for seed in range(SEEDS) if not meet(seed, NAT(), NAT(), link)]
        self.assertEqual(failed, [])
