"""
The programs that C{benchmarks/session_bulk.py} measures, each a process of its own on loopback.

C{bulkpeers.py KIND take NODE} answers echoes and takes bulk bytes; C{bulkpeers.py KIND give NODE
ADDRESS MEGABYTES ECHOES} does both in turn.  Each prints one JSON object a line: the taker its
address, then both what they measured.  C{bulkpeers.py node} is the rendezvous node.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from twisted.internet import reactor as globalReactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol

from p2ptwist.peer.identity import generateIdentity
from p2ptwist.peer.service import PathEvent, PeerService
from p2ptwist.rendezvous.linkclient import RendezvousLink, rendezvousEndpoint
from p2ptwist.rendezvous.options import Options
from p2ptwist.rendezvous.service import NodeService

reactor: Any = globalReactor
HOST = "127.0.0.1"
DATAGRAM = 1200  # bytes
BURST = 32  # datagrams: two bursts are as much as a UDP socket keeps by default
PIECE = 64 * 1024  # bytes that a stream is given at a time
_STALL = 0.02  # seconds after which a burst of datagrams counts as lost
ECHO = bytes(64)
_DIRECT = 10.0  # seconds until a session on loopback must be direct


def say(**values: object) -> None:
    """
    Print one line for the benchmark.
    """
    print(json.dumps(values), flush=True)


class Meter:
    """
    Wall clock and processor time of this process, from its making on.
    """

    def __init__(self) -> None:
        self._started = time.monotonic(), time.process_time()

    def tell(self, octets: int) -> None:
        """
        Say what it took to move so many bytes.
        """
        wall, processor = self._started
        say(seconds=time.monotonic() - wall, cpu=time.process_time() - processor, octets=octets)


class Echoes:
    """
    Sends 64 bytes when the last 64 have come back.
    """

    def __init__(self, send: Callable[[bytes], object], count: int) -> None:
        self.done: Deferred[None] = Deferred()
        self._send = send
        self._left = count
        self._times: list[float] = []

    def start(self) -> None:
        """
        Say that it begins, and send the first.
        """
        say(begin=True)
        self.next()

    def next(self) -> None:
        """
        Send.
        """
        self._began = time.perf_counter()
        self._send(ECHO)

    def returned(self) -> None:
        """
        They came back.
        """
        self._times.append(time.perf_counter() - self._began)
        self._left -= 1
        if self._left:
            self.next()
        else:
            say(echo=statistics.median(self._times))
            self.done.callback(None)


# Datagrams as Twisted has them: P is to be echoed, D is bulk, E is the end.


class UDPTaker(DatagramProtocol):
    """
    Echoes and counts datagrams.
    """

    noisy = False

    def __init__(self) -> None:
        self._meter: Meter | None = None
        self._octets = 0
        self._count = 0

    def startProtocol(self) -> None:
        """
        Say where.
        """
        transport: Any = self.transport
        say(address=str(transport.getHost().port))

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """
        Take one.
        """
        assert self.transport is not None
        kind = datagram[:1]
        if kind == b"D":
            if self._meter is None:
                self._meter = Meter()
            self._octets += len(datagram)
            self._count += 1
            if not self._count % BURST:
                self.transport.write(b"A", addr)
        elif kind == b"P":
            self.transport.write(datagram, addr)
        elif self._meter is not None:
            self._meter.tell(self._octets)
            self._meter = None


class UDPGiver(DatagramProtocol):
    """
    Sends datagrams as fast as the reactor lets it, two bursts ahead of the other side: without any
    such window most of them are lost at the receiver's buffer.
    """

    noisy = False

    def __init__(self, port: int, octets: int, echoes: int) -> None:
        self._there = (HOST, port)
        self._left = octets // DATAGRAM
        self._datagram = b"D".ljust(DATAGRAM, b".")
        self._echoes = Echoes(lambda data: self._write(b"P" + data[1:]), echoes)
        self._octets = octets
        self._stalled: Any = None

    def startProtocol(self) -> None:
        """
        Echoes first.
        """
        self._echoes.done.addCallback(self._bulk)
        self._echoes.start()

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """
        An echo, or a burst has arrived.
        """
        if datagram[:1] == b"P":
            self._echoes.returned()
        elif self._left:
            self._stalled.reset(_STALL)
            self._burst()

    def _bulk(self, _: object) -> None:
        self._meter = Meter()
        self._stalled = reactor.callLater(_STALL, self._stall)
        self._burst()
        self._burst()

    def _burst(self) -> None:
        for _ in range(min(BURST, self._left)):
            self._write(self._datagram)
        self._left -= min(BURST, self._left)
        if not self._left and self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
            self._meter.tell(self._octets)
            # They may be lost like all the others.
            for number in range(5):
                reactor.callLater(0.05 * number, self._write, b"E")
            reactor.callLater(0.3, reactor.stop)

    def _stall(self) -> None:
        # Something was lost.
        self._stalled = reactor.callLater(_STALL, self._stall)
        self._burst()
        if self._stalled is not None:
            self._burst()

    def _write(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data, self._there)


# Streams: the same protocols over a session, and over whatever else has Twisted's transports.


class EchoProtocol(Protocol):
    """
    Sends back what comes.
    """

    def dataReceived(self, data: bytes) -> None:
        """
        Send it back.
        """
        assert self.transport is not None
        self.transport.write(data)


class SinkProtocol(Protocol):
    """
    Counts what comes, the first eight bytes of which say how much it will be.
    """

    def __init__(self) -> None:
        self._meter: Meter | None = None
        self._octets = 0
        self._expected = b""

    def dataReceived(self, data: bytes) -> None:
        """
        Count, and answer when it is all there.
        """
        if self._meter is None:
            self._meter = Meter()
            self._expected = data[:8]
        self._octets += len(data)
        if self._octets == int.from_bytes(self._expected, "big"):
            assert self.transport is not None
            self.transport.write(b".")
            self._meter.tell(self._octets)


class EchoesProtocol(Protocol):
    """
    The other end of L{EchoProtocol}.
    """

    def __init__(self, count: int) -> None:
        self._came = 0
        self.echoes = Echoes(self._write, count)

    def dataReceived(self, data: bytes) -> None:
        """
        An echo, whole or in pieces.
        """
        self._came += len(data)
        if self._came == len(ECHO):
            self._came = 0
            self.echoes.returned()

    def _write(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)


class SourceProtocol(Protocol):
    """
    The other end of L{SinkProtocol}, a pull producer.
    """

    def __init__(self, octets: int) -> None:
        self.done: Deferred[None] = Deferred()
        self._octets = self._left = octets
        self._piece = bytes(PIECE)

    def start(self) -> None:
        """
        Begin.
        """
        self._meter = Meter()
        transport: Any = self.transport
        transport.write(self._octets.to_bytes(8, "big"))
        self._left -= 8
        transport.registerProducer(self, False)

    def resumeProducing(self) -> None:
        """
        Write one piece.
        """
        transport: Any = self.transport
        piece = self._piece[: self._left]
        self._left -= len(piece)
        transport.write(piece)
        if not self._left:
            transport.unregisterProducer()

    def stopProducing(self) -> None:
        """
        The transport is gone.
        """

    def dataReceived(self, data: bytes) -> None:
        """
        All has come.
        """
        self._meter.tell(self._octets)
        self.done.callback(None)


def peerService(node: str) -> PeerService:
    """
    @return: a peer on loopback, started.
    """
    identity = generateIdentity()
    link = RendezvousLink(reactor, rendezvousEndpoint(reactor, f"tcp:{HOST}:{node}"), identity)
    peer = PeerService(reactor, identity, [link], interface=HOST, stunServers=[])
    peer.startService()
    return peer


async def sessionTake(node: str) -> None:
    """
    Offer echoes and a sink, for good.
    """
    peer = peerService(node)
    await peer.whenReady()
    peer.listen("echo", Factory.forProtocol(EchoProtocol))
    peer.listen("sink", Factory.forProtocol(SinkProtocol))
    say(address=peer.peerID)
    await Deferred()


async def sessionGive(node: str, address: str, octets: int, echoes: int) -> None:
    """
    Call, wait until the path is direct, and measure.
    """
    peer = peerService(node)
    await peer.whenReady()
    direct: Deferred[None] = Deferred()

    def moved(path: PathEvent) -> None:
        if path.kind == "direct" and not direct.called:
            direct.callback(None)

    peer.observe(moved)
    pinging: Any = await peer.connect(
        address, "echo", Factory.forProtocol(lambda: EchoesProtocol(echoes))
    )
    direct.addTimeout(_DIRECT, reactor)
    await direct
    pinging.echoes.start()
    await pinging.echoes.done
    source: Any = await peer.connect(
        address, "sink", Factory.forProtocol(lambda: SourceProtocol(octets))
    )
    source.start()
    await source.done
    path = peer.path(address)
    assert path is not None and path.kind == "direct", path
    await peer.stopService()


def node(*optionWords: str) -> None:
    """
    Be a rendezvous node.
    """
    options = Options()
    options.parseOptions(["--no-stun", "--relay-capacity=none", *optionWords])
    endpoint = TCP4ServerEndpoint(reactor, 0, interface=HOST)
    service = NodeService(reactor, "benchmark", [("tcp", endpoint)], limits=options.limits)
    service.startService()
    address: Any = service.addresses[0]
    say(address=str(address.port))


def udpTake(node: str) -> None:
    """
    Take datagrams.
    """
    reactor.listenUDP(0, UDPTaker(), HOST)


def udpGive(node: str, address: str, octets: int, echoes: int) -> None:
    """
    Give datagrams.
    """
    reactor.listenUDP(0, UDPGiver(int(address), octets, echoes), HOST)


def run(coroutine: Any) -> None:
    """
    Run until it is done, or say what it raised.
    """
    done = Deferred.fromCoroutine(coroutine)
    done.addErrback(lambda failure: failure.printTraceback())
    done.addBoth(lambda _: reactor.stop())


def take(kind: str, node: str) -> None:
    """
    Be the side that takes.
    """
    if kind == "session":
        run(sessionTake(node))
    elif kind == "udp":
        udpTake(node)
    else:
        from benchmarks import bulkaioquic

        bulkaioquic.take(node)


def give(kind: str, node: str, address: str, megabytes: str, echoes: str) -> None:
    """
    Be the side that gives.
    """
    octets, count = int(float(megabytes) * 1_000_000), int(echoes)
    if kind == "session":
        run(sessionGive(node, address, octets, count))
    elif kind == "udp":
        udpGive(node, address, octets, count)
    else:
        from benchmarks import bulkaioquic

        bulkaioquic.give(node, address, octets, count)


def runAiortc(role: str, node: str, *rest: str) -> None:
    """
    Be one of the sides, without Twisted.
    """
    from benchmarks import bulkaiortc

    if role == "take":
        bulkaiortc.take()
    else:
        address, megabytes, echoes, message = rest
        octets = int(float(megabytes) * 1_000_000)
        bulkaiortc.give(address, octets, int(echoes), int(message))


def ownCore(role: str) -> None:
    """
    Have one core for each side, where that can be said: else it is the scheduler's whim, and twice
    the time, whether both share one.
    """
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[:1] if role == "take" else cores[-1:])


def main(kind: str, role: str = "", *rest: str) -> None:
    """
    Be what is asked for.
    """
    if kind == "node":
        node()
    else:
        ownCore(role)
        if kind == "aiortc":
            runAiortc(role, *rest)
            return
        reactor.callWhenRunning(take if role == "take" else give, kind, *rest)
    reactor.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
