"""
The hairpinning test: two ports send to each other's external address.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from p2ptwist.core.address import HostPort
from p2ptwist.core.stun.binding import bindingRequest
from p2ptwist.core.stun.message import TRANSACTION_ID_LENGTH
from p2ptwist.net.probe import Probe

_SENDS = 6
_INTERVAL = 0.1  # seconds; the first ones open the filters for those that follow
# Intervals that the last datagram has: a router is near.
_LAST_INTERVALS = 4


class HairpinTest:
    """
    One run.

    @ivar result: a Deferred that fires with whether any datagram arrived.  It can be cancelled.
    """

    def __init__(self, clock: IReactorTime, ends: tuple[Probe, Probe]) -> None:
        """
        @param ends: the two ports, used for nothing else by now.
        """
        self.result: Deferred[bool] = Deferred(lambda _: self._stop())
        self._ends = ends
        self._sent = 0
        # Nobody else can make up such a datagram.
        transactionID = ends[0].randomBytes(TRANSACTION_ID_LENGTH)
        self._datagram = bindingRequest(transactionID)
        self._targets: tuple[HostPort, HostPort] | None = None
        self._sending = LoopingCall(self._send)
        self._sending.clock = clock

    def start(self, seen: tuple[HostPort, HostPort]) -> Deferred[bool]:
        """
        Begin.

        @param seen: the external address of each end.
        @return: C{result}.
        """
        self._targets = (seen[1], seen[0])
        for end in self._ends:
            end.port.addConsumer(self._receive)
        self._sending.start(_INTERVAL)
        return self.result

    def _send(self) -> None:
        assert self._targets is not None
        self._sent += 1
        if self._sent <= _SENDS:
            for end, target in zip(self._ends, self._targets, strict=True):
                end.send(self._datagram, target)
        elif self._sent > _SENDS + _LAST_INTERVALS:
            self._finish(False)

    def _receive(self, data: bytes, address: HostPort) -> bool:
        if data != self._datagram:
            return False
        if not self.result.called:
            self._finish(True)
        return True

    def _stop(self) -> None:
        if self._sending.running:
            self._sending.stop()
        for end in self._ends:
            end.port.removeConsumer(self._receive)

    def _finish(self, heard: bool) -> None:
        self._stop()
        self.result.callback(heard)
