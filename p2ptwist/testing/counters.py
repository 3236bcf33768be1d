"""
Counters of packets, by which a test proves what went where.
"""

from __future__ import annotations

import collections

from p2ptwist.testing.packet import Packet


class Counters:
    """
    What a host, a router or a link has seen.  The numbers only grow: take differences.

    For a host and a router, C{sent} is what left towards the network that it is attached to, and
    C{received} is what came from there, translated or dropped afterwards or not.  For a link,
    C{sent} is what it carried up to the network and C{received} what it carried down.

    @ivar packetsSent: packets.
    @ivar octetsSent: octets of these, IP headers included.
    @ivar packetsReceived: packets.
    @ivar octetsReceived: octets of these, IP headers included.
    @ivar dropped: packets that were dropped here, by reason.
    """

    __slots__ = ("dropped", "octetsReceived", "octetsSent", "packetsReceived", "packetsSent")

    def __init__(self) -> None:
        self.packetsSent = 0
        self.octetsSent = 0
        self.packetsReceived = 0
        self.octetsReceived = 0
        self.dropped: collections.Counter[str] = collections.Counter()

    def countSent(self, packet: Packet) -> None:
        """
        Count a packet that left.
        """
        self.packetsSent += 1
        self.octetsSent += packet.size

    def countReceived(self, packet: Packet) -> None:
        """
        Count a packet that came.
        """
        self.packetsReceived += 1
        self.octetsReceived += packet.size

    def countDropped(self, reason: str) -> None:
        """
        Count a packet that was dropped.
        """
        self.dropped[reason] += 1

    @property
    def packets(self) -> int:
        """
        Packets in both directions.
        """
        return self.packetsSent + self.packetsReceived

    def __repr__(self) -> str:
        return (
            f"<Counters sent {self.packetsSent} ({self.octetsSent} B), received "
            f"{self.packetsReceived} ({self.octetsReceived} B), dropped {dict(self.dropped)}>"
        )
