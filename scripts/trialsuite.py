"""
Run tests with trial, and count what really ran.

Each test ends in exactly one of three ways.  A test that was expected to fail and did counts as
skipped, because it shows nothing; one that was expected to fail and did not counts as failed, and
so does one that never ended.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any

from twisted.trial.reporter import TreeReporter
from twisted.trial.runner import TestLoader, TrialRunner


class Ending(IntEnum):
    """
    How a test ended; of several reports about one test the greatest counts.
    """

    PASSED = 0
    SKIPPED = 1
    UNFINISHED = 2
    FAILED = 3


@dataclass(frozen=True, slots=True)
class Tally:
    """
    What came of a number of tests.

    @ivar notes: a line for each test that did not pass.
    """

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    notes: list[str] = field(default_factory=list)

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.passed + other.passed,
            self.failed + other.failed,
            self.skipped + other.skipped,
            self.notes + other.notes,
        )

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


class CountingReporter(TreeReporter):
    """
    Trial's tree of results, which also remembers how each test ended.

    @ivar endings: by test ID.
    @ivar reasons: why a test was skipped, by test ID.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.endings: dict[str, Ending] = {}
        self.reasons: dict[str, str] = {}

    def _ended(self, test: Any, ending: Ending, reason: object = "") -> None:
        name = test.id()
        known = self.endings.get(name, Ending.PASSED)
        self.endings[name] = ending if known is Ending.UNFINISHED else max(known, ending)
        if reason:
            self.reasons[name] = str(reason)

    def startTest(self, test: Any) -> None:
        """
        Until something is reported, the test has not ended.
        """
        super().startTest(test)
        self.endings.setdefault(test.id(), Ending.UNFINISHED)

    def addSuccess(self, test: Any) -> None:
        """
        The test passed.
        """
        super().addSuccess(test)
        self._ended(test, Ending.PASSED)

    def addError(self, test: Any, error: Any) -> None:
        """
        The test, or something around it, raised.
        """
        super().addError(test, error)
        self._ended(test, Ending.FAILED)

    def addFailure(self, test: Any, fail: Any) -> None:
        """
        An assertion failed.
        """
        super().addFailure(test, fail)
        self._ended(test, Ending.FAILED)

    def addSkip(self, test: Any, reason: Any) -> None:
        """
        The test was not run.
        """
        super().addSkip(test, reason)
        self._ended(test, Ending.SKIPPED, reason)

    def addExpectedFailure(self, test: Any, error: Any, todo: Any = None) -> None:
        """
        The test failed as its author said it would.
        """
        super().addExpectedFailure(test, error, todo)
        self._ended(test, Ending.SKIPPED, f"expected to fail: {todo and todo.reason}")

    def addUnexpectedSuccess(self, test: Any, todo: Any = None) -> None:
        """
        The test's author is wrong about it.
        """
        super().addUnexpectedSuccess(test, todo)
        self._ended(test, Ending.FAILED)

    def tally(self) -> Tally:
        """
        @return: how many tests ended in which way.
        """
        counts = Counter(self.endings.values())
        return Tally(
            passed=counts[Ending.PASSED],
            failed=counts[Ending.FAILED] + counts[Ending.UNFINISHED],
            skipped=counts[Ending.SKIPPED],
            notes=[
                f"{ending.name.lower()}: {name} {self.reasons.get(name, '')}".rstrip()
                for name, ending in self.endings.items()
                if ending is not Ending.PASSED
            ],
        )


def runSuite(names: Iterable[str], folder: Path) -> Tally:
    """
    Run the tests called C{names} with the output of trial.

    @param folder: where trial works and writes its log; emptied first.
    """
    reporters: list[CountingReporter] = []

    def makeReporter(*args: Any) -> CountingReporter:
        reporters.append(CountingReporter(*args))
        return reporters[0]

    suite = TestLoader().loadByNames(list(names), recurse=True)
    TrialRunner(makeReporter, workingDirectory=str(folder)).run(suite)
    return reporters[0].tally()


def main(arguments: list[str]) -> int:
    """
    C{trialsuite.py RESULT FOLDER NAME...}: write the tally to the file C{RESULT} as JSON.

    @return: the exit status: 0 when nothing failed.
    """
    result, folder, *names = arguments
    # Made absolute now: tests run in another directory.
    resultPath = Path(result).resolve()
    tally = runSuite(names, Path(folder).resolve())
    resultPath.write_text(json.dumps(asdict(tally)), "utf-8")
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    sys.exit(main(sys.argv[1:]))
