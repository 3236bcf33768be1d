"""
A probe for a host behind a NAT: how long it takes until a session is of use.

C{probe_session.py HOST:PORT} registers at the node, prints its peer ID, and echoes what comes on
streams until it is ended. C{probe_session.py HOST:PORT PEER-ID} registers, connects to that peer
once, and prints one JSON object: the seconds from the call to the first byte echoed, and to the
first datagram of the session that came here on the direct path. The other program prints when the
first came there, and this one when it called, on the machine's monotonic clock. With a number after
that it says nothing for so many seconds, then another byte, and prints the seconds to its echo and
what carried it. With C{"" relayed} it waits for no direct path.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater, react

from p2ptwist.peer.identity import generateIdentity
from p2ptwist.peer.service import PathEvent, PeerService
from p2ptwist.rendezvous.linkclient import RendezvousLink, rendezvousEndpoint

_PATIENCE = 30.0  # seconds until there must be a direct path


class Echo(Protocol):
    """
    Sends back what comes.
    """

    def dataReceived(self, data: bytes) -> None:
        """
        Send it back.
        """
        assert self.transport is not None
        self.transport.write(data)


class First(Protocol):
    """
    Says a byte, and waits for it.
    """

    def __init__(self) -> None:
        self.answered: Deferred[float] = Deferred()

    def connectionMade(self) -> None:
        """
        Say it.
        """
        self.say()

    def say(self) -> Deferred[float]:
        """
        @return: a Deferred that fires with the time at which another byte comes.
        """
        if self.answered.called:
            self.answered = Deferred()
        assert self.transport is not None
        self.transport.write(b"!")
        return self.answered

    def dataReceived(self, data: bytes) -> None:
        """
        There it is.
        """
        self.answered.callback(time.monotonic())


def service(reactor: Any, node: str) -> PeerService:
    """
    @return: a peer that is not running yet.
    """
    identity = generateIdentity()
    link = RendezvousLink(reactor, rendezvousEndpoint(reactor, f"tcp:{node}"), identity)
    return PeerService(reactor, identity, [link])


async def listen(peer: PeerService) -> None:
    """
    Echo, for good.
    """

    def moved(path: PathEvent) -> None:
        if path.kind == "direct":
            print(json.dumps({"directAt": time.monotonic()}), flush=True)

    peer.observe(moved)
    peer.listen("echo", Factory.forProtocol(Echo))
    print(json.dumps(peer.peerID), flush=True)
    await Deferred()


async def call(reactor: Any, peer: PeerService, callee: str, pause: str, kind: str) -> None:
    """
    Call, and print.
    """
    direct: Deferred[float] = Deferred()

    def moved(path: PathEvent) -> None:
        if path.kind == "direct" and not direct.called:
            direct.callback(time.monotonic())

    peer.observe(moved)
    started = time.monotonic()
    protocol: Any = await peer.connect(callee, "echo", Factory.forProtocol(First))
    answered = await protocol.answered
    if kind == "relayed":
        print(json.dumps({"calledAt": started, "echo": answered - started}), flush=True)
        return
    direct.addTimeout(_PATIENCE, reactor)
    carried = await direct
    seconds = {"echo": answered - started, "direct": carried - started}
    print(json.dumps({"calledAt": started, **seconds}), flush=True)
    if pause:
        await deferLater(reactor, float(pause))
        started = time.monotonic()
        answered = await protocol.say()
        path = peer.path(callee)
        carrying = None if path is None else path.kind
        print(json.dumps({"echo": answered - started, "kind": carrying}), flush=True)


async def main(
    reactor: Any, node: str, callee: str = "", pause: str = "", kind: str = "direct"
) -> None:
    """
    Do what the arguments say.
    """
    peer = service(reactor, node)
    peer.startService()
    await peer.whenReady()
    await (call(reactor, peer, callee, pause, kind) if callee else listen(peer))
    await peer.stopService()


if __name__ == "__main__":
    react(lambda *arguments: Deferred.fromCoroutine(main(*arguments)), sys.argv[1:])
