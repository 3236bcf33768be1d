"""
What hard NATs make a program send, packet by packet: never much, never to strangers, and not for
long.
"""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.ladder.budget import QUIET_TIME, SECOND_LIMIT, SPRAY_LIMIT
from p2ptwist.core.ladder.responder import GRACE
from p2ptwist.testing import NAT, Host, Mapping, PortAllocation
from p2ptwist.testing.packet import Packet, Protocol
from tests.sim.neighborhood import NODE, NODE_ALTERNATE
from tests.sim.sessions import Caller, SessionPairs
from tests.sim.test_pairs import A_EXTERNAL, B_EXTERNAL

C_EXTERNAL = "203.0.113.3"
HOME = NAT()
RANDOM = NAT(
    mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT,
    allocation=PortAllocation.RANDOM,
)
# Has too few mappings for a spray to succeed.
HOPELESS = replace(RANDOM, maxMappingsPerHost=12)


class Sniffer:
    """
    Notes each UDP datagram that a host sends to anybody but the node and its own router.

    @ivar noted: the times and the packets.
    """

    def __init__(self, host: Host) -> None:
        self.noted: list[tuple[float, Packet]] = []
        self._host = host
        self._known = {NODE, NODE_ALTERNATE, *host.defaultGateways()}
        self._sendUp = host.link.sendUp
        host.link.sendUp = self._note  # type: ignore[method-assign]

    def _note(self, packet: Packet) -> None:
        if packet.protocol is Protocol.UDP and packet.destination[0] not in self._known:
            self.noted.append((self._host.seconds(), packet))
        self._sendUp(packet)

    def hosts(self) -> set[str]:
        """
        @return: where it sent anything.
        """
        return {packet.destination[0] for _, packet in self.noted}

    def times(self, host: str) -> list[float]:
        """
        @return: when it sent anything there.
        """
        return [time for time, packet in self.noted if packet.destination[0] == host]

    def busiest(self) -> int:
        """
        @return: the most datagrams in any one second.
        """
        times = [time for time, _ in self.noted]
        most = first = 0
        for last, time in enumerate(times):
            while times[first] <= time - 1.0:
                first += 1
            most = max(most, last - first + 1)
        return most


class BackgroundTests(SynchronousTestCase):
    """
    One program, and one or two others.
    """

    def start(self, *nats: NAT) -> None:
        """
        Put a peer behind each of these routers, that of the caller first.
        """
        self.pairs = SessionPairs()
        self.internet = self.pairs.internet
        externals = (A_EXTERNAL, B_EXTERNAL, C_EXTERNAL)
        hosts = [
            self.pairs.site(f"{external}'s", external, nat).host(f"host-{external}")
            for external, nat in zip(externals, nats, strict=False)
        ]
        self.caller, *self.callees = [self.pairs.caller(host) for host in hosts]
        self.pairs.ready()
        self.sniffers = [Sniffer(host) for host in hosts]
        self.began = self.internet.seconds()
        for callee in self.callees:
            callee.echoes()

    def offered(self, caller: Caller) -> set[str]:
        """
        @return: the hosts that a peer offers inside its sessions.
        """
        candidates = caller.peer._requireReach().local.candidates()
        return {candidate.address[0] for candidate in candidates}

    def test_together(self) -> None:
        """
        Two sessions of one program that climb at once send at most a hundred datagrams in any
        second, all together, and spray one after the other with quiet between.
        """
        self.start(HOME, HOPELESS, HOPELESS)
        for callee in self.callees:
            self.pairs.talk(self.caller, callee)
        self.internet.advance(100.0)
        sniffer = self.sniffers[0]
        self.assertLessEqual(sniffer.busiest(), SECOND_LIMIT)
        sprays = []
        for host in (B_EXTERNAL, C_EXTERNAL):
            times = sniffer.times(host)
            dense = [
                first
                for first, later in zip(times, times[50:], strict=False)
                if later - first < 1.0
            ]
            self.assertGreater(len(dense), 1000)
            sprays.append((dense[0], dense[-1] + 1.0))
        (first, second) = sorted(sprays)
        self.assertLessEqual(first[1] - first[0], SPRAY_LIMIT + 1.0)
        self.assertGreaterEqual(second[0] - first[1], QUIET_TIME - 2.0)
        self.pairs.close()

    def test_quiet(self) -> None:
        """
        After twenty seconds in vain both programs are quiet: a few ordinary checks now and then,
        for a minute and for an hour, and nothing left open.
        """
        self.start(HOME, HOPELESS)
        before = [len(callers.host.getReaders()) for callers in self.pairs.callers]
        self.pairs.talk(self.caller, self.callees[0])
        self.internet.advance(SPRAY_LIMIT + GRACE + 2.0)
        loud = [len(sniffer.noted) for sniffer in self.sniffers]
        self.assertGreater(min(loud), 500)
        self.assertEqual([len(callers.host.getReaders()) for callers in self.pairs.callers], before)
        self.internet.advance(60.0)
        quiet = [
            len(sniffer.noted) - count for sniffer, count in zip(self.sniffers, loud, strict=True)
        ]
        self.assertLess(max(quiet), 100)
        for sniffer in self.sniffers:
            sniffer.noted.clear()
        self.internet.advance(600.0)
        self.assertLess(max(len(sniffer.noted) for sniffer in self.sniffers), 300)
        self.assertLess(max(sniffer.busiest() for sniffer in self.sniffers), 26)
        self.pairs.close()

    def test_strangers(self) -> None:
        """
        Nothing is sent to any host but those that the other side offered inside the session.
        """
        for a, b in ((HOME, HOPELESS), (HOPELESS, HOME), (HOME, RANDOM), (RANDOM, RANDOM)):
            self.start(a, b)
            self.pairs.talk(self.caller, self.callees[0])
            self.internet.advance(40.0)
            for sniffer, other in zip(self.sniffers, (self.callees[0], self.caller), strict=True):
                self.assertGreater(len(sniffer.noted), 5)
                self.assertLessEqual(sniffer.hosts(), self.offered(other))
            self.pairs.close()
