"""
A ladder in a Twisted program: its extra sockets, its STUN requests, its timer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from weakref import WeakKeyDictionary

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from p2ptwist.core.address import HostPort
from p2ptwist.core.ladder.action import Action, Fire, Observe, Open, Say
from p2ptwist.core.ladder.budget import Budget
from p2ptwist.core.ladder.ladder import Ladder
from p2ptwist.core.ladder.memory import PairMemory
from p2ptwist.core.ladder.message import LadderMessage, encodeMessage
from p2ptwist.core.ladder.volley import Shot
from p2ptwist.errors import PortUnusable
from p2ptwist.net.datagramport import DatagramPort
from p2ptwist.net.stunclient import STUNClient
from p2ptwist.net.ttl import NEAR_LIMIT, writeNear

OBSERVE_TIME = 1.0  # seconds for a STUN server's answer: the other side waits for it

_log = Logger()


@dataclass(frozen=True, slots=True)
class Gear:
    """
    What all climbs of one port share.

    @ivar clock: a reactor.
    @ivar port: the peer's own socket.
    @ivar server: gives the literal address of a STUN server; C{None} when there is none.
    @ivar nearTTL: gives the time to live that lets a datagram die on the way; C{None} when nobody
        has measured it yet.
    @ivar budget: of the process.
    @ivar random: chooses the ports of sprays.
    @ivar memory: of the process.
    """

    clock: IReactorTime
    port: DatagramPort
    server: Callable[[], HostPort | None]
    nearTTL: Callable[[], int | None]
    budget: Budget
    random: Random
    memory: PairMemory = field(default_factory=PairMemory)

    def writeNear(self, data: bytes, address: HostPort, port: DatagramPort | None = None) -> bool:
        """
        Send one datagram that dies on the way.

        @param port: an extra socket; C{None} for the peer's own.
        @return: whether the operating system took it.
        """
        ttl = self.nearTTL() or NEAR_LIMIT
        return writeNear(self.port if port is None else port, data, address, ttl)


_budgets: WeakKeyDictionary[object, Budget] = WeakKeyDictionary()
_memories: WeakKeyDictionary[object, PairMemory] = WeakKeyDictionary()


def budgetOf(reactor: object) -> Budget:
    """
    @return: the budget that everything on one reactor shares: of a process, as a rule.
    """
    return _budgets.setdefault(reactor, Budget())


def memoryOf(reactor: object) -> PairMemory:
    """
    @return: what everything on one reactor remembers of pairs of networks: a process, as a rule.
    """
    return _memories.setdefault(reactor, PairMemory())


@dataclass(frozen=True, slots=True)
class Climber:
    """
    What the session that climbs does for its climb.

    @ivar check: makes an authenticated check; C{None} when that is not possible any more.
    @ivar receive: is offered each datagram that comes to an extra socket, with that socket and its
        source; says whether it was an authentic one of the session, whose socket that is then.
    @ivar say: sends a signal.
    @ivar over: is told that the climb is over, and whether all was tried.
    """

    check: Callable[[], bytes | None]
    receive: Callable[[DatagramPort, bytes, HostPort], bool]
    say: Callable[[bytes], object]
    over: Callable[[bool], object]


class Climb:
    """
    One ladder, driven.  Single use.

    @ivar ladder: whoever tells it something calls L{drain} after that.
    """

    def __init__(self, gear: Gear, climber: Climber, ladder: Ladder) -> None:
        self.ladder = ladder
        self._gear = gear
        self._climber = climber
        self._clock = gear.clock
        self._extra: list[DatagramPort] = []
        self._asked: DatagramPort | None = None
        self._observing: tuple[DatagramPort, STUNClient] | None = None
        self._timer: IDelayedCall | None = None
        self._draining = False

    @property
    def extra(self) -> int:
        """
        How many extra sockets are open, but for the one that was adopted.
        """
        return len(self._extra)

    def receive(self, message: LadderMessage) -> None:
        """
        Take a message of the other side.
        """
        self.ladder.receive(message, self._clock.seconds())
        self.drain()

    def stop(self) -> None:
        """
        A path is open, or the session is over: close every socket but the one that was adopted.
        """
        self.ladder.stop(self._clock.seconds())
        self.drain()

    def drain(self) -> None:
        """
        Do what the ladder asks for, and wake it when it is due.
        """
        if self._draining:
            return
        self._draining = True
        try:
            while (action := self.ladder.pollAction()) is not None:
                self._act(action)
        finally:
            self._draining = False
        self._rearm()

    def _act(self, action: Action) -> None:
        now = self._clock.seconds()
        if isinstance(action, Fire):
            self._fire(action.shot)
        elif isinstance(action, Say):
            self._climber.say(encodeMessage(action.message))
        elif isinstance(action, Open):
            self.ladder.opened(self._open(action.count), now)
        elif isinstance(action, Observe):
            self._observe()
        else:
            self._closeAll()
            self._climber.over(action.exhausted)

    def _fire(self, shot: Shot) -> None:
        port = self._gear.port if shot.socket is None else self._extra[shot.socket]
        data = self._climber.check()
        if data is None:
            return
        if shot.near:
            self._gear.writeNear(data, shot.address, port)
        else:
            port.write(data, shot.address)

    def _open(self, count: int) -> int:
        """
        @return: how many extra sockets there are now.
        """
        self._closeExtra()
        for _ in range(count):
            port = self._gear.port.another()
            try:
                port.listen()
            except PortUnusable as error:
                _log.debug("{error}", error=error)  # as many as the system gives
                break
            port.addConsumer(self._receiverOf(port))
            self._extra.append(port)
        return len(self._extra)

    def _receiverOf(self, port: DatagramPort) -> Callable[[bytes, HostPort], bool]:
        def received(data: bytes, address: HostPort) -> bool:
            self._asked = port  # not to be closed when this opens the path, which ends the climb
            taken = self._climber.receive(port, data, address)
            self._asked = None
            if taken:
                port.removeConsumer(received)
                self._extra = [each for each in self._extra if each is not port]
                self.stop()
            return taken

        return received

    def _observe(self) -> None:
        server = self._gear.server()
        port = self._gear.port.another()
        try:
            if server is not None:
                port.listen()
        except PortUnusable as error:
            _log.debug("{error}", error=error)
            server = None
        if server is None:
            self.ladder.observed(None, self._clock.seconds())
            return
        client = STUNClient(self._clock, port.write)
        port.addConsumer(client.datagramReceived)
        self._observing = port, client
        client.bind(server, OBSERVE_TIME).addCallbacks(self._observed, lambda _: self._observed())

    def _observed(self, address: HostPort | None = None) -> None:
        if self._observing is not None:
            self._observing[0].stopListening()
            self._observing = None
            self.ladder.observed(address, self._clock.seconds())
            self.drain()

    def _closeAll(self) -> None:
        observing, self._observing = self._observing, None
        if observing is not None:
            observing[1].stop()
            observing[0].stopListening()
        self._closeExtra()

    def _closeExtra(self) -> None:
        for port in self._extra:
            if port is not self._asked:
                port.stopListening()
        self._extra.clear()

    def _rearm(self) -> None:
        deadline = self.ladder.deadline(self._clock.seconds())
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if deadline is not None:
            delay = max(0.0, deadline - self._clock.seconds())
            self._timer = self._clock.callLater(delay, self._due)

    def _due(self) -> None:
        self._timer = None
        self.ladder.handleTimeout(self._clock.seconds())
        self.drain()
