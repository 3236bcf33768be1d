"""
The command C{p2ptwist} on the simulated Internet: all but the process around it.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.cli.commands import INTERRUPTED, run
from p2ptwist.cli.journal import Journal
from p2ptwist.cli.options import parseOptions
from p2ptwist.peer.identity import generateIdentity, loadOrCreateIdentity
from p2ptwist.testing import NAT, Filtering, Host, Link, Mapping
from tests.sim.neighborhood import LINK_PORT, NODE, Neighborhood

RENDEZVOUS = f"tcp:{NODE}:{LINK_PORT}"
LARGE = bytes(range(256)) * 8192  # 2 MiB: more than all buffers on the way


class Terminal:
    """
    Standard input and output, which a test types into and reads.

    @ivar protocol: what they are joined to.
    @ivar output: what was written.
    @ivar paused: whether standard input is not to be read for now.
    @ivar writable: whether standard output takes anything.
    """

    def __init__(self, host: Host) -> None:
        self.protocol: Any = None
        self.output = b""
        self.paused = False
        self.writable = True
        self.closed = False
        self._host = host
        self._waiting = b""
        self._ending: Callable[[], object] | None = None
        self._producer: Any = None

    def attach(self, protocol: Any) -> Terminal:
        """
        Join a protocol.
        """
        self.protocol = protocol
        protocol.makeConnection(self)
        return self

    # The transport

    def write(self, data: bytes) -> None:
        """
        Write, unless nobody reads.
        """
        self._waiting += data
        self.flush()
        if len(self._waiting) > 65536 and self._producer is not None:
            self._producer.pauseProducing()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        Pace the stream.
        """
        assert streaming
        self._producer = producer

    def unregisterProducer(self) -> None:
        """
        Pace nobody.
        """
        self._producer = None

    def pauseProducing(self) -> None:
        """
        Stop reading.
        """
        self.paused = True

    def resumeProducing(self) -> None:
        """
        Read on.
        """
        self.paused = False

    def loseWriteConnection(self) -> None:
        """
        Close standard output when all is written.
        """
        self._ending = self.protocol.writeConnectionLost
        self.flush()

    def loseConnection(self) -> None:
        """
        Close both when all is written.
        """
        self._ending = lambda: self.protocol.connectionLost(Failure(ConnectionDone()))
        self.flush()

    def closeOutput(self) -> None:
        """
        Whoever reads standard output sees its end.
        """
        self.closed = True

    # The test

    def flush(self) -> None:
        """
        Write what waits.
        """
        if not self.writable:
            return
        self.output += self._waiting
        self._waiting = b""
        ending, self._ending = self._ending, None
        if ending is not None:
            self._host.callLater(0.0, ending)
        if self._producer is not None:
            self._producer.resumeProducing()

    def type(self, data: bytes) -> None:
        """
        Have something on standard input.
        """
        self.protocol.dataReceived(data)

    def endInput(self) -> None:
        """
        End standard input.
        """
        self.protocol.readConnectionLost()


class Program:
    """
    One run of the command.

    @ivar ended: fires with its exit status.
    """

    def __init__(self, host: Host, *arguments: str) -> None:
        self.terminal = Terminal(host)
        self._output, self._errors = io.StringIO(), io.StringIO()
        options = parseOptions(arguments)
        self._isJSON = options.json
        journal = Journal("p2ptwist", self._output, self._errors, asJSON=options.json)
        running = run(host, options, journal, self.terminal.attach)
        self.running: Deferred[None] = Deferred.fromCoroutine(running)
        self.status: int | None = None
        self.running.addCallbacks(lambda _: self._end(0), self._failed)

    def _failed(self, failure: Failure) -> None:
        failure.trap(SystemExit)
        self._end(failure.value.code)  # type: ignore[union-attr]

    def _end(self, status: int) -> None:
        self.status = status

    @property
    def printed(self) -> list[str]:
        """
        The lines of its standard output.
        """
        return self._output.getvalue().splitlines()

    @property
    def said(self) -> list[str]:
        """
        The lines of its standard error.
        """
        return self._errors.getvalue().splitlines()

    @property
    def events(self) -> list[dict[str, Any]]:
        """
        The same, as JSON.
        """
        return [json.loads(line) for line in self.said]

    def named(self, name: str) -> list[dict[str, Any]]:
        """
        @return: the events of that name.
        """
        return [event for event in self.events if event["event"] == name]


class CommandCase(SynchronousTestCase):
    """
    Homes with programs in them.
    """

    def setUp(self) -> None:
        """
        Make a node.
        """
        self.world = Neighborhood(seed=29)
        self.internet = self.world.internet
        self.internet.showOnFailure(self)
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.patch(os, "environ", {"P2PTWIST_RENDEZVOUS": RENDEZVOUS})
        self.nat = NAT()
        self.hosts: list[Host] = []
        self.programs: list[Program] = []
        self.addCleanup(self.nothingLeft)

    def key(self, name: str) -> str:
        """
        @return: somebody's identity file.
        """
        return str(self.folder / f"{name}.key")

    def peerID(self, name: str) -> str:
        """
        @return: somebody's peer ID.
        """
        return loadOrCreateIdentity(self.key(name)).peerID

    def start(self, name: str, command: str, *arguments: str) -> Program:
        """
        Start the command in a home of its own.
        """
        number = len(self.hosts) + 1
        router = self.internet.router(
            f"home-{number}", f"203.0.113.{number}", nat=self.nat, link=Link(latency=0.02)
        )
        self.hosts.append(router.host(f"{name}-{number}"))
        key = self.key(name)
        self.programs.append(Program(self.hosts[-1], command, "--identity", key, *arguments))
        return self.programs[-1]

    def until(self, happened: Callable[[], object], timeout: float = 30.0) -> None:
        """
        Let time pass until something happened.
        """
        end = self.internet.seconds() + timeout
        while not happened():
            self.assertLess(self.internet.seconds(), end, "it did not happen")
            self.internet.advance(0.01)

    def listening(self, *arguments: str) -> Program:
        """
        @return: Bob's C{listen}, ready.
        """
        program = self.start("bob", "listen", "--json", *arguments)
        self.until(lambda: program.named("ready"))
        return program

    def ended(self, program: Program) -> int:
        """
        @return: the exit status of a program.
        """
        self.until(lambda: program.status is not None, timeout=100.0)
        assert program.status is not None
        return program.status

    def stop(self, *programs: Program) -> None:
        """
        Interrupt programs.
        """
        for program in programs:
            program.running.cancel()
        self.internet.advance(5.0)

    def nothingLeft(self) -> None:
        """
        Interrupt what still runs, and see that nothing is left.
        """
        self.stop(*(program for program in self.programs if program.status is None))
        self.internet.advance(30.0)
        for host in self.hosts:
            self.assertEqual(list(host.getDelayedCalls()), [], host.name)

    def connected(self, *arguments: str) -> tuple[Program, Program]:
        """
        @return: C{listen} and C{connect}, joined, both with C{--json}.
        """
        listener = self.listening(*arguments)
        caller = self.start("alice", "connect", "--json", self.peerID("bob"))
        self.until(lambda: caller.named("connected"))
        if not arguments:
            self.until(lambda: listener.terminal.protocol)
        return listener, caller


class PipeTests(CommandCase):
    """
    C{listen} and C{connect}: a pipe between two machines.
    """

    def test_bothWays(self) -> None:
        """
        What is typed on one side comes out on the other, each direction ends on its own, and
        both commands end well when both have.
        """
        listener, caller = self.connected()
        caller.terminal.type(LARGE)
        caller.terminal.endInput()
        self.until(lambda: listener.terminal.closed)
        self.assertEqual(listener.terminal.output, LARGE)
        self.assertIsNone(caller.status)
        listener.terminal.type(b"thanks\n")
        self.internet.advance(1.0)
        self.assertEqual(caller.terminal.output, b"thanks\n")
        listener.terminal.endInput()
        self.assertEqual((self.ended(caller), self.ended(listener)), (0, 0))

    def test_events(self) -> None:
        """
        With C{--json} both say what happens in the agreed words.
        """
        listener, caller = self.connected()
        self.internet.advance(3.0)
        caller.terminal.endInput()
        listener.terminal.endInput()
        self.ended(caller)
        self.ended(listener)
        alice, bob = self.peerID("alice"), self.peerID("bob")
        ready, connected, relayed, direct, lost = caller.events
        self.assertEqual(ready, {"event": "ready", "peer": alice})
        self.assertEqual((connected["event"], connected["peer"]), ("connected", bob))
        self.assertEqual(connected["service"], "pipe")
        self.assertGreater(connected["seconds"], 0.1)
        self.assertLess(abs(relayed.pop("rtt") - 0.1), 0.02)
        self.assertEqual(
            relayed,
            {
                "event": "path",
                "peer": bob,
                "kind": "relayed",
                "transport": "tcp",
                "remote": None,
            },
        )
        self.assertEqual((direct["kind"], direct["transport"]), ("direct", "udp"))
        self.assertTrue(direct["remote"].startswith("203.0.113.1:"), direct)
        self.assertLess(abs(direct["rtt"] - 0.08), 0.01)
        self.assertEqual((lost["event"], lost["peer"]), ("lost", bob))
        names = [event["event"] for event in listener.events]
        self.assertEqual(names, ["ready", "connected", "path", "path", "lost"])
        self.assertEqual(listener.events[1]["peer"], alice)

    def test_words(self) -> None:
        """
        Without C{--json} they say it in words.
        """
        listener = self.start("bob", "listen", "--service", "s")
        self.until(lambda: listener.said)
        self.assertIn(f"p2ptwist connect {self.peerID('bob')} --service s", listener.said[0])
        caller = self.start("alice", "connect", "--service", "s", self.peerID("bob"))
        self.until(lambda: len(caller.said) == 4)
        self.assertIn("connecting as", caller.said[0])
        self.assertIn("connected with", caller.said[1])
        self.assertIn("relayed", caller.said[2])
        self.assertIn("direct, udp 203.0.113.1:", caller.said[3])
        caller.terminal.endInput()
        listener.terminal.endInput()
        self.assertEqual(self.ended(caller), 0)

    def test_slowReader(self) -> None:
        """
        Who does not read stops whoever sends, and loses nothing.
        """
        listener, caller = self.connected()
        listener.terminal.writable = False
        sent = 0
        while not caller.terminal.paused and sent < 64:
            caller.terminal.type(LARGE[:65536])
            sent += 1
            self.internet.advance(0.1)
        self.assertLess(sent, 64)
        self.internet.advance(10.0)
        self.assertTrue(caller.terminal.paused)
        caller.terminal.endInput()
        for _ in range(200):
            listener.terminal.writable = True
            listener.terminal.flush()
            listener.terminal.writable = False
            self.internet.advance(0.1)
        self.assertEqual(listener.terminal.output, LARGE[:65536] * sent)
        listener.terminal.writable = True
        listener.terminal.endInput()
        self.assertEqual((self.ended(caller), self.ended(listener)), (0, 0))

    def test_lastBytes(self) -> None:
        """
        Standard output is written to its end before the command is over.
        """
        listener, caller = self.connected()
        listener.terminal.endInput()
        listener.terminal.writable = False
        caller.terminal.type(LARGE[:120_000])
        caller.terminal.endInput()
        self.assertEqual(self.ended(caller), 0)
        self.internet.advance(5.0)
        self.assertIsNone(listener.status)
        listener.terminal.writable = True
        listener.terminal.flush()
        self.assertEqual(self.ended(listener), 0)
        self.assertEqual(listener.terminal.output, LARGE[:120_000])

    def test_lastEnd(self) -> None:
        """
        The end of standard input arrives also when it is all that was left to send.
        """
        listener, caller = self.connected()
        listener.terminal.endInput()
        caller.terminal.type(b"hello")
        self.internet.advance(5.0)
        caller.terminal.endInput()
        self.assertEqual((self.ended(caller), self.ended(listener)), (0, 0))
        self.assertEqual(listener.terminal.output, b"hello")

    def test_brokenPipe(self) -> None:
        """
        When nobody reads standard output any more the stream is ended, and so are both commands,
        with a reason.
        """
        listener, caller = self.connected()
        listener.terminal.protocol.writeConnectionLost()
        self.assertEqual((self.ended(listener), self.ended(caller)), (1, 1))
        self.assertIn("nobody reads", listener.events[-1]["reason"])
        self.assertEqual(caller.events[-1]["event"], "lost")

    def test_noTerminal(self) -> None:
        """
        Standard input and output that cannot be used end the command, with a reason.
        """
        self.listening()

        def closed(protocol: object) -> None:
            raise OSError("they are closed")

        self.patch(Terminal, "attach", lambda *_: closed(None))
        caller = self.start("alice", "connect", "--json", self.peerID("bob"))
        self.assertEqual(self.ended(caller), 1)
        self.assertIn("they are closed", caller.events[-1]["reason"])
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    def test_otherSideStops(self) -> None:
        """
        When the other side wants no more, what it said is written to its end, and that is no
        error.
        """
        listener, caller = self.connected()
        listener.terminal.type(b"good night\n")
        caller.terminal.writable = False
        listener.terminal.protocol._joint.transport.loseConnection()
        self.assertEqual(self.ended(listener), 0)
        self.internet.advance(5.0)
        self.assertEqual((caller.status, caller.terminal.paused), (None, True))
        caller.terminal.writable = True
        caller.terminal.flush()
        self.assertEqual((self.ended(caller), caller.terminal.output), (0, b"good night\n"))

    def test_onlyOne(self) -> None:
        """
        A second caller is refused while the first talks.
        """
        _, caller = self.connected()
        other = self.start("carol", "connect", "--json", self.peerID("bob"))
        self.assertEqual(self.ended(other), 1)
        self.assertIn("no service 'pipe'", other.events[-1]["reason"])
        self.assertIsNone(caller.status)

    def test_interrupted(self) -> None:
        """
        Ctrl-C ends a pipe with the status of a program that was interrupted; the other side
        hears of it.
        """
        listener, caller = self.connected()
        self.stop(caller)
        self.assertEqual((caller.status, listener.status), (INTERRUPTED, 1))
        self.assertEqual(caller.events[-1], {"event": "failed", "reason": "interrupted"})
        self.assertEqual(listener.events[-1]["event"], "lost")
        self.assertIn("the program stopped", listener.events[-1]["reason"])

    def test_displaced(self) -> None:
        """
        Who listens is told why nobody comes any more: another program has its identity.
        """
        first = self.listening()
        self.listening()
        self.until(lambda: first.named("offline"))
        (offline,) = first.named("offline")
        self.assertIn("another program uses the same key", offline["reason"])
        self.assertIsNone(first.status)

    def test_notAllowed(self) -> None:
        """
        Who is not welcome is told so, in one line without repetition.
        """
        self.listening("--allow", self.peerID("carol"))
        bob = self.peerID("bob")
        caller = self.start("alice", "connect", "--json", bob)
        self.assertEqual(self.ended(caller), 1)
        (lost,) = caller.named("lost")
        self.assertTrue(lost["reason"].startswith("the other side ended it: "), lost)
        self.assertNotIn(bob, lost["reason"])

    def test_allowed(self) -> None:
        """
        With C{--allow} only those connect that were named.
        """
        self.listening("--allow", self.peerID("alice"), "--echo")
        mallory = self.start("mallory", "connect", "--json", self.peerID("bob"))
        self.assertEqual(self.ended(mallory), 1)
        self.assertIn("does not take this one", mallory.events[-1]["reason"])
        caller = self.start("alice", "connect", "--json", self.peerID("bob"))
        self.until(lambda: caller.named("connected"))
        self.internet.advance(1.0)
        self.assertEqual(len(caller.named("lost")), 0)


class EchoTests(CommandCase):
    """
    C{listen --echo}.
    """

    def test_echo(self) -> None:
        """
        Everything comes back, to several at once; the listener goes on until it is interrupted,
        which is no error.
        """
        listener, caller = self.connected("--echo")
        other = self.start("carol", "connect", "--json", self.peerID("bob"))
        self.until(lambda: other.named("connected"))
        for program in (caller, other):
            program.terminal.type(LARGE)
            program.terminal.endInput()
        self.assertEqual((self.ended(caller), self.ended(other)), (0, 0))
        self.assertEqual(caller.terminal.output, LARGE)
        self.assertEqual(other.terminal.output, LARGE)
        self.until(lambda: len(listener.named("lost")) == 2)
        self.stop(listener)
        self.assertEqual(listener.status, 0)

    def test_killed(self) -> None:
        """
        When the listener is stopped the caller is told why.
        """
        listener, caller = self.connected("--echo")
        self.stop(listener)
        self.assertEqual(self.ended(caller), 1)
        self.assertIn("the program stopped", caller.events[-1]["reason"])


class PingTests(CommandCase):
    """
    C{ping}.
    """

    def test_json(self) -> None:
        """
        One object a reply, with the round trip, as the path moves from relayed to direct.
        """
        listener = self.listening()
        pinging = self.start("alice", "ping", "--json", "--count", "3", self.peerID("bob"))
        self.assertEqual(self.ended(pinging), 0)
        replies = [json.loads(line) for line in pinging.printed]
        self.assertEqual([reply["sequence"] for reply in replies], [1, 2, 3])
        self.assertEqual({reply["peer"] for reply in replies}, {self.peerID("bob")})
        self.assertEqual(replies[-1]["kind"], "direct")
        self.assertTrue(replies[-1]["remote"].startswith("203.0.113.1:"))
        self.assertLess(abs(replies[-1]["rtt"] - 0.08), 0.02)
        self.assertGreater(replies[0]["rtt"], replies[-1]["rtt"])
        self.assertEqual(pinging.said, [])
        self.stop(listener)
        self.assertEqual(listener.status, INTERRUPTED)

    def test_words(self) -> None:
        """
        A line a reply, until it is interrupted, which is no error.
        """
        self.listening("--echo")
        pinging = self.start("alice", "ping", self.peerID("bob"))
        self.until(lambda: len(pinging.printed) == 3)
        self.assertRegex(pinging.printed[0], r"^reply 1: \d+\.\d ms, (relayed|direct)")
        self.assertRegex(pinging.printed[2], r"^reply 3: \d+\.\d ms, direct, udp 203\.0\.113\.1:")
        self.stop(pinging)
        self.assertEqual(pinging.status, 0)

    def test_relayed(self) -> None:
        """
        Where nobody can punch through the replies stay relayed.
        """
        self.nat = NAT(
            mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT,
            filtering=Filtering.ADDRESS_AND_PORT_DEPENDENT,
        )
        self.listening("--echo")
        pinging = self.start("alice", "ping", "--json", "--count", "3", self.peerID("bob"))
        self.assertEqual(self.ended(pinging), 0)
        for reply in map(json.loads, pinging.printed):
            self.assertEqual((reply["kind"], reply["transport"]), ("relayed", "tcp"))
            self.assertIsNone(reply["remote"])
            self.assertLess(abs(reply["rtt"] - 0.1), 0.02)

    def test_interrupted(self) -> None:
        """
        A ping that is interrupted before the first reply has failed.
        """
        pinging = self.start("alice", "ping", self.peerID("bob"))
        self.stop(pinging)
        self.assertEqual(pinging.status, INTERRUPTED)

    def test_lost(self) -> None:
        """
        When the peer stops while it is pinged, that is an error with a reason.
        """
        listener = self.listening("--echo")
        pinging = self.start("alice", "ping", self.peerID("bob"))
        self.until(lambda: pinging.printed)
        self.stop(listener)
        self.assertEqual(pinging.status, 1)
        self.assertIn("the program stopped", pinging.said[-1])


class MistakeTests(CommandCase):
    """
    What cannot work ends with a status and one line.
    """

    def failed(self, command: str, *arguments: str) -> str:
        """
        @return: the one line that a command ends with.
        """
        program = self.start("alice", command, *arguments)
        self.assertEqual((self.ended(program), program.printed), (1, []))
        return program.said[-1]

    def test_mistakes(self) -> None:
        """
        Each says what is wrong.
        """
        bob = self.peerID("bob")
        own = self.peerID("alice")
        stranger = generateIdentity().peerID
        for words, complaint in (
            (("connect", "bob"), "'bob' is not a peer ID"),
            (("ping", "bob"), "'bob' is not a peer ID"),
            (("connect", own), "own peer ID"),
            (("ping", own), "own peer ID"),
            (("connect", "--service", "", bob), "a service's name has 1 to 64 bytes"),
            (("listen", "--service", ""), "a service's name has 1 to 64 bytes"),
            (("listen", "--service", "p2ptwist.ping"), "is what ping uses"),
            (("listen", "--allow", "bob"), "'bob' is not a peer ID"),
            (("connect", stranger), "knows no peer"),
            (("ping", stranger), "knows no peer"),
            (("listen", "--rendezvous", "nowhere"), "write tcp:HOST:PORT"),
            (("listen", "--rendezvous", "tcp:192.0.2.99:8470"), "check the address"),
        ):
            self.assertIn(complaint, self.failed(*words))

    def test_noNode(self) -> None:
        """
        Without a node the help says how to name one.
        """
        del os.environ["P2PTWIST_RENDEZVOUS"]
        self.assertIn("P2PTWIST_RENDEZVOUS", self.failed("listen"))

    def test_noIdentity(self) -> None:
        """
        A file that is no identity.
        """
        Path(self.key("alice")).write_bytes(b"")
        Path(self.key("alice")).chmod(0o600)
        self.assertIn("is not an identity file", self.failed("listen"))

    def test_json(self) -> None:
        """
        With C{--json} the line is an object.
        """
        failed = json.loads(self.failed("connect", "--json", "bob"))
        self.assertEqual(failed["event"], "failed")
