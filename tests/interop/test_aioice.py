"""
aioice, another implementation of RFC 8445, against our agent: over loopback.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import aioice
from twisted.internet import reactor as globalReactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from p2ptwist.core.ice.candidate import Candidate, CandidateType, makeCandidate
from p2ptwist.core.ice.signal import Description, SignalType, decodeSignal
from p2ptwist.core.nat import NATBehavior
from p2ptwist.interfaces import IPathReceiver
from p2ptwist.net.datagramport import DatagramPort
from p2ptwist.net.punch import Punch
from p2ptwist.net.puncher import Puncher

reactor: Any = globalReactor
HOST = "127.0.0.1"


@implementer(IPathReceiver)
class FirstDatagram:
    """
    Waits for one datagram.
    """

    def __init__(self) -> None:
        self.arrived: Deferred[bytes] = Deferred()

    def datagramReceived(self, data: bytes) -> None:
        """
        It is there.
        """
        self.arrived.callback(data)

    def pathMoved(self) -> None:
        """
        The path does not move here.
        """

    def pathLost(self, reason: Failure) -> None:
        """
        The end of the test.
        """


class AioiceTests(TestCase):
    """
    aioice in a thread, with an event loop and a socket of its own.
    """

    timeout = 20

    def setUp(self) -> None:
        """
        Open a port, and let aioice offer loopback, which it leaves out otherwise.
        """
        self.patch(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: [HOST])
        self.port = DatagramPort(reactor, HOST)
        self.port.listen()
        self.addCleanup(self.port.stopListening)
        self.puncher = Puncher(reactor, self.port.write)
        self.port.addConsumer(self.puncher.datagramReceived)
        self.addCleanup(self.puncher.close)
        self.local = [makeCandidate(CandidateType.HOST, (HOST, self.port.localPort))]
        self.signals: list[bytes] = []

    async def converse(self, connection: aioice.Connection, remote: Description) -> None:
        """
        The life of aioice's side: describe itself, connect, echo one datagram.

        @param remote: what our side says of itself.
        """
        connection.remote_username = remote.fragment.decode()
        connection.remote_password = remote.password.decode()
        for each in remote.candidates:
            host, port = each.address
            await connection.add_remote_candidate(
                aioice.Candidate("1", 1, "udp", each.priority, host, port, "host")
            )
        await connection.add_remote_candidate(None)
        await connection.connect()
        await connection.send((await connection.recv()).upper())
        await asyncio.sleep(0.2)
        await connection.close()

    def describe(
        self, connection: aioice.Connection, kind: SignalType, session: bytes
    ) -> Description:
        """
        @return: what aioice says of itself, as a signal of ours.
        """
        candidates = tuple(
            Candidate(CandidateType.HOST, (each.host, each.port), each.priority)
            for each in connection.local_candidates
        )
        return Description(
            kind,
            session,
            0,
            connection.local_username.encode(),
            connection.local_password.encode(),
            candidates,
            True,
            NATBehavior(),
        )

    def inThread(self, partner: Coroutine[Any, Any, None]) -> Deferred[None]:
        """
        Run aioice's side.

        @return: a Deferred that fires when it is done, and fails when it takes longer than a test:
            a thread that is left over would keep the whole process.
        """
        return deferToThread(asyncio.run, asyncio.wait_for(partner, self.timeout / 2))

    async def exchange(self, punch: Punch) -> None:
        """
        Send a datagram over the path, and get the echo.
        """
        receiver = FirstDatagram()
        punch.receiver = receiver
        await punch.whenOpen()
        punch.write(b"hello")
        self.assertEqual(await receiver.arrived, b"HELLO")
        self.assertIsNotNone(punch.roundTrip)
        self.assertEqual(punch.mapped, (HOST, self.port.localPort))
        self.assertEqual((punch.counters.malformed, punch.counters.forged), (0, 0))

    def described(self) -> Description:
        """
        @return: what our side said of itself first.
        """
        signal = decodeSignal(self.signals[0])
        assert isinstance(signal, Description)
        return signal

    async def test_controlled(self) -> None:
        """
        aioice answers, and takes the pair that we nominate.
        """
        punch = self.puncher.call(self.signals.append, self.local)
        offer = self.described()

        async def partner() -> None:
            """
            aioice's side.
            """
            connection = aioice.Connection(ice_controlling=False, use_ipv6=False)
            await connection.gather_candidates()
            answer = self.describe(connection, SignalType.ANSWER, offer.session)
            reactor.callFromThread(punch.takeSignal, answer)
            await self.converse(connection, offer)

        done = self.inThread(partner())
        await self.exchange(punch)
        await done

    async def test_controlling(self) -> None:
        """
        aioice offers, and nominates a pair that we take.
        """
        answered: Deferred[Punch] = Deferred()

        async def partner() -> None:
            """
            aioice's side.
            """
            connection = aioice.Connection(ice_controlling=True, use_ipv6=False)
            await connection.gather_candidates()
            offer = self.describe(connection, SignalType.OFFER, b"aioice01")
            loop = asyncio.get_running_loop()
            answer: asyncio.Future[Description] = loop.create_future()

            def take() -> None:
                """
                In the reactor's thread: answer, and hand the answer over.
                """
                punch = self.puncher.answer(offer, self.signals.append, self.local)
                loop.call_soon_threadsafe(answer.set_result, self.described())
                answered.callback(punch)

            reactor.callFromThread(take)
            await self.converse(connection, await answer)

        done = self.inThread(partner())
        await self.exchange(await answered)
        await done
