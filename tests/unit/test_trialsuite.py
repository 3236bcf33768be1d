"""
Tests for L{scripts.trialsuite}: that every test is counted as what it was.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.python import log
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from scripts.trialsuite import CountingReporter, Ending, Tally

ROOT = Path(__file__).resolve().parents[2]


class Sample(SynchronousTestCase):
    """
    Tests that end in every way there is; their names keep trial from running them by itself.
    """

    def passes(self) -> None:
        """
        Pass.
        """

    def fails(self) -> None:
        """
        Fail an assertion.
        """
        self.fail("no")

    def raises(self) -> None:
        """
        Raise.
        """
        raise RuntimeError("no")

    def skips(self) -> None:
        """
        Skip.
        """
        raise SkipTest("not here")

    def failsAsExpected(self) -> None:
        """
        Fail, as said.
        """
        self.fail("no")

    failsAsExpected.todo = "one day"  # type: ignore[attr-defined]

    def passesUnexpectedly(self) -> None:
        """
        Pass, against what was said.
        """

    passesUnexpectedly.todo = "one day"  # type: ignore[attr-defined]

    def raisesTwice(self) -> None:
        """
        Raise, and leave an error in the log as well.
        """
        log.err(RuntimeError("logged"))
        raise RuntimeError("no")


class CountingReporterTests(SynchronousTestCase):
    """
    L{CountingReporter} gives each test one ending.
    """

    def count(self, *methods: str) -> Tally:
        """
        @return: the tally of running these methods of L{Sample}.
        """
        reporter = CountingReporter(io.StringIO(), "default", False)
        for method in methods:
            Sample(method).run(reporter)
        self.flushLoggedErrors(RuntimeError)
        return reporter.tally()

    def test_passed(self) -> None:
        """
        A test that passed is counted, and not noted.
        """
        self.assertEqual(self.count("passes"), Tally(passed=1))

    def test_failed(self) -> None:
        """
        Failures, errors and unexpected successes are failed tests.
        """
        tally = self.count("fails", "raises", "passesUnexpectedly")
        self.assertEqual(str(tally), "0 passed, 3 failed, 0 skipped")
        self.assertTrue(tally.notes[0].startswith("failed: "))
        self.assertTrue(tally.notes[0].endswith("Sample.fails"))

    def test_skipped(self) -> None:
        """
        A skipped test, and one that failed as expected, are skipped, with the reason.
        """
        tally = self.count("skips", "failsAsExpected", "passes")
        self.assertEqual(str(tally), "1 passed, 0 failed, 2 skipped")
        self.assertTrue(tally.notes[0].endswith("Sample.skips not here"))
        self.assertTrue(tally.notes[1].endswith("expected to fail: one day"))

    def test_once(self) -> None:
        """
        Two errors of one test are one failed test.
        """
        self.assertEqual(str(self.count("raisesTwice")), "0 passed, 1 failed, 0 skipped")

    def test_unfinished(self) -> None:
        """
        A test that nothing is ever said about has failed.
        """
        reporter = CountingReporter(io.StringIO(), "default", False)
        reporter.startTest(Sample("passes"))
        self.assertEqual(list(reporter.endings.values()), [Ending.UNFINISHED])
        self.assertEqual(reporter.tally().failed, 1)

    def test_errorAfterwards(self) -> None:
        """
        What is found when a test has passed already, such as a socket left open, makes it fail.
        """
        reporter = CountingReporter(io.StringIO(), "default", False)
        test = Sample("passes")
        test.run(reporter)
        reporter.addError(test, (RuntimeError, RuntimeError("left open"), None))
        self.assertEqual(str(reporter.tally()), "0 passed, 1 failed, 0 skipped")

    def test_sum(self) -> None:
        """
        Tallies add up, notes included.
        """
        total = Tally(1, 2, 3, ["a"]) + Tally(10, 20, 30, ["b"])
        self.assertEqual(total, Tally(11, 22, 33, ["a", "b"]))


class MainTests(SynchronousTestCase):
    """
    C{trialsuite.py} runs the tests that it is told to, and leaves their tally in a file.
    """

    def suite(self, *names: str) -> tuple[int, dict[str, Any]]:
        """
        @return: the exit status and the tally of a run in a process of its own.
        """
        result = Path(self.mktemp()).resolve()
        command = (sys.executable, ROOT / "scripts" / "trialsuite.py", result, f"{result}.trial")
        status = subprocess.call((*command, *names), cwd=ROOT, stdout=subprocess.DEVNULL)
        return status, json.loads(result.read_text("utf-8"))

    def test_passed(self) -> None:
        """
        One passing test: one passed, and status 0.
        """
        status, tally = self.suite("tests.unit.test_peerid.PeerIDTests.test_vector")
        self.assertEqual(tally, {"passed": 1, "failed": 0, "skipped": 0, "notes": []})
        self.assertEqual(status, 0)

    def test_noSuchTests(self) -> None:
        """
        A module that is not there, or cannot be imported, is a failed test.
        """
        status, tally = self.suite("tests.unit.test_nosuchthing")
        self.assertEqual((tally["passed"], tally["failed"], status), (0, 1, 1))
