"""
A probe for a host behind a NAT: how long it takes until a session is direct, told by both sides.

C{probe_path.py HOST:PORT} registers at the node, measures its NAT, prints its peer ID, and echoes.
C{probe_path.py HOST:PORT PEER-ID} does so too, prints C{"ready"}, and takes orders from standard
input, a line each: C{call} connects, C{send COUNT} sends so many bytes and waits for all of them to
come back, C{why} asks what the session says of itself.  Both print a JSON object for every path
that carries the session from then on, and for what an order came to; times are those of the
machine's monotonic clock.  With C{no-ladder} after that, nothing but ordinary checks is tried.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.stdio import StandardIO
from twisted.internet.task import deferLater, react
from twisted.protocols.basic import LineOnlyReceiver

from p2ptwist.core.errors import P2PError
from p2ptwist.peer.service import PathEvent, PeerService
from tests.kernel.probe_session import Echo, service

_MEASURING = 20.0  # seconds that the measurement of the NAT may take
_LOOK = 0.05  # seconds between two looks at it


def _say(**words: Any) -> None:
    print(json.dumps(words), flush=True)


class _Counting(Protocol):
    """
    Sends bytes, and says when as many are back.
    """

    def __init__(self) -> None:
        self._missing = 0
        self._began = 0.0

    def send(self, count: int) -> None:
        """
        Begin.
        """
        assert self.transport is not None
        self._missing, self._began = count, time.monotonic()
        self.transport.write(bytes(count))

    def dataReceived(self, data: bytes) -> None:
        """
        Count it.
        """
        self._missing -= len(data)
        if self._missing == 0:
            now = time.monotonic()
            _say(sent=now - self._began, at=now)


class _Orders(LineOnlyReceiver):
    """
    Standard input.
    """

    delimiter = b"\n"

    def __init__(self, peer: PeerService, callee: str) -> None:
        self._peer = peer
        self._callee = callee
        self._talk: Any = None

    def lineReceived(self, line: bytes) -> None:
        """
        Do what it says.
        """
        word, _, rest = line.decode().partition(" ")
        if word == "call":
            Deferred.fromCoroutine(self._call())
        elif word == "send":
            self._talk.send(int(rest))
        else:
            path = self._peer.path(self._callee)
            _say(why=None if path is None else path.reason)

    async def _call(self) -> None:
        _say(calledAt=time.monotonic())
        factory = Factory.forProtocol(_Counting)
        try:
            self._talk = await self._peer.connect(self._callee, "echo", factory)
        except P2PError as error:
            _say(failed=str(error))
        else:
            self._talk.send(1)


def _moved(path: PathEvent) -> None:
    _say(kind=path.kind, transport=path.transport, remote=path.remote, at=time.monotonic())


async def main(reactor: Any, node: str, callee: str = "", ladder: str = "") -> None:
    """
    Do what the arguments say.
    """
    peer = service(reactor, node)
    peer.startService()
    await peer.whenReady()
    assert peer._reach is not None
    local = peer._reach.local
    until = time.monotonic() + _MEASURING
    while local._measuring and time.monotonic() < until:
        await deferLater(reactor, _LOOK)
    if ladder:
        peer._reach.puncher.gear = None
        peer._reach.opener.servers = ()
    peer.observe(_moved)
    if callee:
        StandardIO(_Orders(peer, callee))
        print(json.dumps("ready"), flush=True)
    else:
        peer.listen("echo", Factory.forProtocol(Echo))
        print(json.dumps(peer.peerID), flush=True)
    print(str(local.behavior), file=sys.stderr)
    await Deferred()


if __name__ == "__main__":
    react(lambda *arguments: Deferred.fromCoroutine(main(*arguments)), sys.argv[1:])
