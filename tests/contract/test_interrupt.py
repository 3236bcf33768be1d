"""
C{examples/datagrams.py} as real processes: what happens when one of them is told to end.
"""

from __future__ import annotations

import json
import signal
import socket
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.contract.test_demonstration import LIMIT, ROOT, Program, freePort

TWISTD = "from twisted.scripts.twistd import run; run()"


class InterruptTests(SynchronousTestCase):
    """
    Ctrl-C and C{kill} end the program in good order.
    """

    def setUp(self) -> None:
        """
        Start a node on loopback.
        """
        self.port = freePort(socket.SOCK_STREAM)
        stun = freePort(socket.SOCK_DGRAM)
        node = Program(
            self,
            *(sys.executable, "-c", TWISTD, "--nodaemon", "--pidfile=", "natrendezvous"),
            *("--listen", f"tcp:{self.port}:interface=127.0.0.1", "--stun", f"127.0.0.1:{stun}"),
        )
        node.waitFor(node.output, f"127.0.0.1:{stun}")
        self.folder = Path(self.mktemp()).resolve()
        self.folder.mkdir()

    def start(self, name: str, *arguments: str) -> Program:
        """
        @return: the program, running.
        """
        return Program(
            self,
            *(sys.executable, ROOT / "examples" / "datagrams.py"),
            *("--rendezvous", f"tcp:127.0.0.1:{self.port}", "--bind", "127.0.0.1"),
            *("--identity", str(self.folder / f"{name}.key"), *arguments),
        )

    def ends(self, signalNumber: signal.Signals) -> None:
        """
        The program that was told to ends with status 0, and writes nothing but events; the other
        side hears of it at once.
        """
        waiting = self.start("bob")
        peer = waiting.event("ready")["peer"]
        calling = self.start("alice", peer)
        calling.event("connected")
        waiting.event("connected")
        waiting.process.send_signal(signalNumber)
        self.assertEqual(waiting.process.wait(LIMIT), 0)
        events = [json.loads(line) for line in waiting.errors.read_text("utf-8").splitlines()]
        self.assertEqual([each["event"] for each in events], ["ready", "connected", "lost"])
        self.assertIn("the program stopped", calling.event("lost")["reason"])
        self.assertEqual(calling.process.wait(LIMIT), 1)

    def test_interrupt(self) -> None:
        """
        Ctrl-C.
        """
        self.ends(signal.SIGINT)

    def test_terminate(self) -> None:
        """
        C{kill}.
        """
        self.ends(signal.SIGTERM)
