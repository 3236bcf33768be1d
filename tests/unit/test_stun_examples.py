"""
The examples of C{docs/stun.md} and C{docs/discovery.md} do what these pages say.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """
    Run an example to its end.
    """
    return subprocess.run(
        (sys.executable, EXAMPLES / program, *arguments),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


class STUNExampleTests(SynchronousTestCase):
    """
    The STUN examples.
    """

    def test_client(self) -> None:
        """
        The application's port is seen, and still the application's.
        """
        done = run("stun_client.py")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        seen, echo = done.stdout.splitlines()
        self.assertEqual(seen.rpartition(" ")[2], echo.rpartition(" ")[2])
        self.assertIn("still echoes", echo)

    def test_unknownServer(self) -> None:
        """
        A server that there is not is one line, and a status.
        """
        for program in ("stun_client.py", "nat_behavior.py"):
            done = run(program, "--server", "no such name")
            self.assertEqual(done.returncode, 1)
            self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
            self.assertIn("no such name", done.stderr)

    def test_behavior(self) -> None:
        """
        Nine kinds of NAT are told apart.
        """
        done = run("nat_behavior.py")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        lines = done.stdout.splitlines()
        self.assertEqual(len({line.partition("(")[0] for line in lines}), 9)
        self.assertNotIn("unknown", done.stdout)
