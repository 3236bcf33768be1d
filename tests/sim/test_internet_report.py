"""
Running a simulated Internet, and what it tells when a test fails.
"""

from __future__ import annotations

import io
import unittest

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.reporter import TestResult
from twisted.trial.unittest import SynchronousTestCase, TestCase

from p2ptwist.errors import LocalUsageError
from p2ptwist.testing import NAT, Internet, Link, Mapping, PortAllocation, StillPending
from tests.sim.datagrams import Mirror, Recorder, listen


class RunTests(SynchronousTestCase):
    """
    L{Internet.advance} and L{Internet.runUntil}.
    """

    def setUp(self) -> None:
        """
        Make an Internet with one host.
        """
        self.internet = Internet(seed=42)
        self.host = self.internet.host("host", "192.0.2.1")

    def test_advance(self) -> None:
        """
        Time goes on by exactly what was asked for, and never back.
        """
        self.internet.advance(1.25)
        self.assertEqual((self.internet.seconds(), self.host.seconds()), (1.25, 1.25))
        with self.assertRaises(LocalUsageError):
            self.internet.advance(-1.0)

    def test_result(self) -> None:
        """
        It returns what a Deferred or a coroutine results in, as soon as it does.
        """

        async def work() -> str:
            await deferLater(self.host, 2.0)
            return "done"

        self.assertEqual(self.internet.runUntil(work()), "done")
        self.assertEqual(self.internet.seconds(), 2.0)
        self.assertEqual(self.internet.runUntil(succeed(3)), 3)
        self.assertEqual(self.internet.seconds(), 2.0)

    def test_failure(self) -> None:
        """
        It raises what a Deferred fails with.
        """
        with self.assertRaises(ValueError):
            self.internet.runUntil(fail(ValueError("no")))

    def test_timeout(self) -> None:
        """
        It tells what is still pending: calls, ports and the last packets.
        """
        recorder = listen(self.host, Recorder())
        for _ in range(30):
            self.host.callLater(100.0, self.fail)
        recorder.send(b"x", ("192.0.2.9", 1))
        with self.assertRaises(StillPending) as caught:
            self.internet.runUntil(Deferred(), 5.0)
        text = str(caught.exception)
        self.assertIn("seed 42", text)
        self.assertIn("host: <DelayedCall in", text)
        self.assertIn("host: and 10 more calls", text)
        self.assertIn("Recorder", text)
        self.assertIn("nobody has this address", text)
        self.assertIsInstance(caught.exception, TimeoutError)

    def test_nothingLeft(self) -> None:
        """
        It does not wait for what cannot happen any more.
        """
        with self.assertRaises(StillPending) as caught:
            self.internet.runUntil(Deferred())
        self.assertIn("nothing more can happen", str(caught.exception))

    def test_errorsAreLogged(self) -> None:
        """
        What a call raises is logged, and fails a test like an error on a real reactor.
        """
        self.host.callLater(1.0, lambda: 1 / 0)
        self.internet.advance(1.0)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_capture(self) -> None:
        """
        A capture has the packets of one place, or of all.
        """
        recorder = listen(self.host, Recorder())
        other = listen(self.internet.host("other", "192.0.2.2"), Mirror())
        recorder.send(b"find me", ("192.0.2.2", 5000))
        self.internet.advance(1.0)
        self.assertEqual(len(other.received), 1)
        self.assertEqual(self.internet.capture().count(b"find me"), 2)
        self.assertEqual(self.internet.capture("other").count(b"find me"), 1)

    def test_repeatable(self) -> None:
        """
        One seed always gives one history; another host does not change that of the others.
        """
        self.assertEqual(history(3), history(3))
        self.assertNotEqual(history(3), history(4))
        self.assertEqual(history(3), history(3, bystander=True))


def history(seed: int, bystander: bool = False) -> str:
    """
    @return: the trace of some exchange over a bad link.
    """
    internet = Internet(seed)
    if bystander:
        internet.router("neighbor", "203.0.113.9").host("bystander")
    nat = NAT(mapping=Mapping.ADDRESS_DEPENDENT, allocation=PortAllocation.RANDOM)
    link = Link(loss=0.2, jitter=0.01, duplication=0.1, reordering=0.1)
    home = internet.router("home", "203.0.113.1", nat=nat, link=link)
    listen(internet.host("server", "192.0.2.1"), Mirror(), 1)
    alice = listen(home.host("alice"), Recorder(), 0)
    for _ in range(50):
        alice.send(b"x", ("192.0.2.1", 1))
        internet.advance(0.005)
    internet.advance(1.0)
    return internet.trace.text()


class ShowOnFailureTests(SynchronousTestCase):
    """
    L{Internet.showOnFailure}: the reports of tests that fail have the seed and the trace.
    """

    def report(self, case: unittest.TestCase) -> str:
        """
        @return: the text of the one failure or error of C{case}.
        """
        result = TestResult()
        case.run(result)
        self.assertEqual(len(result.errors) + len(result.failures), 1)
        [(_, failure)] = result.errors + result.failures
        assert isinstance(failure, Failure)
        return str(failure.value)

    def check(self, case: unittest.TestCase, message: str) -> None:
        """
        Check that the report begins with C{message}, and has the seed and the trace once.
        """
        text = self.report(case)
        self.assertTrue(text.startswith(message), text)
        self.assertEqual(text.count("Internet with seed 77"), 1)
        self.assertEqual(text.count("nobody has this address"), 1)

    def test_calledInSetUp(self) -> None:
        """
        It may be called in C{setUp}.
        """

        class Failing(SynchronousTestCase):
            def setUp(self) -> None:
                busy(self)

            def test_it(self) -> None:
                self.fail("on purpose")

        self.check(Failing("test_it"), "on purpose")

    def test_calledInTest(self) -> None:
        """
        It may be called in the test itself, for errors too.
        """

        class Failing(SynchronousTestCase):
            def test_it(self) -> None:
                busy(self)
                raise ValueError("on purpose")

        self.check(Failing("test_it"), "on purpose")

    def test_deferred(self) -> None:
        """
        It sees what a Deferred fails with.
        """

        class Failing(TestCase):
            def setUp(self) -> None:
                busy(self)

            def test_it(self) -> Deferred[None]:
                return fail(RuntimeError("on purpose"))

        case = Failing("test_it")
        self.patch(case, "_runFixturesAndTest", lambda result: runAsynchronous(case, result))
        self.check(case, "on purpose")

    def test_passing(self) -> None:
        """
        A test that passes is left alone.
        """

        class Passing(SynchronousTestCase):
            def test_it(self) -> None:
                busy(self)

        result = TestResult()
        Passing("test_it").run(result)
        self.assertTrue(result.wasSuccessful())

    def test_strangeErrors(self) -> None:
        """
        Where an error's text cannot be added to, the trace is printed.
        """

        class Failing(SynchronousTestCase):
            def setUp(self) -> None:
                busy(self)

            def test_it(self) -> None:
                raise KeyError("key")

        output = io.StringIO()
        self.patch(__import__("sys"), "stdout", output)
        self.assertEqual(self.report(Failing("test_it")), "'key'")
        self.assertIn("Internet with seed 77", output.getvalue())

    def test_otherRunners(self) -> None:
        """
        Cleanups that are run by something unknown find no result, and do no harm.
        """

        class Plain(unittest.TestCase):
            def test_it(self) -> None:
                busy(self)

        case = Plain("test_it")
        case.test_it()
        case.doCleanups()


def busy(case: unittest.TestCase) -> None:
    """
    Make an Internet on which something has happened.
    """
    internet = Internet(seed=77)
    internet.showOnFailure(case)
    listen(internet.host("host", "192.0.2.1"), Recorder()).send(b"x", ("192.0.2.9", 1))
    internet.advance(1.0)


def runAsynchronous(case: unittest.TestCase, result: TestResult) -> None:
    """
    Run a test whose Deferreds have all fired, without the real reactor: as trial does, with the
    result in reach of the cleanups.
    """
    case.setUp()
    deferred = getattr(case, case._testMethodName)()
    deferred.addErrback(lambda failure: result.addError(case, failure))
    case.doCleanups()
