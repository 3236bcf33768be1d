"""
Frames forwarded between links, per CPU second of the node process, beside the same relay in AMP.

Run C{python benchmarks/forward.py}.  Rounds of the two relays alternate.  Each relay is a process
of its own; the peers live in this one and do next to nothing: each sends one ready-made message
for each that it receives, so that a fixed number of messages travels between the two peers of a
pair.  CPU seconds are the relay's, as the kernel counts them.
"""

from __future__ import annotations

import argparse
import os
import random
import selectors
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.internet import protocol
from twisted.internet import reactor as globalReactor
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.protocols import amp

from p2ptwist.core.link.client import Claimant, ClientState, LinkClient
from p2ptwist.core.link.frames import FrameType, encodeHot
from p2ptwist.rendezvous.descriptors import raiseDescriptorLimit
from p2ptwist.rendezvous.options import Options
from p2ptwist.rendezvous.service import NodeService

reactor: Any = globalReactor
PAYLOAD = bytes(200)
WARM_UP = 0.3  # seconds before each measurement
UNLIMITED = ("accept", "address-accept", "network-accept", "registration", "message", "relay")


class Send(amp.Command):
    """
    From a peer to the relay.
    """

    arguments = [(b"to", amp.String()), (b"payload", amp.String())]  # noqa: RUF012
    requiresAnswer = False


class Receive(amp.Command):
    """
    From the relay to a peer.
    """

    arguments = [(b"sender", amp.String()), (b"payload", amp.String())]  # noqa: RUF012
    requiresAnswer = False


class Register(amp.Command):
    """
    A peer says its key; the relay believes it.
    """

    arguments = [(b"key", amp.String())]  # noqa: RUF012


class AMPRelay(amp.AMP):
    """
    The same relay, without signatures, limits or bounds.
    """

    peers: dict[bytes, AMPRelay] = {}  # noqa: RUF012

    @Register.responder
    def register(self, key: bytes) -> dict[str, object]:
        """
        Remember who is on this connection.
        """
        self.key = key
        self.peers[key] = self
        return {}

    @Send.responder
    def send(self, to: bytes, payload: bytes) -> dict[str, object]:
        """
        Pass a message on.
        """
        self.peers[to].callRemote(Receive, sender=self.key, payload=payload)
        return {}


def serve(kind: str) -> None:
    """
    Be a relay process: print the port and serve until standard input closes.
    """
    if kind == "amp":
        factory = protocol.Factory.forProtocol(AMPRelay)
        port = reactor.listenTCP(0, factory, interface="127.0.0.1").getHost().port
        raiseDescriptorLimit()
    else:
        raiseDescriptorLimit()
        options = Options()
        unlimited = [f"--{name}-rate=none" for name in UNLIMITED]
        options.parseOptions([*unlimited, "--relay-capacity=none", "--no-stun"])
        endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        node = NodeService(reactor, "benchmark", [("tcp", endpoint)], limits=options.limits)
        node.startService()
        address: Any = node.addresses[0]
        port = address.port
    print(port, flush=True)
    reactor.run()


class Relay:
    """
    A relay process.

    @ivar process: its process ID.
    """

    def __init__(self, kind: str) -> None:
        command = [sys.executable, __file__, "--serve", kind]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.process = self._process.pid
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def cpu(self) -> float:
        """
        @return: CPU seconds spent so far.
        """
        with open(f"/proc/{self.process}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        """
        End the process.
        """
        self._process.terminate()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


class Peer:
    """
    One connection, and the message that it sends for each that it receives.
    """

    def __init__(self, connection: socket.socket, key: bytes) -> None:
        self.connection = connection
        self.key = key
        self.message = b""
        self.receivedLength = 0
        self.pending = 0  # bytes of a message that has not come whole
        self.received = 0

    def answer(self) -> None:
        """
        Read what there is and send as many messages.
        """
        data = self.connection.recv(1 << 18)
        if not data:
            raise ConnectionError("the relay closed a connection")
        whole, self.pending = divmod(self.pending + len(data), self.receivedLength)
        self.received += whole
        if whole:
            self.connection.sendall(self.message * whole)


def linkPeer(port: int) -> Peer:
    """
    Bring a link up.
    """
    key = Ed25519PrivateKey.generate()
    publicKey = key.public_key().public_bytes_raw()
    connection = socket.create_connection(("127.0.0.1", port))
    link = LinkClient(Claimant(publicKey, key.sign, os.urandom(8)), 0.0, random.Random(0))
    while link.state is not ClientState.UP:
        link.receiveBytes(connection.recv(4096), 0.0)
        connection.sendall(link.pollTransmit() or b"")
    return Peer(connection, publicKey)


def ampPeer(port: int) -> Peer:
    """
    Register over AMP.
    """
    key = os.urandom(32)
    connection = socket.create_connection(("127.0.0.1", port))
    box = amp.Box({b"_ask": b"1", b"_command": b"Register", b"key": key})
    connection.sendall(box.serialize())
    connection.recv(4096)
    return Peer(connection, key)


def linkMessage(to: bytes) -> bytes:
    """
    @return: a send frame.
    """
    return encodeHot(FrameType.SEND, to, PAYLOAD)


def ampMessage(to: bytes) -> bytes:
    """
    @return: a Send box.
    """
    return bytes(amp.Box({b"_command": b"Send", b"to": to, b"payload": PAYLOAD}).serialize())


def ampReceived(sender: bytes) -> bytes:
    """
    @return: the Receive box that a Send box becomes.
    """
    box = amp.Box({b"_command": b"Receive", b"sender": sender, b"payload": PAYLOAD})
    return bytes(box.serialize())


def linkReceived(sender: bytes) -> bytes:
    """
    @return: the receive frame that a send frame becomes.
    """
    return encodeHot(FrameType.RECEIVE, sender, PAYLOAD)


def measure(kind: str, pairs: int, inFlight: int, seconds: float) -> tuple[float, float]:
    """
    @return: messages forwarded per CPU second, and per second.
    """
    relay = Relay(kind)
    connect = CLIENTS[kind][0]
    peers = [connect(relay.port) for _ in range(2 * pairs)]
    try:
        return _measure(relay, peers, kind, inFlight, seconds)
    finally:
        for peer in peers:
            peer.connection.close()
        relay.stop()


def _measure(
    relay: Relay, peers: list[Peer], kind: str, inFlight: int, seconds: float
) -> tuple[float, float]:
    _, encode, received = CLIENTS[kind]
    selector = selectors.DefaultSelector()
    for number, peer in enumerate(peers):
        other = peers[number ^ 1]
        peer.message = encode(other.key)
        peer.receivedLength = len(received(other.key))
        selector.register(peer.connection, selectors.EVENT_READ, peer)
    for peer in peers[::2]:
        peer.connection.sendall(peer.message * inFlight)
    spin(selector, WARM_UP)
    before, cpu, started = sum(peer.received for peer in peers), relay.cpu(), time.monotonic()
    spin(selector, seconds)
    forwarded = sum(peer.received for peer in peers) - before
    selector.close()
    return forwarded / (relay.cpu() - cpu), forwarded / (time.monotonic() - started)


def spin(selector: selectors.BaseSelector, seconds: float) -> None:
    """
    Let the messages travel.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for ready, _ in selector.select(0.1):
            ready.data.answer()


# For each relay: how to connect, what a peer sends, and what that becomes.
CLIENTS: dict[
    str, tuple[Callable[[int], Peer], Callable[[bytes], bytes], Callable[[bytes], bytes]]
] = {
    "link": (linkPeer, linkMessage, linkReceived),
    "amp": (ampPeer, ampMessage, ampReceived),
}


def main() -> int:
    """
    Measure and print; the status says whether the ratio is good enough.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--serve", choices=("link", "amp"), help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of one measurement")
    parser.add_argument("--pairs", type=int, default=16)
    parser.add_argument("--at-least", type=float, default=3.0, help="the ratio that is asked for")
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve)
        return 0
    return compare(arguments)


def compare(arguments: argparse.Namespace) -> int:
    """
    Print one row for each load.
    """
    print(f"{len(PAYLOAD)}-byte messages, {arguments.pairs} pairs, {arguments.rounds} rounds")
    print(f"{'in flight':>9} {'link msg/CPU s':>15} {'AMP msg/CPU s':>14} {'ratio':>6}")
    worst = float("inf")
    for inFlight in (1, 16):
        rates: dict[str, list[float]] = {"link": [], "amp": []}
        for _ in range(arguments.rounds):
            for kind, column in rates.items():
                column.append(measure(kind, arguments.pairs, inFlight, arguments.seconds)[0])
        ratio = statistics.median(
            mine / theirs for mine, theirs in zip(rates["link"], rates["amp"], strict=True)
        )
        link, other = statistics.median(rates["link"]), statistics.median(rates["amp"])
        print(f"{inFlight:9} {link:15,.0f} {other:14,.0f} {ratio:6.2f}", flush=True)
        worst = min(worst, ratio)
    return 0 if worst >= arguments.at_least else 1


if __name__ == "__main__":
    sys.exit(main())
