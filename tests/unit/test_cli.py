"""
Parts of the command C{p2ptwist} that need no Internet.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

from twisted.internet.error import ConnectionAborted
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.cli.journal import Journal
from p2ptwist.cli.options import DEFAULT_SERVICE, parseOptions
from p2ptwist.cli.streams import Pinger
from p2ptwist.compose import identityOf, identityPath, mapsPorts, rendezvousNodes
from p2ptwist.core.errors import LocalUsageError
from p2ptwist.errors import IdentityUnusable


class OptionsTests(SynchronousTestCase):
    """
    The command line.
    """

    def test_defaults(self) -> None:
        """
        What is not said.
        """
        options = parseOptions(["listen"])
        self.assertEqual((options.command, options.service), ("listen", DEFAULT_SERVICE))
        self.assertEqual((options.rendezvous, options.allow), ([], []))
        self.assertEqual((options.identity, options.echo, options.json), (None, False, False))
        self.assertIsNone(parseOptions(["ping", "x"]).count)

    def test_repeated(self) -> None:
        """
        Nodes and guests may be several.
        """
        words = ["listen", "--allow", "a", "--allow", "b", "--rendezvous", "c", "--rendezvous", "d"]
        options = parseOptions(words)
        self.assertEqual((options.allow, options.rendezvous), (["a", "b"], ["c", "d"]))

    def test_doctor(self) -> None:
        """
        STUN servers have the standard's port unless they say another; IPv6 ones have brackets.
        """
        options = parseOptions(["doctor"])
        self.assertEqual((options.peer, options.stun, options.lifetime), (None, [], False))
        for text, server in (
            ("stun.example", ("stun.example", 3478)),
            ("192.0.2.1:3479", ("192.0.2.1", 3479)),
            ("[2001:db8::1]", ("2001:db8::1", 3478)),
            ("[2001:db8::1]:3479", ("2001:db8::1", 3479)),
        ):
            self.assertEqual(parseOptions(["doctor", "x", "--stun", text]).stun, [server])
        self.patch(sys, "stderr", io.StringIO())
        for text in ("stun.example:0", "stun.example:x", ":3478", "stun.example:65536"):
            with self.assertRaises(SystemExit):
                parseOptions(["doctor", "--stun", text])


class SettingsTests(SynchronousTestCase):
    """
    What is taken from the environment.
    """

    def test_portMapping(self) -> None:
        """
        Routers are asked unless the environment says not to; anything else is a mistake.
        """
        said = [mapsPorts({"P2PTWIST_PORT_MAPPING": word}) for word in ("", "on", "off")]
        self.assertEqual([mapsPorts({}), *said], [True, True, True, False])
        self.assertRaises(LocalUsageError, mapsPorts, {"P2PTWIST_PORT_MAPPING": "no"})

    def test_nodes(self) -> None:
        """
        What was named comes before the environment; each node counts once, in its order.
        """
        environment = {"P2PTWIST_RENDEZVOUS": "tcp:a:1, tcp:b:2 tcp:a:1"}
        self.assertEqual(rendezvousNodes([], environment), ["tcp:a:1", "tcp:b:2"])
        self.assertEqual(rendezvousNodes(["tcp:c:3,tcp:d:4"], environment), ["tcp:c:3", "tcp:d:4"])
        for nothing in ({}, {"P2PTWIST_RENDEZVOUS": ""}, {"P2PTWIST_RENDEZVOUS": " , "}):
            self.assertRaises(LocalUsageError, rendezvousNodes, [], nothing)

    def test_identityPath(self) -> None:
        """
        What was named comes first, then the variable, then the user's configuration folder.
        """
        environment = {"P2PTWIST_IDENTITY": "~/second"}
        self.assertEqual(identityPath("first", environment), Path("first"))
        self.assertEqual(identityPath(None, environment), Path.home() / "second")
        folder = Path.home() / ".config"
        for text, base in (("", folder), ("relative", folder), ("/etc", Path("/etc"))):
            found = identityPath(None, {"XDG_CONFIG_HOME": text})
            self.assertEqual(found, base / "p2ptwist" / "identity")

    def test_noFolder(self) -> None:
        """
        A folder that cannot be made is told of.
        """
        file = self.mktemp()
        Path(file).write_bytes(b"")
        error = self.assertRaises(
            IdentityUnusable, identityOf, os.path.join(file, "sub", "key"), {}
        )
        self.assertIn("cannot make the folder", str(error))


class JournalTests(SynchronousTestCase):
    """
    What is printed.
    """

    def test_controls(self) -> None:
        """
        Whatever others give as a reason, a terminal is not made to obey: neither its controls nor
        a second line come through.
        """
        hostile = "it said \x1b]0;owned\x07\x1b[2J\r\nready\x9b1m \u202e ö"
        for asJSON in (False, True):
            output, errors = io.StringIO(), io.StringIO()
            journal = Journal("p2ptwist", output, errors, asJSON=asJSON)
            journal.lost("bob", hostile)
            journal.offline(hostile)
            journal.failed(hostile)
            journal.progress(hostile)
            journal.report([hostile, ""], {"verdict": hostile})
            for line in (output.getvalue() + errors.getvalue()).splitlines():
                self.assertTrue(line.isprintable(), repr(line))
            if asJSON:
                lines = errors.getvalue().splitlines() + output.getvalue().splitlines()
                read = [json.loads(line) for line in lines]
                self.assertEqual([each.get("reason", hostile) for each in read], [hostile] * 4)
            else:
                self.assertEqual(len(errors.getvalue().splitlines()), 4)
                self.assertIn("ö", errors.getvalue())

    def test_noRoom(self) -> None:
        """
        What cannot be printed is an error in one line; what cannot be told does no harm.
        """
        with open("/dev/full", "w") as output, open("/dev/full", "w") as errors:
            journal = Journal("p2ptwist", output, errors, asJSON=False)
            journal.lost("bob", "it ended")
            journal.progress("on it goes")
            refused = self.assertRaises(LocalUsageError, journal.identity, "bob")
            self.assertIn("standard output: No space", str(refused))
            for each in (output, errors):
                self.assertRaises(OSError, each.close)  # what is in its buffer is still not written

    def test_closed(self) -> None:
        """
        Standard streams that are closed are opened to nothing: else what a person is to read would
        come out among the data.
        """
        script = (
            "import os, sys\n"
            "from p2ptwist.cli.main import openStandard\n"
            "openStandard()\n"
            "print('data'); print('words', file=sys.stderr); sys.stdout.flush()\n"
            "sys.exit(os.open(os.devnull, os.O_RDONLY) <= 2)\n"
        )
        for closed, seen in (("0<&-", "data\n"), ("2>&-", "data\n"), ("1>&-", ""), ("2>&1", None)):
            command = ["sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, script]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(done.stdout, "data\nwords\n" if seen is None else seen)


class PingerTests(SynchronousTestCase):
    """
    The side that pings.
    """

    def setUp(self) -> None:
        """
        Ping.
        """
        self.clock = Clock()
        self.replies: list[tuple[int, float]] = []
        self.transport = StringTransport()

    def pinger(self, count: int | None) -> Pinger:
        """
        @return: a pinger that has sent its first ping.
        """
        pinger = Pinger(self.clock, count, lambda *reply: self.replies.append(reply))
        pinger.makeConnection(self.transport)
        return pinger

    def test_pieces(self) -> None:
        """
        A reply counts when all of it has come; the next ping leaves a second after the last.
        """
        pinger = self.pinger(2)
        first = self.transport.value()
        self.clock.advance(0.25)
        pinger.dataReceived(first[:3])
        self.assertEqual(self.replies, [])
        pinger.dataReceived(first[3:])
        self.assertEqual(self.replies, [(1, 0.25)])
        self.assertEqual(self.transport.value(), first)
        self.clock.advance(0.75)
        second = self.transport.value()[len(first) :]
        self.assertNotEqual(second, first)
        self.clock.advance(1.5)
        pinger.dataReceived(second)
        self.assertEqual(self.replies[1:], [(2, 1.5)])
        self.successResultOf(pinger.done)
        self.assertTrue(self.transport.disconnecting)
        pinger.connectionLost()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_untold(self) -> None:
        """
        When whoever is told of replies fails, the pings end with that.
        """
        pinger = Pinger(self.clock, None, lambda *reply: 1 / 0)
        pinger.makeConnection(self.transport)
        pinger.dataReceived(self.transport.value())
        self.failureResultOf(pinger.done, ZeroDivisionError)
        self.assertTrue(self.transport.disconnected)
        pinger.connectionLost(Failure(ConnectionAborted()))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_late(self) -> None:
        """
        After a reply that took long the next ping leaves at once.
        """
        pinger = self.pinger(None)
        first = self.transport.value()
        self.clock.advance(5.0)
        pinger.dataReceived(first)
        self.clock.advance(0.0)
        self.assertEqual(len(self.transport.value()), 2 * len(first))

    def test_liar(self) -> None:
        """
        A reply that is none, or more than was asked for, ends the connection.
        """
        for answer in (b"\xff", b"\0" * 7 + b"\1\0"):
            pinger = self.pinger(None)
            self.transport.disconnected = False
            pinger.dataReceived(answer)
            self.assertTrue(self.transport.disconnected)
            pinger.connectionLost(Failure(ConnectionAborted()))
            self.failureResultOf(pinger.done, ConnectionAborted)
        self.assertEqual((self.replies, self.clock.getDelayedCalls()), ([], []))

    def test_lost(self) -> None:
        """
        A connection that is lost between two pings leaves nothing behind.
        """
        pinger = self.pinger(None)
        pinger.dataReceived(self.transport.value())
        pinger.connectionLost(Failure(ConnectionAborted()))
        self.failureResultOf(pinger.done, ConnectionAborted)
        self.assertEqual(self.clock.getDelayedCalls(), [])
