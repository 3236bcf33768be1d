"""
Tests for L{scripts.runtests}: what fails is seen to fail.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sqlite3
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path

from coverage import CoverageData
from coverage.data import combine_parallel_data
from twisted.trial.unittest import SynchronousTestCase

from scripts import runtests
from scripts.runtests import (
    KERNEL,
    ROOT,
    TOGETHER,
    Job,
    runJob,
    runTogether,
    show,
    suiteByModule,
    tallyOf,
)
from scripts.trialsuite import Tally

INTERFACES = "import socket; print([name for _, name in socket.if_nameindex()])"


class JobTests(SynchronousTestCase):
    """
    A job is a process; its status and its result file say how it ended.
    """

    def setUp(self) -> None:
        """
        Let logs be written to a folder of this test.
        """
        folder = Path(self.mktemp()).resolve()
        folder.mkdir()
        self.patch(runtests, "BUILD", folder)
        self.result = folder / "result.json"

    def gate(self, program: str) -> Job:
        """
        @return: a gate that runs C{program} in Python.
        """
        return Job("gate", (sys.executable, "-c", program))

    def suiteTally(self, tally: Tally | None, status: int) -> Tally:
        """
        @return: what counts of a suite that left C{tally} and ended with C{status}.
        """
        if tally is not None:
            self.result.write_text(json.dumps(asdict(tally)), "utf-8")
        return tallyOf(Job("suite", ("unused",), self.result), status)

    def test_goodGate(self) -> None:
        """
        A gate that passes counts as nothing.
        """
        outcome = runJob(self.gate("print('fine')"))
        self.assertEqual(outcome.tally, Tally())
        self.assertEqual(outcome.output, "fine\n")

    def test_failedGate(self) -> None:
        """
        A gate that fails counts as one failed test, and its output is printed.
        """
        outcome = runJob(self.gate("import sys; sys.exit('bad')"))
        self.assertEqual(outcome.tally, Tally(failed=1, notes=["failed: gate"]))
        printed = io.StringIO()
        with redirect_stdout(printed):
            show(outcome)
        self.assertRegex(printed.getvalue(), r"^== gate: failed \(\d+ s\)\nbad\n")

    def test_stuck(self) -> None:
        """
        A job that does not end is killed, and has failed.
        """
        self.patch(runtests, "JOB_LIMIT", 0.1)
        outcome = runJob(self.gate("import time; time.sleep(60)"))
        self.assertEqual(outcome.tally.failed, 1)
        self.assertIn("Killed: not done after 0.1 seconds.", outcome.output)

    def test_suite(self) -> None:
        """
        The tally of a suite is its own.
        """
        tally = Tally(5, 1, 2, ["failed: x", "skipped: y", "skipped: z"])
        self.assertEqual(self.suiteTally(tally, 1), tally)

    def test_onLoopback(self) -> None:
        """
        The suites of real programs see no network but loopback, where that can be had.
        """
        command = runtests.onLoopback((sys.executable, "-c", INTERFACES))
        names = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        if os.geteuid() == 0:
            self.assertEqual(names, "['lo']\n")
        self.assertEqual(runtests.suite("tests.sim").command[0], sys.executable)

    def test_suiteWithoutResult(self) -> None:
        """
        A suite that ended without leaving a tally has failed, whatever its status.
        """
        self.assertEqual(self.suiteTally(None, 0).failed, 1)

    def test_suiteWithoutTests(self) -> None:
        """
        A suite that ran nothing has failed.
        """
        self.assertEqual(self.suiteTally(Tally(), 0).notes, ["failed: suite has no tests"])

    def test_suiteThatCrashedAtItsEnd(self) -> None:
        """
        All tests passed but the process did not end well: that is a failure too.
        """
        tally = self.suiteTally(Tally(passed=3), -11)
        self.assertEqual((tally.passed, tally.failed), (3, 1))

    def test_together(self) -> None:
        """
        Jobs that run side by side are all counted.
        """
        jobs = [Job(str(n), (sys.executable, "-c", f"exit({n} % 2)")) for n in range(4)]
        with redirect_stdout(io.StringIO()):
            self.assertEqual(runTogether(jobs).failed, 2)


class CoverageTests(SynchronousTestCase):
    """
    Coverage data that somebody was killed while writing.
    """

    def test_broken(self) -> None:
        """
        What cannot be combined is dropped, whatever is missing; the rest is combined.
        """
        folder = Path(self.mktemp()).resolve()
        folder.mkdir()
        for name in ("whole", "torn", "tables"):
            data = CoverageData(str(folder / f"data.{name}"))
            data.add_arcs({f"/{name}.py": [(1, 2)]})
            data.close()
        (folder / "data.empty").touch()
        os.truncate(folder / "data.torn", 10_000)
        with contextlib.closing(sqlite3.connect(folder / "data.tables")) as database:
            database.execute("DROP TABLE tracer")
        self.assertEqual(runtests.dropBrokenCoverage(folder), 2)
        combined = CoverageData(str(folder / "data"))
        combine_parallel_data(combined)
        self.assertEqual(combined.measured_files(), {"/whole.py"})


class PlanTests(SynchronousTestCase):
    """
    The plan leaves nothing out.
    """

    def test_everyModule(self) -> None:
        """
        A suite that is run module by module is run whole, the longest modules first.
        """
        names = [job.name for job in suiteByModule("tests.sim", longest=("test_weather",))]
        self.assertEqual(names[0], "tests.sim.test_weather")
        there = {f"tests.sim.{path.stem}" for path in (ROOT / "tests/sim").glob("test_*.py")}
        self.assertEqual((set(names), len(names)), (there, len(there)))

    def test_everySuite(self) -> None:
        """
        Every folder of tests is a suite that is run.
        """
        jobs = (*TOGETHER, *KERNEL)
        run = {job.name.split(".")[1] for job in jobs if job.result}
        there = {path.parent.name for path in (ROOT / "tests").glob("*/__init__.py")}
        self.assertEqual(run, there)

    def test_kernel(self) -> None:
        """
        Every module of the kernel suite is run once.
        """
        names = [job.name.rpartition(".")[2] for job in KERNEL]
        there = {path.stem for path in (ROOT / "tests/kernel").glob("test_*.py")}
        self.assertEqual((set(names), len(names)), (there, len(there)))


class ProgramTests(SynchronousTestCase):
    """
    C{runtests.py} ends with the one line that says it all.
    """

    def program(self, name: str) -> tuple[str, int]:
        """
        @return: the last line that a run of the tests called C{name} prints, and its status.
        """
        command = (sys.executable, ROOT / "scripts" / "runtests.py", name)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout.splitlines()[-1], done.returncode

    def test_lastLine(self) -> None:
        """
        Named tests are run as they are, and counted in the last line.
        """
        self.assertEqual(
            self.program("tests.unit.test_peerid.PeerIDTests.test_vector"),
            ("1 passed, 0 failed, 0 skipped", 0),
        )

    def test_failureIsTheStatus(self) -> None:
        """
        One failed test makes the exit status non-zero.
        """
        self.assertEqual(
            self.program("tests.unit.test_nosuchthing"), ("0 passed, 1 failed, 0 skipped", 1)
        )
