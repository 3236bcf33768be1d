"""
Rendezvous nodes, processes and links on the real reactor, for the tests of them.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor as globalReactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from p2ptwist.core.link.limits import Limits
from p2ptwist.core.tokenbucket import Rate
from p2ptwist.interfaces import ILinkReceiver, IWelcome
from p2ptwist.peer.identity import generateIdentity
from p2ptwist.rendezvous.linkclient import RendezvousLink
from p2ptwist.rendezvous.service import NodeService

reactor: Any = globalReactor
TWISTD = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile="]
GENEROUS = Rate(1e6, 1e6)
LOCK_UP = 60.0  # seconds after which a test that hangs is ended


@implementer(ILinkReceiver)
class Receiver:
    """
    Remembers what a link says.

    @ivar message: fires with the first message.
    @ivar down: fires with the reason, once the link goes down.
    """

    def __init__(self) -> None:
        self.message: Deferred[bytes] = Deferred()
        self.down: Deferred[BaseException | None] = Deferred()

    def linkUp(self, welcome: IWelcome) -> None:
        """
        Whoever waits knows by C{whenUp}.
        """

    def linkDown(self, reason: Failure) -> None:
        """
        Remember the first reason.
        """
        if not self.down.called:
            self.down.callback(reason.value)

    def messageReceived(self, sender: bytes, payload: bytes) -> None:
        """
        Remember the first message.
        """
        if not self.message.called:
            self.message.callback(payload)

    def relayedReceived(self, sender: bytes, payload: bytes) -> None:
        """
        Nobody waits for that here.
        """

    def peerUnreachable(self, peer: bytes) -> None:
        """
        Nobody waits for that here.
        """


class Program(ProcessProtocol):
    """
    A process.

    @ivar output: what it has printed.
    @ivar errors: what it has printed on standard error.
    @ivar ended: fires with its exit code, or the negative number of the signal that ended it.
    """

    def __init__(self, test: TestCase, arguments: list[str]) -> None:
        self.output = ""
        self.errors = ""
        self.ended: Deferred[int] = Deferred()
        self._waiting: list[tuple[str, Deferred[str]]] = []
        self._process = reactor.spawnProcess(self, arguments[0], arguments, dict(os.environ))
        self.processID = self._process.pid
        test.addCleanup(self.end)

    def outReceived(self, data: bytes) -> None:
        """
        Look for what is waited for.
        """
        self.output += data.decode()
        for pattern, waiter in self._waiting:
            found = re.search(pattern, self.output)
            if found and not waiter.called:
                waiter.callback(found[1])

    def errReceived(self, data: bytes) -> None:
        """
        Keep it.
        """
        self.errors += data.decode()

    def processEnded(self, reason: Failure) -> None:
        """
        Say how.
        """
        assert isinstance(reason.value, ProcessDone | ProcessTerminated)
        self.ended.callback(-(reason.value.signal or 0) or reason.value.exitCode or 0)

    def printed(self, pattern: str) -> Deferred[str]:
        """
        @return: a Deferred that fires with the group in C{pattern} when it was printed.
        """
        waiter: Deferred[str] = Deferred()
        self._waiting.append((pattern, waiter))
        self.outReceived(b"")
        return waiter

    def say(self, line: str) -> None:
        """
        Write a line to its standard input, and close that.
        """
        assert self.transport is not None
        self.transport.write(f"{line}\n".encode())
        self.transport.closeStdin()

    def terminate(self) -> None:
        """
        Ask it to stop.
        """
        self._process.signalProcess(signal.SIGTERM)

    def end(self) -> Deferred[int] | None:
        """
        End it for good, if it still runs.
        """
        if self.ended.called:
            return None
        self._process.signalProcess(signal.SIGKILL)
        return self.ended


def twistd(test: TestCase, *options: str) -> Program:
    """
    @return: a C{twistd -n natrendezvous} process.
    """
    return Program(test, [*TWISTD, "natrendezvous", *options])


class Case(TestCase):
    """
    Links that are stopped when the test is over.
    """

    timeout = LOCK_UP

    def link(self, endpoint: Any) -> RendezvousLink:
        """
        @return: a link that is on its way up.
        """
        if isinstance(endpoint, str):
            link = RendezvousLink.fromString(reactor, endpoint, generateIdentity())
        else:
            link = RendezvousLink(reactor, endpoint, generateIdentity())
        link.receiver = Receiver()
        link.startService()
        self.addCleanup(link.stopService)
        return link

    async def exchange(self, endpoint: Any) -> IWelcome:
        """
        Bring two links up and send a message from one to the other.
        """
        alice, bob = self.link(endpoint), self.link(endpoint)
        welcome = await alice.whenUp()
        await bob.whenUp()
        alice.send(bob._identity.publicKey, b"hello")
        assert isinstance(bob.receiver, Receiver)
        self.assertEqual(await bob.receiver.message, b"hello")
        return welcome

    def serve(self, description: str, limits: Limits | None = None) -> NodeService:
        """
        @return: a node on one endpoint, stopped when the test is over.
        """
        endpoint = serverFromString(reactor, description)
        node = NodeService(
            reactor, "node", [(description, endpoint)], limits=limits, stunServers=(("", 3478),)
        )
        node.startService()
        self.addCleanup(node.stopService)
        return node


def residentKiB(process: int) -> int:
    """
    @return: KiB of the process's resident set.
    """
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    assert found is not None
    return int(found[1])
