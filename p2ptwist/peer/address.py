"""
The address of a peer, as a protocol sees it.
"""

from __future__ import annotations

from dataclasses import dataclass

from twisted.internet.interfaces import IAddress
from zope.interface import implementer

from p2ptwist.core.address import HostPort, formatAddress


@implementer(IAddress)
@dataclass(frozen=True, slots=True)
class PeerAddress:
    """
    One end of a stream.

    @ivar peerID: the peer, as it proved itself.
    @ivar service: the name of the service that the stream is for.
    @ivar kind: C{"direct"} or C{"relayed"}: what carries the session at the moment of asking.
    @ivar remote: the address that a direct path goes to; C{None} for a relayed one, and for this
        side.
    """

    peerID: str
    service: str
    kind: str = "relayed"
    remote: HostPort | None = None

    def __str__(self) -> str:
        where = "" if self.remote is None else f" at {formatAddress(self.remote)}"
        return f"{self.peerID} ({self.service}, {self.kind}{where})"
