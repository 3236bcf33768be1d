"""
The example of C{docs/portmapping.md} does what that page says.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "map_port.py"


class ExampleTests(SynchronousTestCase):
    """
    The example.
    """

    def test_simulated(self) -> None:
        """
        A simulated router maps the port by PCP.
        """
        done = subprocess.run(
            (sys.executable, EXAMPLE),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(
            done.stdout.splitlines(),
            [
                "udp port 5000 is reached at 203.0.113.7:5000",
                "by pcp, for 60 minutes, renewed at half of that",
            ],
        )
