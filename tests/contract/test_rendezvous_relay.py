"""
Relayed datagrams on the real reactor, over loopback: in bulk, to readers that stall, and beside
messages.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import reactor as globalReactor
from twisted.internet.task import deferLater
from zope.interface import implementer

from p2ptwist.core.link.limits import Limits
from p2ptwist.core.tokenbucket import Rate
from p2ptwist.interfaces import ILinkReceiver
from p2ptwist.rendezvous.connections import UNSENT_LIMIT
from p2ptwist.rendezvous.linkclient import RendezvousLink
from p2ptwist.rendezvous.service import NodeService
from tests.contract.rendezvous import GENEROUS, Case, Receiver, residentKiB, twistd

reactor: Any = globalReactor
NONE = Rate(float("inf"), float("inf"))
UNLIMITED = Limits(relayRate=NONE, relayCapacity=NONE, siteAcceptRate=GENEROUS)
PAYLOAD = 16_000
BULK = 20_000_000


@implementer(ILinkReceiver)
class Collector(Receiver):
    """
    Remembers what comes.

    @ivar numbers: the first four bytes of each relayed datagram.
    @ivar messages: the messages.
    """

    def __init__(self) -> None:
        super().__init__()
        self.numbers: list[int] = []
        self.messages: list[bytes] = []

    def relayedReceived(self, sender: bytes, payload: bytes) -> None:
        """
        Remember its number.
        """
        self.numbers.append(int.from_bytes(payload[:4], "big"))

    def messageReceived(self, sender: bytes, payload: bytes) -> None:
        """
        Remember it.
        """
        self.messages.append(payload)


class Peer:
    """
    A link that is up, and what it has received.
    """

    def __init__(self, link: RendezvousLink) -> None:
        self.link = link
        self.key = link._identity.publicKey
        self.received = Collector()
        link.receiver = self.received
        self.accepted = 0

    @property
    def transport(self) -> Any:
        """
        The transport below the link.
        """
        assert self.link._core.connection is not None
        return self.link._core.connection.transport

    def relay(self, to: Peer, number: int) -> bool:
        """
        Have one numbered datagram relayed.
        """
        payload = number.to_bytes(4, "big") + bytes(PAYLOAD - 4)
        accepted = self.link.sendRelayed(to.key, payload)
        self.accepted += accepted
        return accepted


class RelayTests(Case):
    """
    A node in this process, and links to it.
    """

    async def start(self, limits: Limits, count: int) -> tuple[NodeService, list[Peer]]:
        """
        @return: a node, and peers that are linked to it.
        """
        node = self.serve("tcp:0:interface=127.0.0.1", limits)
        endpoint = f"tcp:127.0.0.1:{node.addresses[0].port}"  # type: ignore[attr-defined]
        peers = [Peer(self.link(endpoint)) for _ in range(count)]
        for peer in peers:
            await peer.link.whenUp()
        return node, peers

    async def bulk(self, sender: Peer, to: Peer, bystander: Peer) -> None:
        """
        Relay 20 MB as fast as they are taken, and send a few messages meanwhile.
        """
        for number in range(BULK // PAYLOAD):
            while not sender.relay(to, number):
                await deferLater(reactor, 0)
            if number % 100 == 0:
                sender.link.send(bystander.key, b"%d" % number)

    async def until(self, happened: Any) -> None:
        """
        Wait until C{happened()} is true.
        """
        while not happened():
            await deferLater(reactor, 0.001)

    async def test_bulk(self) -> None:
        """
        Of 20 MB, all that was taken arrives in order or is counted as dropped; the sender's
        messages arrive as well.
        """
        node, (alice, bob, carol) = await self.start(UNLIMITED, 3)
        await self.bulk(alice, bob, carol)
        counters = node.counters
        await self.until(lambda: counters.relayed == alice.accepted)
        await self.until(lambda: len(bob.received.numbers) + counters.relayLost == alice.accepted)
        await self.until(lambda: len(carol.received.messages) == 13)
        self.assertEqual(bob.received.numbers, sorted(set(bob.received.numbers)))
        self.assertEqual(counters.relayedBytes, alice.accepted * PAYLOAD)
        self.assertEqual(counters.throttled + counters.tooSlow, 0)

    async def test_stalled(self) -> None:
        """
        A reader that stalls costs the node 256 KiB at most, whatever is relayed to it, and not its
        link; the sender's messages go on; and when it reads again, what was not counted as dropped
        arrives, messages first.
        """
        node, (alice, bob, carol) = await self.start(UNLIMITED, 3)
        bob.transport.pauseProducing()
        link = node._connections.node.registry.get(bob.key)
        assert link is not None
        most = 0

        def held() -> int:
            transport: Any = link.connection.transport  # type: ignore[attr-defined]
            below: int = len(transport.dataBuffer) - transport.offset + transport._tempDataLen
            outbox = link.outbox
            return below + outbox._relayedSize + sum(map(len, outbox.frames))

        for number in range(BULK // PAYLOAD):
            while not alice.relay(bob, number):
                await deferLater(reactor, 0)
            most = max(most, held())
            if number % 100 == 0:
                alice.link.send(carol.key, b"%d" % number)
            if number == 1000:
                alice.link.send(bob.key, b"a message")
        counters = node.counters
        await self.until(lambda: counters.relayed == alice.accepted)
        await self.until(lambda: len(carol.received.messages) == 13)
        self.assertTrue(128 * 1024 < most <= 256 * 1024, most)
        self.assertGreater(counters.relayLost, 1000)
        bob.transport.resumeProducing()
        await self.until(lambda: len(bob.received.numbers) + counters.relayLost == alice.accepted)
        self.assertEqual(bob.received.messages, [b"a message"])
        self.assertEqual(bob.received.numbers, sorted(set(bob.received.numbers)))
        self.assertEqual(counters.tooSlow, 0)
        self.assertFalse(bob.received.down.called)

    async def test_messages(self) -> None:
        """
        With the default limits, the messages of a peer that relays as fast as it can, and of
        another, arrive while it still does.
        """
        node, (flooder, bob, carol, honest) = await self.start(Limits(), 4)
        number = 0
        for sender in (flooder, honest) * 10:
            heard = len(carol.received.messages)
            sender.link.send(carol.key, b"hi")
            while len(carol.received.messages) == heard:
                for _ in range(20):
                    flooder.relay(bob, number)
                    number += 1
                await deferLater(reactor, 0)
        self.assertGreater(node.counters.relayLimited, 0)
        self.assertEqual(node.counters.throttled, 0)
        self.assertFalse(flooder.received.down.called)

    async def test_kernel(self) -> None:
        """
        The kernel of neither side takes megabytes that it cannot send yet.
        """
        option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
        node, (peer,) = await self.start(UNLIMITED, 1)
        link = node._connections.node.registry.get(peer.key)
        connection: Any = link and link.connection
        for transport in (peer.transport, connection.transport):
            if option is not None:
                value = transport.socket.getsockopt(socket.IPPROTO_TCP, option)
                self.assertEqual(value, UNSENT_LIMIT)


class ProcessTests(Case):
    """
    The real command.
    """

    async def test_memory(self) -> None:
        """
        Ten readers that stall, and four megabytes for each of them, cost the process no more than
        256 KiB each.
        """
        node = twistd(
            self,
            "--listen=tcp:0:interface=127.0.0.1",
            "--no-stun",
            "--relay-rate=none",
            "--relay-capacity=none",
        )
        endpoint = await node.printed(r"p2ptwist: links on (\S+)\n")
        sender, bystander, *stalled = [Peer(self.link(endpoint)) for _ in range(13)]
        for peer in (sender, bystander, *stalled):
            await peer.link.whenUp()
        # What one stalled reader costs the allocator once is no cost of a link.
        spare, *stalled = stalled
        await self.stall(sender, [spare])
        before = residentKiB(node.processID)
        await self.stall(sender, stalled)
        sender.link.send(bystander.key, b"on time")
        while not bystander.received.messages:
            await deferLater(reactor, 0.001)
        self.assertLess(residentKiB(node.processID) - before, 256 * len(stalled))
        self.assertFalse(any(peer.received.down.called for peer in stalled))

    async def stall(self, sender: Peer, readers: list[Peer]) -> None:
        """
        Stop reading, and relay.
        """
        for peer in readers:
            peer.transport.pauseProducing()
        for number in range(4_000_000 // PAYLOAD):
            for peer in readers:
                while not sender.relay(peer, number):
                    await deferLater(reactor, 0)
