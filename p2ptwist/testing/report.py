"""
What people are told when a test on the simulated Internet fails.
"""

from __future__ import annotations

import functools
import sys
import unittest
from types import FrameType
from typing import Any

from p2ptwist.errors import P2PError
from p2ptwist.testing.world import World

# A screen or two of each: enough to see what goes on, not so much that the failure is lost in it.
_SHOWN_CALLS = 20
_SHOWN_ENTRIES = 60
_SHOWN_ON_FAILURE = 200


class StillPending(P2PError, TimeoutError):
    """
    What was waited for has not happened in time.  Its text tells what is still going on.
    """


def describePending(world: World) -> str:
    """
    @return: what is still to be done on which host, who listens, and the end of the trace.
    """
    lines = [f"no result after {world.clock.now:.3f} s of virtual time (seed {world.seed})"]
    if world.clock.nextEvent() is None:
        lines.append("nothing more can happen: no packet is under way and no call is due")
    for host in world.hosts.values():
        calls = host.getDelayedCalls()
        lines += [f"{host.name}: {call}" for call in calls[:_SHOWN_CALLS]]
        if len(calls) > _SHOWN_CALLS:
            lines.append(f"{host.name}: and {len(calls) - _SHOWN_CALLS} more calls")
        lines += [f"{host.name}: open {reader}" for reader in host.getReaders()[:_SHOWN_CALLS]]
    lines.append(world.trace.text(last=_SHOWN_ENTRIES))
    return "\n".join(lines)


class TraceOnFailure:
    """
    Adds the seed and the trace to whatever a test fails with.
    """

    def __init__(self, world: World, testCase: unittest.TestCase) -> None:
        """
        @param world: whose trace.
        @param testCase: the test that runs, or is about to.
        """
        self._world = world
        self._testCase = testCase

    def watch(self) -> None:
        """
        Begin.
        """
        self._wrapMethod()
        self._testCase.addCleanup(self._annotateReported)

    def _wrapMethod(self) -> None:
        """
        Add to what the test method raises, if it is still to be called: before any reporter has
        seen it, in whatever process that is.
        """
        name = self._testCase._testMethodName
        method = getattr(self._testCase, name)

        @functools.wraps(method)
        def annotating() -> Any:
            try:
                return method()
            except Exception as error:
                self._annotate(error)
                raise

        setattr(self._testCase, name, annotating)

    def _annotateReported(self) -> None:
        """
        Add to what has been reported of this test: what a Deferred failed with, or what was raised
        by a method that was running already when watching began.
        """
        result = _resultInReach(sys._getframe())
        if result is None:
            return
        for test, failure in [*result.failures, *result.errors]:
            value = getattr(failure, "value", None)
            if test.id() == self._testCase.id() and isinstance(value, Exception):
                self._annotate(value)

    def _annotate(self, error: Exception) -> None:
        text = (
            f"Internet with seed {self._world.seed}, at {self._world.clock.now:.6f} s:\n"
            f"{self._world.trace.text(last=_SHOWN_ON_FAILURE)}"
        )
        if text in str(error):
            return
        message, *rest = error.args or ("",)
        if isinstance(message, str) and type(error).__str__ is BaseException.__str__:
            error.args = (f"{message}\n\n{text}", *rest)
        else:
            print(text)


def _resultInReach(frame: FrameType | None) -> unittest.TestResult | None:
    """
    @return: the result that the running test reports to: trial tells it to those functions only
        that run the test, and they are running now.
    """
    while frame is not None:
        result = frame.f_locals.get("result")
        if isinstance(result, unittest.TestResult):
            return result
        frame = frame.f_back
    return None
