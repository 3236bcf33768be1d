"""
The verbs that every datagram machine of this room shares.

A machine takes bytes and time and appends to queues; it never calls out.  Whoever drives it
(L{p2ptwist.net.pump.Pump}, or a test with literal times) drains the queues after each call and
re-arms one timer from L{DatagramMachine.deadline}.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

from p2ptwist.core.address import HostPort

EventT_co = TypeVar("EventT_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Transmit:
    """
    One datagram to send.

    @ivar data: the payload.
    @ivar address: where it goes.
    """

    data: bytes
    address: HostPort


class DatagramMachine(Protocol[EventT_co]):
    """
    What L{p2ptwist.net.pump.Pump} drives.

    C{now} is always seconds on one monotonic clock and never decreases.
    """

    def receiveDatagram(self, data: bytes, address: HostPort, now: float) -> bool:
        """
        Take one datagram that came from C{address}.

        @return: whether it was this machine's to take.  Hostile input is no error: it is
            counted and C{False} or dropped.
        """

    def handleTimeout(self, now: float) -> None:
        """
        Do whatever is due at C{now}.  Called at or after L{deadline}, or at any other time.
        """

    def deadline(self) -> float | None:
        """
        @return: when L{handleTimeout} must be called next, or C{None} for never.
        """

    def pollTransmit(self) -> Transmit | None:
        """
        @return: the next datagram to send, or C{None} when there is none left.
        """

    def pollEvent(self) -> EventT_co | None:
        """
        @return: the next event to deliver, or C{None} when there is none left.
        """
