"""
Every example and benchmark explains itself, whether or not another test runs it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parents[2]


def programs() -> list[Path]:
    """
    @return: the examples, and those of the benchmarks that are commands, which parse options; the
        others are run by these.
    """
    benchmarks = (ROOT / "benchmarks").glob("*.py")
    commands = [path for path in benchmarks if "ArgumentParser" in path.read_text("utf-8")]
    return sorted([*(ROOT / "examples").glob("*.py"), *commands])


def run(program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """
    Run a program, from the top of the checkout, as its documentation says.
    """
    return subprocess.run(
        (sys.executable, program, *arguments),
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "100"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


class ProgramTests(SynchronousTestCase):
    """
    The programs say how they are used, and refuse what they do not understand.
    """

    def test_there(self) -> None:
        """
        There are some.
        """
        self.assertIn(ROOT / "examples" / "datagrams.py", programs())

    def test_help(self) -> None:
        """
        C{--help} explains the program, on standard output, and does nothing else.
        """
        for program in programs():
            done = run(program, "--help")
            self.assertEqual((done.returncode, done.stderr), (0, ""), str(program))
            self.assertIn(program.name, done.stdout)

    def test_unknownOption(self) -> None:
        """
        An option that there is not ends the program with a message, and no traceback.
        """
        for program in programs():
            done = run(program, "--no-such-option")
            self.assertNotEqual(done.returncode, 0, str(program))
            self.assertIn("usage:", done.stderr.lower(), str(program))
            self.assertNotIn("Traceback", done.stderr, str(program))
