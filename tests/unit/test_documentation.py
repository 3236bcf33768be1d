"""
The pages of the documentation: their links lead somewhere, and the index has them all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parents[2]

_FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_HEADING = re.compile(r"^#+ (?P<text>.*)$", re.MULTILINE)
_PATH = re.compile(r"`(?P<path>(?:examples|benchmarks|docs|scripts|tests)/[\w./-]+)`")


def pages() -> list[Path]:
    """
    @return: every page that is written by hand.
    """
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def prose(page: Path) -> str:
    """
    @return: C{page} without its blocks of code.
    """
    return _FENCED.sub("", page.read_text("utf-8"))


def anchors(page: Path) -> set[str]:
    """
    @return: the names that headings of C{page} can be linked to by.
    """
    found = set()
    for heading in _HEADING.finditer(prose(page)):
        kept = re.sub(r"[^\w\- ]", "", heading["text"].lower())
        found.add(kept.replace(" ", "-"))
    return found


def links(page: Path) -> Iterator[tuple[str, str]]:
    """
    @return: path and fragment of every link in C{page} that stays in this checkout.
    """
    for link in _LINK.finditer(_CODE.sub("", prose(page))):
        if "://" not in link["target"]:
            path, _, fragment = link["target"].partition("#")
            yield path, fragment


class PageTests(SynchronousTestCase):
    """
    Pages stay true to what is there.
    """

    def test_links(self) -> None:
        """
        Every link leads to a file or folder that exists, and to a heading that it has.
        """
        broken = []
        for page in pages():
            for path, fragment in links(page):
                target = page.parent / path if path else page
                if not target.exists() or (fragment and fragment not in anchors(target)):
                    broken.append(f"{page.relative_to(ROOT)}: {path}#{fragment}")
        self.assertEqual(broken, [])

    def test_paths(self) -> None:
        """
        Every file that is named in passing exists.
        """
        missing = [
            f"{page.relative_to(ROOT)}: {named['path']}"
            for page in pages()
            for named in _PATH.finditer(page.read_text("utf-8"))
            if not (ROOT / named["path"]).exists()
        ]
        self.assertEqual(missing, [])

    def test_index(self) -> None:
        """
        The index of the documentation names every page.
        """
        index = ROOT / "docs" / "README.md"
        listed = {(index.parent / path).resolve() for path, _ in links(index)}
        there = set((ROOT / "docs").rglob("*.md")) - {index}
        self.assertEqual({str(page) for page in there - listed}, set())

    def test_examples(self) -> None:
        """
        Every example is told of on some page.
        """
        told = "\n".join(page.read_text("utf-8") for page in pages())
        silent = [path.name for path in (ROOT / "examples").glob("*.py") if path.name not in told]
        self.assertEqual(silent, [])
