"""
A probe for a host behind a NAT: a session that becomes direct, and what it carries then.

C{probe_tcpsession.py HOST:PORT PEER-ID BYTES} calls C{probe_session.py HOST:PORT}, which echoes,
and prints one JSON object when the session is direct: the seconds from the call to the first echo
and to that, and the transport.  Each line on standard input begins a transfer; another object says
how long it took until all was back, and what carries the session then.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from twisted.internet.defer import Deferred, DeferredQueue
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.stdio import StandardIO
from twisted.internet.task import react
from twisted.protocols.basic import LineOnlyReceiver

from p2ptwist.peer.service import PathEvent
from tests.kernel.probe_session import service

_PATIENCE = 30.0  # seconds until there must be a direct path


class _Counting(Protocol):
    """
    Sends bytes, and waits for as many.
    """

    def __init__(self) -> None:
        self._missing = 0
        self._back: Deferred[None] = Deferred()

    def send(self, count: int) -> Deferred[None]:
        """
        @return: a Deferred that fires when C{count} bytes are back.
        """
        assert self.transport is not None
        self._missing, self._back = count, Deferred()
        self.transport.write(bytes(count))
        return self._back

    def dataReceived(self, data: bytes) -> None:
        """
        Count it.
        """
        self._missing -= len(data)
        if self._missing == 0:
            self._back.callback(None)


class _Lines(LineOnlyReceiver):
    """
    What comes on standard input.
    """

    delimiter = b"\n"

    def __init__(self) -> None:
        self.lines: DeferredQueue[bytes] = DeferredQueue()

    def lineReceived(self, line: bytes) -> None:
        """
        Keep it.
        """
        self.lines.put(line)


async def main(reactor: Any, node: str, callee: str, count: str) -> None:
    """
    Call, wait, transfer.
    """
    peer = service(reactor, node)
    peer.startService()
    await peer.whenReady()
    direct: Deferred[PathEvent] = Deferred()

    def moved(path: PathEvent) -> None:
        if path.kind == "direct" and not direct.called:
            direct.callback(path)

    peer.observe(moved)
    started = reactor.seconds()
    protocol: Any = await peer.connect(callee, "echo", Factory.forProtocol(_Counting))
    await protocol.send(1)
    echo = reactor.seconds() - started
    direct.addTimeout(_PATIENCE, reactor)
    path = await direct
    said = {"echo": echo, "direct": reactor.seconds() - started, "transport": path.transport}
    print(json.dumps(said), flush=True)
    asked = _Lines()
    StandardIO(asked)
    while await asked.lines.get():
        started = reactor.seconds()
        await protocol.send(int(count))
        now = peer.path(callee)
        kind = None if now is None else now.kind
        print(json.dumps({"seconds": reactor.seconds() - started, "kind": kind}), flush=True)
    await peer.stopService()


if __name__ == "__main__":
    react(lambda *arguments: Deferred.fromCoroutine(main(*arguments)), sys.argv[1:])
