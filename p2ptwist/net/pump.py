"""
The pump: what turns a machine of L{p2ptwist.core} into a part of a Twisted program.

It feeds bytes and time to the machine, sends what the machine wants sent, delivers its events, and
keeps one timer at the machine's one deadline.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from p2ptwist.core.address import HostPort
from p2ptwist.core.machine import DatagramMachine

EventT = TypeVar("EventT")
# Seconds after its time at which a timer says that the whole program was held up.
_LATE = 0.05


class Pump(Generic[EventT]):
    """
    Drive one machine.

    Events are delivered from a loop, never from inside a call that is already delivering: a
    call made from inside C{deliver} only queues more for the same loop.

    A program that was held up has timers that are late and datagrams that it has not read yet. So
    that its own silence is not taken for the other side's, a late timer lets the sockets be read
    first.
    """

    __slots__ = (
        "_armedFor",
        "_clock",
        "_deliver",
        "_draining",
        "_letRead",
        "_machine",
        "_send",
        "_stopped",
        "_timer",
    )

    def __init__(
        self,
        clock: IReactorTime,
        machine: DatagramMachine[EventT],
        send: Callable[[bytes, HostPort], object],
        deliver: Callable[[EventT], object],
    ) -> None:
        """
        @param clock: where time comes from.
        @param machine: what is driven.
        @param send: called with each datagram and its destination; must not raise.
        @param deliver: called with each event; must not raise.
        """
        self._clock = clock
        self._machine = machine
        self._send = send
        self._deliver = deliver
        self._timer: IDelayedCall | None = None
        self._armedFor = 0.0
        self._letRead: float | None = None  # the deadline that sockets were read before
        self._draining = False
        self._stopped = False

    def receiveDatagram(self, data: bytes, address: HostPort) -> bool:
        """
        Feed one datagram.

        @return: whether the machine took it.
        """
        if self._stopped:
            return False
        taken = self._machine.receiveDatagram(data, address, self._clock.seconds())
        if taken:
            self.drain()
        return taken

    def drain(self) -> None:
        """
        Send, deliver and re-arm.  Call it after each direct call to the machine.
        """
        if self._draining or self._stopped:
            return
        self._draining = True
        try:
            while self._drainOnce():
                pass
        finally:
            self._draining = False
        if not self._stopped:
            self._rearm()

    def stop(self) -> None:
        """
        Free the timer and ignore everything from now on.  What is queued is sent first, so that a
        machine can say goodbye; events are no longer delivered.
        """
        if self._stopped:
            return
        self._stopped = True
        while (transmit := self._machine.pollTransmit()) is not None:
            self._send(transmit.data, transmit.address)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _drainOnce(self) -> bool:
        """
        @return: whether there may be more to do, because an event was delivered.
        """
        machine = self._machine
        while (transmit := machine.pollTransmit()) is not None:
            self._send(transmit.data, transmit.address)
        # Sending may have stopped this pump.
        event = None if self._stopped else machine.pollEvent()
        if event is None:
            return False
        self._deliver(event)
        return not self._stopped

    def _rearm(self) -> None:
        deadline = self._machine.deadline()
        timer = self._timer
        if deadline is None:
            if timer is not None:
                timer.cancel()
                self._timer = None
            return
        delay = max(0.0, deadline - self._clock.seconds())
        if timer is None:
            self._timer = self._clock.callLater(delay, self._due)
        elif deadline != self._armedFor:
            timer.reset(delay)
        self._armedFor = deadline

    def _due(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        if now > self._armedFor + _LATE and self._letRead != self._armedFor:
            self._letRead = self._armedFor
            self._timer = self._clock.callLater(0.0, self._due)
            return
        # A timer may fire a rounding error early; the machine must see the time it asked for.
        self._machine.handleTimeout(max(now, self._armedFor))
        self.drain()
