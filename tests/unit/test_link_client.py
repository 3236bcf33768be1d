"""
Tests for the peer's side of the link: L{p2ptwist.core.link.client} and
L{p2ptwist.core.link.backoff}.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.errors import LocalUsageError
from p2ptwist.core.link.backoff import Backoff
from p2ptwist.core.link.client import (
    Claimant,
    ClientState,
    Ended,
    Greeted,
    LinkClient,
    LinkEvent,
    MessageReceived,
    PeerUnreachable,
    RelayedReceived,
    Up,
)
from p2ptwist.core.link.frames import FrameType, encodeFrame, encodeHot
from p2ptwist.core.link.messages import Goodbye, Hello, Prove, Welcome
from p2ptwist.core.link.reasons import Reason

KEY = bytes(range(32))
OTHER = bytes(range(50, 82))
HELLO = Hello(bytes(range(100, 132)), "node")
WELCOME = Welcome(("192.0.2.1", 1025), 90, 1000, (("", 3478),))
PING = encodeFrame(FrameType.PING)
PONG = encodeFrame(FrameType.PONG)


class Still(random.Random):
    """
    Jitter that is always none.
    """

    def random(self) -> float:
        """
        @return: 0, the least there is.
        """
        return 0.0


def signature(text: bytes) -> bytes:
    """
    @return: what stands for a signature of C{text}: its last 64 bytes.
    """
    return text[-64:]


def claimant(nodeName: str | None = None) -> Claimant:
    """
    @return: who asks for the links of these tests.
    """
    return Claimant(KEY, signature, b"instance", True, nodeName)


def events(client: LinkClient) -> list[LinkEvent]:
    """
    @return: every event there is.
    """
    found = []
    while (event := client.pollEvent()) is not None:
        found.append(event)
    return found


def fresh(now: float = 0.0) -> LinkClient:
    """
    @return: a link whose connection was just made.
    """
    return LinkClient(claimant(), now, Still())


def greeted(now: float = 0.0) -> LinkClient:
    """
    @return: a link that has heard the hello, and is held.
    """
    client = LinkClient(claimant(), now, Still(), held=True)
    client.receiveBytes(HELLO.encode(), now)
    events(client)
    return client


def proving(now: float = 0.0) -> LinkClient:
    """
    @return: a link that has answered the hello.
    """
    client = fresh(now)
    client.receiveBytes(HELLO.encode(), now)
    client.pollTransmit()
    return client


def up(now: float = 0.0) -> LinkClient:
    """
    @return: a link that is up, with nothing queued.
    """
    client = proving(now)
    client.receiveBytes(WELCOME.encode(), now)
    events(client)
    return client


def ended(now: float = 0.0) -> LinkClient:
    """
    @return: a link that has ended, with nothing queued.
    """
    client = up(now)
    client.receiveBytes(Goodbye(Reason.FULL).encode(), now)
    events(client)
    return client


class HandshakeTests(SynchronousTestCase):
    """
    From the connection to the welcome.
    """

    def test_handshake(self) -> None:
        """
        The peer waits for the hello, signs, and is up with the welcome.
        """
        client = fresh()
        self.assertIsNone(client.pollTransmit())
        client.receiveBytes(HELLO.encode(), 0.1)
        prove = Prove(KEY, b"instance")
        signed = Prove(KEY, b"instance", True, signature(prove.signedText(HELLO)))
        self.assertEqual(client.pollTransmit(), signed.encode())
        self.assertIs(client.state, ClientState.PROVING)
        client.receiveBytes(WELCOME.encode(), 0.2)
        self.assertEqual(events(client), [Up(WELCOME, "node", 0.1)])
        self.assertIs(client.state, ClientState.UP)

    def test_held(self) -> None:
        """
        A link that is held proves nothing before it is told to, and then once.
        """
        client = LinkClient(claimant(), 0.0, Still(), held=True)
        client.prove(0.0)
        client.receiveBytes(HELLO.encode(), 0.1)
        self.assertEqual(events(client), [Greeted("node")])
        self.assertIs(client.state, ClientState.GREETED)
        self.assertIsNone(client.pollTransmit())
        self.assertEqual(client.deadline(), 10.0)
        client.prove(1.0)
        self.assertIsNotNone(client.pollTransmit())
        client.prove(1.0)
        self.assertIsNone(client.pollTransmit())
        client.receiveBytes(WELCOME.encode(), 1.3)
        self.assertEqual(events(client), [Up(WELCOME, "node", 0.1)])

    def test_patience(self) -> None:
        """
        The welcome is waited for as long as was said, and never longer than 10 s in all.
        """
        for patience, deadline in ((0.5, 1.5), (20.0, 10.0)):
            client = LinkClient(claimant(), 0.0, Still(), held=True)
            client.receiveBytes(HELLO.encode(), 0.1)
            client.prove(1.0, patience)
            self.assertEqual(client.deadline(), deadline)
            client.handleTimeout(deadline)
            ended = events(client)[-1]
            self.assertEqual(
                ended, Ended("silent", f"the node did not answer within {deadline:g} s")
            )

    def test_known(self) -> None:
        """
        To a node that is known everything leaves behind the proof, with a ping only once the link
        is up; its welcome then says how much it really takes.
        """
        client = greeted()
        self.assertRaises(LocalUsageError, client.sendRelayed, OTHER, b"", 0.1)
        client.prove(1.0, known=WELCOME)
        client.pollTransmit()
        client.sendRelayed(OTHER, b"early", 1.0)
        self.assertEqual(client.pollTransmit(), encodeHot(FrameType.RELAY, OTHER, b"early"))
        client.probe(1.0)
        self.assertIsNone(client.pollTransmit())
        self.assertRaises(LocalUsageError, client.send, OTHER, bytes(1001), 1.0)
        client.receiveBytes(Welcome(("192.0.2.1", 1025), 90, 2000, ()).encode(), 1.1)
        client.send(OTHER, bytes(2000), 1.1)
        client.receiveBytes(Goodbye(Reason.FULL).encode(), 1.2)
        self.assertRaises(LocalUsageError, client.send, OTHER, b"", 1.2)

    def test_byteByByte(self) -> None:
        """
        It does not matter how the bytes come.
        """
        client = fresh()
        for byte in HELLO.encode() + WELCOME.encode():
            client.receiveBytes(bytes((byte,)), 0.0)
        self.assertEqual(events(client), [Up(WELCOME, "node")])

    def test_silentNode(self) -> None:
        """
        A node that says nothing, or nothing after the proof, is given 10 s.
        """
        for client in (fresh(5.0), proving(5.0)):
            self.assertEqual(client.deadline(), 15.0)
            client.handleTimeout(14.9)
            self.assertEqual(events(client), [])
            client.handleTimeout(15.0)
            (event,) = events(client)
            self.assertEqual(event, Ended("silent", "the node did not answer within 10 s"))
            self.assertIsNone(client.deadline())

    def test_version(self) -> None:
        """
        A node of another version is refused by word.
        """
        client = fresh()
        client.receiveBytes(Hello(HELLO.challenge, "node", 2, 3).encode(), 0.0)
        (event,) = events(client)
        assert isinstance(event, Ended)
        self.assertEqual(event.word, "version")
        self.assertIn("versions 2 to 3", event.text)
        self.assertIsNone(client.pollTransmit())

    def test_name(self) -> None:
        """
        A peer that expects one node signs for no other.
        """
        client = LinkClient(claimant("right"), 0.0, Still())
        client.receiveBytes(HELLO.encode(), 0.0)
        (event,) = events(client)
        assert isinstance(event, Ended)
        self.assertEqual(event.word, "wrong-node")
        self.assertIsNone(client.pollTransmit())
        client = LinkClient(claimant("node"), 0.0, Still())
        client.receiveBytes(HELLO.encode(), 0.0)
        self.assertIsNotNone(client.pollTransmit())

    def test_goodbye(self) -> None:
        """
        The node's reason is passed on, with or without a text; what follows it is ignored.
        """
        client = proving()
        goodbye = Goodbye(Reason.DRAINING, "come back", 7)
        client.receiveBytes(goodbye.encode() + b"\x00\x00", 0.0)
        self.assertEqual(events(client), [Ended("draining", "come back", 7, True)])
        client = up()
        client.receiveBytes(Goodbye(200).encode() + PONG, 0.0)
        self.assertEqual(events(client), [Ended("unknown-200", "unknown-200", 0, True)])


class MessageTests(SynchronousTestCase):
    """
    A link that is up.
    """

    def test_send(self) -> None:
        """
        A message becomes a send frame.
        """
        client = up()
        client.send(OTHER, b"hi", 1.0)
        client.send(OTHER, b"ho", 1.0)
        frames = encodeHot(FrameType.SEND, OTHER, b"hi") + encodeHot(FrameType.SEND, OTHER, b"ho")
        self.assertEqual(client.pollTransmit(), frames)

    def test_sendRelayed(self) -> None:
        """
        A relayed datagram becomes a relay frame, and has a ping behind it after 15 s of silence.
        """
        client = up()
        frame = encodeHot(FrameType.RELAY, OTHER, bytes(1000))
        client.sendRelayed(OTHER, bytes(1000), 1.0)
        self.assertEqual(client.pollTransmit(), frame)
        client.sendRelayed(OTHER, bytes(1000), 15.0)
        self.assertEqual(client.pollTransmit(), frame + PING)

    def test_received(self) -> None:
        """
        Receive, relayed and unreachable frames become events, in order.
        """
        client = up()
        client.receiveBytes(
            encodeHot(FrameType.RECEIVE, OTHER, b"hi")
            + encodeHot(FrameType.RELAYED, OTHER, b"ho")
            + encodeHot(FrameType.UNREACHABLE, KEY),
            1.0,
        )
        expected = [
            MessageReceived(OTHER, b"hi"),
            RelayedReceived(OTHER, b"ho"),
            PeerUnreachable(KEY),
        ]
        self.assertEqual(events(client), expected)

    def test_misuse(self) -> None:
        """
        No link, no key, or too long a payload: the program is told at once.
        """
        self.assertRaises(LocalUsageError, proving().send, OTHER, b"", 0.0)
        self.assertRaises(LocalUsageError, up().send, OTHER[1:], b"", 0.0)
        self.assertRaises(LocalUsageError, proving().sendRelayed, OTHER, b"", 0.0)
        for send in (up().send, up().sendRelayed):
            error = self.assertRaises(LocalUsageError, send, OTHER, bytes(1001), 0.0)
            self.assertIn("at most 1000 bytes", str(error))


class LivenessTests(SynchronousTestCase):
    """
    A link that is dead is found out.
    """

    def test_ping(self) -> None:
        """
        After 90 s of silence a ping goes; with an answer, the next goes 90 s later.
        """
        client = up(0.0)
        self.assertEqual(client.deadline(), 90.0)
        client.handleTimeout(90.0)
        self.assertEqual(client.pollTransmit(), PING)
        self.assertEqual(client.deadline(), 100.0)
        client.receiveBytes(PONG, 90.1)
        self.assertEqual(events(client), [])
        self.assertEqual(client.deadline(), 180.0)

    def test_jitter(self) -> None:
        """
        The interval is shortened by up to a twentieth.
        """
        for seed in range(20):
            client = LinkClient(claimant(), 0.0, random.Random(seed))
            client.receiveBytes(HELLO.encode() + WELCOME.encode(), 0.0)
            deadline = client.deadline()
            assert deadline is not None
            self.assertTrue(85.5 <= deadline <= 90.0, deadline)

    def test_dead(self) -> None:
        """
        Nothing within 10 s of a ping ends the link.
        """
        client = up(0.0)
        client.handleTimeout(90.0)
        client.handleTimeout(99.9)
        self.assertEqual(events(client), [])
        client.handleTimeout(100.0)
        self.assertEqual(
            events(client), [Ended("silent", "the node did not answer a ping within 10 s")]
        )

    def test_anythingIsAlive(self) -> None:
        """
        Any bytes after the ping prove that the link lives.
        """
        client = up(0.0)
        client.handleTimeout(90.0)
        client.receiveBytes(encodeHot(FrameType.RECEIVE, OTHER, b"hi"), 95.0)
        client.handleTimeout(100.0)
        self.assertIs(client.state, ClientState.UP)

    def test_oneWay(self) -> None:
        """
        Only sending, or only receiving, does not put the ping off: either direction may be dead.
        """
        client = up(0.0)
        client.receiveBytes(encodeHot(FrameType.RECEIVE, OTHER, b"hi"), 80.0)
        self.assertEqual(client.deadline(), 90.0)
        client.send(OTHER, b"", 85.0)
        self.assertEqual(client.deadline(), 170.0)

    def test_doubt(self) -> None:
        """
        A message after 15 s of silence has a ping behind it; one before has not.
        """
        client = up(0.0)
        message = encodeHot(FrameType.SEND, OTHER, b"hi")
        client.send(OTHER, b"hi", 14.9)
        self.assertEqual(client.pollTransmit(), message)
        client.send(OTHER, b"hi", 15.0)
        self.assertEqual(client.pollTransmit(), message + PING)
        client.send(OTHER, b"hi", 16.0)
        self.assertEqual(client.pollTransmit(), message)
        self.assertEqual(client.deadline(), 25.0)

    def test_probe(self) -> None:
        """
        A program that doubts has a ping sent, but never two at once.
        """
        client = up(0.0)
        client.probe(3.0)
        client.probe(4.0)
        self.assertEqual(client.pollTransmit(), PING)
        self.assertEqual(client.deadline(), 13.0)
        client = proving()
        client.probe(0.0)
        self.assertIsNone(client.pollTransmit())

    def test_patience(self) -> None:
        """
        A program that has a good reason to doubt waits less, also for a ping that was sent before,
        whose wait counts; one that has a weaker reason does not put off the end.
        """
        client = up(0.0)
        client.probe(3.0)
        client.probe(4.0, 1.5)
        client.probe(4.1, 5.0)
        self.assertEqual(client.pollTransmit(), PING)
        self.assertEqual(client.deadline(), 4.5)
        client.handleTimeout(4.5)
        ended = client.pollEvent()
        assert isinstance(ended, Ended)
        self.assertIn("within 1.5 s", ended.text)

    def test_waitedAlready(self) -> None:
        """
        A ping that has waited for longer than its answer may take ends the link at once.
        """
        client = up(0.0)
        client.probe(3.0)
        client.probe(4.0, 0.5)
        self.assertEqual(client.deadline(), 4.0)

    def test_roundTrips(self) -> None:
        """
        One and a half round trips of the link are waited for in any case: of the quicker half of
        its handshake, as a packet of the other was lost, perhaps.
        """
        for hello, welcome in ((1 / 3, 4 / 3), (4 / 3, 5 / 3)):
            client = fresh(0.0)
            client.receiveBytes(HELLO.encode(), hello)
            client.receiveBytes(WELCOME.encode(), welcome)
            events(client)
            client.probe(3.0, 0.1)
            deadline = client.deadline()
            assert deadline is not None
            self.assertAlmostEqual(deadline, 3.5)


class TotalityTests(SynchronousTestCase):
    """
    Every frame from every state does what the table in L{p2ptwist.core.link.client} says.
    """

    FRAMES = {  # noqa: RUF012
        "hello": HELLO.encode(),
        "prove": Prove(KEY, b"instance").encode(),
        "welcome": WELCOME.encode(),
        "goodbye": Goodbye(Reason.FULL).encode(),
        "ping": PING,
        "pong": PONG,
        "send": encodeHot(FrameType.SEND, KEY),
        "receive": encodeHot(FrameType.RECEIVE, KEY),
        "unreachable": encodeHot(FrameType.UNREACHABLE, KEY),
        "relay": encodeHot(FrameType.RELAY, KEY),
        "relayed": encodeHot(FrameType.RELAYED, KEY),
        "unknown": encodeFrame(0xEE),
    }
    STATES: dict[ClientState, tuple[Callable[[], LinkClient], dict[str, ClientState]]] = {  # noqa: RUF012
        ClientState.GREETING: (fresh, {"hello": ClientState.PROVING}),
        ClientState.GREETED: (greeted, {}),
        ClientState.PROVING: (proving, {"welcome": ClientState.UP}),
        ClientState.UP: (
            up,
            dict.fromkeys(("pong", "receive", "relayed", "unreachable"), ClientState.UP),
        ),
        ClientState.ENDED: (ended, {}),
    }

    def test_table(self) -> None:
        """
        A frame that a state does not expect ends the link as malformed; an ended link ignores all.
        """
        for state, (make, expected) in self.STATES.items():
            for name, frame in self.FRAMES.items():
                client = make()
                client.receiveBytes(frame, 0.0)
                self.assertIs(client.state, expected.get(name, ClientState.ENDED), (state, name))
                words = [event.word for event in events(client) if isinstance(event, Ended)]
                if state is ClientState.ENDED or name in expected:
                    self.assertEqual(words, [], (state, name))
                else:
                    self.assertEqual(words, ["full" if name == "goodbye" else "malformed"])

    def test_time(self) -> None:
        """
        Time may pass in every state, with nothing due and long after.
        """
        for state, (make, _) in self.STATES.items():
            client = make()
            client.handleTimeout(0.0)
            self.assertIs(client.state, state)
            client.handleTimeout(1e6)


class BackoffTests(SynchronousTestCase):
    """
    L{Backoff} waits longer and longer, at random, and never longer than 30 s.
    """

    def test_row(self) -> None:
        """
        Each wait is between a tenth and the whole of 2, eleven times 4, 8, 16, 30, 30 s.
        """
        for seed in range(50):
            backoff = Backoff(random.Random(seed))
            for longest in (2.0, *(4.0,) * 11, 8.0, 16.0, 30.0, 30.0, *(30.0,) * 2000):
                wait = backoff.next()
                self.assertTrue(longest / 10 <= wait <= longest, wait)

    def test_anew(self) -> None:
        """
        Only a link that lasted 30 s starts the row anew.
        """
        backoff = Backoff(random.Random(1))
        for _ in range(18):
            backoff.next()
        backoff.linkLasted(29.0)
        self.assertGreaterEqual(backoff.next(), 3.0)
        backoff.linkLasted(30.0)
        self.assertLessEqual(backoff.next(), 2.0)

    def test_retryAfter(self) -> None:
        """
        A node that asks for time gets it, but never more than 30 s.
        """
        for seed in range(50):
            self.assertTrue(1.0 <= Backoff(random.Random(seed)).next(10) <= 10.0)
            self.assertTrue(3.0 <= Backoff(random.Random(seed)).next(65535) <= 30.0)
