"""
The virtual clock: it goes from event to event.
"""

from __future__ import annotations

from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from p2ptwist.errors import LocalUsageError
from p2ptwist.testing.clock import MAX_EVENTS_PER_INSTANT, Clock, DelayedCall, TimeStandsStill


class ClockTests(SynchronousTestCase):
    """
    L{Clock} and its delayed calls.
    """

    def setUp(self) -> None:
        """
        Make a clock that counts failures.
        """
        self.failed = 0
        self.clock = Clock(self.eventFailed)
        self.finished: list[DelayedCall] = []

    def eventFailed(self) -> None:
        """
        An event has failed.
        """
        self.failed += 1

    def later(self, delay: float, function: object, *arguments: object) -> DelayedCall:
        """
        @return: a call that is due in C{delay} seconds.
        """
        return DelayedCall(
            self.clock,
            self.clock.seconds() + delay,
            self.finished.append,
            function,  # type: ignore[arg-type]
            arguments,
            {},
        )

    def test_noDrift(self) -> None:
        """
        A chain of calls runs at the exact times, however far the clock is asked to go.
        """
        times: list[float] = []

        def again() -> None:
            times.append(self.clock.seconds())
            self.later(1.0, again)

        self.later(1.0, again)
        self.clock.runUntil(5.5)
        self.assertEqual(times, [1.0, 2.0, 3.0, 4.0, 5.0])
        self.assertEqual(self.clock.seconds(), 5.5)

    def test_sameInstant(self) -> None:
        """
        Events of one instant run in the order in which they were queued.
        """
        order: list[int] = []
        for number in range(20):
            self.clock.callAt(1.0, order.append, number)
        self.clock.runUntil(1.0)
        self.assertEqual(order, list(range(20)))

    def test_past(self) -> None:
        """
        An event in the past happens now: time never goes back.
        """
        self.clock.runUntil(3.0)
        times: list[float] = []
        self.clock.callAt(1.0, lambda: times.append(self.clock.seconds()))
        self.clock.runUntil(3.0)
        self.assertEqual(times, [3.0])

    def test_nextEvent(self) -> None:
        """
        The next event is told, without those that were voided.
        """
        self.assertIsNone(self.clock.nextEvent())
        first = self.clock.callAt(1.0, self.fail)
        self.clock.callAt(2.0, lambda: None)
        self.clock.void(first)
        self.assertEqual(self.clock.nextEvent(), 2.0)

    def test_run(self) -> None:
        """
        Events run up to a time, or until it is said that it is enough.
        """
        ran: list[int] = []
        for number in (1, 2, 3, 4):
            self.clock.void(self.clock.callAt(number, self.fail))
            self.clock.callAt(number, ran.append, number)
        self.clock.run(1.9)
        self.assertEqual((ran, self.clock.now), ([1], 1.0))
        self.clock.run(9.0, lambda: len(ran) == 3)
        self.assertEqual((ran, self.clock.now), ([1, 2, 3], 3.0))

    def test_failure(self) -> None:
        """
        An event that raises is told, and the next one runs.
        """
        self.clock.callAt(1.0, lambda: 1 / 0)
        ran: list[int] = []
        self.clock.callAt(1.0, ran.append, 1)
        self.clock.runUntil(1.0)
        self.assertEqual((self.failed, ran), (1, [1]))

    def test_noReentry(self) -> None:
        """
        Time cannot be advanced by what runs in it.
        """
        errors: list[Exception] = []

        def advance() -> None:
            try:
                self.clock.runUntil(9.0)
            except LocalUsageError as error:
                errors.append(error)

        self.clock.callAt(1.0, advance)
        self.clock.runUntil(2.0)
        self.assertEqual(len(errors), 1)
        self.assertEqual(self.clock.seconds(), 2.0)

    def test_livelock(self) -> None:
        """
        A loop without any delay is found, instead of going on for ever, and so is one whose delay
        is no more than a rounding error.
        """
        for delay in (0.0, 1e-12):
            count = self.loop(delay)
            self.assertTrue(0 <= count - MAX_EVENTS_PER_INSTANT <= 2, count)

    def loop(self, delay: float) -> int:
        """
        @return: how often something ran that calls itself again after C{delay}.
        """
        clock = Clock(self.eventFailed)
        count = 0

        def again() -> None:
            nonlocal count
            count += 1
            clock.callAt(clock.seconds() + delay, again)

        again()
        with self.assertRaises(TimeStandsStill):
            clock.runUntil(1.0)
        return count

    def test_busyIsNoLoop(self) -> None:
        """
        Many events with honest delays between them are no loop.
        """
        for number in range(MAX_EVENTS_PER_INSTANT + 10):
            self.clock.callAt(number * 2e-6, int)
        self.clock.runUntil(10.0)

    def test_sweep(self) -> None:
        """
        Calls that were cancelled do not fill the queue for ever.
        """
        for _ in range(10_000):
            self.later(1000.0, self.fail).cancel()
        self.assertLess(len(self.clock._queue), 5_000)
        ran: list[int] = []
        self.later(1.0, ran.append, 1)
        self.clock.runUntil(2000.0)
        self.assertEqual(ran, [1])

    def test_delayedCall(self) -> None:
        """
        A delayed call provides its interface, tells its state, and tells when it is over.
        """
        call = self.later(2.0, lambda: None)
        self.assertTrue(verifyObject(IDelayedCall, call))
        self.assertTrue(call.active())
        self.assertEqual(call.getTime(), 2.0)
        self.assertIn("in 2.000 s", repr(call))
        self.clock.runUntil(2.0)
        self.assertEqual(self.finished, [call])
        self.assertIn("called", repr(call))
        with self.assertRaises(AlreadyCalled):
            call.cancel()

    def test_cancel(self) -> None:
        """
        A call that was cancelled is never made.
        """
        call = self.later(1.0, self.fail)
        call.cancel()
        self.assertEqual(self.finished, [call])
        self.assertIn("cancelled", repr(call))
        with self.assertRaises(AlreadyCancelled):
            call.reset(1.0)
        self.clock.runUntil(2.0)

    def test_resetAndDelay(self) -> None:
        """
        A call can be moved both ways, and is made once.
        """
        times: list[float] = []
        call = self.later(1.0, lambda: times.append(self.clock.seconds()))
        call.delay(4.0)
        self.assertEqual(call.getTime(), 5.0)
        self.clock.runUntil(2.0)
        call.reset(1.0)
        self.clock.runUntil(9.0)
        self.assertEqual(times, [3.0])
