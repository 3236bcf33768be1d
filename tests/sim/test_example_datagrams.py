"""
C{examples/datagrams.py} on the simulated Internet: the same program as on the real one.
"""

from __future__ import annotations

import io
import json
import runpy
from argparse import ArgumentTypeError
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.testing import NAT, Host, Link
from tests.sim.neighborhood import LINK_PORT, NODE, STUN_PORT, Neighborhood

PROGRAM = runpy.run_path(str(Path(__file__).resolve().parents[2] / "examples" / "datagrams.py"))
RENDEZVOUS = f"tcp:{NODE}:{LINK_PORT}"


class Program:
    """
    One run of the program.

    @ivar ended: fires when it is over.
    @ivar typed: the protocol that its standard input goes to, once it reads.
    """

    def __init__(self, host: Host, *arguments: str) -> None:
        self.typed: Any = None
        self._output, self._errors = io.StringIO(), io.StringIO()
        options = PROGRAM["parseOptions"](list(arguments))
        journal = PROGRAM["Journal"](self._output, self._errors)
        run: Any = PROGRAM["run"]
        self.ended: Deferred[None] = Deferred.fromCoroutine(
            run(host, options, journal, self._reads)
        )

    def _reads(self, protocol: Any) -> None:
        self.typed = protocol

    @property
    def printed(self) -> list[str]:
        """
        The lines of its standard output.
        """
        return self._output.getvalue().splitlines()

    @property
    def events(self) -> list[dict[str, Any]]:
        """
        What it wrote to its standard error.
        """
        return [json.loads(line) for line in self._errors.getvalue().splitlines()]

    def type(self, *lines: str) -> None:
        """
        Type lines.
        """
        for line in lines:
            self.typed.dataReceived(line.encode() + b"\n")

    def endInput(self) -> None:
        """
        End its standard input.
        """
        self.typed.connectionLost(Failure(ConnectionDone()))


class DatagramsExampleTests(SynchronousTestCase):
    """
    A program that waits and one that calls, each in a home of its own.
    """

    def setUp(self) -> None:
        """
        Make a node, and a program that waits.
        """
        self.world = Neighborhood(seed=41)
        self.internet = self.world.internet
        self.internet.showOnFailure(self)
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.homes = 0
        self.waiting = self.start("bob")
        self.until(lambda: bool(self.waiting.events))
        self.bob: str = self.waiting.events[0]["peer"]

    def start(self, name: str, *arguments: str, rendezvous: str = RENDEZVOUS) -> Program:
        """
        Start the program at home.
        """
        self.homes += 1
        link = Link(latency=0.02)
        router = self.internet.router(
            f"home-{name}", f"203.0.113.{self.homes}", nat=NAT(), link=link
        )
        key = str(self.folder / f"{name}.key")
        options = ("--rendezvous", rendezvous, "--identity", key, *arguments)
        return Program(router.host(name), *options)

    def until(self, happened: Callable[[], bool], timeout: float = 30.0) -> None:
        """
        Let time pass until something happened.
        """
        end = self.internet.seconds() + timeout
        while not happened():
            self.assertLess(self.internet.seconds(), end, "it did not happen")
            self.internet.advance(0.01)

    def called(self) -> Program:
        """
        @return: a program that has called the one that waits.
        """
        caller = self.start("alice", self.bob)
        self.until(lambda: caller.typed is not None)
        return caller

    def assertNothingLeft(self) -> None:
        """
        The program that waits is stopped as well, and no program has anything left to do.
        """
        self.waiting.ended.addErrback(lambda failure: failure.trap(CancelledError))
        self.waiting.ended.cancel()
        self.internet.advance(10.0)
        self.assertTrue(self.waiting.ended.called)
        hosts = [router.hosts for router in self.internet.routers.values()]
        for host in (host for each in hosts for host in each.values()):
            self.assertEqual(list(host.getDelayedCalls()), [])

    def test_echo(self) -> None:
        """
        Lines go as datagrams and come back; when they have ended so does the program.
        """
        caller = self.called()
        caller.type("hello", "w\u00f6rld")
        caller.endInput()
        self.internet.runUntil(caller.ended)
        self.assertEqual(caller.printed, ["hello", "w\u00f6rld"])
        ready, connected = caller.events
        self.assertEqual(ready["event"], "ready")
        self.assertEqual(connected["event"], "connected")
        self.assertEqual(connected["peer"], self.bob)
        self.assertTrue(connected["remote"].startswith("203.0.113.1:"), connected)
        self.assertTrue(connected["local"].startswith("192.168.1."), connected)
        self.assertGreater(connected["seconds"], 0.0)
        self.internet.advance(1.0)
        _, answered, lost = self.waiting.events
        self.assertEqual(answered["event"], "connected")
        self.assertEqual(answered["peer"], ready["peer"])
        self.assertEqual(lost["event"], "lost")
        self.assertNothingLeft()

    def test_noLines(self) -> None:
        """
        Without lines it connects and ends.
        """
        caller = self.called()
        caller.endInput()
        self.internet.runUntil(caller.ended, timeout=1.0)
        self.assertEqual(caller.printed, [])
        self.assertNothingLeft()

    def test_echoesThatNeverCome(self) -> None:
        """
        It does not wait for ever for echoes that were lost.
        """
        caller = self.called()
        self.internet.routers["home-bob"].link.cut()
        caller.type("hello")
        caller.endInput()
        self.internet.runUntil(caller.ended, timeout=3.0)
        self.assertEqual(caller.printed, [])
        self.internet.routers["home-bob"].link.restore()
        self.assertNothingLeft()

    def test_lost(self) -> None:
        """
        When the path dies the program says why, and ends with an error.
        """
        caller = self.called()
        self.waiting.ended.cancel()
        ended = self.assertRaises(SystemExit, self.internet.runUntil, caller.ended)
        self.assertEqual(ended.code, 1)
        lost = caller.events[-1]
        self.assertEqual(lost["event"], "lost")
        self.assertIn("the program stopped", lost["reason"])
        self.assertNothingLeft()

    def test_sameIdentity(self) -> None:
        """
        The identity file keeps the peer ID from one run to the next.
        """
        first = self.called()
        first.endInput()
        self.internet.runUntil(first.ended)
        other = Program(
            self.internet.host("elsewhere", "198.51.100.1"),
            *("--rendezvous", RENDEZVOUS, "--identity", str(self.folder / "alice.key")),
        )
        self.until(lambda: bool(other.events))
        self.assertEqual(other.events[0], first.events[0])
        other.ended.addErrback(lambda failure: failure.trap(CancelledError))
        other.ended.cancel()
        self.assertNothingLeft()

    def test_namedServer(self) -> None:
        """
        A STUN server may be named.
        """
        self.internet.name("stun.example", NODE)
        caller = self.start("alice", "--stun", f"stun.example:{STUN_PORT}", self.bob)
        self.until(lambda: caller.typed is not None)
        caller.endInput()
        self.internet.runUntil(caller.ended)
        self.assertNothingLeft()

    def failed(self, *arguments: str, rendezvous: str = RENDEZVOUS) -> str:
        """
        Start the program with arguments that cannot work.

        @return: the reason that it gives in its one event of failure.
        """
        program = self.start("alice", *arguments, rendezvous=rendezvous)
        ended = self.assertRaises(SystemExit, self.internet.runUntil, program.ended)
        self.assertEqual(ended.code, 1)
        self.assertEqual(program.events[-1]["event"], "failed")
        self.assertNothingLeft()
        reason: str = program.events[-1]["reason"]
        return reason

    def test_unknownPeer(self) -> None:
        """
        A peer that is not there.
        """
        self.assertIn("knows no peer", self.failed("a" * 51 + "q"))

    def test_wrongPeer(self) -> None:
        """
        What is no peer ID.
        """
        self.failed("bob")

    def test_wrongEndpoint(self) -> None:
        """
        What is no endpoint.
        """
        self.assertIn("write tcp:HOST:PORT", self.failed(rendezvous="nowhere"))

    def test_noNode(self) -> None:
        """
        A node that is not there.
        """
        self.assertIn("check the address", self.failed(rendezvous="tcp:192.0.2.99:8470"))

    def test_unknownNode(self) -> None:
        """
        A node whose name does not resolve.
        """
        reason = self.failed(rendezvous="tcp:node.example:8470")
        self.assertIn("node.example", reason)

    def test_silentServer(self) -> None:
        """
        A STUN server that does not answer.
        """
        reason = self.failed("--stun", "192.0.2.99:3478")
        self.assertIn("192.0.2.99:3478", reason)

    def test_unusableIdentity(self) -> None:
        """
        A file that is no identity.
        """
        (self.folder / "alice.key").write_bytes(b"")
        (self.folder / "alice.key").chmod(0o600)
        self.assertIn("is not an identity file", self.failed())

    def test_noSuchInterface(self) -> None:
        """
        A local address that this host does not have.
        """
        self.assertIn("cannot open UDP port", self.failed("--bind", "198.51.100.200"))


class ServerTests(SynchronousTestCase):
    """
    The option that names a STUN server.
    """

    def test_wrong(self) -> None:
        """
        What is no server is refused before anything begins.
        """
        for text in ("stun", "stun:", "stun:0", "stun:x", "stun:65536", ":3478"):
            self.assertRaises(ArgumentTypeError, PROGRAM["parseServer"], text)

    def test_right(self) -> None:
        """
        Names and addresses of both families are taken.
        """
        for text, host in (
            ("stun.example:3478", "stun.example"),
            ("[2001:db8::1]:9", "2001:db8::1"),
        ):
            self.assertEqual(PROGRAM["parseServer"](text)[0][0], host)
