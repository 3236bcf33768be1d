"""
TCP simultaneous open: two programs behind NATs dial each other at once.

A L{TCPOpener} makes attempts; each L{TCPOpening} is one, with one other program.  Signals go over
any reliable channel.  C{docs/tcp.md} has it all in ten lines, and the wire.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os import urandom
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.error import TimeoutError as TwistedTimeoutError
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2ptwist.core.address import HostPort
from p2ptwist.core.errors import MalformedDatagram
from p2ptwist.core.ice.candidate import CandidateType, isCheckable
from p2ptwist.core.tcppath.dialing import DIAL_TIMEOUT
from p2ptwist.core.tcppath.opening import (
    Dial,
    Drop,
    Event,
    Failed,
    Opened,
    Opening,
    Say,
    Send,
)
from p2ptwist.core.tcppath.signal import Offer, TCPCandidate, decodeSignal, encodeSignal
from p2ptwist.errors import PathLost, PeerUnreachable, PortUnusable, PunchFailed
from p2ptwist.net.attempts import (
    AttemptBegun,
    AttemptOpened,
    Connected,
    Dialed,
    DialFailed,
    Observer,
    SignalSent,
    SignalTaken,
    tell,
    tellOver,
)
from p2ptwist.net.hostaddresses import hostAddresses
from p2ptwist.net.latch import Latch
from p2ptwist.net.tcpframes import FramedConnection
from p2ptwist.net.tcpobserve import Observation
from p2ptwist.net.tcppath import TCPPath
from p2ptwist.net.tcpport import TCPPort

SERVER_LIMIT = 2  # STUN servers asked: the second is for when the first is down
# Other ports tried where a NAT gives one that nobody dials (L{isCheckable}): it has some 64,000.
SPARE_PORTS = 2
HOST_LIMIT = 5  # of this host's addresses: the rest of the 8 candidates is for reflexive ones

_log = Logger()


class TCPOpener:
    """
    Makes TCP paths.

    @ivar servers: STUN servers over TCP, literal addresses; may be set anew for later attempts.
    @ivar observer: who is told of all that attempts do; C{None} for nobody.
    """

    observer: Observer | None = None

    def __init__(
        self,
        reactor: Any,
        servers: Sequence[HostPort] = (),
        interface: str = "",
        randomBytes: Callable[[int], bytes] = urandom,
    ) -> None:
        """
        @param reactor: provides C{IReactorTCP} and C{IReactorTime}.
        @param interface: the literal address to use alone; empty for all.
        @param randomBytes: a cryptographic source; tests on a simulated Internet pass a seeded one.
        """
        self.servers = tuple(servers)
        self._reactor = reactor
        self._interface = interface
        self._randomBytes = randomBytes
        self._live: set[TCPOpening | TCPPath] = set()

    def __len__(self) -> int:
        """
        @return: attempts and paths of which something is left.
        """
        return len(self._live)

    def call(self, sendSignal: Callable[[bytes], object]) -> TCPOpening:
        """
        Offer a TCP path to another program.

        @param sendSignal: called with each signal, at most 512 bytes, for the other program to pass
            to L{answer} and L{TCPOpening.signalReceived}.  The first call comes before this method
            returns.
        """
        return self._begin(sendSignal, None)

    def answer(self, offer: bytes, sendSignal: Callable[[bytes], object]) -> TCPOpening:
        """
        Take a TCP path that another program offers.

        @param offer: the first signal, as it came.
        @raise MalformedDatagram: when it is not an offer.
        """
        signal = decodeSignal(offer)
        if not isinstance(signal, Offer):
            raise MalformedDatagram("the first signal of a TCP path is not an offer")
        return self._begin(sendSignal, signal)

    def close(self, reason: str = "closed") -> Deferred[None]:
        """
        End every attempt and every path.

        @return: a Deferred that fires when nothing is left.
        """
        live = tuple(self._live)
        for each in live:
            each.close(reason)
        gone = [each.whenGone() for each in live]
        return DeferredList(gone, consumeErrors=True).addCallback(lambda _: None)

    def _begin(self, sendSignal: Callable[[bytes], object], offer: Offer | None) -> TCPOpening:
        opening = TCPOpening(
            self._reactor,
            Opening(self._randomBytes, self._reactor.seconds(), offer),
            lambda: TCPPort(self._reactor, hostAddresses(self._reactor), self._interface),
            sendSignal,
            self._track,
            self.observer,
        )
        self._track(opening)
        opening.start(self.servers, self._randomBytes)
        return opening

    def _track(self, each: TCPOpening | TCPPath) -> None:
        self._live.add(each)
        each.whenGone().addCallback(lambda _: self._live.discard(each))


class TCPOpening:
    """
    One attempt.  Single use.

    @ivar malformed: signals that could not be read.
    """

    def __init__(
        self,
        reactor: Any,
        machine: Opening,
        makePort: Callable[[], TCPPort],
        sendSignal: Callable[[bytes], object],
        track: Callable[[TCPPath], object],
        observer: Observer | None,
    ) -> None:
        """
        Use L{TCPOpener.call} and L{TCPOpener.answer}.
        """
        self.malformed = 0
        self._reactor = reactor
        self._machine = machine
        self._makePort = makePort
        self._port = makePort()
        self._sendSignal = sendSignal
        self._track = track
        self._observer = observer
        tell(observer, AttemptBegun(machine.session, "tcp", machine.controlling))
        self._startedAt = reactor.seconds()
        self._connections: dict[int, FramedConnection] = {}
        self._numbers = 0
        self._observations: list[Observation] = []
        self._closing: list[Deferred[None]] = []
        self._timer: IDelayedCall | None = None
        self._draining = False
        self._path: TCPPath | None = None
        self._opened: Latch[TCPPath] = Latch(self._abandoned)
        self._ended: Latch[BaseException | None] = Latch()
        self._gone: Latch[None] = Latch()
        self._over = False

    @property
    def session(self) -> bytes:
        """
        Exactly 8 bytes, the same on both sides.
        """
        return self._machine.session

    def whenOpen(self) -> Deferred[TCPPath]:
        """
        @return: a Deferred that fires with the path, and fails with L{PunchFailed}, with
            L{PeerUnreachable} when the other side would not, or with L{PathLost} when this side
            closed the attempt.  When every such Deferred is cancelled the attempt ends at once.
        """
        return self._opened.when()

    def whenOver(self) -> Deferred[BaseException | None]:
        """
        @return: a Deferred that fires when the attempt is over: with C{None} when there is a path,
            else with the reason.
        """
        return self._ended.when()

    def whenGone(self) -> Deferred[None]:
        """
        @return: a Deferred that fires when nothing is left of the attempt but the path.
        """
        return self._gone.when()

    def signalReceived(self, data: bytes) -> None:
        """
        Take a signal that came over the channel.  One that is malformed is counted and dropped.
        """
        try:
            signal = decodeSignal(data)
        except MalformedDatagram:
            self.malformed += 1
            return
        tell(self._observer, SignalTaken(self.session, signal))
        self._machine.receiveSignal(signal, self._reactor.seconds())
        self._drain()

    def close(self, reason: str = "closed") -> None:
        """
        Give up, tell the other side, and free everything.  A path that is open stays.

        @param reason: what the other side's user reads.
        """
        self._abort(Failure(PathLost(f"this side ended it: {reason}")), reason)

    # What the opener calls.

    def start(self, servers: Sequence[HostPort], randomBytes: Callable[[int], bytes]) -> None:
        """
        Open the port, and find out its address.
        """
        self._openPort(servers, randomBytes, SPARE_PORTS)
        self._drain()

    # Inside.

    def _openPort(
        self, servers: Sequence[HostPort], randomBytes: Callable[[int], bytes], spare: int
    ) -> None:
        """
        @param spare: how many ports may take its place.
        """
        port = self._port
        try:
            port.listen(self._accept)
        except PortUnusable:
            self._abort(Failure(), "no TCP port")
            return

        def observed(seen: HostPort | None) -> None:
            if port is not self._port:
                return  # another has taken its place
            if spare and seen is not None and not isCheckable(seen, allowLoopback=True):
                self._leavePort()
                self._openPort(servers, randomBytes, spare - 1)
            else:
                self._observed(seen)

        asked = [each for each in servers if port.speaks(each[0])][:SERVER_LIMIT]
        self._observations = [
            Observation(self._reactor, port, server, randomBytes) for server in asked
        ]
        seen = [each.whenSeen().addCallback(observed) for each in self._observations]
        # Where the mapping is endpoint-independent the first answer tells all; elsewhere none.
        DeferredList(seen, consumeErrors=True).addCallback(lambda _: observed(None))

    def _leavePort(self) -> None:
        """
        Take another port.
        """
        left, self._port = self._port, self._makePort()
        self._closePort(left)

    def _closePort(self, port: TCPPort) -> None:
        for observation in self._observations:
            observation.close()
        self._closing.append(port.close())

    def _observed(self, seen: HostPort | None) -> None:
        hosts = [(host, self._port.localPort) for host in self._port.hosts[:HOST_LIMIT]]
        candidates = [TCPCandidate(CandidateType.HOST, each) for each in hosts]
        if seen is not None and seen not in hosts:
            candidates.append(TCPCandidate(CandidateType.SERVER_REFLEXIVE, seen))
        self._machine.prepared(tuple(candidates), self._reactor.seconds())
        self._drain()

    def _accept(self) -> FramedConnection:
        return FramedConnection(self._reactor, lambda each: self._made(each, dialed=False))

    def _made(self, connection: FramedConnection, *, dialed: bool) -> None:
        if self._over:
            connection.abort()
            return
        self._numbers += 1
        number = self._numbers
        self._connections[number] = connection
        connection.receive = lambda frames: self._framesReceived(number, frames)
        connection.lost = lambda: self._lost(number)
        tell(self._observer, Connected(self.session, connection.peer, dialed))
        self._machine.connected(number, connection.peer, dialed, self._reactor.seconds())
        self._drain()

    def _lost(self, number: int) -> None:
        self._connections.pop(number, None)
        self._machine.lost(number, self._reactor.seconds())
        self._drain()

    def _framesReceived(self, number: int, frames: Sequence[bytes]) -> None:
        for index, frame in enumerate(frames):
            if number not in self._connections:
                return
            self._machine.receiveFrame(number, frame, self._reactor.seconds())
            self._drain()
            if self._path is not None:
                # Datagrams may come right behind the check that chose the connection.
                self._path.framesReceived(frames[index + 1 :])
                return

    def _dial(self, address: HostPort) -> None:
        def failed(reason: Failure) -> None:
            early = not reason.check(TwistedTimeoutError)
            tell(self._observer, DialFailed(self.session, address, early))
            self._machine.dialFailed(address, early, self._reactor.seconds())
            self._drain()

        def build() -> FramedConnection:
            return FramedConnection(self._reactor, lambda each: self._made(each, dialed=True))

        if self._port.speaks(address[0]):
            tell(self._observer, Dialed(self.session, address))
            self._port.dial(address, build, failed, DIAL_TIMEOUT)

    def _drain(self) -> None:
        """
        Do what the machine wants done.  A call from inside only queues more for this loop.
        """
        if self._draining:
            return
        self._draining = True
        try:
            while (event := self._machine.pollEvent()) is not None:
                self._do(event)
        finally:
            self._draining = False
        self._rearm()

    def _do(self, event: Event) -> None:
        if isinstance(event, Say):
            tell(self._observer, SignalSent(self.session, event.signal))
            self._tell(lambda: self._sendSignal(encodeSignal(event.signal)))
        elif isinstance(event, Dial):
            self._dial(event.address)
        elif isinstance(event, Send):
            self._connections[event.number].sendCheck(event.frame)
        elif isinstance(event, Drop):
            self._connections.pop(event.number).abort()
        elif isinstance(event, Opened):
            self._settle(event)
        elif isinstance(event, Failed):
            self._finish(_asFailure(event))

    def _settle(self, event: Opened) -> None:
        machine, clock = self._machine, self._reactor
        connection = self._connections.pop(event.number)
        openedAfter = clock.seconds() - self._startedAt
        self._path = path = TCPPath(
            clock, connection, event.verification, machine.session, machine.controlling, openedAfter
        )
        self._track(path)
        self._finish(path)

    def _abandoned(self) -> None:
        self._abort(Failure(CancelledError()), "the caller gave up")

    def _abort(self, failure: Failure, reason: str) -> None:
        if not self._over:
            self._machine.close(reason, self._reactor.seconds())
            while (event := self._machine.pollEvent()) is not None:
                if isinstance(event, Say):
                    self._do(event)
            self._finish(failure)

    def _finish(self, result: TCPPath | Failure) -> None:
        """
        Close everything but the path.
        """
        if self._over:
            return
        self._over = True
        self._tellResult(result)
        self._rearm()
        connections, self._connections = self._connections, {}
        for connection in connections.values():
            connection.abort()
        self._closePort(self._port)
        DeferredList(self._closing).addCallback(lambda _: self._gone.settle(None))
        self._ended.settle(result.value if isinstance(result, Failure) else None)
        self._opened.settle(result)

    def _tellResult(self, result: TCPPath | Failure) -> None:
        if isinstance(result, TCPPath):
            tell(self._observer, AttemptOpened(self.session, result.remote))
        else:
            tellOver(self._observer, self.session, result.value)

    def _rearm(self) -> None:
        deadline = None if self._over else self._machine.deadline()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if deadline is not None:
            delay = max(0.0, deadline - self._reactor.seconds())
            self._timer = self._reactor.callLater(delay, self._due, deadline)

    def _due(self, deadline: float) -> None:
        self._timer = None
        # Rounding must not make a timer early, which would then spin.
        self._machine.handleTimeout(max(deadline, self._reactor.seconds()))
        self._drain()

    def _tell(self, call: Callable[[], object]) -> None:
        try:
            call()
        except Exception:
            _log.failure("the application failed while a signal was sent")


def _asFailure(event: Failed) -> Failure:
    if event.left:
        return Failure(PeerUnreachable(event.reason))
    return Failure(PunchFailed(event.reason, event.elapsed, event.dials))
