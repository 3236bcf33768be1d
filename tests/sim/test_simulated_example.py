"""
The example of the simulated Internet says what it promises.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "simulated_nat.py"


def run(*arguments: str) -> str:
    """
    @return: what the example prints.
    """
    command = (sys.executable, str(EXAMPLE), *arguments)
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


class ExampleTests(SynchronousTestCase):
    """
    C{examples/simulated_nat.py}.
    """

    def test_story(self) -> None:
        """
        The chat comes back after its router has rebooted, both peers hear each other, and nothing
        of that passes the server.
        """
        output = run()
        self.assertEqual(output.count("chat: connected"), 2)
        for name in ("alice", "bob"):
            self.assertIn(f"{name}: heard 'hello from", output)
        self.assertIn("0 packets of that passed the server", output)
        self.assertIn("translated", output)

    def test_repeatable(self) -> None:
        """
        A seed tells one story, another seed another one.
        """
        self.assertEqual(run("--seed", "8"), run("--seed", "8"))
        self.assertNotEqual(run("--seed", "8"), run("--seed", "9"))
