"""
Tests for L{p2ptwist.core.ice.conversation}: what the other side's checks and answers do, what those
of strangers do not, and who controls.
"""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.address import HostPort
from p2ptwist.core.ice.candidate import CANDIDATE_LIMIT, CandidateType, makeCandidate
from p2ptwist.core.ice.check import Credentials, decodeCheck, encodeAnswer, errorCode, mappedAddress
from p2ptwist.core.ice.checklist import PairState
from p2ptwist.core.ice.events import DataReceived, PathOpened
from p2ptwist.core.ice.signal import SignalType
from p2ptwist.core.machine import Transmit
from p2ptwist.core.stun.message import (
    AttributeType,
    Message,
    MessageClass,
    Method,
    decode,
    encode,
)
from tests.unit.icewire import (
    ELSEWHERE,
    A,
    B,
    Peer,
    Wire,
    drainTransmits,
    hostCandidates,
    isRequest,
    snapshot,
)


def replies(peer: Peer) -> list[Message]:
    """
    @return: the answers that the agent has queued.
    """
    return [decode(each.data) for each in drainTransmits(peer.agent) if not isRequest(each.data)]


class RequestTests(SynchronousTestCase):
    """
    Checks of the other side (RFC 8445 section 7.3).
    """

    def test_answered(self) -> None:
        """
        A check is answered with the address that it came from, and triggers one of our own.
        """
        peer = Peer()
        peer.describe()
        self.assertTrue(peer.check(0.0))
        sent = drainTransmits(peer.agent)
        self.assertEqual([each.address for each in sent], [B, B])
        answer = decode(sent[0].data)
        self.assertEqual(answer.messageClass, MessageClass.SUCCESS)
        self.assertTrue(answer.verify(peer.remote.password))
        self.assertEqual(mappedAddress(answer), B)
        self.assertTrue(isRequest(sent[1].data))
        self.assertTrue(decode(sent[1].data).verify(peer.local.password))

    def test_provedAlready(self) -> None:
        """
        A check from an address that is proved triggers nothing.  After nomination only one from a
        new address does, as the other side's NAT may have moved it.
        """
        peer = Peer()
        peer.connect()
        peer.check(0.5)
        self.assertEqual(peer.requests(), [])
        peer.check(0.5, ELSEWHERE)
        self.assertEqual([each.address for each in peer.requests()], [ELSEWHERE])
        self.assertEqual(peer.pairs(), {B: PairState.SUCCEEDED, ELSEWHERE: PairState.WAITING})

    def test_nominated(self) -> None:
        """
        The controlled side uses the nominated pair, and no other, once it is proved.
        """
        peer = Peer()
        peer.describe(hostCandidates(B, ELSEWHERE))
        peer.agent.handleTimeout(0.0)
        requests = {each.address: each for each in peer.requests()}
        peer.answer(requests[B], 0.1)
        self.assertEqual(peer.poll(), [PathOpened(B)])
        peer.check(0.2, ELSEWHERE, nominates=True)
        self.assertFalse(peer.agent._lineage.current.completed)
        peer.answer(requests[ELSEWHERE], 0.3)
        self.assertTrue(peer.agent._lineage.current.completed)
        pair = peer.agent.pair
        assert pair is not None
        self.assertEqual(pair.address, ELSEWHERE)

    def test_nominatedAfterProof(self) -> None:
        """
        A pair that was proved before completes when it is nominated.
        """
        peer = Peer()
        peer.describe(hostCandidates(B))
        peer.agent.handleTimeout(0.0)
        for request in peer.requests():
            peer.answer(request, 0.1)
        self.assertFalse(peer.agent._lineage.current.completed)
        peer.check(0.2, nominates=True)
        self.assertTrue(peer.agent._lineage.current.completed)

    def test_nominatesUnasked(self) -> None:
        """
        The controlled side nominates nothing: the controlling one ignores its USE-CANDIDATE.
        """
        peer = Peer(controlling=True)
        peer.agent.start(0.0)
        peer.describe(hostCandidates(B), kind=SignalType.ANSWER)
        peer.check(0.0, controlling=False, nominates=True)
        self.assertFalse(peer.pair(B).nominated)

    def test_repeated(self) -> None:
        """
        A check that comes twice is answered twice, as the answer may have been lost, and does
        nothing more.
        """
        peer = Peer()
        peer.describe()
        data = peer.makeCheck()
        self.assertTrue(peer.agent.receiveDatagram(data, B, 0.0))
        answer = drainTransmits(peer.agent)[0]
        before = snapshot(peer.agent)
        deadline = peer.agent.deadline()
        self.assertTrue(peer.agent.receiveDatagram(data, B, 0.0))
        self.assertEqual(drainTransmits(peer.agent), [answer])
        self.assertEqual(snapshot(peer.agent), before)
        self.assertEqual(peer.agent.deadline(), deadline)
        self.assertEqual(peer.agent.counters.repeated, 1)

    def test_replayedFromElsewhere(self) -> None:
        """
        Whoever saw a check and plays it back gets nothing, and nobody hears of it.
        """
        peer = Peer()
        peer.describe()
        data = peer.makeCheck(nominates=True)
        peer.agent.receiveDatagram(data, B, 0.0)
        drainTransmits(peer.agent)
        before = snapshot(peer.agent)
        peer.agent.receiveDatagram(data, ELSEWHERE, 0.0)
        self.assertEqual(drainTransmits(peer.agent), [])
        self.assertEqual(snapshot(peer.agent), before)
        self.assertFalse(peer.agent.acceptsFrom(ELSEWHERE))
        self.assertEqual(peer.agent.counters.repeated, 1)

    def test_remembered(self) -> None:
        """
        The latest checks are remembered, a bounded number of them.
        """
        peer = Peer()
        peer.describe()
        first = peer.makeCheck()
        peer.agent.receiveDatagram(first, B, 0.0)
        for _ in range(200):
            peer.check(0.0)
        self.assertEqual(len(peer.agent._conversation._answered), 64)
        peer.agent.receiveDatagram(first, B, 0.0)
        self.assertEqual(peer.agent.counters.repeated, 0)

    def test_unknownAttribute(self) -> None:
        """
        A check with an attribute that must be understood and is not gets 420 and does nothing.
        """
        peer = Peer()
        peer.describe(hostCandidates(B))
        peer.agent.handleTimeout(0.0)
        drainTransmits(peer.agent)
        check = decode(peer.makeCheck())
        data = encode(
            MessageClass.REQUEST,
            Method.BINDING,
            check.transactionID,
            [*check.attributes, (0x7F00, b"")],
            key=peer.remote.password,
            fingerprint=True,
        )
        before = snapshot(peer.agent)
        self.assertTrue(peer.agent.receiveDatagram(data, B, 0.0))
        (refusal,) = replies(peer)
        self.assertEqual(errorCode(refusal), 420)
        self.assertEqual(snapshot(peer.agent), before)

    def test_unsuitableSource(self) -> None:
        """
        Checks that claim to come from somebody who should not be sent to are not answered.
        """
        peer = Peer()
        peer.describe()
        sources: list[HostPort] = [
            ("192.0.2.1", 53),
            ("192.0.2.1", 5060),
            ("224.0.0.1", 4000),
            ("127.0.0.1", 4000),
            ("255.255.255.255", 4000),
        ]
        for source in sources:
            peer.check(0.0, source)
            self.assertFalse(peer.agent.acceptsFrom(source))
        self.assertEqual(drainTransmits(peer.agent), [])
        self.assertEqual(peer.agent.counters.refused, len(sources))
        self.assertEqual(peer.pairs(), {})

    def test_tooManySources(self) -> None:
        """
        A peer that checks from ever more addresses makes us send to 24 of them and no more.
        """
        peer = Peer()
        peer.describe()
        for number in range(100):
            peer.check(0.0, ("192.0.2.1", 4000 + number))
            peer.check(0.0, ("192.0.2.1", 5100 + number), controlling=False, tieBreaker=0)
        sent = [each for _, each in peer.step(30.0)]
        self.assertEqual(len({each.address for each in sent}), CANDIDATE_LIMIT)
        self.assertEqual(peer.agent.counters.refused, 200 - CANDIDATE_LIMIT)


class AnswerTests(SynchronousTestCase):
    """
    Answers to our own checks (RFC 8445 section 7.2.5).
    """

    def asked(self) -> tuple[Peer, Transmit]:
        """
        @return: a peer at B, and the check that went there.
        """
        peer = Peer()
        peer.describe(hostCandidates(B))
        peer.agent.handleTimeout(0.0)
        (request,) = peer.requests()
        return peer, request

    def test_success(self) -> None:
        """
        The answer proves the address, tells our own and the round trip, and opens the path.
        """
        peer, request = self.asked()
        self.assertTrue(peer.answer(request, 0.07))
        self.assertEqual(peer.poll(), [PathOpened(B)])
        pair = peer.pair(B)
        self.assertEqual((pair.state, pair.mapped), (PairState.SUCCEEDED, A))
        self.assertAlmostEqual(pair.roundTrip or 0.0, 0.07)
        # A second copy of it is nothing.
        self.assertFalse(peer.answer(request, 0.08))
        self.assertEqual(peer.agent.counters.forged, 1)

    def test_afterGivingUp(self) -> None:
        """
        An answer that comes after the pair was given up proves it all the same.
        """
        peer, request = self.asked()
        peer.step(6.0)
        self.assertEqual(peer.pairs(), {B: PairState.FAILED})
        self.assertTrue(peer.answer(request, 6.5))
        self.assertEqual(peer.pairs(), {B: PairState.SUCCEEDED})

    def test_wrongSource(self) -> None:
        """
        An answer from where the check did not go is no answer.
        """
        peer, request = self.asked()
        self.assertFalse(peer.answer(request, 0.1, ELSEWHERE))
        self.assertEqual(peer.pairs(), {B: PairState.IN_PROGRESS})

    def test_errors(self) -> None:
        """
        An error other than 487 proves nothing, and the check is repeated in its time.
        """
        peer, request = self.asked()
        self.assertTrue(peer.refuse(request, 0.01, 400))
        self.assertEqual(peer.pairs(), {B: PairState.IN_PROGRESS})
        self.assertEqual(peer.requests(), [])
        self.assertFalse(peer.agent.controlling)
        self.assertEqual(len(peer.step(6.0, 0.01)), 6)

    def test_indication(self) -> None:
        """
        An indication, which other agents keep paths open with, is not taken for an answer.
        """
        peer, request = self.asked()
        before = snapshot(peer.agent)
        indication = encode(
            MessageClass.INDICATION,
            Method.BINDING,
            decode(request.data).transactionID,
            key=peer.local.password,
            fingerprint=True,
        )
        self.assertFalse(peer.agent.receiveDatagram(indication, B, 0.0))
        self.assertEqual(snapshot(peer.agent), before)

    def test_noCredentials(self) -> None:
        """
        Without the other side's credentials there is no check to send.
        """
        peer = Peer()
        peer.more(hostCandidates(B))
        lineage, conversation = peer.agent._lineage, peer.agent._conversation
        conversation.send(lineage.current, peer.pair(B), 0.0)
        self.assertEqual(drainTransmits(peer.agent), [])


class StrangerTests(SynchronousTestCase):
    """
    What is malformed, forged, replayed or from the wrong source changes nothing, whatever the agent
    is doing, and is counted.
    """

    def stages(self) -> list[Callable[[], Peer]]:
        """
        @return: what makes an agent in each stage of its life.
        """

        def fresh() -> Peer:
            """
            Nothing came yet.
            """
            return Peer()

        def checking() -> Peer:
            """
            Checks are on their way.
            """
            peer = Peer()
            peer.describe(hostCandidates(B))
            peer.agent.handleTimeout(0.0)
            return peer

        def heard() -> Peer:
            """
            The other side was heard.
            """
            peer = checking()
            peer.check(0.0)
            return peer

        def opened() -> Peer:
            """
            The path is open.
            """
            peer = Peer()
            peer.connect()
            return peer

        def restarting() -> Peer:
            """
            A restart is under way.
            """
            peer = opened()
            peer.agent.restart(0.0)
            return peer

        return [fresh, checking, heard, opened, restarting]

    def assertNothing(self, peer: Peer, data: bytes, source: HostPort) -> None:
        """
        Let the agent have a datagram, and find it as it was.
        """
        drainTransmits(peer.agent)
        peer.poll()
        before, deadline = snapshot(peer.agent), peer.agent.deadline()
        counters = peer.agent.counters
        counted = counters.malformed + counters.forged + counters.stray
        self.assertFalse(peer.agent.receiveDatagram(data, source, 0.0))
        self.assertEqual(drainTransmits(peer.agent), [])
        self.assertEqual(peer.poll(), [])
        self.assertEqual(snapshot(peer.agent), before)
        self.assertEqual(peer.agent.deadline(), deadline)
        self.assertEqual(counters.malformed + counters.forged + counters.stray, counted + 1)

    def test_forged(self) -> None:
        """
        Messages under a wrong key, for nobody, or without a key.
        """
        for make in self.stages():
            for source in (B, ELSEWHERE):
                peer = make()
                right = decode(peer.makeCheck())
                tid = right.transactionID
                stranger = Peer()
                stranger.remote = Credentials(peer.remote.fragment, b"guess" * 5)
                unsigned = encode(
                    MessageClass.REQUEST, Method.BINDING, tid, right.attributes, fingerprint=True
                )
                nameless = encode(
                    MessageClass.REQUEST,
                    Method.BINDING,
                    tid,
                    right.attributes[1:],
                    key=peer.remote.password,
                    fingerprint=True,
                )
                peer.remote, kept = Credentials(b"nobody", peer.remote.password), peer.remote
                misnamed = peer.makeCheck()
                peer.remote = kept
                answer = encodeAnswer(right, A, peer.local.password)
                for data in (stranger.makeCheck(), unsigned, nameless, misnamed, answer):
                    self.assertNothing(peer, data, source)

    def test_forgedAnswers(self) -> None:
        """
        Answers to real checks, from the wrong address or under the wrong key, and a real answer
        that was changed on its way.
        """
        peer = Peer()
        peer.describe(hostCandidates(B))
        peer.agent.handleTimeout(0.0)
        (request,) = peer.requests()
        message = decode(request.data)
        right = encodeAnswer(message, A, peer.local.password)
        self.assertNothing(peer, right, ELSEWHERE)
        self.assertNothing(peer, encodeAnswer(message, A, peer.remote.password), B)
        for index in range(len(right)):
            for bit in (1, 128):
                changed = bytearray(right)
                changed[index] ^= bit
                # Without the magic cookie it is data, from an address that proved nothing yet.
                if not 4 <= index < 8 and changed[0] < 4:
                    self.assertNothing(peer, bytes(changed), B)
        self.assertTrue(peer.agent.receiveDatagram(right, B, 0.1))

    def test_malformed(self) -> None:
        """
        Authentic messages that do not say what they must.
        """
        for make in self.stages()[1:]:
            peer = make()
            check = decode(peer.makeCheck())
            for leftOut in (AttributeType.PRIORITY, AttributeType.ICE_CONTROLLING):
                attributes = [each for each in check.attributes if each[0] != leftOut]
                data = encode(
                    MessageClass.REQUEST,
                    Method.BINDING,
                    check.transactionID,
                    attributes,
                    key=peer.remote.password,
                    fingerprint=True,
                )
                self.assertNothing(peer, data, B)
            # An answer to a check of the agent, or to none.
            request = next(iter(peer.agent._conversation.exchange._outstanding), bytes(12))
            empty = encode(
                MessageClass.SUCCESS,
                Method.BINDING,
                request,
                key=peer.local.password,
                fingerprint=True,
            )
            self.assertNothing(peer, empty, B)

    def test_withoutFingerprint(self) -> None:
        """
        A message without FINGERPRINT is no check (RFC 8445 section 7.1).
        """
        for make in self.stages():
            peer = make()
            data = peer.makeCheck()
            self.assertNothing(peer, data[:-8], B)
            bare = encode(MessageClass.REQUEST, Method.BINDING, bytes(12))
            self.assertNothing(peer, bare, B)
            self.assertNothing(peer, bare + bytes(3000), B)

    def test_strayData(self) -> None:
        """
        Data from where nobody proved to be.
        """
        for make in self.stages():
            self.assertNothing(make(), b"data", ELSEWHERE)

    def test_otherMethod(self) -> None:
        """
        STUN for something else than checks is not this session's.
        """
        peer = Peer()
        data = encode(MessageClass.REQUEST, 3, bytes(12), fingerprint=True)
        self.assertFalse(peer.agent.receiveDatagram(data, B, 0.0))

    @given(st.binary(max_size=300), st.booleans(), st.integers(0, 4))
    def test_anything(self, data: bytes, stun: bool, stage: int) -> None:
        """
        Arbitrary bytes raise nothing, send nothing and leave everything as it was.
        """
        peer = self.stages()[stage]()
        if stun:
            head = b"\0\1" + (len(data) & 0xFFFF).to_bytes(2, "big") + b"\x21\x12\xa4\x42"
            data = head + bytes(12) + data
        drainTransmits(peer.agent)
        peer.poll()
        before = snapshot(peer.agent)
        self.assertFalse(peer.agent.receiveDatagram(data, ELSEWHERE, 0.0))
        self.assertEqual(drainTransmits(peer.agent), [])
        self.assertEqual(snapshot(peer.agent), before)

    @given(st.data())
    def test_mutated(self, draw: st.DataObject) -> None:
        """
        A real check with any one bit changed is refused.
        """
        peer = Peer()
        peer.describe(hostCandidates(B))
        check = bytearray(peer.makeCheck())
        index = draw.draw(st.integers(0, 8 * len(check) - 1))
        check[index // 8] ^= 1 << index % 8
        drainTransmits(peer.agent)
        before = snapshot(peer.agent)
        if peer.agent.receiveDatagram(bytes(check), B, 0.0):
            # No longer STUN: data that waits for its sender's proof.
            self.assertEqual(peer.agent._path.unpark(B), [bytes(check)])
        self.assertEqual(peer.poll(), [])
        self.assertEqual(drainTransmits(peer.agent), [])
        self.assertEqual(snapshot(peer.agent), before)


class RoleTests(SynchronousTestCase):
    """
    Conflicts of roles (RFC 8445 section 7.3.1.1), in all four forms.
    """

    def conflict(self, controlling: bool, lower: bool) -> tuple[Peer, bool]:
        """
        Check an agent in its own role.

        @param lower: whether the other side's tie-breaker is below the agent's.
        @return: the peer, and whether the check was taken.
        """
        peer = Peer(controlling)
        peer.describe(hostCandidates(B))
        own = peer.agent._conversation.exchange.tieBreaker
        self.assertTrue(0 < own < 2**64 - 1)
        theirs = own - 1 if lower else own + 1
        self.assertTrue(peer.check(0.0, controlling=controlling, tieBreaker=theirs))
        (reply,) = replies(peer)
        if reply.messageClass is MessageClass.ERROR:
            self.assertEqual(errorCode(reply), 487)
            self.assertFalse(peer.pair(B).heard)
            return peer, False
        self.assertTrue(peer.pair(B).heard)
        return peer, True

    def test_bothControlling(self) -> None:
        """
        The one with the higher number goes on controlling.
        """
        peer, taken = self.conflict(True, lower=True)
        self.assertEqual((taken, peer.agent.controlling), (False, True))
        peer, taken = self.conflict(True, lower=False)
        self.assertEqual((taken, peer.agent.controlling), (True, False))

    def test_bothControlled(self) -> None:
        """
        The one with the higher number becomes controlling.
        """
        peer, taken = self.conflict(False, lower=True)
        self.assertEqual((taken, peer.agent.controlling), (True, True))
        peer, taken = self.conflict(False, lower=False)
        self.assertEqual((taken, peer.agent.controlling), (False, False))

    def test_equal(self) -> None:
        """
        Of equal numbers that of the side that was asked counts as higher.
        """
        peer = Peer(controlling=True)
        peer.describe(hostCandidates(B))
        peer.check(0.0, controlling=True, tieBreaker=peer.agent._conversation.exchange.tieBreaker)
        self.assertEqual(errorCode(replies(peer)[0]), 487)
        self.assertTrue(peer.agent.controlling)

    def test_refused(self) -> None:
        """
        A check that gets 487 makes its sender change its role and its number, and is sent again
        at once (RFC 8445 sections 7.2.5.1 and 16.1).
        """
        for controlling in (True, False):
            peer = Peer(controlling)
            peer.describe(hostCandidates(B, ELSEWHERE))
            peer.agent.handleTimeout(0.0)
            first, second = peer.requests()
            former = decodeCheck(decode(first.data))
            self.assertEqual(former.controlling, controlling)
            self.assertTrue(peer.refuse(first, 0.001))
            self.assertEqual(peer.agent.controlling, not controlling)
            (again,) = peer.requests()
            self.assertEqual(again.address, first.address)
            check = decodeCheck(decode(again.data))
            self.assertEqual(check.controlling, not controlling)
            self.assertNotEqual(check.tieBreaker, former.tieBreaker)
            # The second check was sent in the former role: that conflict is settled.
            self.assertTrue(peer.refuse(second, 0.001))
            self.assertEqual(peer.agent.controlling, not controlling)

    def test_refusedAfterProof(self) -> None:
        """
        A 487 on a pair that is proved does not take the proof away.
        """
        peer = Peer()
        peer.describe(hostCandidates(B))
        requests = [each for _, each in peer.step(0.02) if isRequest(each.data)]
        peer.answer(requests[0], 0.03)
        peer.refuse(requests[1], 0.03)
        self.assertEqual(peer.pairs(), {B: PairState.SUCCEEDED})
        self.assertTrue(peer.agent.controlling)

    def test_nominationOfWrongSide(self) -> None:
        """
        A nomination that was under way when the role was lost is given up, and the pair is not.
        """
        peer = Peer(controlling=True)
        peer.describe(hostCandidates(B))
        peer.agent.handleTimeout(0.0)
        (request,) = peer.requests()
        peer.answer(request, 0.01)
        (nominating,) = peer.requests()
        self.assertTrue(decodeCheck(decode(nominating.data)).nominates)
        peer.check(0.02, controlling=True, tieBreaker=2**64 - 1)
        self.assertFalse(peer.agent.controlling)
        peer.answer(nominating, 0.03)
        self.assertFalse(peer.agent._lineage.current.completed)
        sent = [each for _, each in peer.step(10.0, 0.03) if isRequest(each.data)]
        self.assertFalse(any(decodeCheck(decode(each.data)).nominates for each in sent))
        self.assertEqual(peer.pairs(), {B: PairState.SUCCEEDED})

    def test_agents(self) -> None:
        """
        Two agents in the same role settle it, whichever number is higher, and connect.
        """
        for roles in ((True, True), (False, False)):
            sides = set()
            for seed in range(10):
                wire = Wire(seed, roles=roles)
                for side, agent in wire.agents.items():
                    agent.addCandidates(hostCandidates(wire.address[side]), 0.0)
                    agent.endCandidates(0.0)
                    agent._describe(SignalType.OFFER)
                wire.run(2.0)
                self.assertNotEqual(wire.a.controlling, wire.b.controlling)
                sides.add(wire.a.controlling)
                for agent in wire.agents.values():
                    self.assertTrue(agent._lineage.current.completed, seed)
                wire.a.write(b"data", 2.0)
                wire.run(3.0)
                self.assertEqual(wire.last("b"), DataReceived(b"data"))
            self.assertEqual(sides, {True, False})

    def test_formerGeneration(self) -> None:
        """
        A conflict that is found on the former generation settles the current one as well.
        """
        peer = Peer()
        peer.connect()
        former = peer.remote
        peer.describe([makeCandidate(CandidateType.SERVER_REFLEXIVE, B)], generation=1)
        priority = peer.pair(B).priority
        peer.remote = former
        peer.check(0.1, controlling=False, tieBreaker=0)
        self.assertTrue(peer.agent.controlling)
        self.assertNotEqual(peer.pair(B).priority, priority)


class PeerReflexiveTests(SynchronousTestCase):
    """
    Addresses that nobody offered.
    """

    def test_learned(self) -> None:
        """
        A check from an unknown address makes a candidate with the priority that it says (RFC 8445
        section 7.3.1.3), also before the description.
        """
        peer = Peer(controlling=True)
        peer.agent.start(0.0)
        peer.poll()
        peer.check(0.0, ELSEWHERE, controlling=False, priority=12345)
        self.assertEqual(len(replies(peer)), 1)
        pair = peer.pair(ELSEWHERE)
        self.assertEqual(
            (pair.remote.type, pair.remote.priority), (CandidateType.PEER_REFLEXIVE, 12345)
        )
        peer.check(0.0, ELSEWHERE, controlling=False, priority=99999)
        self.assertEqual(pair.remote.priority, 12345)
        drainTransmits(peer.agent)
        self.assertEqual(peer.poll(), [])
        peer.describe(hostCandidates(B), kind=SignalType.ANSWER)
        self.assertEqual([each.address for each in peer.requests()], [ELSEWHERE, B])
        self.assertEqual(peer.poll(), [])
        self.assertEqual(peer.events, [PathOpened(ELSEWHERE)])
