"""
Sessions over a rendezvous node that lies.

C{P2PTWIST_LYING_SEEDS} says how many runs there are: 300 if it is not set, 10,000 for a night.
"""

from __future__ import annotations

import os
from collections import Counter
from functools import partial
from random import Random

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure
from zope.interface import implementer

from p2ptwist.core.address import HostPort, formatAddress, parseHost
from p2ptwist.core.errors import MalformedDatagram
from p2ptwist.core.ice.candidate import Candidate, CandidateType
from p2ptwist.core.ice.signal import MoreCandidates, encodeSignal
from p2ptwist.core.nat import NATBehavior
from p2ptwist.core.session.admission import proofText
from p2ptwist.core.session.envelope import (
    EARLY_TYPE,
    SMALLEST_LIMIT,
    Envelope,
    decodeEnvelope,
    encodeEarlyEnvelope,
    encodeEnvelopes,
    encodeUnknown,
)
from p2ptwist.core.stun.attributes import encodeAddress, encodeXORAddress
from p2ptwist.core.stun.message import TRANSACTION_ID_LENGTH
from p2ptwist.errors import P2PError, SessionLost, SessionRefused
from p2ptwist.interfaces import ILink, ILinkReceiver, IWelcome
from p2ptwist.net.quic import StreamReceived, callingQUIC
from p2ptwist.peer.earlyoffers import EarlyOffers
from p2ptwist.peer.identity import Identity
from p2ptwist.peer.service import PeerService
from p2ptwist.testing import Host, Internet, Link
from tests.sim.sessions import IDENTITIES, SessionCase, Talk, Talks

SEEDS = int(os.environ.get("P2PTWIST_LYING_SEEDS", "300"))
LATENCY = 0.025  # seconds from a peer to the node, or from the node to a peer
CANARY = b"a canary that sings nowhere else"
SERVICE = "service-canary"
ALICE, BOB, MALLORY = IDENTITIES[:3]


class Welcome:
    """
    What the node says at first.
    """

    nodeName = "liar"
    roundTrip = 2 * LATENCY
    stunServers: tuple[HostPort, ...] = ()

    def __init__(self, observedAddress: HostPort) -> None:
        self.observedAddress = observedAddress


@implementer(ILink)
class LyingLink(Service):
    """
    A link to the node that lies.
    """

    receiver: ILinkReceiver | None = None
    maxPayload = 16_000

    def __init__(self, node: LyingNode, host: Host, identity: Identity) -> None:
        self.node = node
        self.host = host
        self.identity = identity
        self.welcome: IWelcome = Welcome((host.address, 1))  # type: ignore[assignment]
        node.links[identity.publicKey] = self

    def startService(self) -> None:
        """
        Be up at once.
        """
        super().startService()
        assert self.receiver is not None
        self.receiver.linkUp(self.welcome)

    def stopService(self) -> None:
        """
        Be down.
        """
        super().stopService()
        assert self.receiver is not None
        self.receiver.linkDown(Failure(P2PError("stopped")))

    def send(self, to: bytes, payload: bytes) -> None:
        """
        Sessions need no messages.
        """
        raise AssertionError("a session sent a message")

    def sendRelayed(self, to: bytes, payload: bytes) -> bool:
        """
        Give the node something to lie about.
        """
        self.host.callLater(LATENCY, self.node.relay, self.identity.publicKey, to, payload)
        return True

    def probe(self, patience: float = 10.0) -> None:
        """
        The link is always there.
        """

    def whenUp(self) -> Deferred[IWelcome]:
        """
        It is up.
        """
        return succeed(self.welcome)

    def deliver(self, sender: bytes, payload: bytes) -> None:
        """
        Hand over what the node says that C{sender} sent.
        """
        if self.running and self.receiver is not None:
            self.receiver.relayedReceived(sender, payload)


class Intruder:
    """
    The caller's side of a handshake, in a session that somebody else began.

    @ivar flight: its first datagrams.
    @ivar told: what it could read of what the called side sent.
    """

    def __init__(self) -> None:
        self._quic = callingQUIC(0.0)
        self.flight = tuple(self._quic.takeDatagrams(0.0))
        self.told = b""

    def receive(self, datagrams: tuple[bytes, ...], now: float) -> list[bytes]:
        """
        @return: what it sends next.
        """
        self._quic.receive(datagrams, now)
        while (event := self._quic.pollEvent()) is not None:
            if isinstance(event, StreamReceived):
                self.told += event.data
        return self._quic.takeDatagrams(now)


class LyingNode:
    """
    A node that does to what it relays whatever its seed tells it.

    @ivar seen: everything that it was given.
    @ivar vices: how likely it does what.
    @ivar swaps: in whose place it puts Mallory.
    @ivar intruders: by the names of the sessions that it goes on with itself, in Alice's name.
    """

    def __init__(self, random: Random) -> None:
        self.links: dict[bytes, LyingLink] = {}
        self.seen: list[bytes] = []
        self.intruders: dict[bytes, Intruder] = {}
        self._random = random
        self._kept: list[tuple[bytes, bytes, bytes]] = []
        # Each vice has a likelihood of its own in a run, and is often absent.
        names = ["drop", "repeat", "delay", "splice", "corrupt", "rename", "misroute", "deny"]
        names += ["regraft", "intrude"]
        self.vices = {vice: random.choice((0.0, 0.0, 0.0, 0.0, 0.05, 0.3, 0.9)) for vice in names}
        self.swaps = BOB if random.random() < 0.1 else None

    def relay(self, sender: bytes, to: bytes, payload: bytes) -> None:
        """
        Relay something, or not, or something else.
        """
        self.seen.append(payload)
        self._kept.append((sender, to, payload))
        if self.swaps is not None:
            # Mallory passes for one of the others.
            real = self.swaps.publicKey
            to = MALLORY.publicKey if to == real else to
            sender = real if sender == MALLORY.publicKey else sender
        if self._intruded(sender, to, payload) or self._will("drop"):
            return
        if self._will("deny"):
            self._deny(sender, to)
        if self._will("splice"):
            other = self._random.choice(self._kept)[2]
            cut = self._random.randrange(len(payload))
            payload = payload[:cut] + other[cut:]
        if self._will("corrupt"):
            flipped = bytearray(payload)
            flipped[self._random.randrange(len(flipped))] ^= 1 << self._random.randrange(8)
            payload = bytes(flipped)
        if payload[0] == EARLY_TYPE and self._will("regraft"):
            payload = self._regrafted(payload)
        if payload[0] == EARLY_TYPE and to == BOB.publicKey and self._will("intrude"):
            payload = self._intruding(payload)
        if self._will("rename"):
            sender = self._random.choice(list(self.links))
        if self._will("misroute"):
            to = self._random.choice(list(self.links))
        self._deliver(sender, to, payload)
        if self._will("repeat"):
            for _ in range(self._random.randrange(1, 4)):
                self._deliver(*self._random.choice(self._kept))

    def _regrafted(self, payload: bytes) -> bytes:
        """
        @return: an early offer, or none, or garbage, with other datagrams, or a part of them, or
            twice as many, or in another session.
        """
        try:
            mine = decodeEnvelope(payload)
            other = decodeEnvelope(self._random.choice(self._kept)[2])
        except MalformedDatagram:
            return payload
        choose = self._random.choice
        flipped = bytearray(mine.early or b"?")
        flipped[self._random.randrange(len(flipped))] ^= 1 << self._random.randrange(8)
        mallorys = EarlyOffers(MALLORY).make(
            BOB.publicKey, mine.session, [b"of Mallory"], mine.datagrams
        )
        lies = (b"", other.early, bytes(flipped), mine.early[:-1], mine.early * 2, mallorys or b"")
        first = mine.datagrams[:1]
        hellos = (mine.datagrams, other.datagrams, first, first + mine.datagrams)
        early, hello = choose((mine.early, *lies)), choose(hellos)
        session = choose((mine.session, mine.session, other.session, self._random.randbytes(8)))
        return _encoded(Envelope(session, hello, early))

    def _intruding(self, payload: bytes) -> bytes:
        """
        @return: what the caller said, with the first datagrams of another handshake, all or some.
        """
        try:
            envelope = decodeEnvelope(payload)
        except MalformedDatagram:
            return payload
        intruder = self.intruders[envelope.session] = Intruder()
        own, theirs = intruder.flight, envelope.datagrams
        hello = self._random.choice([own, theirs[:1] + own[1:], theirs + own, own + theirs])
        return _encoded(Envelope(envelope.session, hello, envelope.early))

    def _intruded(self, sender: bytes, to: bytes, payload: bytes) -> bool:
        """
        @return: whether what Bob sends is for the node itself, which has answered it.
        """
        intruder = self.intruders.get(payload[1:9])
        if intruder is None or (sender, to) != (BOB.publicKey, ALICE.publicKey):
            return False
        try:
            datagrams = decodeEnvelope(payload).datagrams
        except MalformedDatagram:
            return False
        answer = intruder.receive(datagrams, self.links[to].host.seconds())
        for each in encodeEnvelopes(payload[1:9], answer, SMALLEST_LIMIT):
            self._deliver(to, sender, each)
        return True

    def _will(self, vice: str) -> bool:
        return self._random.random() < self.vices[vice]

    def _deny(self, sender: bytes, to: bytes) -> None:
        receiver = self.links[sender].receiver
        if self._random.random() < 0.5 or receiver is None:
            self._deliver(to, sender, encodeUnknown(self.seen[-1][1:9].ljust(8, b"\0")))
        else:
            receiver.peerUnreachable(to)

    def _deliver(self, sender: bytes, to: bytes, payload: bytes) -> None:
        link = self.links.get(to)
        if link is None:
            return
        delay = LATENCY + (self._random.random() if self._will("delay") else 0.0)
        link.host.callLater(delay, link.deliver, sender, payload)


def _encoded(envelope: Envelope) -> bytes:
    """
    @return: it as it is sent, with an early offer or without.
    """
    session, datagrams = envelope.session, envelope.datagrams
    limit = LyingLink.maxPayload
    early = envelope.early and encodeEarlyEnvelope(session, envelope.early, datagrams, limit)
    return early or encodeEnvelopes(session, datagrams, limit)[0]


def forms(address: HostPort) -> list[bytes]:
    """
    @return: an address as text, in hexadecimal, in binary with the port at either end, and as in
        STUN's XOR-MAPPED-ADDRESS: so much of each that it is nowhere by chance.
    """
    host, port = address
    number, packed = port.to_bytes(2, "big"), parseHost(host).packed
    # Behind the first four bytes of an IPv6 address a transaction's own mask begins.
    masked = encodeXORAddress(address, bytes(TRANSACTION_ID_LENGTH))[2:8]
    hexadecimal = packed.hex()
    text = [host, hexadecimal, hexadecimal.upper(), str(int.from_bytes(packed, "big"))]
    binary = [packed + number, number + packed, masked, masked[2:] + masked[:2]]
    return [each.encode() for each in text] + binary


class Run:
    """
    Alice calls Bob; Mallory is there too, and the node is hers.

    @ivar connected: what became of the call: the protocol or the failure.
    """

    def __init__(self, seed: int) -> None:
        self.internet = Internet(seed=seed)
        self.random = Random(seed)
        self.node = LyingNode(self.random)
        self.peers: dict[Identity, PeerService] = {}
        self.talks: dict[Identity, Talks] = {}
        for number, identity in enumerate((ALICE, BOB, MALLORY)):
            name = ["alice", "bob", "mallory"][number]
            host = self.internet.host(name, f"198.51.100.{number + 1}", link=Link(latency=0.02))
            link = LyingLink(self.node, host, identity)
            peer = PeerService(host, identity, [link], randomBytes=self.random.randbytes)
            self.peers[identity] = peer
            self.talks[identity] = Talks(partial(Talk, host, echo=True))
            peer.startService()
            peer.listen(SERVICE, self.talks[identity])
        self.talk = Talk(self.node.links[ALICE.publicKey].host)
        self.connected: list[object] = []
        self.began = self.internet.seconds()
        connecting = self.peers[ALICE].connect(BOB.peerID, SERVICE, Talks(lambda: self.talk))
        connecting.addCallbacks(self._write, None)
        connecting.addBoth(self.connected.append)

    def _write(self, talk: object) -> object:
        self.talk.transport.write(CANARY)
        return talk

    @property
    def admitted(self) -> bool:
        """
        Whether Bob has admitted Alice, as Alice knows.
        """
        session = self.peers[ALICE]._sessions.current(BOB.publicKey)
        return session is not None and session.admitted

    def secrets(self) -> list[bytes]:
        """
        @return: what nobody but the peers may see: words, and addresses in every usual form.
        """
        secrets = [CANARY, SERVICE.encode(), proofText(bytes(32), bytes(32), bytes(32))[:19]]
        for peer in self.peers.values():
            assert peer._reach is not None
            for candidate in peer._reach.local.candidates():
                secrets += forms(candidate.address)
        return secrets

    def close(self) -> None:
        """
        Stop everything, and see that nothing is left.
        """
        for peer in self.peers.values():
            self.internet.runUntil(peer.stopService(), timeout=30.0)
        self.internet.advance(3.0)
        for link in self.node.links.values():
            left = link.host.getDelayedCalls()
            assert not left, left


class LyingNodeTests(SessionCase):
    """
    Whatever the node does, it learns nothing and fools nobody.

    @ivar told: in how many runs the called side answered a handshake of the node's own.
    """

    told = 0

    def check(self, seed: int) -> str:
        """
        @return: what became of the call.
        """
        run = Run(seed)
        run.internet.advance(10.0 + 0.001)
        (connected,) = run.connected
        if isinstance(connected, Failure):
            outcome = type(connected.value).__name__
            self.assertIsInstance(connected.value, P2PError)
        elif run.talk.lost is not None:
            outcome = type(run.talk.lost.value).__name__
            self.assertIsInstance(run.talk.lost.value, SessionLost)
        else:
            outcome = "connected"
            self.assertTrue(run.admitted)
        secrets = run.secrets()
        run.internet.advance(5.0)
        self.assertTrue(CANARY.startswith(run.talk.data))
        self.assertEqual(run.talks[MALLORY].made, [])
        self.assertEqual(run.talks[ALICE].made, [])
        for talk in run.talks[BOB].made:
            self.assertTrue(CANARY.startswith(talk.data))
            self.assertEqual(talk.transport.getPeer().peerID, ALICE.peerID)
        told = [intruder.told for intruder in run.node.intruders.values()]
        self.told += any(told)
        everything = b"\0".join(run.node.seen + told)
        for secret in secrets:
            self.assertNotIn(secret, everything)
        run.close()
        self.assertEqual(self.flushLoggedErrors(), [])
        return outcome

    def test_forms(self) -> None:
        """
        What the other tests look for is what a signal, a STUN message and a log would show.
        """
        for host in ("198.51.100.7", "2001:db8::7"):
            address = (host, 41641)
            candidate = Candidate(CandidateType.HOST, address, 1)
            signal = MoreCandidates(bytes(8), 0, (candidate,), True, NATBehavior(None, None))
            transaction = bytes(range(TRANSACTION_ID_LENGTH))
            for shown in (
                encodeSignal(signal),
                encodeXORAddress(address, transaction),
                encodeAddress(address),
                formatAddress(address).encode(),
            ):
                self.assertTrue([form for form in forms(address) if form in shown], shown)

    def test_lies(self) -> None:
        """
        In every run Alice talks to Bob and to nobody else, or has an error within 10 s, and the
        node sees neither a word nor an address.
        """
        outcomes = Counter[str]()
        for seed in range(SEEDS):
            try:
                outcomes[self.check(seed)] += 1
            except BaseException:
                print(f"seed {seed} of a lying node")
                raise
        print(f"{SEEDS} lying nodes: {dict(outcomes)}; {self.told} went on with a call themselves")
        self.assertGreater(self.told, 0.02 * SEEDS)
        self.assertGreater(outcomes["connected"], 0.1 * SEEDS, outcomes)
        self.assertGreater(sum(outcomes.values()) - outcomes["connected"], 0.1 * SEEDS, outcomes)

    def honest(self) -> Run:
        """
        @return: a run with a node that has no vice yet.
        """
        run = Run(1)
        run.node.vices = dict.fromkeys(run.node.vices, 0.0)
        run.node.swaps = None
        return run

    def test_swap(self) -> None:
        """
        Who is put in Bob's place is told from Bob at once, and learns nothing of the caller.
        """
        run = self.honest()
        run.node.swaps = BOB
        run.internet.advance(1.0)
        (connected,) = run.connected
        assert isinstance(connected, Failure)
        assert isinstance(connected.value, SessionRefused)
        self.assertEqual(connected.value.word, "impostor")
        self.assertIsNone(run.peers[MALLORY]._sessions.current(ALICE.publicKey))
        run.close()

    def test_impersonation(self) -> None:
        """
        Who calls in Alice's name is told from Alice, and gets no stream.
        """
        run = self.honest()
        run.internet.advance(1.0)
        run.node.swaps = ALICE
        made = list(run.talks[BOB].made)
        talk = Talk(run.node.links[MALLORY.publicKey].host)
        run.peers[MALLORY].connect(BOB.peerID, SERVICE, Talks(lambda: talk))
        run.internet.advance(1.0)
        assert talk.lost is not None
        assert isinstance(talk.lost.value, SessionLost)
        self.assertEqual(talk.lost.value.word, "impostor")
        self.assertEqual(run.talks[BOB].made, made)
        self.assertIsNone(made[0].lost, "the real Alice's stream goes on")
        run.close()

    def test_replay(self) -> None:
        """
        A call that is played again gets no further than a handshake that nobody finishes, and does
        not disturb the session that there is.
        """
        run = self.honest()
        run.internet.advance(1.0)
        bob = run.node.links[BOB.publicKey]
        for payload in run.node.seen[:20]:
            renamed = payload[:1] + bytes(8) + payload[9:]
            bob.deliver(ALICE.publicKey, payload)
            bob.deliver(ALICE.publicKey, renamed)
        run.internet.advance(11.0)
        self.assertEqual(len(run.talks[BOB].made), 1)
        self.assertIsNone(run.talk.lost)
        run.talk.transport.write(CANARY)
        run.internet.advance(1.0)
        self.assertEqual(run.talk.data, CANARY * 2)
        self.assertEqual(len(run.peers[BOB]._sessions._held), 1)
        run.close()

    def test_flood(self) -> None:
        """
        Calls in the names of many peers cost a bounded number of handshakes.
        """
        run = self.honest()
        run.internet.advance(1.0)
        bob = run.node.links[BOB.publicKey]
        for number in range(500):
            for payload in run.node.seen[:2]:
                bob.deliver(number.to_bytes(32, "big"), payload)
        self.assertLessEqual(len(run.peers[BOB]._sessions._held), 65)
        run.internet.advance(11.0)
        self.assertEqual(len(run.peers[BOB]._sessions._held), 1)
        self.assertIsNone(run.talk.lost)
        run.close()

    def test_narrow(self) -> None:
        """
        A node that carries too little for sessions is as good as none: the call ends in 10 s.
        """
        run = self.honest()
        for link in run.node.links.values():
            link.maxPayload = 100
        run.internet.advance(10.0)
        (connected,) = run.connected
        assert isinstance(connected, Failure)
        assert isinstance(connected.value, SessionRefused)
        self.assertEqual(connected.value.word, "late")
        run.close()
