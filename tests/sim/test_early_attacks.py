"""
Attacks on the early offer, by the node that forwards it and by callers that mean it badly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from twisted.internet.udp import Port

from p2ptwist.core.address import HostPort
from p2ptwist.core.errors import MalformedDatagram
from p2ptwist.core.ice.candidate import Candidate, CandidateType
from p2ptwist.core.ice.signal import Description, decodeSignal, encodeSignal
from p2ptwist.core.session.control import ControlDecoder, SignalMessage, encodeControl
from p2ptwist.core.session.early import MEMORY_LIMIT
from p2ptwist.core.session.envelope import (
    Envelope,
    decodeEnvelope,
    encodeEarlyEnvelope,
    encodeEnvelopes,
)
from p2ptwist.net.datagramport import DatagramPort
from p2ptwist.net.puncher import Puncher
from p2ptwist.peer.earlyoffers import EarlyOffers
from p2ptwist.peer.identity import Identity, generateIdentity
from p2ptwist.peer.service import PathEvent, allowing
from p2ptwist.testing import Host
from p2ptwist.testing.packet import Packet
from p2ptwist.testing.packet import Protocol as PacketProtocol
from tests.sim.sessions import SessionCase, Talk, Talks
from tests.sim.test_lying_node import ALICE, BOB, MALLORY, SERVICE, Intruder, Run

LIMIT = 4096  # bytes of an envelope
CHECKS = 200  # that one address may get for one offer
VICTIM = "198.51.100.99"
HANDSHAKE = 10.0  # seconds


class Tap:
    """
    Counts the UDP packets that a host sends, by where they go.
    """

    def __init__(self, host: Host) -> None:
        self.sent: list[tuple[float, HostPort, int]] = []
        wire, self._host = host.link, host
        self._sendUp: Callable[[Packet], None] = wire.sendUp
        wire.sendUp = self._count  # type: ignore[method-assign]

    def _count(self, packet: Packet) -> None:
        if packet.protocol is PacketProtocol.UDP:
            self.sent.append((self._host.seconds(), packet.destination, packet.size))
        self._sendUp(packet)

    def to(self, host: str) -> list[tuple[float, HostPort, int]]:
        """
        @return: what went to that address.
        """
        return [each for each in self.sent if each[1][0] == host]


def offerOf(run: Run, candidates: Sequence[Candidate]) -> bytes:
    """
    @return: an offer with these addresses, of nobody who goes on with it.
    """
    signals: list[bytes] = []
    host = run.node.links[MALLORY.publicKey].host
    puncher = Puncher(host, lambda data, address: None, run.random.randbytes)
    puncher.call(signals.append, candidates)
    puncher.close()
    return signals[0]


def aimed(run: Run) -> bytes:
    """
    @return: an offer with as many addresses of somebody else as it takes.
    """
    return offerOf(
        run,
        [
            Candidate(CandidateType.SERVER_REFLEXIVE, (VICTIM, 20_000 + number), 1000 - number)
            for number in range(20)
        ],
    )


class AttackCase(SessionCase):
    """
    Alice, Bob and Mallory, and a node that does what a test says.
    """

    def quiet(self) -> Run:
        """
        @return: a run in which the node has let nothing pass yet.
        """
        run = Run(1)
        run.node.vices = dict.fromkeys(run.node.vices, 0.0)
        run.node.vices["drop"] = 1.0
        run.node.swaps = None
        run.internet.advance(0.05)
        self.first = run.node.seen[0]
        self.assertEqual(self.first[0], 0x53)
        self.bob = run.node.links[BOB.publicKey]
        self.tap = Tap(self.bob.host)
        return run

    def attempts(self, run: Run, identity: Identity = BOB) -> int:
        """
        @return: for how many paths over UDP somebody looks.
        """
        reach = run.peers[identity]._reach
        assert reach is not None
        return len(reach.puncher)

    def early(
        self,
        caller: Identity,
        signals: Sequence[bytes],
        name: bytes,
        intruder: Intruder | None = None,
        hello: Sequence[bytes] | None = None,
    ) -> bytes:
        """
        @return: the first envelope of somebody who signs it himself.
        """
        flight = tuple(hello or (intruder or Intruder()).flight)
        sealed = EarlyOffers(caller).make(BOB.publicKey, name, signals, flight)
        assert sealed is not None
        payload = encodeEarlyEnvelope(name, sealed, flight, 16_000)
        assert payload is not None
        return payload

    def done(self, run: Run) -> None:
        """
        See that an attempt ends with the time for a handshake, whatever was left of it.
        """
        run.internet.advance(HANDSHAKE + 1.0)
        self.assertEqual(self.attempts(run), 0)
        self.assertEqual(run.peers[BOB]._sessions._held, {})
        before = len(self.tap.to(VICTIM))
        run.internet.advance(30.0)
        self.assertEqual(len(self.tap.to(VICTIM)), before)
        run.close()


class NodeTests(AttackCase):
    """
    The node has the caller's first envelope.
    """

    def test_genuine(self) -> None:
        """
        What the other tests see nothing of is there when nobody lies: Bob checks Alice's address
        though he got nothing else of her, until the time for the handshake is over.
        """
        run = self.quiet()
        self.bob.deliver(ALICE.publicKey, self.first)
        self.assertEqual(self.attempts(run), 1)
        run.internet.advance(1.0)
        self.assertTrue(self.tap.to("198.51.100.1"))
        self.done(run)

    def test_replays(self) -> None:
        """
        It counts once: not again now, nor when the session is over, nor when it would be too old to
        be remembered.
        """
        run = self.quiet()
        early, began = run.peers[BOB]._sessions._early, run.internet.seconds()
        wall = early._wallClock()
        early._wallClock = lambda: wall + run.internet.seconds() - began
        self.bob.deliver(ALICE.publicKey, self.first)
        self.bob.deliver(ALICE.publicKey, self.first)
        self.assertEqual(self.attempts(run), 1)
        for pause in (HANDSHAKE + 1.0, 60.0, 700.0):
            run.internet.advance(pause)
            self.tap.sent.clear()
            self.bob.deliver(ALICE.publicKey, self.first)
            self.assertEqual(self.attempts(run), 0)
            run.internet.advance(1.0)
            self.assertEqual(self.tap.to("198.51.100.1"), [])
        self.done(run)

    def test_otherNames(self) -> None:
        """
        Under another sender's key, to another peer and in another session it says nothing.
        """
        run = self.quiet()
        renamed = self.first[:1] + b"another." + self.first[9:]
        self.bob.deliver(MALLORY.publicKey, self.first)
        self.bob.deliver(generateIdentity().publicKey, self.first)
        self.bob.deliver(ALICE.publicKey, renamed)
        self.assertEqual(self.attempts(run), 0)
        run.node.links[MALLORY.publicKey].deliver(ALICE.publicKey, self.first)
        self.assertEqual(self.attempts(run, MALLORY), 0)
        self.done(run)

    def test_mangled(self) -> None:
        """
        Without it, with it cut short, doubled or changed by a bit anywhere, the handshake goes on
        and nothing else is different.
        """
        run = self.quiet()
        envelope = decodeEnvelope(self.first)
        early = envelope.early
        lies = [early[:-1], early[1:], early * 2]
        for at in range(0, len(early), 16):
            lies.append(early[:at] + bytes((early[at] ^ 1,)) + early[at + 1 :])
        payloads = [
            encodeEarlyEnvelope(envelope.session, lie, envelope.datagrams, 16_000) or b""
            for lie in lies
        ]
        payloads += encodeEnvelopes(envelope.session, envelope.datagrams, LIMIT)
        for payload in payloads:
            before = len(run.node.seen)
            self.bob.deliver(ALICE.publicKey, payload)
            self.assertEqual(self.attempts(run), 0)
            run.internet.advance(0.05)
            self.assertGreater(len(run.node.seen), before, "Bob answered the handshake")
            run.internet.advance(HANDSHAKE + 1.0)
        self.done(run)

    def test_ownHello(self) -> None:
        """
        The node's own handshake behind Alice's early offer gets Bob's certificate and a challenge,
        and not where he is.
        """
        envelope = decodeEnvelope(self.quiet().node.seen[0])
        for mixed in (False, True):
            run = self.quiet()
            envelope = decodeEnvelope(self.first)
            intruder = run.node.intruders[envelope.session] = Intruder()
            hello = (*intruder.flight, *envelope.datagrams) if mixed else intruder.flight
            forged = encodeEarlyEnvelope(envelope.session, envelope.early, hello, 16_000)
            assert forged is not None
            self.bob.deliver(ALICE.publicKey, forged)
            run.internet.advance(2.0)
            self.assertEqual(intruder.told[:3], b"\x00\x21\x01", "a challenge")
            self.assertEqual(len(intruder.told), 2 + 33)
            self.assertEqual((self.attempts(run), self.tap.to("198.51.100.1")), (0, []))
            self.done(run)

    def test_ownHelloFirst(self) -> None:
        """
        The node begins the session itself; what comes for it later is no first envelope.
        """
        run = self.quiet()
        envelope = decodeEnvelope(self.first)
        intruder = run.node.intruders[envelope.session] = Intruder()
        (hello,) = encodeEnvelopes(envelope.session, intruder.flight, LIMIT)
        self.bob.deliver(ALICE.publicKey, hello)
        self.bob.deliver(ALICE.publicKey, self.first)
        run.internet.advance(2.0)
        self.assertEqual((len(intruder.told), self.attempts(run)), (2 + 33, 0))
        self.done(run)

    def test_halfHello(self) -> None:
        """
        An early offer that Alice bound to half of a hello would let the node finish it: it is not
        taken.
        """
        run = self.quiet()
        intruder = Intruder()
        self.assertGreater(len(intruder.flight), 1)
        payload = self.early(ALICE, [aimed(run)], b"12345678", hello=intruder.flight[:1])
        self.bob.deliver(ALICE.publicKey, payload)
        self.assertEqual(self.attempts(run), 0)
        self.done(run)

    def test_impostor(self) -> None:
        """
        Who is put in Bob's place cannot read it.
        """
        run = self.quiet()
        mallory = run.node.links[MALLORY.publicKey]
        mallory.deliver(ALICE.publicKey, self.first)
        self.assertEqual(self.attempts(run, MALLORY), 0)
        name, early = self.first[1:9], decodeEnvelope(self.first).early
        self.assertIsNone(MALLORY.unseal(early, b"p2ptwist early offer v1\x00" + name))
        self.assertIsNotNone(BOB.unseal(early, b"p2ptwist early offer v1\x00" + name))
        self.done(run)

    def test_restart(self) -> None:
        """
        A called side that was restarted remembers nothing, so that within five minutes an early
        offer counts once more: that costs it one handshake and one attempt, which nobody can go on
        with.
        """
        run = self.quiet()
        self.bob.deliver(ALICE.publicKey, self.first)
        run.internet.runUntil(run.peers[BOB].stopService(), timeout=10.0)
        run.peers[BOB].startService()
        run.peers[BOB]._sessions._early = EarlyOffers(BOB)
        self.tap.sent.clear()
        self.bob.deliver(ALICE.publicKey, self.first)
        self.bob.deliver(ALICE.publicKey, self.first)
        self.assertEqual(self.attempts(run), 1)
        run.internet.advance(HANDSHAKE + 1.0)
        self.assertLessEqual(len(self.tap.to("198.51.100.1")), CHECKS)
        self.assertEqual(run.talks[BOB].made, [])
        self.done(run)


class PolicyTests(AttackCase):
    """
    Who is not welcome, or is unknown.
    """

    def test_refused(self) -> None:
        """
        A caller that the policy refuses gets no candidate, no check and no signal.
        """
        run = self.quiet()
        asked: list[str] = []

        def refuse(peer: str) -> bool:
            asked.append(peer)
            return False

        run.peers[BOB]._policy = refuse
        intruder = run.node.intruders[b"12345678"] = Intruder()
        payload = self.early(ALICE, [aimed(run)], b"12345678", intruder)
        self.bob.deliver(ALICE.publicKey, payload)
        run.internet.advance(2.0)
        self.assertEqual(asked, [ALICE.peerID])
        self.assertEqual(len(intruder.told), 2 + 33, "nothing but a challenge")
        self.assertEqual((self.attempts(run), self.tap.to(VICTIM)), (0, []))
        self.done(run)

    def test_refusedWhole(self) -> None:
        """
        The same with a whole call: Alice learns that she is not welcome, and not where Bob is.
        """
        run = self.quiet()
        run.peers[BOB]._policy = allowing([])
        run.node.vices["drop"] = 0.0
        run.internet.advance(5.0)
        assert run.talk.lost is not None
        self.assertEqual(getattr(run.talk.lost.value, "word", None), "not-admitted")
        self.assertEqual(self.tap.to("198.51.100.1"), [])
        self.done(run)

    def test_skew(self) -> None:
        """
        Where the clocks differ by more than five minutes the session and its direct path come up
        all the same.
        """
        for skew in (-301.0, 301.0):
            run = self.quiet()
            wall = run.peers[BOB]._sessions._early._wallClock() + skew
            run.peers[BOB]._sessions._early = EarlyOffers(BOB, partial(float, wall))
            self.bob.deliver(ALICE.publicKey, self.first)
            self.assertEqual(self.attempts(run), 0)
            run.node.vices["drop"] = 0.0
            run.internet.advance(5.0)
            event = run.peers[BOB].path(ALICE.peerID)
            assert event is not None
            self.assertEqual(event.kind, "direct")
            run.close()

    def test_fullMemory(self) -> None:
        """
        And where too many early offers are remembered.
        """
        run = self.quiet()
        seen = run.peers[BOB]._sessions._early._memory._seen
        now = int(run.peers[BOB]._sessions._early._wallClock())
        for number in range(MEMORY_LIMIT):
            seen[b"caller", number.to_bytes(8, "big")] = now
        self.bob.deliver(ALICE.publicKey, self.first)
        self.assertEqual((self.attempts(run), len(seen)), (0, MEMORY_LIMIT))
        run.node.vices["drop"] = 0.0
        run.internet.advance(5.0)
        event = run.peers[BOB].path(ALICE.peerID)
        assert event is not None
        self.assertEqual(event.kind, "direct")
        run.close()


class CallerTests(AttackCase):
    """
    Callers that the policy admits, and that aim at somebody else.
    """

    def test_oneCall(self) -> None:
        """
        A caller that never proves itself has a bounded number of paced checks sent, which end with
        the time for a handshake.
        """
        run = self.quiet()
        offers = [aimed(run) for _ in range(10)]
        self.bob.deliver(MALLORY.publicKey, self.early(MALLORY, offers, b"12345678"))
        run.internet.advance(HANDSHAKE + 1.0)
        sent = self.tap.to(VICTIM)
        self.assertGreater(len(sent), 20)
        self.assertLessEqual(len(sent), CHECKS)
        self.assertLessEqual(max(size for _, _, size in sent), 200)
        self.assertLessEqual(sent[-1][0] - run.began, HANDSHAKE + 0.1)
        self.done(run)

    def test_manyCalls(self) -> None:
        """
        A hundred calls a minute, for five minutes, have no more sent than a session's offers would.
        """
        run = self.quiet()
        offer = aimed(run)
        minutes = 5
        for number in range(100 * minutes):
            payload = self.early(MALLORY, [offer] * 6, number.to_bytes(8, "big"))
            self.bob.deliver(MALLORY.publicKey, payload)
            self.assertLessEqual(self.attempts(run), 1)
            run.internet.advance(0.6)
        sent = self.tap.to(VICTIM)
        self.assertLessEqual(len(sent), CHECKS * (6 + 12 * minutes) / 4)
        print(f"{100 * minutes} early offers of one caller: {len(sent)} checks")
        self.done(run)

    def test_manyCallers(self) -> None:
        """
        Nor have ever new callers without bounds: of 64 at once and 20 a second some are answered a
        round trip later, when they have proved themselves.
        """
        run = self.quiet()
        offer = aimed(run)

        def call(count: int) -> None:
            for _ in range(count):
                caller, name = generateIdentity(), run.random.randbytes(8)
                self.bob.deliver(caller.publicKey, self.early(caller, [offer], name))

        call(64)
        for _ in range(200):
            call(2)
            self.assertLessEqual(self.attempts(run), 64)
            run.internet.advance(0.1)
        sent = self.tap.to(VICTIM)
        print(f"464 callers in 20 s: {len(sent)} checks")
        self.assertLessEqual(len(sent), CHECKS * (64 + 4 * 20))
        self.done(run)

    def test_freshPorts(self) -> None:
        """
        Sockets that are opened for a caller that never proves itself are closed in time.
        """
        run = self.quiet()
        offer = decodeSignal(aimed(run))
        assert isinstance(offer, Description)
        ports = self.ports()
        fresh = [encodeSignal(replace(offer, fresh=True, session=bytes((n,) * 8))) for n in (1, 2)]
        self.bob.deliver(MALLORY.publicKey, self.early(MALLORY, fresh, b"12345678"))
        run.internet.advance(1.0)
        self.assertEqual(self.ports(), ports + 1)
        run.internet.advance(HANDSHAKE)
        self.assertEqual(self.ports(), ports)
        self.assertLessEqual(len(self.tap.to(VICTIM)), CHECKS)
        self.done(run)

    def ports(self) -> int:
        """
        @return: how many UDP ports Bob has open.
        """
        return sum(isinstance(each, Port) for each in self.bob.host.getReaders())

    def test_pathWithoutProof(self) -> None:
        """
        A caller that opens a path, and never proves itself, is told to nobody and gets nothing but
        checks on it; in time all of it ends.
        """
        run = self.quiet()
        events: list[PathEvent] = []
        run.peers[BOB].observe(events.append)
        host = run.node.links[ALICE.publicKey].host
        port = DatagramPort(host)
        port.listen()
        puncher = Puncher(host, port.write, run.random.randbytes, port.writeMany)
        port.addConsumer(puncher.datagramReceived, puncher.datagramsReceived)
        signals: list[bytes] = []
        own = Candidate(CandidateType.HOST, (host.address, port.localPort), 1)
        punch = puncher.call(signals.append, [own])
        intruder = run.node.intruders[b"12345678"] = Intruder()
        self.bob.deliver(ALICE.publicKey, self.early(ALICE, signals, b"12345678", intruder))
        run.internet.advance(0.1)
        for message in ControlDecoder().receive(intruder.told):
            if isinstance(message, SignalMessage):
                punch.signalReceived(message.signal)
        run.internet.advance(2.0)
        self.successResultOf(punch.whenOpen())
        punch.writeMany([b"\x40" + bytes(30)])
        run.internet.advance(2.0)
        (held,) = run.peers[BOB]._sessions._held.values()
        self.assertEqual((held.session.carrier.kind.value, held.untold), ("direct", True))
        run.internet.advance(HANDSHAKE)
        self.assertEqual(events, [])
        self.assertIsNone(run.peers[BOB].path(ALICE.peerID))
        punch.close()
        run.internet.runUntil(port.stopListening(), timeout=1.0)
        self.done(run)

    def test_crossing(self) -> None:
        """
        Two that call each other at once, both with early offers, have one session and one path.
        """
        run = self.quiet()
        run.node.vices["drop"] = 0.0
        talk = Talk(self.bob.host)
        connecting = run.peers[BOB].connect(ALICE.peerID, SERVICE, Talks(lambda: talk))
        self.bob.deliver(ALICE.publicKey, self.first)
        run.internet.advance(5.0)
        self.successResultOf(connecting)
        for one, other in ((ALICE, BOB), (BOB, ALICE)):
            event = run.peers[one].path(other.peerID)
            assert event is not None
            self.assertEqual(event.kind, "direct")
            self.assertEqual(len(run.peers[one]._sessions._held), 1)
            self.assertEqual(self.attempts(run, one), 1)
        run.close()

    def test_foreignSignals(self) -> None:
        """
        Signals outside of the early offer are not taken before the proof.
        """
        run = self.quiet()
        self.assertRaises(MalformedDatagram, decodeEnvelope, encodeControl(SignalMessage(b"x")))
        bare = decodeEnvelope(self.first)
        self.bob.deliver(ALICE.publicKey, offerOf(run, []))
        (plain,) = encodeEnvelopes(bare.session, bare.datagrams, LIMIT)
        self.bob.deliver(ALICE.publicKey, plain)
        self.bob.deliver(ALICE.publicKey, self.first)
        self.assertEqual(Envelope(bare.session, bare.datagrams), decodeEnvelope(plain))
        self.assertEqual(self.attempts(run), 0)
        self.done(run)
