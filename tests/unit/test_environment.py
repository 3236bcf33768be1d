"""
Tests for C{scripts/environment.sh}: what a machine that lacks something is told.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parents[2]


class EnvironmentTests(SynchronousTestCase):
    """
    The functions that C{scripts/node} and C{scripts/test} share, on machines made of fakes.
    """

    def setUp(self) -> None:
        """
        Make a folder that is the whole PATH.
        """
        self.bin = Path(self.mktemp()).resolve()
        self.bin.mkdir()

    def program(self, name: str, script: str) -> None:
        """
        Put a program on the PATH.
        """
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{script}\n", "utf-8")
        path.chmod(0o755)

    def bash(self, command: str) -> tuple[int, str, str]:
        """
        @return: status, output and complaints of C{command} with C{environment.sh} sourced.
        """
        done = subprocess.run(
            (shutil.which("bash") or "bash", "-euc", f". scripts/environment.sh; {command}"),
            cwd=ROOT,
            env={"PATH": str(self.bin)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def test_python(self) -> None:
        """
        The plain C{python3} is taken when it is new enough.
        """
        self.program("python3", f'exec "{sys.executable}" "$@"')
        self.assertEqual(self.bash("find_python"), (0, f"{self.bin}/python3\n", ""))

    def test_otherPython(self) -> None:
        """
        Where C{python3} is too old, a newer one beside it is taken.
        """
        self.program("python3", "exit 1")
        self.program("python3.12", f'exec "{sys.executable}" "$@"')
        self.assertEqual(self.bash("find_python"), (0, f"{self.bin}/python3.12\n", ""))

    def test_oldPython(self) -> None:
        """
        One line says which Python is needed and which there is.
        """
        self.program("python3", '[ "$1" = --version ] && echo "Python 3.9.2" || exit 1')
        self.assertEqual(
            self.bash("find_python"),
            (
                1,
                "",
                "p2ptwist needs Python 3.11 or later; the python3 found here is: Python 3.9.2\n",
            ),
        )

    def test_noPython(self) -> None:
        """
        One line says that there is none.
        """
        self.assertEqual(
            self.bash("find_python"),
            (1, "", "p2ptwist needs Python 3.11 or later; the python3 found here is: none\n"),
        )

    def test_notRoot(self) -> None:
        """
        Without the right to install, one line says what to install.
        """
        self.program("apt-get", "echo called; exit 1")
        self.program("id", "echo 1000")
        self.assertEqual(
            self.bash("apt_install nftables coturn"),
            (
                1,
                "",
                "Missing system packages; run: sudo apt-get install nftables coturn\n",
            ),
        )

    def test_notDebian(self) -> None:
        """
        Without apt, one line says what is missing.
        """
        self.assertEqual(
            self.bash("apt_install nftables"),
            (1, "", "Install these with your package manager: nftables\n"),
        )
