"""
What the time of a Twisted reactor does.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import (
    IDelayedCall,
    IReactorFDSet,
    IReactorFromThreads,
    IReactorPluggableNameResolver,
    IReactorTCP,
    IReactorTime,
    IReactorUDP,
)
from zope.interface.verify import verifyObject

from tests.contract.settings import Cases


class TimeCases(Cases):
    """
    Cases for C{IReactorTime} and what is near it.  None looks at how long something took.
    """

    async def test_interfaces(self) -> None:
        """
        A reactor provides what it says, and so do its calls.
        """
        for interface in (
            IReactorTime,
            IReactorUDP,
            IReactorTCP,
            IReactorFDSet,
            IReactorFromThreads,
            IReactorPluggableNameResolver,
        ):
            self.assertTrue(verifyObject(interface, self.client))
        call = self.client.callLater(100, lambda: None)
        self.assertTrue(verifyObject(IDelayedCall, call))
        call.cancel()

    async def test_order(self) -> None:
        """
        Calls are made in the order of their times, never before C{callLater} has returned, with
        their arguments.
        """
        made: list[object] = []
        done: Deferred[None] = Deferred()

        def note(value: object, *, more: object = None) -> None:
            made.append((value, more))
            if value == "last":
                done.callback(None)

        self.client.callLater(0.03, note, "last")
        self.client.callLater(0.01, note, 1, more="keyword")
        self.client.callLater(0, note, 0)
        self.client.callLater(0.02, note, 2)
        self.assertEqual(made, [])
        await done
        self.assertEqual(made, [(0, None), (1, "keyword"), (2, None), ("last", None)])

    async def test_secondsPass(self) -> None:
        """
        When a call is made its time has come, in the reactor's own seconds.
        """
        seen: Deferred[float] = Deferred()
        call = self.client.callLater(0.02, lambda: seen.callback(self.client.seconds()))
        due = call.getTime()
        self.assertGreaterEqual(await seen, due - 0.001)

    async def test_cancel(self) -> None:
        """
        A call that was cancelled is not made, and cannot be cancelled again.
        """
        made: list[int] = []
        call = self.client.callLater(0.01, made.append, 1)
        self.assertIn(call, self.client.getDelayedCalls())
        self.assertTrue(call.active())
        call.cancel()
        self.assertFalse(call.active())
        self.assertNotIn(call, self.client.getDelayedCalls())
        for again in (call.cancel, lambda: call.reset(1), lambda: call.delay(1)):
            with self.assertRaises(AlreadyCancelled):
                again()
        await self.pause(self.client, 0.03)
        self.assertEqual(made, [])

    async def test_called(self) -> None:
        """
        A call that was made is over, already while it runs.
        """
        active: list[bool] = []

        def look() -> None:
            active.append(call.active())

        call: IDelayedCall = self.client.callLater(0, look)
        await self.pause(self.client, 0.01)
        self.assertEqual(active, [False])
        for again in (call.cancel, lambda: call.reset(1), lambda: call.delay(1)):
            with self.assertRaises(AlreadyCalled):
                again()

    async def test_resetAndDelay(self) -> None:
        """
        A call can be made earlier and later.
        """
        made: list[str] = []
        done: Deferred[None] = Deferred()
        earlier = self.client.callLater(50, made.append, "earlier")
        later = self.client.callLater(0.01, made.append, "later")
        sooner = self.client.callLater(60, made.append, "sooner")
        self.client.callLater(0.06, done.callback, None)
        earlier.reset(0.02)
        due = later.getTime()
        later.delay(0.03)
        self.assertAlmostEqual(later.getTime() - due, 0.03)
        sooner.delay(-60)
        await done
        self.assertEqual(made, ["sooner", "earlier", "later"])

    async def test_negativeDelay(self) -> None:
        """
        Nothing can be called in the past.
        """
        with self.assertRaises(AssertionError):
            self.client.callLater(-1, lambda: None)

    async def test_errorInCall(self) -> None:
        """
        A call that raises is logged, and time goes on.
        """
        self.client.callLater(0, lambda: 1 / 0)
        await self.pause(self.client, 0.01)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    async def test_callFromThread(self) -> None:
        """
        C{callFromThread} calls later, in order.
        """
        made: list[int] = []
        self.client.callFromThread(made.append, 1)
        self.client.callFromThread(made.append, 2)
        self.assertEqual(made, [])
        await self.pause(self.client, 0.01)
        self.assertEqual(made, [1, 2])
