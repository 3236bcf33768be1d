"""
C{docs/punching.md} and C{docs/consent.md} show what there is: the code of the examples, what they
print, and the bytes on the wire.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.ice.signal import SIGNAL_LIMIT, Description, decodeSignal, encodeSignal

ROOT = Path(__file__).resolve().parents[2]


def blocks(page: str, language: str) -> list[str]:
    """
    @return: the fenced blocks of C{page} in that language.
    """
    text = (ROOT / "docs" / page).read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def withoutDocstrings(tree: ast.AST) -> str:
    """
    @return: the code of C{tree}, in one form.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            del node.body[0 : ast.get_docstring(node) is not None]
    return ast.unparse(tree)


class PunchingPageTests(SynchronousTestCase):
    """
    The page about punching.
    """

    def test_twentyLines(self) -> None:
        """
        The code on the page is the example's.
        """
        tree = ast.parse((ROOT / "examples" / "punch.py").read_text("utf-8"))
        (application,) = (
            node
            for node in tree.body
            if isinstance(node, ast.ClassDef) and node.name == "Application"
        )
        (shown,) = blocks("punching.md", "python")
        self.assertEqual(withoutDocstrings(ast.parse(shown)), withoutDocstrings(application))

    def test_offer(self) -> None:
        """
        The offer on the page is one, byte for byte, and says what the page says.
        """
        (block,) = blocks("punching.md", "hex")
        data = bytes.fromhex("".join(line.split("   ")[0] for line in block.splitlines()))
        signal = decodeSignal(data)
        self.assertEqual(encodeSignal(signal), data)
        assert isinstance(signal, Description)
        self.assertEqual(signal.fragment, b"fRaG+ent")
        self.assertEqual(signal.password, b"aPasswordOf24Characters/")
        addresses = [candidate.address for candidate in signal.candidates]
        self.assertEqual(addresses, [("192.168.1.2", 40000), ("203.0.113.7", 61234)])
        self.assertEqual(str(signal.behavior.filtering), "address-and-port-dependent")

    def test_longest(self) -> None:
        """
        The longest signal has as many bytes as the page says, and fits.
        """
        longest = 10 + 2 + 33 + 65 + 2 + 1 + 24 * 24 + 8
        page = (ROOT / "docs" / "punching.md").read_text("utf-8")
        self.assertIn(f"the longest real one has {longest}", page)
        self.assertLess(longest, SIGNAL_LIMIT)


class ConsentPageTests(SynchronousTestCase):
    """
    The page about consent.
    """

    def test_output(self) -> None:
        """
        The example prints what the page shows.
        """
        done = subprocess.run(
            (sys.executable, ROOT / "examples" / "consent.py"),
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn(done.stdout, blocks("consent.md", ""))
