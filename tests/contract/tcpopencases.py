"""
What opening TCP from both sides does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredQueue
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from zope.interface import implementer

from p2ptwist.errors import PeerUnreachable
from p2ptwist.interfaces import IBatchPathReceiver
from p2ptwist.net.tcpopen import TCPOpener, TCPOpening
from tests.contract import settings
from tests.sim.opening import STUNOverTCP


@implementer(IBatchPathReceiver)
class End:
    """
    One end of a path.

    @ivar received: gives each datagram that came.
    @ivar confirmed: gives whether each check that came was an answer.
    @ivar lost: fires with the reason when the path is lost.
    """

    def __init__(self) -> None:
        self.received: DeferredQueue[bytes] = DeferredQueue()
        self.confirmed: DeferredQueue[bool] = DeferredQueue()
        self.lost: Deferred[BaseException] = Deferred()

    def datagramReceived(self, data: bytes) -> None:
        """
        Keep it.
        """
        self.received.put(data)

    def datagramsReceived(self, datagrams: Sequence[bytes]) -> None:
        """
        Keep them.
        """
        for data in datagrams:
            self.received.put(data)

    def pathConfirmed(self, answered: bool) -> None:
        """
        Keep that.
        """
        self.confirmed.put(answered)

    def pathMoved(self) -> None:
        """
        Never: it is one connection.
        """

    def pathLost(self, reason: Failure) -> None:
        """
        Keep the reason.
        """
        self.lost.callback(reason.value or AssertionError(reason))


class TCPOpenCases(settings.Cases):
    """
    Two programs with a channel between them.
    """

    def begin_(self) -> tuple[TCPOpening, Deferred[TCPOpening]]:
        """
        Call.

        @return: the caller's attempt; and what fires with the other side's.
        """
        server = self.opened(
            self.server.listenTCP(0, Factory.forProtocol(STUNOverTCP), interface=self.serverAddress)
        )
        servers = [(self.serverAddress, server.getHost().port)]
        interfaces = (self.clientAddress, self.serverAddress)
        self.near, self.far = (
            TCPOpener(reactor, servers, interface)
            for reactor, interface in zip((self.client, self.server), interfaces, strict=True)
        )
        answered: Deferred[TCPOpening] = Deferred()
        openings: list[TCPOpening] = []

        def toFar(signal: bytes) -> None:
            if len(openings) > 1:
                openings[1].signalReceived(signal)
            else:
                openings.append(self.far.answer(signal, toNear))
                answered.callback(openings[1])

        def toNear(signal: bytes) -> None:
            self.later(self.client, lambda: openings[0].signalReceived(signal))

        openings.append(
            self.near.call(lambda signal: self.later(self.server, lambda: toFar(signal)))
        )
        return openings[0], answered

    def later(self, reactor: Any, call: Callable[[], object]) -> None:
        """
        Carry a signal, outside of this test's network.
        """
        reactor.callLater(0.01, call)

    async def end(self) -> None:
        """
        Close everything.
        """
        await self.near.close()
        await self.far.close()
        self.assertEqual((len(self.near), len(self.far)), (0, 0))
        await self.pause(self.client)

    async def test_open(self) -> None:
        """
        Both sides have a path, which carries datagrams both ways, and ends on both.
        """
        opening, answered = self.begin_()
        near = await opening.whenOpen()
        far = await (await answered).whenOpen()
        ends = End(), End()
        near.receiver, far.receiver = ends
        sent = [b"%d" % number * 300 for number in range(10, 60)]
        near.writeMany(sent)
        far.write(b"back")
        for data in sent:
            self.assertEqual(await ends[1].received.get(), data)
        self.assertEqual(await ends[0].received.get(), b"back")
        if not self.isTranslated:
            self.assertEqual(near.mapped, far.remote)
        near.probe()
        while not await ends[0].confirmed.get():
            pass
        while await ends[1].confirmed.get():
            pass
        near.close("done")
        self.assertIn("closed", str(await ends[1].lost))
        await self.end()

    async def test_cancel(self) -> None:
        """
        An attempt that is cancelled leaves nothing, and the other side is told.
        """
        opening, answered = self.begin_()
        called = opening.whenOpen()
        other = await answered
        called.cancel()
        with contextlib.suppress(CancelledError):
            await called
        try:
            await other.whenOpen()
        except PeerUnreachable as error:
            self.assertIn("the caller gave up", str(error))
        else:
            self.fail("there is a path")
        await self.end()
