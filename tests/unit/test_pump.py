"""
Tests for L{p2ptwist.net.pump}.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.address import HostPort
from p2ptwist.core.machine import Transmit
from p2ptwist.net.pump import Pump

PEER = ("192.0.2.1", 1000)


class EchoMachine:
    """
    A small machine: it answers each datagram, tells of it, and wants to be called when it said.

    @ivar due: what C{deadline} returns.
    @ivar timeouts: each C{now} that C{handleTimeout} was called with.
    @ivar afterTimeout: the deadline that the next timeout sets.
    """

    def __init__(self) -> None:
        self.due: float | None = None
        self.afterTimeout: float | None = None
        self.timeouts: list[float] = []
        self.received: list[tuple[bytes, HostPort, float]] = []
        self.transmits: deque[Transmit] = deque()
        self.events: deque[str] = deque()

    def receiveDatagram(self, data: bytes, address: HostPort, now: float) -> bool:
        """
        Take anything but C{b"hostile"}.
        """
        if data == b"hostile":
            return False
        self.received.append((data, address, now))
        self.transmits.append(Transmit(b"re:" + data, address))
        self.events.append(data.decode("ascii"))
        return True

    def handleTimeout(self, now: float) -> None:
        """
        Note the time, and want what C{afterTimeout} says next.
        """
        self.timeouts.append(now)
        self.due = self.afterTimeout
        self.events.append(f"timeout {now:g}")

    def deadline(self) -> float | None:
        """
        @return: C{due}.
        """
        return self.due

    def pollTransmit(self) -> Transmit | None:
        """
        @return: the next answer.
        """
        return self.transmits.popleft() if self.transmits else None

    def pollEvent(self) -> str | None:
        """
        @return: the next event.
        """
        return self.events.popleft() if self.events else None


class PumpTests(SynchronousTestCase):
    """
    A L{Pump} feeds its machine, sends, delivers, and keeps one timer.
    """

    def setUp(self) -> None:
        """
        Make a pump whose sends and deliveries land, in order, in C{log}.
        """
        self.clock = Clock()
        self.machine = EchoMachine()
        self.log: list[object] = []
        self.onSend: Callable[[], object] = lambda: None
        self.onDeliver: Callable[[str], object] = lambda event: None
        self.pump: Pump[str] = Pump(self.clock, self.machine, self.send, self.deliver)

    def send(self, data: bytes, address: HostPort) -> None:
        """
        Note a datagram.
        """
        self.log.append((data, address))
        self.onSend()

    def deliver(self, event: str) -> None:
        """
        Note an event, and what was delivered from inside its delivery.
        """
        self.log.append(f"<{event}")
        self.onDeliver(event)
        self.log.append(f"{event}>")

    def wants(self, deadline: float | None) -> None:
        """
        Let the machine want a deadline, and the pump see it.
        """
        self.machine.due = deadline
        self.pump.drain()

    def timers(self) -> list[float]:
        """
        @return: when each pending call is due.
        """
        return [call.getTime() for call in self.clock.getDelayedCalls()]

    def test_receive(self) -> None:
        """
        A datagram reaches the machine with the time; what it answers is sent before its event is
        delivered.
        """
        self.clock.advance(3.0)
        self.assertTrue(self.pump.receiveDatagram(b"hi", PEER))
        self.assertEqual(self.machine.received, [(b"hi", PEER, 3.0)])
        self.assertEqual(self.log, [(b"re:hi", PEER), "<hi", "hi>"])
        self.assertEqual(self.timers(), [])

    def test_notTaken(self) -> None:
        """
        A datagram that the machine refuses drains nothing.
        """
        self.machine.events.append("later")
        self.assertFalse(self.pump.receiveDatagram(b"hostile", PEER))
        self.assertEqual(self.log, [])

    def test_deliversInOrder(self) -> None:
        """
        A call from inside a delivery queues for the loop that is running, and does not nest.
        """

        def again(event: str) -> None:
            if event == "one":
                self.pump.receiveDatagram(b"two", PEER)

        self.onDeliver = again
        self.pump.receiveDatagram(b"one", PEER)
        self.assertEqual(
            self.log,
            [(b"re:one", PEER), "<one", "one>", (b"re:two", PEER), "<two", "two>"],
        )

    def test_oneTimer(self) -> None:
        """
        There is one timer, at the machine's deadline, moved both ways and taken away.
        """
        self.wants(5.0)
        self.assertEqual(self.timers(), [5.0])
        self.wants(7.0)
        self.assertEqual(self.timers(), [7.0])
        self.wants(2.0)
        self.assertEqual(self.timers(), [2.0])
        self.wants(2.0)
        self.assertEqual(self.timers(), [2.0])
        self.wants(None)
        self.assertEqual(self.timers(), [])
        self.wants(None)
        self.assertEqual(self.timers(), [])

    def test_due(self) -> None:
        """
        At its deadline the machine is called, drained, and asked for the next one.
        """
        self.machine.afterTimeout = 4.0
        self.wants(1.0)
        self.clock.advance(1.0)
        self.assertEqual(self.machine.timeouts, [1.0])
        self.assertEqual(self.log, ["<timeout 1", "timeout 1>"])
        self.assertEqual(self.timers(), [4.0])

    def test_overdue(self) -> None:
        """
        A deadline in the past is due in the reactor's next turn, and not before.
        """
        self.clock.advance(10.0)
        self.wants(1.0)
        self.assertEqual(self.machine.timeouts, [])
        self.clock.advance(0)
        self.assertEqual(self.machine.timeouts, [10.0])

    def test_heldUp(self) -> None:
        """
        A timer that is late, since the program was held up, lets what has come meanwhile be
        received first; and then it is not put off again.
        """
        self.wants(1.0)
        self.clock.callLater(1.5, self.pump.receiveDatagram, b"unread", PEER)
        self.clock.advance(3.0)
        self.assertEqual(
            self.log,
            [(b"re:unread", PEER), "<unread", "unread>", "<timeout 3", "timeout 3>"],
        )
        self.assertEqual(self.timers(), [])

    def test_heldUpAgain(self) -> None:
        """
        So does the next timer that is late; one that is not is not put off.
        """
        self.machine.afterTimeout = 5.0
        self.wants(1.0)
        self.clock.callLater(1.01, self.pump.receiveDatagram, b"early", PEER)
        self.clock.pump([1.02])
        self.assertEqual(self.log[0], "<timeout 1.02")
        self.machine.afterTimeout = None
        self.clock.callLater(5.0, self.pump.receiveDatagram, b"late", PEER)
        self.clock.advance(9.0)
        self.assertEqual(self.log[-4:], ["<late", "late>", "<timeout 10.02", "timeout 10.02>"])

    def test_earlyTimer(self) -> None:
        """
        A timer that fires a rounding error early gives the machine the time that it asked for.
        """
        self.clock.rightNow = 0.2
        self.wants(0.9)
        early = 0.2 + (0.9 - 0.2)
        self.assertLess(early, 0.9)
        self.clock.advance(0.9 - 0.2)
        self.assertEqual(self.machine.timeouts, [0.9])

    def test_deadlineMovedUnseen(self) -> None:
        """
        A deadline that moved without the pump being told does not carry time into the future.
        """
        self.wants(1.0)
        self.machine.due = self.machine.afterTimeout = 9.0
        self.clock.advance(1.0)
        self.assertEqual(self.machine.timeouts, [1.0])
        self.assertEqual(self.timers(), [9.0])

    def test_stop(self) -> None:
        """
        Stopping sends what is queued, delivers nothing, frees the timer and ignores the rest.
        """
        self.wants(5.0)
        self.machine.transmits.append(Transmit(b"bye", PEER))
        self.machine.events.append("never")
        self.pump.stop()
        self.pump.stop()
        self.assertEqual(self.log, [(b"bye", PEER)])
        self.assertEqual(self.timers(), [])
        self.assertFalse(self.pump.receiveDatagram(b"hi", PEER))
        self.pump.drain()
        self.assertEqual(self.log, [(b"bye", PEER)])

    def test_stopInsideDelivery(self) -> None:
        """
        A delivery may stop the pump: no further event comes, and no timer is left.
        """
        self.onDeliver = lambda event: self.pump.stop()
        self.machine.events.extend(["one", "two"])
        self.wants(5.0)
        self.assertEqual(self.log, ["<one", "one>"])
        self.assertEqual(self.timers(), [])

    def test_stopInsideSend(self) -> None:
        """
        Sending may stop the pump: what is queued is still sent once, and no event comes.
        """
        self.onSend = self.pump.stop
        self.machine.transmits.extend([Transmit(b"1", PEER), Transmit(b"2", PEER)])
        self.machine.events.append("never")
        self.pump.drain()
        self.assertEqual(self.log, [(b"1", PEER), (b"2", PEER)])

    def test_stopInsideStop(self) -> None:
        """
        The goodbye of a stopping pump neither nests nor drains.
        """
        self.onSend = self.pump.drain
        self.machine.transmits.extend([Transmit(b"1", PEER), Transmit(b"2", PEER)])
        self.machine.events.append("never")
        self.pump.stop()
        self.assertEqual(self.log, [(b"1", PEER), (b"2", PEER)])

    def test_raisingDelivery(self) -> None:
        """
        A delivery that breaks its promise and raises does not wedge the pump for ever.
        """

        def fail(event: str) -> None:
            raise RuntimeError(event)

        self.onDeliver = fail
        self.machine.events.append("bad")
        self.assertRaises(RuntimeError, self.pump.drain)
        self.onDeliver = lambda event: None
        self.assertTrue(self.pump.receiveDatagram(b"hi", PEER))
        self.assertEqual(self.log, ["<bad", (b"re:hi", PEER), "<hi", "hi>"])
