"""
C{examples/punch.py} on loopback, as its documentation says.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

PROGRAM = Path(__file__).resolve().parents[2] / "examples" / "punch.py"
GREETING = re.compile(r"(\w+): 'hello from (\w+)', directly from 127\.0\.0\.1:\d+")


def start(*arguments: str) -> subprocess.Popen[str]:
    """
    Start the program.
    """
    return subprocess.Popen(
        (sys.executable, PROGRAM, *arguments),
        cwd=PROGRAM.parents[1],
        env={**os.environ, "COLUMNS": "100"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class PunchExampleTests(SynchronousTestCase):
    """
    The example does what it says, in as few lines as it says.
    """

    def test_bothHere(self) -> None:
        """
        Without options, two programs in one process greet each other over a path.
        """
        output, errors = start().communicate(timeout=60)
        self.assertEqual(errors, "")
        self.assertEqual(
            sorted(GREETING.findall(output)), [("caller", "listener"), ("listener", "caller")]
        )

    def test_refused(self) -> None:
        """
        When nobody waits at the other end of the signaling, one line says so.
        """
        program = start("--connect", "tcp:127.0.0.1:1", "--bind", "127.0.0.1")
        output, errors = program.communicate(timeout=60)
        self.assertEqual((program.returncode, output), (1, ""))
        self.assertEqual(len(errors.splitlines()), 1)
        self.assertIn("punch.py: Connection was refused", errors)

    def test_wrongServer(self) -> None:
        """
        What is no STUN server is refused at once.
        """
        wrong = ("stun", "stun:0", "stun:x", ":3478", "stun:70000")
        for program in [start("--stun", server) for server in wrong]:
            _, errors = program.communicate(timeout=60)
            self.assertEqual(program.returncode, 2)
            self.assertIn("is not HOST:PORT", errors)

    def test_twentyLines(self) -> None:
        """
        What an application needs has twenty lines, with their docstrings left out.
        """
        tree = ast.parse(PROGRAM.read_text("utf-8"))
        (application,) = (
            node
            for node in tree.body
            if isinstance(node, ast.ClassDef) and node.name == "Application"
        )
        for node in ast.walk(application):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                del node.body[0 : ast.get_docstring(node) is not None]
        code = [line for line in ast.unparse(application).splitlines() if line.strip()]
        self.assertLessEqual(len(code), 20, "\n".join(code))
