"""
What the README promises: start the node, paste two lines, and two peers talk.
"""

from __future__ import annotations

import json
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 60.0  # seconds after which a program that says nothing has failed


def freePort(kind: socket.SocketKind) -> int:
    """
    @return: a port of 127.0.0.1 that nobody has at this moment.
    """
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Program:
    """
    A program that runs until its test is over, with what it printed so far in files.
    """

    def __init__(self, test: SynchronousTestCase, *command: str | Path) -> None:
        """
        @param command: what to run, from the top of the checkout.
        """
        base = Path(test.mktemp()).resolve()
        self.output = base.with_suffix(".out")
        self.errors = base.with_suffix(".err")
        with self.output.open("wb") as output, self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.PIPE, stdout=output, stderr=errors
            )
        assert self.process.stdin is not None
        self.input: IO[bytes] = self.process.stdin
        test.addCleanup(self.stop)

    def stop(self) -> int:
        """
        Interrupt the program, as Ctrl-C does.

        @return: its exit status.
        """
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        self.input.close()
        try:
            return self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def waitFor(self, file: Path, text: str) -> list[str]:
        """
        @return: the lines of C{file}, as soon as C{text} is in one of them.
        @raise AssertionError: when the program ends, or time does, without it.
        """
        deadline = time.monotonic() + LIMIT
        while True:
            ended = self.process.poll() is not None
            content = file.read_text("utf-8")
            if text in content and content.endswith("\n"):
                return content.splitlines()
            if ended or time.monotonic() > deadline:
                raise AssertionError(
                    f"no {text!r} from {self.process.args!r}:\n"
                    f"{self.output.read_text('utf-8')}\n{self.errors.read_text('utf-8')}"
                )
            time.sleep(0.02)

    def event(self, name: str) -> dict[str, str]:
        """
        @return: the first event called C{name} that the program tells of.
        """
        for line in self.waitFor(self.errors, f'"{name}"'):
            event: dict[str, str] = json.loads(line)
            if event["event"] == name:
                return event
        raise AssertionError(name)


class DemonstrationTests(SynchronousTestCase):
    """
    C{scripts/startnode.py}, which C{scripts/node} runs, and the lines that it prints.
    """

    def startNode(self) -> tuple[Program, list[list[str]]]:
        """
        @return: a running node on loopback, and the two commands that it says to paste.
        """
        node = Program(
            self,
            *(sys.executable, ROOT / "scripts" / "startnode.py"),
            *("--listen", f"tcp:{freePort(socket.SOCK_STREAM)}:interface=127.0.0.1"),
            *("--stun", f"127.0.0.1:{freePort(socket.SOCK_DGRAM)}"),
        )
        lines = node.waitFor(node.output, "Ctrl-C stops the node.")
        return node, [shlex.split(line) for line in lines if line.startswith(sys.executable)]

    def test_twoPeersTalk(self) -> None:
        """
        What is typed into the third terminal comes back from the second, on a direct path.
        """
        _, (waiting, calling) = self.startNode()
        first = Program(self, *waiting)
        self.assertEqual(first.event("ready")["peer"], calling[-1])
        second = Program(self, *calling)
        self.assertEqual(second.event("connected")["peer"], calling[-1])
        second.input.write(b"hello\n")
        second.input.flush()
        self.assertIn("hello", second.waitFor(second.output, "hello"))
        self.assertEqual(first.event("connected")["peer"], second.event("ready")["peer"])

    def shown(self, index: int, *arguments: str) -> list[str]:
        """
        Run one of the programs that the README shows, which has to end well.

        @return: the lines that it prints.
        """
        programs = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.S)
        folder = Path(self.mktemp()).resolve()
        folder.mkdir()
        command = (sys.executable, "-c", programs[index], *arguments)
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout.splitlines()

    def test_readmeStream(self) -> None:
        """
        The stream that the README shows says hello and is answered.
        """
        _, (waiting, _) = self.startNode()
        rendezvous = waiting[waiting.index("--rendezvous") + 1]
        server = Program(
            self,
            *(sys.executable, "-m", "p2ptwist.cli", "listen", "--echo", "--service", "echo"),
            *("--json", "--rendezvous", rendezvous, "--identity", Path(self.mktemp()).resolve()),
        )
        peer = server.event("ready")["peer"]
        (line,) = self.shown(0, peer, rendezvous)
        self.assertTrue(line.startswith("b'hello' from "), line)
        self.assertIn(peer, line)

    def test_readmeDatagrams(self) -> None:
        """
        The datagram that the README shows says hello and is answered.
        """
        _, (waiting, _) = self.startNode()
        peer = Program(self, *waiting).event("ready")["peer"]
        lines = self.shown(1, waiting[waiting.index("--rendezvous") + 1], peer)
        self.assertEqual(lines[0], "b'hello'")

    def test_stop(self) -> None:
        """
        Ctrl-C ends the node in good order, and its status says what ended it.
        """
        node, _ = self.startNode()
        self.assertEqual(node.stop(), -signal.SIGINT)
        self.assertIn("the node has stopped", node.output.read_text("utf-8"))

    def test_portInUse(self) -> None:
        """
        A port that somebody has ends the node with one line that names it, and no traceback.
        """
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            node = Program(
                self,
                *(sys.executable, ROOT / "scripts" / "startnode.py", "--no-stun"),
                *("--listen", f"tcp:{port}:interface=127.0.0.1"),
            )
            self.assertNotEqual(node.process.wait(LIMIT), 0)
        said = node.output.read_text("utf-8") + node.errors.read_text("utf-8")
        self.assertEqual(len([line for line in said.splitlines() if str(port) in line]), 1, said)
        self.assertNotIn("Traceback", said)
        self.assertNotIn("paste", said)
