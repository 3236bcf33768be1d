"""
A probe for a host behind a NAT: what becomes of a stream when the world around it changes.

C{probe_stream.py HOST:PORT} registers at the node, prints its peer ID, and takes streams until it
is ended. On C{talk} it echoes, and prints one JSON object at the end of the stream: the times at
which bytes came, on the machine's monotonic clock, and how many numbers they were. On C{bulk} it
prints how many bytes have come, as C{received}, now and then, and their digest at the end.

C{probe_stream.py HOST:PORT PEER-ID talk COUNT} says a number every 100 ms, so many times, and
prints when the echoes came; C{bulk BYTES} instead sends so many bytes, and prints their digest when
the other side has taken all. Both print the C{kind} of path that carries the session as it changes.
With the external hosts of both sides it prints at the end as well, as C{life}, for how many seconds
mappings were found to last there.
"""

from __future__ import annotations

import json
import sys
import time
from hashlib import sha256
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol, IPullProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import LoopingCall, react
from twisted.python.failure import Failure
from zope.interface import implementer

from p2ptwist.net.climb import memoryOf
from p2ptwist.peer.service import PathEvent, PeerService
from p2ptwist.peer.stream import Stream
from tests.kernel.probe_session import service

_INTERVAL = 0.1  # seconds from one number to the next
_NUMBER = 4  # bytes
_PIECE = 64 * 1024  # bytes written at once
_MARK = 4 * 1024 * 1024  # bytes between two words about progress


def say(**words: object) -> None:
    """
    Print one JSON object.
    """
    print(json.dumps(words), flush=True)


class _Log:
    """
    What came, and when.
    """

    def __init__(self) -> None:
        self.times: list[float] = []
        self.data = b""

    def add(self, data: bytes) -> None:
        self.times.append(time.monotonic())
        self.data += data

    @property
    def count(self) -> int:
        """
        Numbers that came, once and in order; -1 when one was lost, doubled or misplaced.
        """
        count = len(self.data) // _NUMBER
        whole = b"".join(number.to_bytes(_NUMBER, "big") for number in range(count))
        return count if self.data == whole else -1


@implementer(IHalfCloseableProtocol)
class Echo(Protocol):
    """
    Sends back what comes, and says at the end when it came.
    """

    transport: Stream

    def __init__(self) -> None:
        self._log = _Log()

    def dataReceived(self, data: bytes) -> None:
        """
        Send it back.
        """
        self._log.add(data)
        self.transport.write(data)

    def readConnectionLost(self) -> None:
        """
        That was all.
        """
        say(times=self._log.times, count=self._log.count)
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """
        All was sent back.
        """


@implementer(IHalfCloseableProtocol)
class Talk(Protocol):
    """
    Says numbers, and notes their echoes.
    """

    transport: Stream

    def __init__(self, count: int) -> None:
        self.done: Deferred[None] = Deferred()
        self._left = count
        self._said = 0
        self._log = _Log()
        self._call = LoopingCall(self._say)

    def connectionMade(self) -> None:
        """
        Begin.
        """
        self._call.start(_INTERVAL)

    def _say(self) -> None:
        self.transport.write(self._said.to_bytes(_NUMBER, "big"))
        self._said += 1
        if self._said == self._left:
            self._call.stop()
            self.transport.loseWriteConnection()

    def dataReceived(self, data: bytes) -> None:
        """
        Note it.
        """
        if not self._log.times:
            say(began=time.monotonic())
        self._log.add(data)

    def readConnectionLost(self) -> None:
        """
        That was all.
        """
        say(times=self._log.times, count=self._log.count)

    def writeConnectionLost(self) -> None:
        """
        All was said.
        """

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Over.
        """
        if self._call.running:
            self._call.stop()
            say(lost=reason.getErrorMessage(), times=self._log.times, count=self._log.count)
        self.done.callback(None)


@implementer(IHalfCloseableProtocol)
class Sink(Protocol):
    """
    Digests what comes.
    """

    transport: Stream

    def __init__(self) -> None:
        self._digest = sha256()
        self._count = 0

    def dataReceived(self, data: bytes) -> None:
        """
        Digest it.
        """
        self._digest.update(data)
        before, self._count = self._count, self._count + len(data)
        if before // _MARK != self._count // _MARK:
            say(received=self._count)

    def readConnectionLost(self) -> None:
        """
        That was all.
        """
        say(received=self._count, sha256=self._digest.hexdigest())
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """
        Nothing was written.
        """


@implementer(IHalfCloseableProtocol, IPullProducer)
class Source(Protocol):
    """
    Sends bytes as fast as they are taken.
    """

    transport: Stream

    def __init__(self, count: int) -> None:
        self.done: Deferred[None] = Deferred()
        self._left = count
        self._random = Random(count)
        self._digest = sha256()

    def connectionMade(self) -> None:
        """
        Begin.
        """
        self.transport.registerProducer(self, False)

    def resumeProducing(self) -> None:
        """
        Send some more.
        """
        piece = self._random.randbytes(min(self._left, _PIECE))
        self._left -= len(piece)
        self._digest.update(piece)
        self.transport.write(piece)
        if not self._left:
            self.transport.unregisterProducer()
            self.transport.loseWriteConnection()

    def stopProducing(self) -> None:
        """
        Too early: the digests will differ.
        """

    def readConnectionLost(self) -> None:
        """
        The other side has it all.
        """

    def writeConnectionLost(self) -> None:
        """
        All was sent.
        """

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Over.
        """
        say(sha256=self._digest.hexdigest(), left=self._left, reason=reason.getErrorMessage())
        self.done.callback(None)


def moved(path: PathEvent) -> None:
    """
    Say what carries a session now.
    """
    say(kind=path.kind, remote=path.remote, transport=path.transport, at=time.monotonic())


async def listen(peer: PeerService) -> None:
    """
    Take streams, for good.
    """
    peer.listen("talk", Factory.forProtocol(Echo))
    peer.listen("bulk", Factory.forProtocol(Sink))
    print(json.dumps(peer.peerID), flush=True)
    await Deferred()


async def call(peer: PeerService, callee: str, name: str, count: int) -> None:
    """
    Open one stream, and wait for its end.
    """
    protocol = Talk(count) if name == "talk" else Source(count)
    await peer.connect(callee, name, Factory.forProtocol(lambda: protocol))
    await protocol.done


async def main(
    reactor: Any, node: str, callee: str = "", name: str = "", count: str = "0", *networks: str
) -> None:
    """
    Do what the arguments say.
    """
    peer = service(reactor, node)
    peer.observe(moved)
    peer.startService()
    await peer.whenReady()
    await (call(peer, callee, name, int(count)) if callee else listen(peer))
    if networks:
        say(life=memoryOf(reactor).life((networks[0], networks[1])))
    await peer.stopService()


if __name__ == "__main__":
    react(lambda *arguments: Deferred.fromCoroutine(main(*arguments)), sys.argv[1:])
