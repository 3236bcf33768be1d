"""
Programs that run in a namespace: started, read, and ended by their number.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.kernel.lab.namespace import Namespace

# How often the output of a program is looked at, in seconds.
_POLL = 0.02
# How long a program may take to end when asked to, in seconds; then it is killed.  When many end at
# the same time on busy cores, each writing down what of the code it has run, that takes a while.
_GRACE = 30.0
_ROOT = Path(__file__).parents[3]


class ProgramError(Exception):
    """
    A program ended, or said nothing, where the test waited for its word; the message holds all
    that it wrote.
    """


class Program:
    """
    One running program.  Its output goes to files, so that it never waits for its reader.
    """

    def __init__(self, namespace: Namespace, argv: list[str], directory: Path, name: str) -> None:
        """
        Start the program.

        @param directory: where its output goes.
        @param name: what to call it; unique in the directory.
        """
        self.name = name
        self._output = directory / f"{name}.out"
        self._errors = directory / f"{name}.err"
        environment = {**os.environ, "PYTHONPATH": str(_ROOT), "PYTHONUNBUFFERED": "1"}
        with self._output.open("wb") as output, self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                namespace.command(argv),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=errors,
                cwd=directory,
                env=environment,
            )

    @property
    def pid(self) -> int:
        """
        The number of the process.
        """
        return self._process.pid

    def write(self, text: str) -> None:
        """
        Write to the program's standard input.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode())
        self._process.stdin.flush()

    def closeInput(self) -> None:
        """
        End the program's standard input.
        """
        assert self._process.stdin is not None
        self._process.stdin.close()

    def lines(self) -> list[str]:
        """
        @return: the complete lines that the program wrote on standard output so far.
        """
        return self._output.read_text(errors="replace").split("\n")[:-1]

    def events(self) -> list[dict[str, Any]]:
        """
        @return: the JSON objects that the program wrote on standard error so far, one a line.
        """
        found = []
        for line in self._errors.read_text(errors="replace").split("\n")[:-1]:
            if line.startswith("{"):
                found.append(json.loads(line))
        return found

    def event(self, *kinds: str, timeout: float) -> dict[str, Any]:
        """
        Wait for the first event of one of these kinds.
        """

        def look() -> dict[str, Any] | None:
            return next((event for event in self.events() if event.get("event") in kinds), None)

        found: dict[str, Any] = self._waitFor(look, f"event {' or '.join(kinds)}", timeout)
        return found

    def line(self, start: str = "", *, timeout: float) -> str:
        """
        Wait for the first line on standard output that starts so.
        """

        def look() -> str | None:
            return next((line for line in self.lines() if line.startswith(start)), None)

        found: str = self._waitFor(look, f"a line {start!r}", timeout)
        return found

    def answers(self, start: str, *, timeout: float) -> bool:
        """
        @return: whether such a line comes in time.
        """
        try:
            self.line(start, timeout=timeout)
        except ProgramError:
            return False
        return True

    def errorLine(self, part: str, *, timeout: float) -> str:
        """
        Wait for the first line on standard output or standard error that contains C{part}.
        """

        def look() -> str | None:
            said = self._errors.read_text(errors="replace").split("\n")[:-1] + self.lines()
            return next((line for line in said if part in line), None)

        found: str = self._waitFor(look, f"a line with {part!r}", timeout)
        return found

    def result(self, timeout: float) -> Any:
        """
        Wait for the end of the program.

        @return: the JSON value that is its last line of standard output.
        """
        self.wait(timeout)
        lines = self.lines()
        if not lines:
            raise ProgramError(f"{self.name} printed nothing\n{self.transcript()}")
        return json.loads(lines[-1])

    def wait(self, timeout: float) -> int:
        """
        Wait for the end of the program.

        @return: its exit status.
        """
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            message = f"{self.name} still runs after {timeout} s\n{self.transcript()}"
            raise ProgramError(message) from None

    def transcript(self) -> str:
        """
        @return: all that the program wrote.
        """
        output = self._output.read_text(errors="replace")
        return f"--- {self.name} ---\n{output}{self._errors.read_text(errors='replace')}"

    def terminate(self) -> None:
        """
        Ask the program to end.
        """
        if self._process.poll() is None:
            self._process.terminate()

    def kill(self) -> None:
        """
        End the program without a word.
        """
        self._process.kill()

    def end(self) -> int:
        """
        Ask the program to end, and see to it.

        @return: its exit status.
        """
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_GRACE)
            except subprocess.TimeoutExpired:
                self._process.kill()
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        return self._process.wait(_GRACE)

    def _waitFor(self, look: Any, what: str, timeout: float) -> Any:
        deadline = time.monotonic() + timeout
        while True:
            # The order matters: what a program wrote before its end is there after it.
            ended = self._process.poll()
            found = look()
            if found is not None:
                return found
            if ended is not None or time.monotonic() > deadline:
                state = "runs" if ended is None else f"ended with {ended}"
                raise ProgramError(f"{self.name} {state}, without {what}\n{self.transcript()}")
            time.sleep(_POLL)
