"""
Send datagrams to a program behind another NAT, and get them back.

Without PEER-ID it waits to be called and echoes every datagram.  With PEER-ID it connects, sends
the lines of standard input as datagrams, and prints what comes back.  What happens is written to
standard error, one JSON object a line.

Try it with two terminals and a rendezvous node::

    python examples/datagrams.py --rendezvous tcp:127.0.0.1:8470 --identity bob.key
    python examples/datagrams.py --rendezvous tcp:127.0.0.1:8470 --identity alice.key BOB-S-PEER-ID
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any, TextIO

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.stdio import StandardIO
from twisted.internet.task import react
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from p2ptwist.core.address import HostPort, formatAddress
from p2ptwist.errors import P2PError
from p2ptwist.interfaces import IIncomingPaths, IPathReceiver
from p2ptwist.net.puncher import Punch
from p2ptwist.peer.datagrams import DatagramPeer
from p2ptwist.peer.identity import loadOrCreateIdentity
from p2ptwist.rendezvous.linkclient import RendezvousLink

ECHO_PATIENCE = 2.0  # seconds to wait for the last echoes when standard input has ended


class Journal:
    """
    Where the program says what happens.
    """

    def __init__(self, output: TextIO, errors: TextIO) -> None:
        self._output = output
        self._errors = errors

    def event(self, name: str, **details: object) -> None:
        """
        Write one JSON object on a line of standard error.
        """
        print(json.dumps({"event": name, **details}), file=self._errors, flush=True)

    def echoed(self, data: bytes) -> None:
        """
        Write what came back on a line of standard output.
        """
        print(data.decode("utf-8", "replace"), file=self._output, flush=True)

    def connected(self, peer: DatagramPeer, peerID: str, path: Punch) -> None:
        """
        Say that there is a path.
        """
        local, remote = peer.localAddress(path), path.remote
        self.event(
            "connected",
            peer=peerID,
            remote=remote and formatAddress(remote),
            local=local and formatAddress(local),
            seconds=round(path.openedAfter or 0.0, 6),
        )


@implementer(IPathReceiver)
class Echo:
    """
    Sends everything back.
    """

    def __init__(self, path: Punch, journal: Journal) -> None:
        self._path = path
        self._journal = journal

    def datagramReceived(self, data: bytes) -> None:
        """
        Send it back.
        """
        self._path.write(data)

    def pathMoved(self) -> None:
        """
        Nothing changes for an echo.
        """

    def pathLost(self, reason: Failure) -> None:
        """
        Say so; others may still call.
        """
        self._journal.event("lost", reason=reason.getErrorMessage())


@implementer(IIncomingPaths)
class Listener:
    """
    Takes every call and echoes.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.peer: DatagramPeer | None = None

    def accepts(self, peerID: str) -> bool:
        """
        @return: C{True}: anybody may call an echo.
        """
        return True

    def pathOpened(self, peerID: str, path: Punch) -> None:
        """
        Echo on it.
        """
        assert self.peer is not None
        self._journal.connected(self.peer, peerID, path)
        path.receiver = Echo(path, self._journal)


@implementer(IPathReceiver)
class Caller(LineReceiver):
    """
    Sends lines, and prints what comes back.

    @ivar done: fires when the lines have ended and their echoes came, or fails when the path does.
    """

    delimiter = b"\n"

    def __init__(self, reactor: Any, path: Punch, journal: Journal) -> None:
        self.done: Deferred[None] = Deferred()
        self._reactor = reactor
        self._path = path
        self._journal = journal
        self._awaited = 0
        self._ended = False
        self._patience: IDelayedCall | None = None

    def lineReceived(self, line: bytes) -> None:
        """
        Send one datagram.
        """
        self._awaited += 1
        self._path.write(line)

    def connectionLost(self, reason: object = None) -> None:
        """
        The lines have ended: wait for the last echoes, but not for ever, as datagrams get lost.
        """
        self._ended = True
        if self._awaited <= 0:
            self._finish(None)
        else:
            self._patience = self._reactor.callLater(ECHO_PATIENCE, self._finish, None)

    def datagramReceived(self, data: bytes) -> None:
        """
        An echo.
        """
        self._awaited -= 1
        self._journal.echoed(data)
        if self._ended and self._awaited <= 0:
            self._finish(None)

    def pathMoved(self) -> None:
        """
        Nothing changes for the lines.
        """

    def pathLost(self, reason: Failure) -> None:
        """
        There is nobody to send to any more.
        """
        self._finish(reason)

    def _finish(self, result: Failure | None) -> None:
        if self._patience is not None and self._patience.active():
            self._patience.cancel()
        if not self.done.called:
            self.done.callback(result)  # a Failure starts the errbacks


def makePeer(reactor: Any, options: argparse.Namespace, journal: Journal) -> DatagramPeer:
    """
    @return: the peer that the options describe.
    """
    identity = loadOrCreateIdentity(options.identity)
    link = RendezvousLink.fromString(reactor, options.rendezvous, identity)
    listener = Listener(journal)
    listener.peer = DatagramPeer(
        reactor,
        identity,
        link,
        incoming=None if options.peer else listener,
        stunServers=options.stun,
        interface=options.bind,
    )
    return listener.peer


async def run(reactor: Any, options: argparse.Namespace, journal: Journal, lines: Any) -> None:
    """
    Wait for calls, or make one.

    @param lines: called with a L{LineReceiver}, which it feeds.
    """
    try:
        peer = makePeer(reactor, options, journal)
        peer.startService()
    except P2PError as error:
        raise _failed(journal, error) from None
    try:
        await peer.whenReady()
        journal.event("ready", peer=peer.peerID)
        if options.peer is None:
            await Deferred()
        path = await peer.connect(options.peer)
        caller = Caller(reactor, path, journal)
        journal.connected(peer, options.peer, path)
        path.receiver = caller
        lines(caller)
        try:
            await caller.done
        except P2PError as error:
            journal.event("lost", reason=str(error))
            raise SystemExit(1) from None
    except P2PError as error:
        raise _failed(journal, error) from None
    finally:
        await peer.stopService()


def _failed(journal: Journal, error: P2PError) -> SystemExit:
    journal.event("failed", reason=str(error))
    return SystemExit(1)


def parseServer(text: str) -> list[HostPort]:
    """
    @return: the one STUN server that C{text} names.
    """
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return [(host.strip("[]"), int(port))]


def parseOptions(arguments: list[str]) -> argparse.Namespace:
    """
    @return: C{rendezvous}, C{identity}, C{stun}, C{bind} and C{peer}.
    """
    parser = argparse.ArgumentParser(
        description="Send lines as datagrams to a program behind another NAT, which echoes them."
    )
    parser.add_argument(
        "--rendezvous",
        required=True,
        metavar="tcp:HOST:PORT",
        help="the rendezvous node where both programs meet (twistd natrendezvous)",
    )
    parser.add_argument(
        "--identity",
        required=True,
        metavar="FILE",
        help="this program's key; made when there is no such file",
    )
    parser.add_argument(
        "--stun",
        type=parseServer,
        metavar="HOST:PORT",
        help="a STUN server to use instead of the rendezvous node's",
    )
    parser.add_argument(
        "--bind",
        default="",
        metavar="ADDRESS",
        help="the local address to use for UDP; all of them when left out",
    )
    parser.add_argument(
        "peer",
        nargs="?",
        metavar="PEER-ID",
        help="whom to call, by the ID in its 'ready' line; left out, wait to be called",
    )
    return parser.parse_args(arguments)


def main(reactor: Any, *arguments: str) -> Deferred[None]:
    """
    The program on the real reactor, with the real standard input.
    """
    options = parseOptions(list(arguments))
    journal = Journal(sys.stdout, sys.stderr)
    running = Deferred.fromCoroutine(run(reactor, options, journal, StandardIO))
    running.addErrback(lambda failure: failure.trap(CancelledError) and None)

    def interrupted() -> Deferred[None]:
        running.cancel()
        return running  # the reactor goes on until goodbye was said

    reactor.addSystemEventTrigger("before", "shutdown", interrupted)
    return running


if __name__ == "__main__":
    react(main, sys.argv[1:])
