"""
Direct paths that seem to be alive: one that carries one way only, and one whose other side somebody
imitates.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.task import LoopingCall

from p2ptwist.testing.packet import Packet
from p2ptwist.testing.packet import Protocol as PacketProtocol
from tests.sim.sessions import SessionPairs, block
from tests.sim.test_sessionpaths import Flow, PathCase

_NUMBERS = 10**9  # of packets, that the Internet itself never gets to


class TrapTests(PathCase):
    """
    A session notices what is not its own to notice, in a second.
    """

    def flow(self, pairs: SessionPairs, backwards: bool, change: Callable[[], object]) -> Flow:
        """
        @return: messages in one direction, in the middle of which something changed for 20 s, which
            is less than consent lasts.
        """
        ends = self.direct(pairs)
        flow = Flow(*(reversed(ends) if backwards else ends))
        pairs.internet.advance(5.0)
        change()
        pairs.internet.advance(20.0)
        flow.stop()
        pairs.internet.advance(3.0)
        return flow

    def test_oneWay(self) -> None:
        """
        When a direct path carries one way only, the relay carries the other way within a second,
        whoever sends.
        """
        for deaf in (0, 1):
            for backwards in (False, True):
                pairs = self.pairs()

                def cut(pairs: SessionPairs = pairs, deaf: int = deaf) -> None:
                    block(pairs.callers[deaf].host, PacketProtocol.UDP)

                flow = self.flow(pairs, backwards, cut)
                self.assertTrue(flow.whole)
                self.assertLessEqual(flow.gap, 1.0)
                pairs.close()

    def test_imitated(self) -> None:
        """
        When a direct path is dead, and somebody sends in the names of both sides from their very
        addresses, the relay carries within a second nevertheless.
        """
        for backwards in (False, True):
            pairs = self.pairs()
            calls: list[LoopingCall] = []

            def cut(pairs: SessionPairs = pairs, calls: list[LoopingCall] = calls) -> None:
                a, b = self.callers(pairs)
                for caller in (a, b):
                    block(caller.host, PacketProtocol.UDP)
                calls.append(LoopingCall(self.imitate, pairs))
                calls[-1].clock = a.host
                calls[-1].start(0.02)

            flow = self.flow(pairs, backwards, cut)
            calls[0].stop()
            self.assertTrue(flow.whole)
            self.assertLessEqual(flow.gap, 1.0)
            pairs.close()

    def imitate(self, pairs: SessionPairs) -> None:
        """
        Send each side something that looks like a datagram of the other.
        """
        routers = pairs.internet.routers
        ports = [routers[name].mappings() for name in ("a-router", "b-router")]
        udp = [
            next(entry.external for entry in entries if entry.protocol is PacketProtocol.UDP)
            for entries in ports
        ]
        for source, target, name in ((udp[1], udp[0], "a-router"), (udp[0], udp[1], "b-router")):
            forged = Packet(_NUMBERS, PacketProtocol.UDP, source, target, b"\x40" + bytes(60))
            routers[name].link.sendDown(forged)
