"""
The examples that use streams, as processes on loopback.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from tests.contract.test_cli import ProcessCase
from tests.contract.test_demonstration import LIMIT, Program

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PEER_ID = re.compile(r"\b[a-z2-7]{52}\b")


class StreamExampleTests(ProcessCase):
    """
    Each example serves, and is used by another run of it.
    """

    def example(self, name: str, who: str, *arguments: str) -> tuple[str, ...]:
        """
        @return: the command that runs an example.
        """
        key = ("--rendezvous", self.node, "--identity", self.key(who))
        return (sys.executable, str(EXAMPLES / name), *key, *arguments)

    def serve(self, name: str) -> tuple[Program, str]:
        """
        @return: an example that serves, and its peer ID, once it can be reached.
        """
        server = Program(self, *self.example(name, "bob"))
        (line,) = server.waitFor(server.output, "with: ")
        found = PEER_ID.search(line)
        assert found is not None
        self.bob = found[0]
        while self.asAlice("ping", "--count", "1").returncode:
            self.assertIsNone(server.process.poll())
        return server, found[0]

    def use(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """
        Run an example to its end.
        """
        command = self.example(name, "alice", *arguments)
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT)

    def test_ampCall(self) -> None:
        """
        The sum comes from the other program.
        """
        _, peerID = self.serve("amp_call.py")
        done = self.use("amp_call.py", peerID, "2", "3")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertTrue(done.stdout.startswith(f"5 from {peerID} (sum, "), done.stdout)

    def test_ampMistakes(self) -> None:
        """
        Numbers that are not there, and a peer that is not there, end with a message.
        """
        self.assertIn("two numbers are needed", self.use("amp_call.py", "a" * 52, "2").stderr)
        done = self.use("amp_call.py", "a" * 51 + "q", "2", "3")
        self.assertEqual(done.returncode, 1)
        self.assertIn("knows no peer", done.stderr)
        self.assertNotIn("Traceback", done.stderr)

    def test_webServer(self) -> None:
        """
        A page is fetched by peer ID, and the server knows who asked.
        """
        _, peerID = self.serve("web_server.py")
        done = self.use("web_server.py", peerID, "/news")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        alice = self.peerID("alice")
        self.assertEqual(done.stdout, f"hello {alice}, you asked for /news\n")

    def test_chat(self) -> None:
        """
        What one says the others hear, under the name of whoever said it.
        """
        keeper, peerID = self.serve("chat.py")
        alice = Program(self, *self.example("chat.py", "alice", peerID))
        name = self.peerID("alice")[:8]
        keeper.waitFor(keeper.output, f"{name} is here")
        carol = Program(self, *self.example("chat.py", "carol", peerID))
        alice.waitFor(alice.output, f"{self.peerID('carol')[:8]} is here")
        alice.input.write(b"hello all\n")
        alice.input.flush()
        for listener in (keeper, carol):
            self.assertIn(f"{name}: hello all", listener.waitFor(listener.output, "hello all"))
        keeper.input.write(b"welcome\n")
        keeper.input.flush()
        alice.waitFor(alice.output, "keeper: welcome")
        alice.input.close()
        self.assertEqual(alice.process.wait(LIMIT), 0)
        carol.waitFor(carol.output, f"{name} is gone")
        keeper.process.send_signal(signal.SIGINT)
        self.assertEqual(carol.process.wait(LIMIT), 0)
        for program in (keeper, alice, carol):
            self.assertNotIn("Traceback", program.errors.read_text())

    def test_myApp(self) -> None:
        """
        The tests of an application under simulated NATs pass, with trial and by themselves.
        """
        program = str(EXAMPLES / "test_my_app.py")
        folder = Path(self.mktemp()).resolve()
        folder.mkdir()
        for command in (
            (sys.executable, program),
            (sys.executable, "-m", "twisted.trial", program),
        ):
            done = subprocess.run(
                command,
                cwd=folder,
                env=dict(os.environ),
                capture_output=True,
                text=True,
                check=False,
                timeout=LIMIT,
            )
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
