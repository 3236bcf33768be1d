"""
Whole sessions between an unchanged peer and aioquic, over the real link and node of a simulated
Internet, by the words of C{docs/session.md} alone.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol
from twisted.python.failure import Failure

from p2ptwist.core.ice.candidate import Candidate, CandidateType
from p2ptwist.errors import SessionLost, SessionRefused
from p2ptwist.net.puncher import Puncher
from p2ptwist.peer.identity import generateIdentity
from p2ptwist.peer.service import allowing
from tests.interop.aioquicpeer import FREE, AioquicPeer, AioquicSession
from tests.sim.neighborhood import LINK_PORT, NODE
from tests.sim.sessions import HalfTalk, SessionCase, Talk, Talks

LARGE = bytes(range(256)) * 2000  # bytes; several grants
FOREIGN = generateIdentity()


class SessionInteropCase(SessionCase):
    """
    A peer behind a NAT, and aioquic behind another one.
    """

    def setUp(self) -> None:
        """
        Put both there.
        """
        self.neighborhood = self.pairs()
        routerA, routerB = self.neighborhood.twoRouters()
        self.here = self.neighborhood.caller(routerA.host("a"))
        self.there = AioquicPeer(routerB.host("b"), FOREIGN, f"tcp:{NODE}:{LINK_PORT}")
        self.neighborhood.ready()
        self.internet = self.neighborhood.internet

    def tearDown(self) -> None:
        """
        See that nothing is left.
        """
        self.internet.runUntil(self.there.stop(), timeout=10.0)
        self.neighborhood.close()

    def stream(self, service: str, talk: Talk) -> Deferred[IProtocol]:
        """
        Have the peer connect to a service of aioquic's.
        """
        return self.here.peer.connect(FOREIGN.peerID, service, Talks(lambda: talk))

    def calling(self) -> tuple[AioquicSession, Talk]:
        """
        @return: a session that the peer has begun, and its first stream, to an echo.
        """
        talk = Talk(self.here.host)
        self.internet.runUntil(self.stream("echo", talk), timeout=10.0)
        self.internet.advance(1.0)
        (session,) = self.there.sessions
        return session, talk

    def called(self) -> AioquicSession:
        """
        @return: a session that aioquic has begun.
        """
        session = self.there.call(self.here.identity.publicKey)
        # qh3 fails to build its first answer to so small a ClientHello, and repeats it.
        self.internet.advance(3.0)
        return session


class CallingTests(SessionInteropCase):
    """
    The peer calls, aioquic is called.
    """

    def test_echo(self) -> None:
        """
        Who is called is proved, and who calls; more than is granted at first goes there and back.
        """
        session, talk = self.calling()
        self.assertTrue(session.admitted)
        talk.transport.write(LARGE)
        self.internet.advance(10.0)
        self.assertEqual(talk.data, LARGE)
        (flow,) = session.flows.values()
        self.assertEqual((flow.service, flow.data), ("echo", LARGE))
        self.assertGreater(session.grants, 0, "the echo was granted")
        self.assertEqual(session.signals[0][:2], b"\1\1", "an offer of a direct path")

    def test_earlyOffer(self) -> None:
        """
        aioquic reads in the first envelope what is said again behind the proof.
        """
        session, _ = self.calling()
        self.assertEqual(session.offered[0][:2], b"\1\1", "an offer of a direct path")
        self.assertEqual(session.offered, session.signals[: len(session.offered)])

    def test_noEarlyOffer(self) -> None:
        """
        One that does not care for early offers gets the same session without.
        """
        self.there.heeds = False
        session, _ = self.calling()
        self.assertEqual((session.offered, session.admitted), ([], True))
        self.assertEqual(session.signals[0][:2], b"\1\1", "an offer of a direct path")

    def test_backwards(self) -> None:
        """
        The called side opens streams, too.
        """
        echoes = self.here.echoes()
        session, _ = self.calling()
        stream = session.open("echo")
        session.write(stream, LARGE)
        self.internet.advance(10.0)
        self.assertEqual(session.flows[stream].data, LARGE)
        self.assertEqual(echoes.made[0].transport.getPeer().peerID, FOREIGN.peerID)
        missing = session.open("nothing of the kind")
        self.internet.advance(1.0)
        self.assertEqual(session.flows[missing].code, 1)

    def test_secondStream(self) -> None:
        """
        A second stream needs no other session.
        """
        session, _ = self.calling()
        second = Talk(self.here.host)
        self.internet.runUntil(self.stream("echo", second), timeout=10.0)
        second.transport.write(b"me too")
        self.internet.advance(1.0)
        self.assertEqual(second.data, b"me too")
        self.assertEqual((self.there.sessions, len(session.flows)), ([session], 2))

    def test_end(self) -> None:
        """
        Each direction ends on its own, and then the stream is over in good order.
        """
        talk = HalfTalk(self.here.host)
        self.internet.runUntil(self.stream("mute", talk), timeout=10.0)
        talk.transport.write(b"that is all")
        talk.transport.loseWriteConnection()
        self.internet.advance(1.0)
        (session,) = self.there.sessions
        ((number, flow),) = session.flows.items()
        self.assertEqual((flow.data, flow.ended), (b"that is all", True))
        session.write(number, b"well then")
        session.finish(number)
        self.internet.advance(1.0)
        self.assertEqual((talk.data, talk.ends), (b"well then", ["write", "read"]))

    def test_messages(self) -> None:
        """
        Datagrams go both ways.
        """
        session, _ = self.calling()
        came: list[tuple[str, bytes]] = []
        self.here.peer.receiveMessages(lambda *message: came.append(message))
        self.here.peer.sendMessage(FOREIGN.peerID, b"ping")
        session.sendMessage(b"pong")
        self.internet.advance(1.0)
        self.assertEqual(session.messages, [b"ping"])
        self.assertEqual(came, [(FOREIGN.peerID, b"pong")])

    def test_closedThere(self) -> None:
        """
        The other side's end has a word for it.
        """
        session, talk = self.calling()
        session.close(0, "enough")
        self.internet.advance(1.0)
        assert talk.lost is not None
        assert isinstance(talk.lost.value, SessionLost)
        self.assertEqual(talk.lost.value.word, "closed")
        self.assertIn("enough", str(talk.lost.value))

    def test_closedHere(self) -> None:
        """
        And so has this side's.
        """
        session, _ = self.calling()
        self.internet.runUntil(self.here.peer.stopService(), timeout=10.0)
        self.internet.advance(1.0)
        assert session.end is not None
        self.assertEqual((session.end.error_code, session.end.frame_type), (0, None))
        self.assertEqual(session.end.reason_phrase, "the program stopped")

    def test_impostor(self) -> None:
        """
        A certificate of another key is told from the right one, before any proof is sent.
        """
        self.there.proves = generateIdentity()
        connecting = self.stream("echo", Talk(self.here.host))
        self.internet.advance(10.0)
        refused = self.failureResultOf(connecting)
        assert isinstance(refused.value, SessionRefused)
        self.assertEqual(refused.value.word, "impostor")
        (session,) = self.there.sessions
        assert session.end is not None
        self.assertEqual((session.end.error_code, session.flows), (2, {}))

    def test_notWelcome(self) -> None:
        """
        One that is not welcome learns so as soon as the other side knows who it is.
        """
        self.there.welcomes = False
        talk = Talk(self.here.host)
        self.internet.runUntil(self.stream("echo", talk), timeout=10.0)
        self.internet.advance(1.0)
        assert talk.lost is not None
        self.assertEqual(getattr(talk.lost.value, "word", None), "not-admitted")


class CalledTests(SessionInteropCase):
    """
    aioquic calls, the peer is called.
    """

    def test_echo(self) -> None:
        """
        A stream is echoed, far beyond what needs no grant.
        """
        echoes = self.here.echoes()
        session = self.called()
        self.assertTrue(session.admitted)
        stream = session.open("echo")
        session.write(stream, LARGE)
        self.internet.advance(10.0)
        self.assertEqual(session.flows[stream].data, LARGE)
        self.assertGreater(session.grants, 3)
        session.finish(stream)
        self.internet.advance(1.0)
        self.assertTrue(session.flows[stream].ended)
        self.assertEqual(echoes.made[0].transport.getPeer().peerID, FOREIGN.peerID)

    def offer(self) -> bytes:
        """
        @return: an offer of a direct path to aioquic, of which nothing will come.
        """
        signals: list[bytes] = []
        puncher = Puncher(self.there.host, lambda data, address: None)
        address = (self.there.host.address, 20_000)
        puncher.call(signals.append, [Candidate(CandidateType.HOST, address, 1)])
        puncher.close()
        return signals[0]

    def test_earlyOffer(self) -> None:
        """
        An early offer is answered behind the challenge, to one that never proves itself.
        """
        self.here.echoes()
        self.there.offers = [self.offer()]
        session = self.there.call(self.here.identity.publicKey)
        session._prove = lambda challenge: None  # type: ignore[method-assign]
        self.internet.advance(3.0)
        self.assertEqual(session.signals[0][:2], b"\1\2", "an answer")
        self.internet.advance(10.0)
        assert session.end is not None
        self.assertEqual((session.end.error_code, session.admitted), (3, False))

    def test_earlyOfferAndProof(self) -> None:
        """
        And the session goes on as any other.
        """
        echoes = self.here.echoes()
        self.there.offers = [self.offer()]
        session = self.called()
        self.assertEqual((session.admitted, self.there.offers), (True, []))
        self.assertEqual(session.signals[0][:2], b"\1\2", "an answer")
        session.write(session.open("echo"), b"well")
        self.internet.advance(1.0)
        self.assertEqual(echoes.made[0].transport.getPeer().peerID, FOREIGN.peerID)

    def test_backwards(self) -> None:
        """
        The peer uses the session that there is for streams of its own.
        """
        self.here.echoes()
        session = self.called()
        talk = Talk(self.here.host)
        self.internet.runUntil(self.stream("echo", talk), timeout=10.0)
        talk.transport.write(LARGE)
        self.internet.advance(10.0)
        self.assertEqual(talk.data, LARGE)
        self.assertEqual((self.there.sessions, len(session.flows)), ([], 1))

    def test_credit(self) -> None:
        """
        Without reading nothing is granted, and who sends more all the same is cut off.
        """
        talks = self.here.echoes("unread")
        session = self.called()
        stream = session.open("unread")
        self.internet.advance(1.0)
        talks.made[0].transport.pauseProducing()
        session.write(stream, LARGE)
        self.internet.advance(5.0)
        self.assertLessEqual(session.flows[stream].sent, 2 * FREE)
        self.assertIsNone(session.end)
        session.overflow(stream, bytes(2 * FREE))
        self.internet.advance(5.0)
        assert session.end is not None
        self.assertEqual(session.end.error_code, 5)
        self.assertIsInstance(talks.made[0].lost, Failure)

    def test_messages(self) -> None:
        """
        Datagrams go both ways.
        """
        came: list[tuple[str, bytes]] = []
        self.here.peer.receiveMessages(lambda *message: came.append(message))
        self.here.echoes()
        session = self.called()
        session.sendMessage(b"ping")
        self.here.peer.sendMessage(FOREIGN.peerID, b"pong")
        self.internet.advance(1.0)
        self.assertEqual((session.messages, came), ([b"pong"], [(FOREIGN.peerID, b"ping")]))

    def test_impostor(self) -> None:
        """
        A proof by another key is none.
        """
        self.here.echoes()
        self.there.proves = generateIdentity()
        session = self.called()
        self.internet.advance(1.0)
        assert session.end is not None
        self.assertEqual((session.end.error_code, session.admitted), (2, False))

    def test_policy(self) -> None:
        """
        One that the policy does not admit is told so.
        """
        self.here.echoes()
        self.here.peer._policy = allowing([])
        session = self.called()
        self.internet.advance(1.0)
        assert session.end is not None
        self.assertEqual((session.end.error_code, session.signals), (1, []))

    def test_closedThere(self) -> None:
        """
        The session ends with the word of the code.
        """
        talks = self.here.echoes()
        session = self.called()
        session.open("echo")
        self.internet.advance(1.0)
        session.close(3, "no manners")
        self.internet.advance(1.0)
        lost = talks.made[0].lost.value
        self.assertEqual((type(lost), lost.word), (SessionLost, "protocol"))

    def test_silence(self) -> None:
        """
        A caller that never proves itself is cut off after 10 s.
        """
        self.here.echoes()
        self.there.identity, own = generateIdentity(), self.there.identity
        session = self.there.call(self.here.identity.publicKey)
        session._prove = lambda challenge: None  # type: ignore[method-assign]
        self.internet.advance(11.0)
        self.there.identity = own
        assert session.end is not None
        self.assertEqual((session.end.error_code, session.admitted), (3, False))
