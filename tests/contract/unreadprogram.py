"""
A program that is offered much and reads nothing, and one that offers it; C{test_unread} runs them.

Each does what it is told on standard input, a word and perhaps a number a line, and writes one JSON
object a line to standard error.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from twisted.internet import stdio
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import react
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure

from p2ptwist.compose import makePeer
from p2ptwist.peer.identity import loadOrCreateIdentity
from p2ptwist.peer.ping import EchoFactory
from p2ptwist.peer.service import PeerService

PIECE = 65_536  # bytes
LOOPBACK = "127.0.0.1"


def piece(number: int) -> bytes:
    """
    @return: one piece of what is offered, exactly 64 KiB, unlike all others.
    """
    return number.to_bytes(8, "big") * (PIECE // 8)


def tell(event: str, **details: object) -> None:
    """
    Write an event.
    """
    print(json.dumps({"event": event, **details}), file=sys.stderr, flush=True)


class Unread(Protocol):
    """
    Reads some bytes, and then none before it is told to; all that it reads is compared.
    """

    transport: Any

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._unlike = b""
        self._number = 0
        self.read = 0
        self.right = True

    def connectionMade(self) -> None:
        """
        Perhaps read nothing at all.
        """
        self._reader.unread.append(self)
        self._look()

    def dataReceived(self, data: bytes) -> None:
        """
        Compare it.
        """
        self.read += len(data)
        self._unlike += data
        while len(self._unlike) >= PIECE:
            self.right = self.right and self._unlike[:PIECE] == piece(self._number)
            self._number += 1
            self._unlike = self._unlike[PIECE:]
        self._look()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Say what was read.
        """
        right = self.right and not self._unlike and reason.check(ConnectionDone)
        tell("read", bytes=self.read, right=bool(right))

    def _look(self) -> None:
        if not self._reader.resumed and self.read >= self._reader.limit:
            self.transport.pauseProducing()


class Reader(Factory):
    """
    Makes protocols that do not read.
    """

    noisy = False

    def __init__(self, limit: int) -> None:
        """
        @param limit: how many bytes each of them reads at first.
        """
        self.limit = limit
        self.resumed = False
        self.unread: list[Unread] = []

    def buildProtocol(self, addr: object) -> Unread:
        """
        @return: one more.
        """
        return Unread(self)

    def resume(self, _: int) -> None:
        """
        Have all of them read.
        """
        self.resumed = True
        for protocol in self.unread:
            protocol.transport.resumeProducing()


class Offer(Protocol):
    """
    Offers much, a piece whenever there is room.
    """

    transport: Any

    def __init__(self, size: int) -> None:
        self._size = size
        self.written = 0

    def connectionMade(self) -> None:
        """
        Begin.
        """
        self.transport.registerProducer(self, False)

    def resumeProducing(self) -> None:
        """
        There is room.
        """
        self.transport.write(piece(self.written // PIECE))
        self.written += PIECE
        if self.written >= self._size:
            self.end()

    def stopProducing(self) -> None:
        """
        There is nobody any more.
        """

    def end(self) -> None:
        """
        Offer no more.
        """
        self.transport.unregisterProducer()
        self.transport.loseConnection()


class Question(Protocol):
    """
    A stream of the same session on which everything comes back.
    """

    transport: Any
    _expected = b""

    def ask(self, length: int) -> None:
        """
        Send bytes, and say when all have come back.
        """
        self._expected = bytes(range(256)) * (length // 256)
        self.transport.write(self._expected)

    def dataReceived(self, data: bytes) -> None:
        """
        Some have.
        """
        if not self._expected.startswith(data):
            tell("wrong")
        self._expected = self._expected[len(data) :]
        if not self._expected:
            tell("answered")


class Ready(Factory):
    """
    Hands out a protocol that was made before.
    """

    noisy = False

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol

    def buildProtocol(self, addr: object) -> Protocol:
        """
        @return: the protocol.
        """
        return self._protocol


class Orders(LineReceiver):
    """
    Does what is written to standard input.

    @ivar over: fires at the end of it.
    """

    delimiter = b"\n"

    def __init__(self, words: dict[str, Callable[[int], object]]) -> None:
        self._words = words
        self.over: Deferred[None] = Deferred()

    def lineReceived(self, line: bytes) -> None:
        """
        Do it.
        """
        word, _, number = line.decode().partition(" ")
        self._words[word](int(number or 0))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        It is the end.
        """
        self.over.callback(None)


def serve(peer: PeerService, limit: int) -> Orders:
    """
    Offer what does not read, and what echoes.
    """
    reader = Reader(limit)
    peer.listen("unread", reader)
    peer.listen("echo", EchoFactory())
    return Orders({"resume": reader.resume})


async def offer(peer: PeerService, other: str, streams: int, size: int) -> Orders:
    """
    Connect; offer what does not fit anywhere, and ask, when told to.
    """
    question = Question()
    offers = [Offer(size) for _ in range(streams)]
    await peer.connect(other, "echo", Ready(question))

    def begin(_: int) -> None:
        for each in offers:
            peer.connect(other, "unread", Ready(each))

    def count(_: int) -> None:
        tell("written", bytes=sum(each.written for each in offers))

    def end(_: int) -> None:
        for each in offers:
            each.end()

    return Orders({"offer": begin, "ask": question.ask, "count": count, "end": end})


async def main(reactor: Any, node: str, key: str, *arguments: str) -> None:
    """
    Be one of the two.

    @param arguments: how much is read at first, in bytes; or whom to call, the streams, and the
        bytes that each is offered.
    """
    peer = makePeer(reactor, loadOrCreateIdentity(key), [node], interface=LOOPBACK, stunServers=[])
    peer.startService()
    await peer.whenReady()
    if len(arguments) == 1:
        orders = serve(peer, int(arguments[0]))
    else:
        orders = await offer(peer, arguments[0], int(arguments[1]), int(arguments[2]))
    stdio.StandardIO(orders)
    tell("ready", peer=peer.peerID)
    await orders.over
    await peer.stopService()


if __name__ == "__main__":
    react(main, sys.argv[1:])
