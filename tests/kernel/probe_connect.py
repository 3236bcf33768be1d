"""
A probe for a host behind a NAT: how long it takes from the call of a peer to its first echo.

C{probe_connect.py HOST:PORT PEER-ID COUNT} registers at the node, then calls COUNT times, one call
after the other, each over when the next one begins, and prints the seconds as a JSON list.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react
from twisted.python.failure import Failure
from zope.interface import implementer

from p2ptwist.interfaces import IPathReceiver
from p2ptwist.peer.datagrams import DatagramPeer
from p2ptwist.peer.identity import generateIdentity
from p2ptwist.rendezvous.linkclient import RendezvousLink, rendezvousEndpoint

_PAUSE = 0.5  # seconds between two calls, so that both sides are done with the last one


@implementer(IPathReceiver)
class FirstDatagram:
    """
    Waits for a datagram.

    @ivar received: fires with it.
    """

    def __init__(self) -> None:
        self.received: Deferred[bytes] = Deferred()

    def datagramReceived(self, data: bytes) -> None:
        """
        That is all.
        """
        if not self.received.called:
            self.received.callback(data)

    def pathMoved(self) -> None:
        """
        It does not matter.
        """

    def pathLost(self, reason: Failure) -> None:
        """
        Too early, or of no interest.
        """
        if not self.received.called:
            self.received.errback(reason)


async def measure(peer: DatagramPeer, callee: str) -> float:
    """
    @return: the seconds from the call to the echo.
    """
    receiver = FirstDatagram()
    started = time.monotonic()
    path = await peer.connect(callee)
    path.receiver = receiver
    path.write(b"hello")
    await receiver.received
    seconds = time.monotonic() - started
    path.close()
    return seconds


async def main(reactor: Any, node: str, callee: str, count: str) -> None:
    """
    Call, and print.
    """
    identity = generateIdentity()
    link = RendezvousLink(reactor, rendezvousEndpoint(reactor, f"tcp:{node}"), identity)
    peer = DatagramPeer(reactor, identity, link)
    peer.startService()
    await peer.whenReady()
    seconds = []
    for _ in range(int(count)):
        seconds.append(await measure(peer, callee))
        await deferLater(reactor, _PAUSE)
    print(json.dumps(seconds))
    await peer.stopService()


if __name__ == "__main__":
    react(lambda *arguments: Deferred.fromCoroutine(main(*arguments)), sys.argv[1:])
