"""
Tests for L{p2ptwist.net.stunclient} and L{p2ptwist.net.natdiscovery}, in virtual time.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.address import HostPort
from p2ptwist.core.stun.attributes import encodeErrorCode
from p2ptwist.core.stun.message import AttributeType, MessageClass, encode
from p2ptwist.core.stun.server import Responder, ServerAddresses
from p2ptwist.errors import LocalUsageError, STUNRefused, STUNTimeout
from p2ptwist.net.stunclient import MAX_OUTSTANDING, STUNClient

SERVER = ("192.0.2.1", 3478)
SERVER6 = ("2001:db8::1", 3478)
SEEN = ("203.0.113.7", 40000)


class ShellTestCase(SynchronousTestCase):
    """
    A port that exists only here.

    @ivar sent: what left it.
    """

    def setUp(self) -> None:
        """
        Make a clock and a port.
        """
        self.clock = Clock()
        self.sent: list[tuple[bytes, HostPort]] = []

    def tearDown(self) -> None:
        """
        Nothing is left behind.
        """
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def send(self, data: bytes, address: HostPort) -> None:
        """
        Be the port's C{write}.
        """
        self.sent.append((data, address))

    def answer(self, index: int = -1, source: HostPort = SEEN) -> bytes:
        """
        @return: a server's answer to what was sent.
        """
        reply = Responder(ServerAddresses(SERVER)).answer(self.sent[index][0], source, SERVER)
        assert reply is not None
        return reply.data


class STUNClientTests(ShellTestCase):
    """
    L{STUNClient} on a shared port.
    """

    def setUp(self) -> None:
        """
        Make a client.
        """
        super().setUp()
        self.client = STUNClient(self.clock, self.send)

    def test_bind(self) -> None:
        """
        The answer tells the address, and nothing goes on after it.
        """
        result = self.client.bind(SERVER)
        self.assertEqual(self.sent[0][1], SERVER)
        self.assertTrue(self.client.datagramReceived(self.answer(), SERVER))
        self.assertEqual(self.successResultOf(result), SEEN)
        self.assertFalse(self.client.datagramReceived(self.answer(), SERVER))

    def test_retransmission(self) -> None:
        """
        The request is sent again, unchanged, until it is answered.
        """
        result = self.client.bind(SERVER)
        self.clock.pump([0.5, 1.0])
        self.assertEqual(len(self.sent), 3)
        self.assertEqual(len(set(self.sent)), 1)
        self.client.datagramReceived(self.answer(), SERVER)
        self.successResultOf(result)

    def test_mappedSource(self) -> None:
        """
        On a socket for both families the answer seems to come from a mapped address.
        """
        result = self.client.bind(("::ffff:192.0.2.1", 3478))
        self.assertEqual(self.sent[0][1], SERVER)
        self.client.datagramReceived(self.answer(), ("::ffff:192.0.2.1", 3478))
        self.assertEqual(self.successResultOf(result), SEEN)

    def test_others(self) -> None:
        """
        What is not the answer, or not from the server, is left to the application.
        """
        result = self.client.bind(SERVER)
        for data, address in (
            (b"hello", SERVER),
            (b"", SERVER),
            (self.answer(), ("192.0.2.9", 3478)),
            (encode(MessageClass.SUCCESS, 1, bytes(12)), SERVER),
            (self.sent[0][0], SERVER),
        ):
            self.assertFalse(self.client.datagramReceived(data, address))
        self.assertNoResult(result)
        self.client.stop()
        self.failureResultOf(result, CancelledError)

    def test_several(self) -> None:
        """
        Several requests at once keep apart.
        """
        first, second = self.client.bind(SERVER), self.client.bind(SERVER)
        other = ("203.0.113.8", 1)
        self.client.datagramReceived(self.answer(1, other), SERVER)
        self.assertNoResult(first)
        self.assertEqual(self.successResultOf(second), other)
        self.client.datagramReceived(self.answer(0), SERVER)
        self.assertEqual(self.successResultOf(first), SEEN)

    def test_timeout(self) -> None:
        """
        Silence fails, within the time given, with what to do about it.
        """
        result = self.client.bind(SERVER, timeout=3.0)
        self.clock.pump([0.5, 1.0, 1.5])
        error = self.failureResultOf(result, STUNTimeout).value
        self.assertIn("no answer from the STUN server 192.0.2.1:3478", str(error))
        self.assertIn("to 3 requests in 3 s: check", str(error))

    def test_refused(self) -> None:
        """
        An error fails with its code and words.
        """
        result = self.client.bind(SERVER)
        value = encodeErrorCode(401, "Unauthorized")
        identity = self.sent[0][0][8:]
        datagram = encode(MessageClass.ERROR, 1, identity, [(AttributeType.ERROR_CODE, value)])
        self.client.datagramReceived(datagram, SERVER)
        error = self.failureResultOf(result, STUNRefused).value
        self.assertEqual(error.code, 401)
        self.assertIn("192.0.2.1:3478 refused with error 401 (Unauthorized): ", str(error))

    def test_refusedWithoutWords(self) -> None:
        """
        Words are optional.
        """
        result = self.client.bind(SERVER)
        datagram = encode(
            MessageClass.ERROR,
            1,
            self.sent[0][0][8:],
            [(AttributeType.ERROR_CODE, encodeErrorCode(500, ""))],
        )
        self.client.datagramReceived(datagram, SERVER)
        self.assertIn("error 500: ", str(self.failureResultOf(result, STUNRefused).value))

    def test_useless(self) -> None:
        """
        An answer without an address, or an error without a code, says so.
        """
        for messageClass, words in (
            (MessageClass.SUCCESS, "no address"),
            (MessageClass.ERROR, "no code"),
        ):
            result = self.client.bind(SERVER)
            datagram = encode(messageClass, 1, self.sent[-1][0][8:])
            self.client.datagramReceived(datagram, SERVER)
            error = self.failureResultOf(result, STUNRefused).value
            self.assertEqual(error.code, 500)
            self.assertIn(words, str(error))

    def test_cancel(self) -> None:
        """
        Cancelling stops at once; a late answer is nobody's.
        """
        result = self.client.bind(SERVER)
        result.cancel()
        self.failureResultOf(result, CancelledError)
        self.clock.advance(100)
        self.assertEqual(len(self.sent), 1)
        self.assertFalse(self.client.datagramReceived(self.answer(), SERVER))

    def test_stop(self) -> None:
        """
        Stopping cancels everything, and the client can be used again.
        """
        results = [self.client.bind(SERVER) for _ in range(3)]
        self.client.stop()
        for result in results:
            self.failureResultOf(result, CancelledError)
        again = self.client.bind(SERVER)
        self.client.datagramReceived(self.answer(), SERVER)
        self.successResultOf(again)

    def test_bound(self) -> None:
        """
        A program that asks without end is told.
        """
        results = [self.client.bind(SERVER) for _ in range(MAX_OUTSTANDING)]
        self.assertRaises(LocalUsageError, self.client.bind, SERVER)
        results[0].cancel()
        results.append(self.client.bind(SERVER))
        self.client.stop()
        for result in results:
            self.failureResultOf(result, CancelledError)

    def test_name(self) -> None:
        """
        Names are for somebody else.
        """
        self.assertRaises(LocalUsageError, self.client.bind, ("stun.example.org", 3478))

    def test_networkDown(self) -> None:
        """
        A port that cannot send now is like a network that loses everything.
        """

        def unreachable(data: bytes, address: HostPort) -> None:
            raise OSError("network is unreachable")

        client = STUNClient(self.clock, unreachable)
        result = client.bind(SERVER, timeout=0.25)
        self.clock.advance(0.25)
        self.failureResultOf(result, STUNTimeout)

    def test_wrongFamily(self) -> None:
        """
        A port that can never send there is the caller's mistake, and leaves nothing behind.
        """

        def refuse(data: bytes, address: HostPort) -> None:
            raise ValueError("IPv4 port write() called with IPv6 address")

        client = STUNClient(self.clock, refuse)
        for _ in range(MAX_OUTSTANDING + 1):
            self.assertRaises(ValueError, client.bind, SERVER6)

    def test_callbackAsksAgain(self) -> None:
        """
        The next request may be made where the last one's result is delivered.
        """
        results: list[Deferred[HostPort]] = []
        self.client.bind(SERVER).addCallback(lambda _: results.append(self.client.bind(SERVER)))
        self.client.datagramReceived(self.answer(), SERVER)
        self.client.datagramReceived(self.answer(), SERVER)
        self.assertEqual(self.successResultOf(results[0]), SEEN)
