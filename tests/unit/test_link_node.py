"""
Tests for the node's side of the link: L{p2ptwist.core.link.node}.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.errors import LocalUsageError, MalformedFrame
from p2ptwist.core.link.frames import (
    MAX_PAYLOAD,
    FrameDecoder,
    FrameType,
    encodeFrame,
    encodeHot,
)
from p2ptwist.core.link.limits import Limits
from p2ptwist.core.link.links import Action
from p2ptwist.core.link.messages import Goodbye, Hello, Prove, Welcome
from p2ptwist.core.link.node import Node
from p2ptwist.core.link.nodelink import LinkState, NodeLink
from p2ptwist.core.link.reasons import Reason, reasonWord
from p2ptwist.core.tokenbucket import Rate

CHALLENGE = bytes(range(100, 132))
HELLO = Hello(CHALLENGE, "node")
PING = encodeFrame(FrameType.PING)
PONG = encodeFrame(FrameType.PONG)
ADDRESS = ("192.0.2.1", 1025)
ALICE, BOB, CAROL = (bytes((number,)) * 32 for number in b"abc")
# A test is no carrier NAT: let it connect as often as it likes.
GENEROUS = Rate(1e6, 1e6)


def verify(publicKey: bytes, signature: bytes, text: bytes) -> bool:
    """
    @return: whether C{signature} is what L{proof} makes.
    """
    return signature == (publicKey + text)[-64:]


def proof(
    publicKey: bytes, instance: bytes = b"instance", takeOver: bool = True, version: int = 1
) -> bytes:
    """
    @return: a prove frame that L{verify} believes.
    """
    unsigned = Prove(publicKey, instance, takeOver, version=version)
    signature = (publicKey + unsigned.signedText(HELLO))[-64:]
    return Prove(publicKey, instance, takeOver, signature, version).encode()


def frames(data: bytes) -> list[bytes]:
    """
    @return: type and body of every frame in C{data}, which ends with a whole one.
    """
    decoder = FrameDecoder(16384)
    decoder.feed(data)
    found = []
    while (frame := decoder.take()) is not None:
        found.append(frame)
    assert not len(decoder)
    return found


class Bench:
    """
    A node, and what it has sent and wanted done.

    @ivar node: it.
    """

    def __init__(self, **limits: object) -> None:
        generous = dict.fromkeys(("siteAcceptRate", "regionAcceptRate"), GENEROUS)
        self.node = Node(
            "node",
            verify,
            lambda length: CHALLENGE[:length],
            0.0,
            limits=Limits(**{**generous, **limits}),  # type: ignore[arg-type]
            stunServers=(("", 3478),),
        )
        self._sent: dict[NodeLink, bytes] = {}
        self._actions: dict[NodeLink, list[Action]] = {}

    def connect(self, now: float = 0.0, host: str = "192.0.2.1") -> NodeLink:
        """
        @return: a new link, whose hello is still to be read.
        """
        link = self.node.accept((host, 1025), now)
        assert link is not None
        return link

    def up(self, key: bytes, now: float = 0.0, instance: bytes = b"instance") -> NodeLink:
        """
        @return: a link that is up, and has read everything so far.
        """
        link = self.connect(now)
        self.receive(link, proof(key, instance), now)
        assert link.state is LinkState.UP
        self.sent(link)
        return link

    def receive(self, link: NodeLink, data: bytes, now: float = 0.0) -> None:
        """
        Bytes come on a link.
        """
        self.node.receiveBytes(link, data, now)

    def sent(self, link: NodeLink) -> list[bytes]:
        """
        @return: the frames that were sent on C{link} since the last time.
        """
        while (transmit := self.node.pollTransmit()) is not None:
            self._sent[transmit[0]] = self._sent.get(transmit[0], b"") + transmit[1]
        return frames(self._sent.pop(link, b""))

    def actions(self, link: NodeLink) -> list[Action]:
        """
        @return: what the node wanted done with C{link} since the last time.
        """
        while (todo := self.node.pollAction()) is not None:
            self._actions.setdefault(todo[0], []).append(todo[1])
        return self._actions.pop(link, [])

    def goodbye(self, link: NodeLink) -> str:
        """
        @return: the reason in the last frame that was sent on C{link}.
        """
        frame = self.sent(link)[-1]
        assert frame[0] == FrameType.GOODBYE, frame
        return reasonWord(Goodbye.decode(frame[1:]).reason)


class HandshakeTests(SynchronousTestCase):
    """
    From the accept to the welcome.
    """

    def test_welcome(self) -> None:
        """
        The node says hello at once, and welcomes who proves a key.
        """
        bench = Bench()
        link = bench.connect()
        self.assertEqual(bench.sent(link), [HELLO.encode()[2:]])
        bench.receive(link, proof(ALICE))
        welcome = Welcome(ADDRESS, 90, MAX_PAYLOAD, (("", 3478),))
        self.assertEqual(bench.sent(link), [welcome.encode()[2:]])
        self.assertEqual(bench.node.counters.proven, 1)
        self.assertEqual(len(bench.node), 1)

    def test_pipelined(self) -> None:
        """
        A peer may send behind its proof without waiting.
        """
        bench = Bench()
        link = bench.connect()
        bench.receive(link, proof(ALICE) + encodeHot(FrameType.SEND, ALICE, b"self"))
        self.assertEqual(bench.sent(link)[-1], b"\x11" + ALICE + b"self")

    def test_badSignature(self) -> None:
        """
        A signature that does not fit is refused.
        """
        bench = Bench()
        link = bench.connect()
        bench.receive(link, Prove(ALICE, b"instance").encode() + PING)
        self.assertEqual(bench.goodbye(link), "bad-signature")
        self.assertEqual(bench.actions(link), [Action.CLOSE])
        self.assertEqual(bench.node.counters.refused, 1)
        self.assertIsNone(bench.node.registry.get(ALICE))

    def test_version(self) -> None:
        """
        A peer of another version is refused by word.
        """
        bench = Bench()
        link = bench.connect()
        bench.receive(link, proof(ALICE, version=2))
        self.assertEqual(bench.goodbye(link), "version")

    def test_tooFast(self) -> None:
        """
        A key may be proved so often at once, and so often in a while.
        """
        bench = Bench(registrationRate=Rate(0.2, 5))
        for _ in range(5):
            bench.up(ALICE)
        link = bench.connect()
        bench.receive(link, proof(ALICE))
        self.assertEqual(bench.goodbye(link), "too-fast")
        bench.up(ALICE, 5.0)

    def test_full(self) -> None:
        """
        A full node says so.
        """
        bench = Bench(maxLinks=1)
        bench.up(ALICE)
        link = bench.connect()
        bench.receive(link, proof(BOB))
        self.assertEqual(bench.goodbye(link), "full")

    def test_silent(self) -> None:
        """
        A peer has 10 s to prove its key, whatever else it sends.
        """
        bench = Bench(frameDelay=60.0)
        link = bench.connect(0.0)
        bench.receive(link, b"\x00", 9.0)
        self.assertEqual(bench.node.deadline(), 10.0)
        bench.node.handleTimeout(9.9)
        self.assertEqual(bench.actions(link), [])
        bench.node.handleTimeout(10.0)
        self.assertEqual(bench.goodbye(link), "timeout")
        self.assertEqual(bench.node.counters.timedOut, 1)

    def test_stalledProof(self) -> None:
        """
        A proof has 5 s from its first byte to its last.
        """
        bench = Bench()
        link = bench.connect(0.0)
        bench.receive(link, b"\x00", 1.0)
        bench.receive(link, b"\x6b", 5.0)
        self.assertEqual(bench.node.deadline(), 6.0)
        bench.node.handleTimeout(6.0)
        self.assertEqual(bench.goodbye(link), "timeout")

    def test_noSuchStall(self) -> None:
        """
        A peer that is up at the time of its proof's deadline is left alone.
        """
        bench = Bench()
        link = bench.up(ALICE, 1.0)
        bench.node.handleTimeout(11.0)
        self.assertIs(link.state, LinkState.UP)
        self.assertEqual(bench.node.deadline(), 121.0)


class MakingTests(SynchronousTestCase):
    """
    What a node is made of.
    """

    def test_wrong(self) -> None:
        """
        A name or a STUN server that fits into no frame is refused before any peer comes.
        """
        for name, servers in (
            ("n" * 65, ()),
            ("node", (("", 0),)),
            ("node", (("", 1),) * 5),
        ):
            self.assertRaises(LocalUsageError, Node, name, verify, bytes, 0.0, stunServers=servers)

    def test_announce(self) -> None:
        """
        What peers are told may change.
        """
        bench = Bench()
        bench.node.announce((("192.0.2.9", 1),))
        link = bench.connect()
        bench.receive(link, proof(ALICE))
        welcome = Welcome.decode(bench.sent(link)[-1][1:])
        self.assertEqual(welcome.stunServers, (("192.0.2.9", 1),))


class AcceptTests(SynchronousTestCase):
    """
    Who is not taken on.
    """

    def test_refused(self) -> None:
        """
        Over a rate, a connection is told so; with no words left, it is just closed.
        """
        bench = Bench(siteAcceptRate=Rate(1, 1), refusalRate=Rate(1, 1))
        bench.connect()
        link = bench.connect()
        self.assertEqual(bench.goodbye(link), "too-fast")
        self.assertEqual(bench.actions(link), [Action.CLOSE])
        self.assertIsNone(bench.node.accept(ADDRESS, 0.0))
        counters = bench.node.counters
        self.assertEqual((counters.accepted, counters.refused, counters.ignored), (1, 1, 1))

    def test_evicted(self) -> None:
        """
        Connections that prove nothing make room for newcomers.
        """
        bench = Bench()
        stalled = [bench.connect() for _ in range(16)]
        bench.connect()
        self.assertEqual(bench.goodbye(stalled[0]), "too-fast")
        self.assertIs(stalled[1].state, LinkState.PROVING)
        self.assertEqual(bench.node.counters.evicted, 1)

    def test_provenMakesRoom(self) -> None:
        """
        A connection that has proved its key is not counted among those that have not.
        """
        bench = Bench(maxUnproven=1, registrationRate=GENEROUS)
        for _ in range(10):
            bench.up(ALICE)
        self.assertEqual(bench.node.counters.evicted, 0)

    def test_gone(self) -> None:
        """
        A connection that is lost leaves nothing behind, in any state.
        """
        bench = Bench()
        links = [bench.connect(), bench.up(ALICE), bench.up(BOB)]
        bench.receive(links[2], b"\x00\x00")
        for link in links:
            bench.node.connectionLost(link)
        self.assertEqual(len(bench.node), 0)
        self.assertEqual(bench.node.links(), [])
        self.assertIsNone(bench.node.deadline())
        self.assertIsNone(bench.node.pollTransmit())


class ForwardTests(SynchronousTestCase):
    """
    Messages from link to link.
    """

    def setUp(self) -> None:
        """
        Two peers.
        """
        self.bench = Bench()
        self.alice = self.bench.up(ALICE)
        self.bob = self.bench.up(BOB)

    def test_forward(self) -> None:
        """
        Send becomes receive, in order, from the key that was proved.
        """
        send = encodeHot(FrameType.SEND, BOB, b"one") + encodeHot(FrameType.SEND, BOB, b"")
        self.bench.receive(self.alice, send)
        received = [b"\x11" + ALICE + b"one", b"\x11" + ALICE]
        self.assertEqual(self.bench.sent(self.bob), received)
        self.assertEqual(self.bench.sent(self.alice), [])
        self.assertEqual(self.bench.node.counters.forwarded, 2)

    def test_largest(self) -> None:
        """
        The largest payload arrives whole.
        """
        payload = bytes(MAX_PAYLOAD)
        self.bench.receive(self.alice, encodeHot(FrameType.SEND, BOB, payload))
        self.assertEqual(self.bench.sent(self.bob), [b"\x11" + ALICE + payload])

    def test_unreachable(self) -> None:
        """
        A message to who is not there, or has just gone, is answered.
        """
        self.bench.receive(self.alice, encodeHot(FrameType.SEND, CAROL, b"hi"))
        self.assertEqual(self.bench.sent(self.alice), [b"\x12" + CAROL])
        self.bench.node.connectionLost(self.bob)
        self.bench.receive(self.alice, encodeHot(FrameType.SEND, BOB, b"hi"))
        self.assertEqual(self.bench.sent(self.alice), [b"\x12" + BOB])
        self.assertEqual(self.bench.node.counters.unreachable, 2)

    def test_ping(self) -> None:
        """
        A ping is answered.
        """
        self.bench.receive(self.alice, PING)
        self.assertEqual(self.bench.sent(self.alice), [PONG[2:]])

    def test_coalesced(self) -> None:
        """
        Everything that one read brings for one peer leaves in one piece.
        """
        self.bench.receive(self.alice, encodeHot(FrameType.SEND, BOB, b"x") * 10)
        transmit = self.bench.node.pollTransmit()
        assert transmit is not None
        self.assertEqual(len(frames(transmit[1])), 10)
        self.assertIsNone(self.bench.node.pollTransmit())


class AllowanceTests(SynchronousTestCase):
    """
    The messages of a peer over its allowance wait, and none is lost.
    """

    def test_messages(self) -> None:
        """
        After 50 frames at once, 10 a second are taken; the peer is read all the while.
        """
        bench = Bench()
        alice, bob = bench.up(ALICE), bench.up(BOB)
        bench.receive(alice, encodeHot(FrameType.SEND, BOB, b"x") * 60)
        self.assertEqual(len(bench.sent(bob)), 50)
        self.assertEqual(bench.node.counters.throttled, 1)
        for tick in range(1, 11):
            bench.node.handleTimeout(tick / 10 + 0.001)
            self.assertEqual(len(bench.sent(bob)), 1)
        bench.node.handleTimeout(1.5)
        bench.receive(alice, encodeHot(FrameType.SEND, BOB, b"x"), 1.5)
        self.assertEqual(len(bench.sent(bob)), 1)
        self.assertEqual(bench.actions(alice), [])

    def test_order(self) -> None:
        """
        What comes while others wait does not overtake them.
        """
        bench = Bench(messageRate=Rate(10, 1))
        alice, bob = bench.up(ALICE), bench.up(BOB)
        for number in range(5):
            bench.receive(alice, encodeHot(FrameType.SEND, BOB, bytes((number,))), number * 0.05)
        for tick in range(1, 10):
            bench.node.handleTimeout(tick / 10 + 0.001)
        self.assertEqual([frame[-1] for frame in bench.sent(bob)], [0, 1, 2, 3, 4])

    def test_tooMany(self) -> None:
        """
        With 64 messages waiting the peer is not read any more, until there is room.
        """
        bench = Bench()
        alice, bob = bench.up(ALICE), bench.up(BOB)
        bench.receive(alice, encodeHot(FrameType.SEND, BOB, b"x") * (50 + 63))
        self.assertEqual(bench.actions(alice), [])
        bench.receive(alice, encodeHot(FrameType.SEND, BOB, b"x") * 2)
        self.assertEqual(bench.actions(alice), [Action.PAUSE])
        self.assertEqual(len(bench.sent(bob)), 50)
        bench.node.handleTimeout(0.101)
        self.assertEqual((len(bench.sent(bob)), bench.actions(alice)), (1, []))
        bench.node.handleTimeout(0.201)
        self.assertEqual((len(bench.sent(bob)), bench.actions(alice)), (1, [Action.RESUME]))
        for now in (4.0, 8.0):
            bench.node.handleTimeout(now)
        self.assertEqual(len(bench.sent(bob)), 63)

    def test_tooLong(self) -> None:
        """
        So it is with 64 KiB.
        """
        bench = Bench(messageRate=Rate(10, 1))
        alice = bench.up(ALICE)
        largest = encodeHot(FrameType.SEND, BOB, bytes(MAX_PAYLOAD))
        bench.receive(alice, largest * 4)
        self.assertEqual(bench.actions(alice), [])
        bench.receive(alice, largest * 2)
        self.assertEqual(bench.actions(alice), [Action.PAUSE])

    def test_malformedLater(self) -> None:
        """
        A message that would have to wait is judged at once.
        """
        bench = Bench(messageRate=Rate(10, 1))
        alice = bench.up(ALICE)
        bench.receive(alice, PING + encodeFrame(FrameType.SEND, b"short"))
        self.assertEqual(bench.goodbye(alice), "protocol")

    def test_silence(self) -> None:
        """
        A peer that is read is dead when it is silent, whatever of it waits.
        """
        bench = Bench(messageRate=Rate(0.005, 1))
        alice = bench.up(ALICE)
        bench.receive(alice, PING)
        for now in (10.0, 119.0):
            bench.node.handleTimeout(now)
        self.assertIs(alice.state, LinkState.UP)
        self.assertEqual(bench.node.deadline(), 120.0)
        bench.node.handleTimeout(120.0)
        self.assertEqual(bench.goodbye(alice), "timeout")

    def test_longPause(self) -> None:
        """
        A peer that is not read for longer than a silent link lives is not taken for dead.
        """
        bench = Bench(messageRate=Rate(0.005, 1), maxHeldMessages=1)
        alice = bench.up(ALICE)
        bench.receive(alice, PING * 2)
        for now in (10.0, 130.0, 200.0):
            bench.node.handleTimeout(now)
        self.assertEqual(bench.actions(alice), [Action.PAUSE, Action.RESUME])
        self.assertEqual(bench.node.deadline(), 320.0)

    def test_whilePaused(self) -> None:
        """
        What still arrives while a peer is not read waits, and a cut frame is given its time.
        """
        bench = Bench(messageRate=Rate(10, 1), maxHeldMessages=1)
        alice = bench.up(ALICE)
        bench.receive(alice, PING * 2)
        bench.sent(alice)
        bench.receive(alice, PING[:1], 0.0)
        self.assertEqual(bench.sent(alice), [])
        bench.node.handleTimeout(0.5)
        self.assertEqual(len(bench.sent(alice)), 1)
        self.assertEqual(bench.node.deadline(), 0.6)
        bench.node.handleTimeout(0.6)
        self.assertEqual(bench.node.deadline(), 5.5)

    def test_reconnecting(self) -> None:
        """
        A new link does not give a key a new allowance.
        """
        bench = Bench()
        alice = bench.up(ALICE)
        bench.receive(alice, PING * 49)
        alice = bench.up(ALICE)
        bench.receive(alice, PING * 3)
        self.assertEqual(len(bench.sent(alice)), 1)

    def test_lookups(self) -> None:
        """
        Asking for absent peers has an allowance of its own: 20 at once, 2 a second.
        """
        bench = Bench()
        alice = bench.up(ALICE)
        bench.receive(alice, encodeHot(FrameType.SEND, CAROL) * 22)
        self.assertEqual(len(bench.sent(alice)), 20)
        bench.node.handleTimeout(0.4)
        self.assertEqual(bench.sent(alice), [])
        bench.node.handleTimeout(0.5)
        self.assertEqual(len(bench.sent(alice)), 1)

    def test_both(self) -> None:
        """
        Over both allowances, the longer wait counts.
        """
        bench = Bench(messageRate=Rate(100, 1), lookupRate=Rate(1, 1))
        alice = bench.up(ALICE)
        bench.receive(alice, encodeHot(FrameType.SEND, CAROL) * 2)
        bench.node.handleTimeout(0.5)
        bench.sent(alice)
        bench.node.handleTimeout(0.9)
        self.assertEqual(bench.sent(alice), [])
        bench.node.handleTimeout(1.0)
        self.assertEqual(bench.sent(alice), [b"\x12" + CAROL])

    def test_lostWhilePaused(self) -> None:
        """
        A peer that goes while its messages wait, and it is not read, is forgotten.
        """
        bench = Bench()
        alice = bench.up(ALICE)
        bench.receive(alice, PING * 160)
        self.assertEqual(bench.actions(alice), [Action.PAUSE])
        bench.sent(alice)
        bench.node.connectionLost(alice)
        bench.node.handleTimeout(1.0)
        self.assertEqual(bench.sent(alice), [])


def relay(to: bytes, payload: bytes = bytes(967)) -> bytes:
    """
    @return: a relay frame; by default one of 1,002 bytes.
    """
    return encodeHot(FrameType.RELAY, to, payload)


class RelayTests(SynchronousTestCase):
    """
    Relayed datagrams from link to link.
    """

    def setUp(self) -> None:
        """
        Two peers.
        """
        self.bench = Bench()
        self.alice = self.bench.up(ALICE)
        self.bob = self.bench.up(BOB)
        self.counters = self.bench.node.counters

    def relayed(self) -> int:
        """
        @return: how many datagrams were sent to the receiver since the last time.
        """
        return sum(frame[0] == FrameType.RELAYED for frame in self.bench.sent(self.bob))

    def test_relay(self) -> None:
        """
        Relay becomes relayed, from the key that was proved.
        """
        for payload in (b"", b"hello", bytes(MAX_PAYLOAD)):
            self.bench.receive(self.alice, relay(BOB, payload))
            self.assertEqual(self.bench.sent(self.bob), [b"\x14" + ALICE + payload])
        self.assertEqual((self.counters.relayed, self.counters.relayedBytes), (3, 5 + MAX_PAYLOAD))

    def test_ownAllowance(self) -> None:
        """
        Relayed datagrams cost no messages, and do not wait behind those that do.
        """
        send = encodeHot(FrameType.SEND, BOB, b"x")
        self.bench.receive(self.alice, relay(BOB) * 100 + send * 60 + relay(BOB) * 100)
        kinds = [frame[0] for frame in self.bench.sent(self.bob)]
        self.assertEqual(kinds, [0x14] * 100 + [0x11] * 50 + [0x14] * 100)

    def test_overRate(self) -> None:
        """
        What is over 256 KiB at once and 1 MB/s is dropped; messages between are not.
        """
        many = (relay(BOB) * 10 + encodeHot(FrameType.SEND, BOB)) * 40
        self.bench.receive(self.alice, many)
        kinds = [frame[0] for frame in self.bench.sent(self.bob)]
        self.assertEqual((kinds.count(0x14), kinds.count(0x11)), (261, 40))
        self.assertEqual(self.counters.relayLimited, 139)
        self.assertEqual(self.bench.actions(self.alice), [])
        self.bench.receive(self.alice, relay(BOB) * 150, 0.1)
        self.assertEqual(self.relayed(), 100)

    def test_tiny(self) -> None:
        """
        A frame counts for 256 bytes at least.
        """
        self.bench.receive(self.alice, relay(BOB, b"") * 1500)
        self.assertEqual(self.relayed(), 1024)

    def test_flood(self) -> None:
        """
        Who ignores that twice as much is dropped is read more slowly, for a moment each.
        """
        self.bench.receive(self.alice, relay(BOB) * 600)
        self.assertEqual(self.bench.actions(self.alice), [Action.PAUSE])
        self.assertEqual(self.counters.relayLimited, 261 + 1)
        moment = self.bench.node.deadline()
        assert moment is not None
        self.assertTrue(0.05 < moment < 0.07, moment)
        self.bench.sent(self.bob)
        self.bench.node.handleTimeout(moment)
        self.assertEqual(self.relayed(), 65)
        self.bench.receive(self.alice, encodeHot(FrameType.SEND, BOB, b"on time"), moment)
        self.bench.node.handleTimeout(0.2)
        self.assertEqual(self.bench.sent(self.bob)[-1], b"\x11" + ALICE + b"on time")
        self.assertEqual(self.bench.actions(self.alice)[-1], Action.RESUME)

    def test_reconnecting(self) -> None:
        """
        A new link does not give a key new bytes.
        """
        self.bench.receive(self.alice, relay(BOB) * 300)
        self.bench.sent(self.bob)
        self.bench.receive(self.bench.up(ALICE), relay(BOB) * 10)
        self.assertEqual(self.relayed(), 0)

    def test_unlimited(self) -> None:
        """
        A node may have no limit.
        """
        none = Rate(float("inf"), float("inf"))
        self.bench = Bench(relayRate=none, relayCapacity=none)
        alice, self.bob = self.bench.up(ALICE), self.bench.up(BOB)
        for _ in range(10):
            self.bench.receive(alice, relay(BOB) * 1000)
        self.assertEqual(self.relayed(), 10_000)

    def test_capacity(self) -> None:
        """
        What is over the node's capacity is dropped.
        """
        none = Rate(float("inf"), float("inf"))
        self.bench = Bench(relayRate=none, relayCapacity=Rate(100_000, 50_000))
        alice, self.bob = self.bench.up(ALICE), self.bench.up(BOB)
        self.bench.receive(alice, relay(BOB) * 100)
        self.assertEqual(self.relayed(), 49)
        self.assertEqual(self.bench.node.counters.relayCapped, 51)
        self.assertEqual(self.bench.actions(alice), [])

    def test_absent(self) -> None:
        """
        Who relays to an absent peer is told, at the price of a look-up; without look-ups left
        there is no answer, and nothing waits for one.
        """
        self.bench.receive(self.alice, relay(CAROL) * 25 + relay(BOB))
        self.assertEqual(self.bench.sent(self.alice), [b"\x12" + CAROL] * 20)
        self.assertEqual(self.relayed(), 1)
        self.assertEqual(self.counters.unreachable, 25)
        self.bench.receive(self.alice, relay(CAROL) * 3, 1.0)
        self.assertEqual(len(self.bench.sent(self.alice)), 2)
        self.assertEqual(self.counters.throttled, 0)

    def test_absentUnread(self) -> None:
        """
        Such answers never cost a slow reader its link.
        """
        self.bench.node.setBlocked(self.alice, True)
        for now in range(100):
            self.bench.receive(self.alice, relay(CAROL) * 20, float(now))
        self.assertIs(self.alice.state, LinkState.UP)

    def test_malformed(self) -> None:
        """
        A relay frame without a whole key ends its link.
        """
        self.bench.receive(self.alice, encodeFrame(FrameType.RELAY, ALICE[1:]))
        self.assertEqual(self.bench.goodbye(self.alice), "protocol")

    def test_slowReader(self) -> None:
        """
        A slow reader loses datagrams, counted, but not its link.
        """
        self.bench.node.setBlocked(self.bob, True)
        self.bench.receive(self.alice, relay(BOB) * 250)
        self.assertEqual(self.counters.relayLost, 250 - 122)
        self.assertEqual(self.relayed(), 0)
        self.bench.node.setBlocked(self.bob, False)
        self.assertEqual(self.relayed(), 122)
        self.assertIs(self.bob.state, LinkState.UP)

    def test_messagesFirst(self) -> None:
        """
        To a slow reader messages overtake datagrams, and take the place of the oldest.
        """
        bench = self.bench
        bench.node.setBlocked(self.bob, True)
        bench.receive(self.alice, b"".join(relay(BOB, bytes((n,)) * 967) for n in range(122)))
        bench.receive(self.alice, encodeHot(FrameType.SEND, BOB, bytes(5000)))
        self.assertEqual(self.counters.relayLost, 4)
        bench.node.setBlocked(self.bob, False)
        first, *others = bench.sent(self.bob)
        self.assertEqual(first[0], FrameType.RECEIVE)
        self.assertEqual([frame[-1] for frame in others], list(range(4, 122)))

    def test_pieces(self) -> None:
        """
        Datagrams that waited leave in pieces, so that a message still overtakes most of them.
        """
        bench = self.bench
        bench.node.setBlocked(self.bob, True)
        bench.receive(self.alice, relay(BOB) * 122)
        bench.node.setBlocked(self.bob, False)
        transmit = bench.node.pollTransmit()
        assert transmit is not None
        self.assertEqual(len(frames(transmit[1])), 33)
        bench.node.setBlocked(self.bob, True)
        self.assertIsNone(bench.node.pollTransmit())
        bench.receive(self.alice, encodeHot(FrameType.SEND, BOB, b"hi"))
        bench.node.setBlocked(self.bob, False)
        transmit = bench.node.pollTransmit()
        assert transmit is not None
        self.assertEqual(frames(transmit[1])[0], b"\x11" + ALICE + b"hi")
        self.assertEqual(self.relayed(), 122 - 33 - 33)

    def test_tooSlow(self) -> None:
        """
        Messages cost a slow reader its link as ever, and then all that waits is lost.
        """
        self.bench.node.setBlocked(self.bob, True)
        self.bench.receive(self.alice, relay(BOB) * 10 + encodeHot(FrameType.SEND, BOB, b"x") * 65)
        for _ in range(15):
            self.bench.receive(self.alice, encodeHot(FrameType.SEND, BOB, b"x"), 10.0)
        self.bench.node.handleTimeout(20.0)
        self.assertEqual(self.bench.actions(self.bob), [Action.ABORT])
        self.assertEqual(self.counters.relayLost, 10)

    def test_gone(self) -> None:
        """
        What waits for a peer that goes is lost.
        """
        self.bench.node.setBlocked(self.bob, True)
        self.bench.receive(self.alice, relay(BOB) * 10)
        self.bench.node.connectionLost(self.bob)
        self.assertEqual(self.counters.relayLost, 10)


class SlowReaderTests(SynchronousTestCase):
    """
    A reader that falls behind is bounded, and then cut off.
    """

    def setUp(self) -> None:
        """
        One peer that sends as fast as it can, one whose transport is full.
        """
        self.bench = Bench(messageRate=GENEROUS)
        self.alice = self.bench.up(ALICE)
        self.bob = self.bench.up(BOB)
        self.bench.node.setBlocked(self.bob, True)

    def send(self, count: int, payload: bytes = b"x") -> None:
        """
        Send to the slow peer.
        """
        self.bench.receive(self.alice, encodeHot(FrameType.SEND, BOB, payload) * count)

    def test_waits(self) -> None:
        """
        What fits the bounds waits until the transport takes more.
        """
        self.send(64)
        self.assertEqual(self.bench.sent(self.bob), [])
        self.bench.node.setBlocked(self.bob, False)
        self.assertEqual(len(self.bench.sent(self.bob)), 64)
        self.bench.node.setBlocked(self.bob, True)
        self.bench.node.setBlocked(self.bob, False)
        self.assertEqual(self.bench.sent(self.bob), [])

    def test_tooMany(self) -> None:
        """
        The 65th waiting message costs the link.
        """
        self.send(65)
        self.assertEqual(self.bench.actions(self.bob), [Action.ABORT])
        self.assertFalse(self.bob.outbox)
        self.assertEqual(self.bench.node.counters.tooSlow, 1)
        self.send(1)
        self.assertEqual(self.bench.sent(self.alice), [b"\x12" + BOB])

    def test_tooLong(self) -> None:
        """
        So does more than 128 KiB.
        """
        self.send(8, bytes(MAX_PAYLOAD - 100))
        self.assertIs(self.bob.state, LinkState.UP)
        self.send(1, bytes(MAX_PAYLOAD))
        self.assertEqual(self.bench.actions(self.bob), [Action.ABORT])

    def test_itself(self) -> None:
        """
        A peer may be its own slow reader.
        """
        node = self.bench.node
        node.setBlocked(self.alice, True)
        self.bench.receive(self.alice, encodeHot(FrameType.SEND, ALICE, b"x") * 80)
        self.assertEqual(self.bench.actions(self.alice), [Action.ABORT])

    def test_itsHeld(self) -> None:
        """
        So do answers to what had to wait.
        """
        bench = Bench(maxQueuedMessages=1, messageRate=Rate(10, 1))
        alice = bench.up(ALICE)
        bench.node.setBlocked(alice, True)
        bench.receive(alice, PING * 4)
        bench.node.handleTimeout(0.101)
        self.assertEqual(bench.actions(alice), [Action.ABORT])
        bench.node.handleTimeout(1.0)
        self.assertEqual(bench.sent(alice), [])

    def test_itsLookups(self) -> None:
        """
        Answers that nobody reads cost the link as well, and then no allowance.
        """
        bench = Bench(maxQueuedMessages=1, lookupRate=Rate(1, 2))
        alice = bench.up(ALICE)
        bench.node.setBlocked(alice, True)
        bench.receive(alice, encodeHot(FrameType.SEND, CAROL) * 3)
        self.assertEqual(bench.actions(alice), [Action.ABORT])
        self.assertEqual(bench.node.counters.throttled, 0)


class EndTests(SynchronousTestCase):
    """
    How links end.
    """

    def test_displaced(self) -> None:
        """
        The newest program with a key has it; the older is told why it lost it.
        """
        bench = Bench()
        old = bench.up(ALICE, instance=b"program1")
        new = bench.up(ALICE, instance=b"program2")
        self.assertEqual(bench.goodbye(old), "displaced")
        self.assertIs(bench.node.registry.get(ALICE), new)
        late = bench.connect()
        bench.receive(late, proof(ALICE, b"program1"), 1.0)
        self.assertEqual(bench.goodbye(late), "displaced")
        self.assertIs(bench.node.registry.get(ALICE), new)
        self.assertEqual(bench.node.counters.displaced, 1)

    def test_malformed(self) -> None:
        """
        A frame that makes no sense ends the link, by word; what follows is ignored.
        """
        for data in (b"\x00\x00", PONG, PING[:1] + b"\x02\x05\x00", b"\x00\x02\x10\x00"):
            bench = Bench()
            link = bench.up(ALICE)
            bench.receive(link, data + PING)
            self.assertEqual(bench.goodbye(link), "protocol")
            self.assertEqual(bench.actions(link), [Action.CLOSE])
            self.assertEqual(bench.node.counters.malformed, 1)
            self.assertIsNone(bench.node.registry.get(ALICE))

    def test_handshakeBound(self) -> None:
        """
        A frame longer than 2 KiB is refused before the proof, and taken after it.
        """
        bench = Bench()
        link = bench.connect()
        bench.receive(link, b"\x08\x01")
        self.assertEqual(bench.goodbye(link), "protocol")
        link = bench.up(ALICE)
        bench.receive(link, b"\x08\x01")
        self.assertIs(link.state, LinkState.UP)

    def test_idle(self) -> None:
        """
        A link that is silent for 120 s is dead; any bytes put that off.
        """
        bench = Bench()
        link = bench.up(ALICE)
        bench.receive(link, PING, 100.0)
        bench.sent(link)
        for now in (10.0, 120.0, 219.9):
            bench.node.handleTimeout(now)
        self.assertEqual(bench.actions(link), [])
        self.assertEqual(bench.node.deadline(), 220.0)
        bench.node.handleTimeout(220.0)
        self.assertEqual(bench.goodbye(link), "timeout")

    def test_stalledFrame(self) -> None:
        """
        A frame has 5 s from its first byte to its last; whole frames before it count for nothing.
        """
        bench = Bench()
        link = bench.up(ALICE, 0.0)
        bench.receive(link, PING + b"\x00", 1.0)
        bench.receive(link, b"\x01\x05\x00", 4.0)
        bench.receive(link, b"\x01", 5.0)
        bench.node.handleTimeout(6.0)
        self.assertIs(link.state, LinkState.UP)
        bench.node.handleTimeout(9.0)
        self.assertEqual(bench.goodbye(link), "timeout")

    def test_noStall(self) -> None:
        """
        A frame that came whole is not waited for.
        """
        bench = Bench()
        link = bench.up(ALICE)
        bench.receive(link, PING[:1], 1.0)
        bench.receive(link, PING[1:], 2.0)
        bench.node.handleTimeout(100.0)
        self.assertIs(link.state, LinkState.UP)

    def test_cutOff(self) -> None:
        """
        Who does not read its goodbye within 2 s is cut off.
        """
        bench = Bench()
        link = bench.up(ALICE, 8.0)
        bench.receive(link, b"\x00\x00", 8.0)
        self.assertEqual(bench.actions(link), [Action.CLOSE])
        bench.node.handleTimeout(9.9)
        self.assertEqual(bench.actions(link), [])
        bench.node.handleTimeout(10.0)
        self.assertEqual(bench.actions(link), [Action.ABORT])
        self.assertIsNone(bench.node.deadline())

    def test_endedLater(self) -> None:
        """
        A link that ends shortly before it was to be looked at still has its 2 s.
        """
        bench = Bench()
        link = bench.up(ALICE, 0.0)
        bench.receive(link, b"\x00\x00", 9.0)
        bench.actions(link)
        bench.node.handleTimeout(10.0)
        self.assertEqual(bench.actions(link), [])
        self.assertEqual(bench.node.deadline(), 11.0)

    def test_drain(self) -> None:
        """
        A node that drains tells everybody when to come back, and takes nobody on.
        """
        bench = Bench()
        links = [bench.up(ALICE), bench.connect(), bench.up(BOB)]
        bench.receive(links[2], b"\x00\x00")
        bench.node.drain(1.0)
        for link in links[:2]:
            goodbye = Goodbye.decode(bench.sent(link)[-1][1:])
            self.assertEqual((goodbye.reason, goodbye.retryAfter), (Reason.DRAINING, 10))
            self.assertEqual(bench.actions(link), [Action.CLOSE])
        self.assertEqual(bench.goodbye(links[2]), "protocol")
        self.assertIsNone(bench.node.accept(ADDRESS, 1.0))


class TotalityTests(SynchronousTestCase):
    """
    Every frame from every state does what the table in L{p2ptwist.core.link.node} says.
    """

    FRAMES = {  # noqa: RUF012
        "hello": HELLO.encode(),
        "prove": proof(ALICE),
        "welcome": Welcome(ADDRESS, 90, 9).encode(),
        "goodbye": Goodbye(Reason.FULL).encode(),
        "ping": PING,
        "pong": PONG,
        "send": encodeHot(FrameType.SEND, BOB),
        "receive": encodeHot(FrameType.RECEIVE, BOB),
        "unreachable": encodeHot(FrameType.UNREACHABLE, BOB),
        "relay": encodeHot(FrameType.RELAY, BOB),
        "relayed": encodeHot(FrameType.RELAYED, BOB),
        "unknown": encodeFrame(0xEE),
    }
    EXPECTED = {LinkState.PROVING: {"prove"}, LinkState.UP: {"ping", "send", "relay"}}  # noqa: RUF012

    def test_table(self) -> None:
        """
        What a state does not expect is malformed; an ended link ignores everything.
        """
        for state in LinkState:
            for name, frame in self.FRAMES.items():
                bench = Bench()
                link = bench.connect() if state is LinkState.PROVING else bench.up(ALICE)
                if state is LinkState.ENDED:
                    bench.receive(link, b"\x00\x00")
                bench.sent(link)
                bench.receive(link, frame)
                malformed = bench.node.counters.malformed
                if state is LinkState.ENDED:
                    self.assertEqual((malformed, bench.sent(link)), (1, []), name)
                else:
                    self.assertEqual(malformed, name not in self.EXPECTED[state], (state, name))

    @given(st.lists(st.tuples(st.booleans(), st.binary(max_size=80)), max_size=10))
    @settings(max_examples=300)
    def test_anything(self, pieces: list[tuple[bool, bytes]]) -> None:
        """
        Whatever comes in whatever pieces, up or not, nothing is raised; and whole or byte by byte
        it has the same end.
        """
        whole, bytewise = Bench(), Bench()
        for bench in (whole, bytewise):
            bench.up(BOB)
        for proved, data in pieces:
            ends = []
            for bench, step in ((whole, max(1, len(data))), (bytewise, 1)):
                link = bench.connect()
                if proved:
                    bench.receive(link, proof(ALICE))
                for start in range(0, len(data), step):
                    bench.receive(link, data[start : start + step])
                ends.append((link.state, bench.sent(link)))
                bench.node.connectionLost(link)
            self.assertEqual(ends[0], ends[1])

    def test_codecIsTheOnlyOneToRaise(self) -> None:
        """
        What the decoder raises does not get past the node.
        """
        decoder = FrameDecoder()
        decoder.feed(b"\x00\x00")
        self.assertRaises(MalformedFrame, decoder.take)
        bench = Bench()
        bench.receive(bench.connect(), b"\x00\x00")
        self.assertEqual(bench.node.counters.malformed, 1)
