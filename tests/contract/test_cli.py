"""
The command C{p2ptwist} and the C{p2p:} endpoints, as processes on loopback, with the real
C{twistd natrendezvous}.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.contract.test_demonstration import LIMIT, Program, freePort

COMMAND = (sys.executable, "-m", "p2ptwist.cli")
TWIST = (sys.executable, "-c", "from twisted.application.twist._twist import Twist; Twist.main()")
TWISTD = (sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile=")
LARGE = os.urandom(3_000_000)  # more than all buffers on the way


def restore(name: str, value: str | None) -> None:
    """
    Set a variable of the environment to what it was.
    """
    os.environ.pop(name, None)
    if value is not None:
        os.environ[name] = value


class ProcessCase(SynchronousTestCase):
    """
    A node, and identities in a folder.
    """

    def setUp(self) -> None:
        """
        Start the node, and have the commands find it.
        """
        self.folder = Path(self.mktemp()).resolve()
        self.folder.mkdir()
        port = freePort(socket.SOCK_STREAM)
        node = Program(
            self,
            *TWISTD,
            "natrendezvous",
            *("--listen", f"tcp:{port}:interface=127.0.0.1"),
            *("--stun", f"127.0.0.1:{freePort(socket.SOCK_DGRAM)}"),
        )
        self.node = f"tcp:127.0.0.1:{port}"
        self.setVariable("P2PTWIST_RENDEZVOUS", self.node)
        self.setVariable("COLUMNS", "100")
        node.waitFor(node.output, "STUN on")

    def setVariable(self, name: str, value: str | None) -> None:
        """
        Change the environment of what is started from now on, until the test is over.
        """
        former = os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
        self.addCleanup(restore, name, former)

    def key(self, name: str) -> str:
        """
        @return: somebody's identity file.
        """
        return str(self.folder / name)

    def peerID(self, name: str) -> str:
        """
        @return: somebody's peer ID.
        """
        return self.run_("id", "--identity", self.key(name)).stdout.decode().strip()

    def run_(self, *arguments: str, input: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """
        Run the command to its end.
        """
        return subprocess.run(
            (*COMMAND, *arguments), input=input, capture_output=True, check=False, timeout=LIMIT
        )

    def listen(self, *arguments: str) -> Program:
        """
        @return: Bob's C{listen --json}, ready.
        """
        key = ("--identity", self.key("bob"))
        program = Program(self, *COMMAND, "listen", "--json", *key, *arguments)
        self.bob = program.event("ready")["peer"]
        return program

    def asAlice(
        self, command: str, *arguments: str, input: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        """
        Run a command to its end that needs Bob.
        """
        key = ("--identity", self.key("alice"))
        return self.run_(command, "--json", *key, self.bob, *arguments, input=input)

    def events(self, errors: bytes) -> list[dict[str, Any]]:
        """
        @return: what a command said.
        """
        return [json.loads(line) for line in errors.decode().splitlines()]


class CommandTests(ProcessCase):
    """
    C{p2ptwist}.
    """

    def test_pipe(self) -> None:
        """
        A file goes through unchanged, the answer comes back, and both end with status 0.
        """
        listener = self.listen()
        listener.input.write(b"thank you\n")
        listener.input.close()
        done = self.asAlice("connect", input=LARGE)
        self.assertEqual((done.returncode, done.stdout), (0, b"thank you\n"), done.stderr)
        self.assertEqual(listener.process.wait(LIMIT), 0)
        self.assertEqual(listener.output.read_bytes(), LARGE)
        names = [event["event"] for event in self.events(done.stderr)]
        self.assertEqual((names[:3], names[-1]), (["ready", "connected", "path"], "lost"))

    def test_echo(self) -> None:
        """
        An echo sends everything back, and ends well by either signal.
        """
        for way in (signal.SIGINT, signal.SIGTERM):
            listener = self.listen("--echo", "--service", "mirror")
            done = self.asAlice("connect", "--service", "mirror", input=LARGE)
            self.assertEqual((done.returncode, done.stdout == LARGE), (0, True), done.stderr)
            listener.process.send_signal(way)
            self.assertEqual(listener.process.wait(LIMIT), 0)
            self.assertNotIn("Traceback", listener.errors.read_text())

    def test_halfClose(self) -> None:
        """
        When the other side has said all, whoever reads standard output sees the end of it, though
        this side may go on.
        """
        listener = self.listen()
        listener.input.write(b"that is all\n")
        listener.input.close()
        caller = subprocess.Popen(
            (*COMMAND, "connect", "--identity", self.key("alice"), self.bob),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert caller.stdin is not None and caller.stdout is not None
        with caller.stdin as stdin, caller.stdout as stdout:
            self.assertEqual(stdout.read(), b"that is all\n")
            self.assertIsNone(caller.poll())
            stdin.write(b"well then\n")
            stdin.close()
            self.assertEqual(caller.wait(LIMIT), 0)
        self.assertEqual(listener.process.wait(LIMIT), 0)
        self.assertEqual(listener.output.read_bytes(), b"well then\n")

    def test_interrupted(self) -> None:
        """
        A pipe that is interrupted says so, and ends with the status for that.
        """
        listener = self.listen()
        self.assertEqual(listener.stop(), 130)
        self.assertEqual(self.events(listener.errors.read_bytes())[-1]["reason"], "interrupted")

    def test_ping(self) -> None:
        """
        Each reply is an object on standard output.
        """
        self.listen("--echo")
        done = self.asAlice("ping", "--count", "2")
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        replies = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual([reply["sequence"] for reply in replies], [1, 2])
        for reply in replies:
            self.assertGreater(reply["rtt"], 0.0)
            self.assertIn(reply["kind"], ("direct", "relayed"))

    def test_identity(self) -> None:
        """
        The key is made at its first use, in a folder and a file that only the user can read, and
        is the same afterwards.
        """
        for name in ("P2PTWIST_RENDEZVOUS", "P2PTWIST_IDENTITY", "XDG_CONFIG_HOME"):
            self.setVariable(name, None)
        self.setVariable("HOME", str(self.folder))
        first = self.run_("id")
        self.assertEqual((first.returncode, first.stderr), (0, b""))
        self.assertRegex(first.stdout.decode(), r"^[a-z2-7]{52}\n$")
        key = self.folder / ".config" / "p2ptwist" / "identity"
        self.assertEqual(stat.S_IMODE(key.stat().st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(key.parent.stat().st_mode), 0o700)
        self.assertEqual(self.run_("id").stdout, first.stdout)
        again = json.loads(self.run_("id", "--json", "--identity", str(key)).stdout)
        self.assertEqual(again, {"peer": first.stdout.decode().strip()})
        self.setVariable("XDG_CONFIG_HOME", str(self.folder / "other"))
        self.assertNotEqual(self.run_("id").stdout, first.stdout)
        self.assertTrue((self.folder / "other" / "p2ptwist" / "identity").exists())

    def test_mistakes(self) -> None:
        """
        A mistake ends with a status and one line, without a traceback.
        """
        self.setVariable("P2PTWIST_IDENTITY", self.key("alice"))
        (self.folder / "file").write_bytes(b"")
        for arguments, status, complaint in (
            ((), 2, "COMMAND"),
            (("dance",), 2, "dance"),
            (("ping", "bob", "--count", "0"), 2, "is not a number of at least 1"),
            (("connect",), 2, "PEER-ID"),
            (("connect", "bob"), 1, "is not a peer ID"),
            (("listen", "--rendezvous", "tcp:127.0.0.1:1"), 1, "127.0.0.1:1"),
            (("id", "--identity", str(self.folder / "file" / "key")), 1, "cannot make the folder"),
            (("id", "--identity", ""), 2, "the name of the file is empty"),
        ):
            done = self.run_(*arguments)
            self.assertEqual((done.returncode, done.stdout), (status, b""), arguments)
            lines = done.stderr.decode().splitlines()
            self.assertEqual(len(lines), 1, lines)
            self.assertTrue(lines[0].startswith("p2ptwist"), lines)
            self.assertIn(complaint, lines[0])

    def test_version(self) -> None:
        """
        The version is the package's.
        """
        done = self.run_("--version")
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertEqual(done.stdout.decode(), f"p2ptwist {version('p2ptwist')}\n")

    def test_help(self) -> None:
        """
        The help teaches, and names every option.
        """
        text = self.run_("--help").stdout.decode()
        for word in ("listen", "connect", "ping", "id", "natrendezvous", "P2PTWIST_RENDEZVOUS"):
            self.assertIn(word, text)
        for command in ("id", "listen", "connect", "ping"):
            done = self.run_(command, "--help")
            self.assertEqual((done.returncode, done.stderr), (0, b""))
            for option in (b"--rendezvous", b"--identity", b"--json"):
                self.assertIn(option, done.stdout)

    def test_installed(self) -> None:
        """
        The package brings the command.
        """
        (script,) = entry_points(group="console_scripts", name="p2ptwist")
        self.assertEqual(script.value, "p2ptwist.cli.main:main")
        self.assertTrue(callable(script.load()))


class EndpointTests(ProcessCase):
    """
    Endpoint descriptions in programs of Twisted's.
    """

    def serve(self, *program: str) -> Program:
        """
        Serve a folder to peers, and fetch a page of it.

        @param program: what runs Twisted's web server.
        @return: the server, which still runs.
        """
        site = self.folder / "site"
        site.mkdir()
        (site / "hello.txt").write_text("hello from behind a NAT\n")
        self.bob = self.peerID("bob")
        listen = f"p2p:service=www:identity={self.key('bob')}"
        server = Program(self, *program, f"--listen={listen}", f"--path={site}")
        server.waitFor(server.output, f"p2p:{self.bob}:service=www is served")
        # It is served before the link is up: wait for that.
        while self.asAlice("ping", "--count", "1").returncode:
            self.assertIsNone(server.process.poll())
        key = ("--identity", self.key("alice"))
        browser = Program(self, *COMMAND, "connect", *key, "--service", "www", self.bob)
        browser.input.write(b"GET /hello.txt HTTP/1.0\r\n\r\n")
        browser.input.flush()
        self.assertEqual(browser.process.wait(LIMIT), 0)
        said = browser.output.read_text()
        self.assertRegex(said, r"^HTTP/1\.[01] 200 OK\n")
        self.assertTrue(said.endswith("\n\nhello from behind a NAT\n"), said)
        return server

    def test_twistd(self) -> None:
        """
        C{twistd web} serves a folder to peers, and stops in good order.
        """
        server = self.serve(*TWISTD, "web", "--notracebacks")
        self.assertEqual(server.stop(), -signal.SIGINT)
        self.assertNotIn("Traceback", server.output.read_text())

    def test_twist(self) -> None:
        """
        So does C{twist web}.
        """
        server = self.serve(*TWIST, "--log-format=text", "web")
        server.stop()
        self.assertNotIn("Traceback", server.output.read_text() + server.errors.read_text())
