"""
A probe for a host behind a NAT: how long it takes until a TCP path is open that both sides dialed.

C{probe_tcpopen.py hub HOST} carries signals, on TCP port 7000, between two programs that say the
same name; and answers STUN over TCP on port 3478.  C{probe_tcpopen.py call HOST NAME} calls whoever
says C{probe_tcpopen.py answer HOST NAME [LAG]}, which takes signals LAG seconds late.  Both print
one JSON object: the seconds until the path was open or had failed, and how many of 20 datagrams
came.
"""

from __future__ import annotations

import json
import sys
from typing import Any, ClassVar

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater, react
from twisted.protocols.basic import LineReceiver
from zope.interface import implementer

from p2ptwist.errors import P2PError
from p2ptwist.interfaces import IPathReceiver
from p2ptwist.net.tcpopen import TCPOpener, TCPOpening
from tests.sim.opening import STUNOverTCP

_HUB, _STUN = 7000, 3478
COUNT, SIZE = 20, 1000


class _Forwarder(LineReceiver):
    """
    One of two programs that said the same name.
    """

    pairs: ClassVar[dict[bytes, list[_Forwarder]]] = {}
    _other: _Forwarder | None = None
    _named = False

    def lineReceived(self, line: bytes) -> None:
        """
        The name, then signals for the other one.
        """
        if self._named:
            assert self._other is not None
            self._other.sendLine(line)
            return
        self._named = True
        pair = self.pairs.setdefault(line, [])
        pair.append(self)
        if len(pair) == 2:
            pair[0]._other, pair[1]._other = pair[1], pair[0]
            for each in pair:
                each.sendLine(b"")


class _Channel(LineReceiver):
    """
    This program's way to the hub.
    """

    def __init__(self, reactor: Any, name: str, lag: float) -> None:
        self.ready: Deferred[None] = Deferred()
        self.offer: Deferred[bytes] = Deferred()
        self.opening: TCPOpening | None = None
        self._reactor, self._name, self._lag = reactor, name, lag

    def connectionMade(self) -> None:
        """
        Say the name.
        """
        self.sendLine(self._name.encode())

    def sendSignal(self, signal: bytes) -> None:
        """
        Send a signal.
        """
        self.sendLine(signal.hex().encode())

    def lineReceived(self, line: bytes) -> None:
        """
        The other program is there, or a signal of it.
        """
        if not line:
            self.ready.callback(None)
        else:
            self._reactor.callLater(self._lag, self._take, bytes.fromhex(line.decode()))

    def _take(self, signal: bytes) -> None:
        if self.opening is not None:
            self.opening.signalReceived(signal)
        else:
            self.offer.callback(signal)


@implementer(IPathReceiver)
class _Counting:
    """
    Counts datagrams.
    """

    def __init__(self) -> None:
        self.received = 0

    def datagramReceived(self, data: bytes) -> None:
        """
        One more.
        """
        self.received += len(data) == SIZE

    def pathMoved(self) -> None:
        """
        Never: it is one connection.
        """

    def pathLost(self, reason: object) -> None:
        """
        The other program is done.
        """


async def hub(reactor: Any, host: str) -> None:
    """
    Serve, for good.
    """
    reactor.listenTCP(_HUB, Factory.forProtocol(_Forwarder), interface=host)
    reactor.listenTCP(_STUN, Factory.forProtocol(STUNOverTCP), interface=host)
    print("ready", flush=True)
    await Deferred()


async def side(reactor: Any, role: str, host: str, name: str, lag: str = "0") -> None:
    """
    Call or answer, and print what came of it.
    """
    channel = _Channel(reactor, name, float(lag))
    await connectProtocol(TCP4ClientEndpoint(reactor, host, _HUB), channel)
    await channel.ready
    opener = TCPOpener(reactor, [(host, _STUN)])
    if role == "call":
        started = reactor.seconds()
        channel.opening = opener.call(channel.sendSignal)
    else:
        offer = await channel.offer
        started = reactor.seconds()
        channel.opening = opener.answer(offer, channel.sendSignal)
    counting = _Counting()
    try:
        path = await channel.opening.whenOpen()
    except P2PError as error:
        failed = {"error": type(error).__name__, "reason": str(error)}
        print(json.dumps({**failed, "seconds": reactor.seconds() - started}), flush=True)
        return
    seconds = reactor.seconds() - started
    path.receiver = counting
    for _ in range(COUNT):
        path.write(b"." * SIZE)
    await deferLater(reactor, 1.0)
    said = {"seconds": seconds, "received": counting.received, "remote": path.remote}
    print(json.dumps({**said, "roundTrip": path.roundTrip}), flush=True)
    await opener.close()


async def main(reactor: Any, role: str, *arguments: str) -> None:
    """
    Do what the arguments say.
    """
    await (hub(reactor, *arguments) if role == "hub" else side(reactor, role, *arguments))


if __name__ == "__main__":
    react(lambda *arguments: Deferred.fromCoroutine(main(*arguments)), sys.argv[1:])
