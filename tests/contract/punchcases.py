"""
What a puncher does on a port of its own.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredQueue, maybeDeferred
from twisted.internet.protocol import DatagramProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from p2ptwist.core.address import HostPort, canonicalHost
from p2ptwist.core.ice.candidate import CandidateType, makeCandidate
from p2ptwist.errors import PathLost, PeerUnreachable
from p2ptwist.interfaces import IPathReceiver
from p2ptwist.net.puncher import Punch, Puncher
from tests.contract import settings


class Program(DatagramProtocol):
    """
    An application with a UDP port of its own, and a channel to another one.

    @ivar punch: its session, once there is one.
    @ivar received: gives each datagram that came over the path.
    @ivar others: gives what came to the port from elsewhere.
    @ivar lost: fires with the reason when the path is lost.
    """

    noisy = False
    transport: Any
    other: Program
    punch: Punch | None = None

    def __init__(self, reactor: Any, address: str) -> None:
        self.received: DeferredQueue[bytes] = DeferredQueue()
        self.others: DeferredQueue[tuple[bytes, HostPort]] = DeferredQueue()
        self.lost: Deferred[BaseException] = Deferred()
        self.refuses = False
        self._reactor = reactor
        self._address = address
        self.port = reactor.listenUDP(0, self, address)
        self.puncher = Puncher(reactor, self.transport.write)
        self.receiver = PathEnd(self)

    def candidates(self) -> list[Any]:
        """
        @return: this port's one candidate.
        """
        return [makeCandidate(CandidateType.HOST, (self._address, self.port.getHost().port))]

    def call(self) -> Deferred[Punch]:
        """
        @return: fires with the session when it is open.
        """
        self.punch = self.puncher.call(self.sendSignal, self.candidates())
        self.punch.receiver = self.receiver
        return self.punch.whenOpen()

    def sendSignal(self, signal: bytes) -> None:
        """
        Signals are carried outside of this test's network, one after the other.
        """
        self.other._reactor.callLater(0, self.other.signalReceived, signal)

    def signalReceived(self, signal: bytes) -> None:
        """
        A signal of the other program.
        """
        if self.refuses:
            self.puncher.refuse(signal, self.sendSignal, "not now")
        elif self.punch is None:
            self.punch = self.puncher.answer(signal, self.sendSignal, self.candidates())
            self.punch.receiver = self.receiver
        else:
            self.punch.signalReceived(signal)

    def datagramReceived(self, datagram: bytes, addr: HostPort) -> None:
        """
        For a session, or the program's own.
        """
        address = (canonicalHost(addr[0]), addr[1])
        if not self.puncher.datagramReceived(datagram, address):
            self.others.put((datagram, address))


@implementer(IPathReceiver)
class PathEnd:
    """
    What a L{Program} does with its path.
    """

    def __init__(self, program: Program) -> None:
        self._program = program

    def datagramReceived(self, data: bytes) -> None:
        """
        Keep it.
        """
        self._program.received.put(data)

    def pathMoved(self) -> None:
        """
        As it may.
        """

    def pathLost(self, reason: Failure) -> None:
        """
        Tell why.
        """
        assert reason.value is not None
        self._program.lost.callback(reason.value)


async def ended(punching: Deferred[Punch]) -> Exception:
    """
    @return: what an attempt that must fail fails with.
    """
    try:
        await punching
    except Exception as error:
        return error
    raise AssertionError("it opened")


class PuncherCases(settings.Cases):
    """
    Cases for two programs of which one calls the other.
    """

    def programs(self) -> tuple[Program, Program]:
        """
        @return: two programs with a channel between them, the second one reachable.
        """
        caller = Program(self.client, self.clientAddress)
        callee = Program(self.server, self.serverAddress)
        caller.other, callee.other = callee, caller
        for program in (caller, callee):
            self.addCleanup(maybeDeferred, program.port.stopListening)
            self.addCleanup(program.puncher.close)
        return caller, callee

    async def test_exchange(self) -> None:
        """
        A path opens, and carries datagrams both ways, also those that were written before.
        """
        caller, callee = self.programs()
        opening = caller.call()
        assert caller.punch is not None
        caller.punch.write(b"early")
        path = await opening
        self.assertEqual(await callee.received.get(), b"early")
        path.write(b"hello")
        self.assertEqual(await callee.received.get(), b"hello")
        assert callee.punch is not None
        callee.punch.write(b"world")
        self.assertEqual(await caller.received.get(), b"world")
        self.assertEqual(path.remote, (self.serverAddress, callee.port.getHost().port))
        self.assertEqual(path.session, callee.punch.session)

    async def test_measures(self) -> None:
        """
        An open path knows its round trip, and this side's address as the other side sees it.
        """
        caller, callee = self.programs()
        path = await caller.call()
        await self.pause(self.client, 0.5)
        self.assertGreater(path.roundTrip or 0.0, 0.0)
        assert path.mapped is not None and callee.punch is not None
        self.assertEqual(path.mapped, callee.punch.remote)
        if not self.isTranslated:
            self.assertEqual(path.mapped[0], self.clientAddress)

    async def test_close(self) -> None:
        """
        When one side closes, both are told at once, with the reason.
        """
        caller, callee = self.programs()
        path = await caller.call()
        assert callee.punch is not None
        await callee.punch.whenOpen()
        path.close("bye")
        self.assertIsInstance(await caller.lost, PathLost)
        reason = await callee.lost
        self.assertIsInstance(reason, PathLost)
        self.assertIn("bye", str(reason))
        self.assertEqual((len(caller.puncher), len(callee.puncher)), (0, 0))

    async def test_refused(self) -> None:
        """
        A program that will not is heard at once.
        """
        caller, callee = self.programs()
        callee.refuses = True
        error = await ended(caller.call())
        self.assertIsInstance(error, PeerUnreachable)
        self.assertIn("not now", str(error))
        self.assertEqual((len(caller.puncher), len(callee.puncher)), (0, 0))

    async def test_cancel(self) -> None:
        """
        A call that is given up ends on both sides.
        """
        caller, callee = self.programs()
        calling = caller.call()
        calling.cancel()
        self.assertIsInstance(await ended(calling), CancelledError)
        await self.pause(self.client, 0.2)
        self.assertEqual((len(caller.puncher), len(callee.puncher)), (0, 0))

    async def test_stranger(self) -> None:
        """
        What comes from elsewhere, and what is no session's STUN, is the application's own.
        """
        caller, callee = self.programs()
        await caller.call()
        stranger = Program(self.client, self.clientAddress)
        self.addCleanup(maybeDeferred, stranger.port.stopListening)
        there = (self.serverAddress, callee.port.getHost().port)
        looksLikeSTUN = bytes.fromhex("000100002112a442") + bytes(12)
        for data in (b"hello", looksLikeSTUN, b""):
            stranger.transport.write(data, there)
            self.assertEqual((await callee.others.get())[0], data)
        self.assertEqual(callee.received.pending, [])
