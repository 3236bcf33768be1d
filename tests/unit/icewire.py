"""
What the tests of L{p2ptwist.core.ice} share: a wire between two agents, and a hand-made other side.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from random import Random

from p2ptwist.core.address import HostPort
from p2ptwist.core.ice.agent import Agent
from p2ptwist.core.ice.candidate import Candidate, CandidateType, makeCandidate
from p2ptwist.core.ice.check import Check, Credentials, encodeAnswer, encodeCheck
from p2ptwist.core.ice.checklist import Pair, PairState
from p2ptwist.core.ice.events import Event, PathConfirmed, SignalQueued
from p2ptwist.core.ice.signal import (
    Description,
    MoreCandidates,
    Signal,
    SignalType,
    decodeSignal,
    encodeSignal,
)
from p2ptwist.core.machine import Transmit
from p2ptwist.core.nat import NATBehavior
from p2ptwist.core.stun.attributes import encodeErrorCode
from p2ptwist.core.stun.message import (
    AttributeType,
    Message,
    MessageClass,
    Method,
    decode,
    encode,
    isSTUN,
)

A: HostPort = ("198.51.100.1", 4001)
B: HostPort = ("198.51.100.2", 4002)
ELSEWHERE: HostPort = ("192.0.2.66", 6666)

# Calls of C{handleTimeout} at one and the same time, after which a machine counts as spinning: a
# burst of five checks, giving up, consent and failure need far fewer.
SPIN_LIMIT = 50


def hostCandidates(*addresses: HostPort) -> list[Candidate]:
    """
    @return: a host candidate for each address, the first preferred.
    """
    return [
        makeCandidate(CandidateType.HOST, address, order) for order, address in enumerate(addresses)
    ]


@dataclass(frozen=True)
class Weather:
    """
    What a path does to datagrams.

    @ivar delay: seconds, one way.
    @ivar jitter: up to that many seconds more, evenly spread, so that datagrams change places.
    @ivar loss: 0..1.
    @ivar duplication: 0..1.
    """

    delay: float = 0.04
    jitter: float = 0.0
    loss: float = 0.0
    duplication: float = 0.0


class Wire:
    """
    Two agents, C{"a"} who offers and C{"b"}, with datagrams and signals between them.

    @ivar now: seconds.
    @ivar events: what each agent said, with its time, without signals.
    @ivar sent: what each agent sent: time, data, destination.
    @ivar address: where each agent is.  Change it to move an agent.
    @ivar drop: called with side, data and destination of each datagram; true loses it.
    @ivar dropSignals: whether signals are lost.
    """

    def __init__(
        self,
        seed: int = 1,
        weather: Weather | None = None,
        signalDelay: float = 0.05,
        start: float = 0.0,
        roles: tuple[bool, bool] = (True, False),
    ) -> None:
        self.now = start
        self.weather = weather or Weather()
        self.signalDelay = signalDelay
        self.random = Random(seed)
        self.queue: list[tuple[float, int, Callable[[], object]]] = []
        self.serial = 0
        self.address = {"a": A, "b": B}
        self.events: dict[str, list[tuple[float, Event]]] = {"a": [], "b": []}
        self.confirmed: dict[str, list[tuple[float, bool]]] = {"a": [], "b": []}
        self.sent: dict[str, list[tuple[float, bytes, HostPort]]] = {"a": [], "b": []}
        self.drop: Callable[[str, bytes, HostPort], bool] = lambda side, data, to: False
        self.dropSignals = False
        self.a = Agent(roles[0], self.random.randbytes, start)
        self.b = Agent(roles[1], self.random.randbytes, start, self.a.session)
        self.agents = {"a": self.a, "b": self.b}

    def offer(self, *, complete: bool = True) -> None:
        """
        Give each agent its one candidate, and let C{"a"} offer.
        """
        for side, agent in self.agents.items():
            agent.addCandidates(hostCandidates(self.address[side]), self.now)
            if complete:
                agent.endCandidates(self.now)
        self.a.start(self.now)

    def connect(self, until: float | None = None) -> None:
        """
        Offer, and run for a second, in which a good path opens and a pair is nominated.
        """
        self.offer()
        self.run(self.now + 1.0 if until is None else until)

    def later(self, delay: float, call: Callable[[], object]) -> None:
        """
        Do something after C{delay} seconds.
        """
        self.serial += 1
        heapq.heappush(self.queue, (self.now + delay, self.serial, call))

    def drain(self) -> None:
        """
        Carry what both agents want carried.
        """
        for side, agent in self.agents.items():
            while (transmit := agent.pollTransmit()) is not None:
                self.sent[side].append((self.now, transmit.data, transmit.address))
                if not self.drop(side, transmit.data, transmit.address):
                    self._carry(side, transmit)
            while (event := agent.pollEvent()) is not None:
                if isinstance(event, PathConfirmed):
                    self.confirmed[side].append((self.now, event.answered))
                elif not isinstance(event, SignalQueued):
                    self.events[side].append((self.now, event))
                elif not self.dropSignals:
                    self.signal("b" if side == "a" else "a", event.signal)

    def _carry(self, side: str, transmit: Transmit) -> None:
        other = "b" if side == "a" else "a"
        source = self.address[side]
        weather, draw = self.weather, self.random.random
        if transmit.address != self.address[other]:
            return
        for _ in range(2 if draw() < weather.duplication else 1):
            if draw() >= weather.loss:
                self.later(
                    weather.delay + draw() * weather.jitter,
                    lambda: self.agents[other].receiveDatagram(transmit.data, source, self.now),
                )

    def signal(self, to: str, signal: Signal) -> None:
        """
        Deliver a signal after its delay.
        """
        data = encodeSignal(signal)
        self.later(
            self.signalDelay, lambda: self.agents[to].receiveSignal(decodeSignal(data), self.now)
        )

    def run(self, until: float) -> None:
        """
        Step from event to event.

        @raise AssertionError: when an agent asks for its timer at one time again and again.
        """
        spins = 0
        while True:
            self.drain()
            times = [self.queue[0][0]] if self.queue else []
            for agent in self.agents.values():
                deadline = agent.deadline()
                if deadline is not None:
                    times.append(deadline)
            if not times or min(times) > until:
                self.now = until
                return
            spins = spins + 1 if min(times) <= self.now else 0
            if spins > SPIN_LIMIT:
                raise AssertionError(f"the agents spin at {self.now}")
            self.now = max(self.now, min(times))
            self._step()

    def _step(self) -> None:
        if self.queue and self.queue[0][0] <= self.now:
            heapq.heappop(self.queue)[2]()
            return
        for agent in self.agents.values():
            deadline = agent.deadline()
            if deadline is not None and deadline <= self.now:
                agent.handleTimeout(self.now)

    def kinds(self, side: str) -> list[str]:
        """
        @return: the names of the events of one side.
        """
        return [type(event).__name__ for _, event in self.events[side]]

    def last(self, side: str) -> Event:
        """
        @return: the latest event of one side.
        """
        return self.events[side][-1][1]

    def checks(self, side: str, since: float = 0.0) -> list[tuple[float, Message, HostPort]]:
        """
        @return: the requests that one side sent: time, message, destination.
        """
        return [
            (time, decode(data), to)
            for time, data, to in self.sent[side]
            if time >= since and isRequest(data)
        ]

    def payloads(self, side: str, since: float = 0.0) -> list[tuple[float, bytes, HostPort]]:
        """
        @return: the application data that one side sent.
        """
        return [each for each in self.sent[side] if each[0] >= since and not isSTUN(each[1])]


def isRequest(data: bytes) -> bool:
    """
    @return: whether a datagram is a STUN request.
    """
    return isSTUN(data) and decode(data).messageClass is MessageClass.REQUEST


def busiestSecond(times: Iterable[float]) -> int:
    """
    @return: the most of C{times} that any one second holds, its end left out.
    """
    ordered = sorted(times)
    return max(
        (
            sum(first <= time < first + 1.0 for time in ordered[index:])
            for index, first in enumerate(ordered)
        ),
        default=0,
    )


# What is not state: what was counted, the time of the last call, and where functions come from.
_NO_STATE = frozenset({"counters", "_counters", "_now", "_randomBytes", "_looksReachable", "_make"})


def snapshot(value: object, seen: frozenset[int] = frozenset()) -> object:
    """
    @return: all that a machine remembers, in a form that can be compared.
    """
    if id(value) in seen:
        return None
    inside = seen | {id(value)}
    if isinstance(value, Random):
        return value.getstate()
    if isinstance(value, dict):
        return [(snapshot(key, inside), snapshot(each, inside)) for key, each in value.items()]
    if isinstance(value, (list, tuple, deque, set)):
        return [snapshot(each, inside) for each in value]
    if isinstance(value, (Enum, bytes, str, int, float, type(None))):
        return value
    names = [*getattr(value, "__dict__", ()), *getattr(value, "__slots__", ())]
    return [
        (name, snapshot(getattr(value, name), inside)) for name in names if name not in _NO_STATE
    ]


def drainEvents(agent: Agent) -> list[Event]:
    """
    @return: every event that is queued.
    """
    return list(iter(agent.pollEvent, None))


def drainTransmits(agent: Agent) -> list[Transmit]:
    """
    @return: every datagram that is queued.
    """
    return list(iter(agent.pollTransmit, None))


class Peer:
    """
    The other side of one agent, made by hand, so that it can do what no agent does.

    @ivar agent: the agent that it talks with.
    @ivar local: this peer's credentials.
    @ivar remote: the agent's, once it described itself.
    """

    def __init__(
        self,
        controlling: bool = False,
        now: float = 0.0,
        seed: int = 1,
        hosts: Iterable[HostPort] = (A,),
    ) -> None:
        """
        @param controlling: the agent's role.
        @param hosts: the agent's host candidates.
        """
        self.random = Random(seed)
        self.agent = Agent(controlling, self.random.randbytes, now)
        self.agent.addCandidates(hostCandidates(*hosts), now)
        self.agent.endCandidates(now)
        self.local = Credentials(b"peer", b"password" * 3)
        self.remote = Credentials(b"none", b"none" * 6)
        self.signals: list[Signal] = []
        self.events: list[Event] = []
        self.confirmed: list[bool] = []

    def describe(
        self,
        candidates: Iterable[Candidate] = (),
        *,
        generation: int = 0,
        kind: SignalType = SignalType.OFFER,
        complete: bool = True,
        now: float = 0.0,
    ) -> None:
        """
        Tell the agent of this peer, and learn the agent's credentials.
        """
        signal = Description(
            kind,
            self.agent.session,
            generation,
            self.local.fragment,
            self.local.password,
            tuple(candidates),
            complete,
            NATBehavior(),
        )
        self.agent.receiveSignal(signal, now)
        self.poll()

    def more(
        self,
        candidates: Iterable[Candidate],
        *,
        generation: int = 0,
        complete: bool = False,
        now: float = 0.0,
    ) -> None:
        """
        Trickle candidates.
        """
        more = MoreCandidates(
            self.agent.session, generation, tuple(candidates), complete, NATBehavior()
        )
        self.agent.receiveSignal(more, now)
        self.poll()

    def poll(self) -> list[Event]:
        """
        Take the agent's events, and its credentials from its descriptions.

        @return: the events that are no signals, of this call.
        """
        fresh: list[Event] = []
        for event in drainEvents(self.agent):
            if isinstance(event, PathConfirmed):
                self.confirmed.append(event.answered)
                continue
            if not isinstance(event, SignalQueued):
                fresh.append(event)
                continue
            self.signals.append(event.signal)
            if isinstance(event.signal, Description):
                self.remote = Credentials(event.signal.fragment, event.signal.password)
        self.events.extend(fresh)
        return fresh

    def makeCheck(
        self,
        *,
        transactionID: bytes | None = None,
        controlling: bool = True,
        tieBreaker: int = 1,
        nominates: bool = False,
        priority: int = 1,
    ) -> bytes:
        """
        @return: a check of the agent.
        """
        tid = self.random.randbytes(12) if transactionID is None else transactionID
        check = Check(priority, controlling, tieBreaker, nominates)
        return encodeCheck(tid, check, self.local, self.remote)

    def check(self, now: float, source: HostPort = B, **kwargs: object) -> bool:
        """
        Check the agent from C{source}; the arguments are those of L{makeCheck}.
        """
        data = self.makeCheck(**kwargs)  # type: ignore[arg-type]
        return self.agent.receiveDatagram(data, source, now)

    def answer(self, transmit: Transmit, now: float, source: HostPort | None = None) -> bool:
        """
        Answer a check of the agent.
        """
        answer = encodeAnswer(decode(transmit.data), A, self.local.password)
        return self.agent.receiveDatagram(answer, source or transmit.address, now)

    def refuse(self, transmit: Transmit, now: float, code: int = 487) -> bool:
        """
        Answer a check of the agent with an error.
        """
        answer = encode(
            MessageClass.ERROR,
            Method.BINDING,
            decode(transmit.data).transactionID,
            [(AttributeType.ERROR_CODE, encodeErrorCode(code, ""))],
            key=self.local.password,
            fingerprint=True,
        )
        return self.agent.receiveDatagram(answer, transmit.address, now)

    def requests(self) -> list[Transmit]:
        """
        @return: the checks that the agent has queued; what else it has queued is dropped.
        """
        return [each for each in drainTransmits(self.agent) if isRequest(each.data)]

    def step(self, until: float, now: float = 0.0) -> list[tuple[float, Transmit]]:
        """
        Let time pass for the agent alone.

        @return: what it sent, with times.
        @raise AssertionError: when it asks for its timer at one time again and again.
        """
        sent = [(now, each) for each in drainTransmits(self.agent)]
        spins = 0
        while (deadline := self.agent.deadline()) is not None and deadline <= until:
            spins = spins + 1 if deadline <= now else 0
            if spins > SPIN_LIMIT:
                raise AssertionError(f"the agent spins at {now}")
            now = deadline
            self.agent.handleTimeout(now)
            sent.extend((now, each) for each in drainTransmits(self.agent))
        self.poll()
        return sent

    def connect(self, now: float = 0.0) -> None:
        """
        Describe this peer at B, let the agent prove that address, and nominate it: the path is
        open, and the checks are over.
        """
        self.describe(hostCandidates(B), now=now)
        self.agent.handleTimeout(now)
        self.check(now, nominates=True)
        for request in self.requests():
            self.answer(request, now)
        drainTransmits(self.agent)
        self.poll()

    def pairs(self) -> dict[HostPort, PairState]:
        """
        @return: how far the agent is with each address.
        """
        checklist = self.agent._lineage.current.checklist
        return {pair.address: pair.state for pair in checklist}

    def pair(self, address: HostPort) -> Pair:
        """
        @return: the agent's pair of that address.
        """
        pair = self.agent._lineage.current.checklist.get(address)
        if pair is None:
            raise AssertionError(f"there is no pair for {address}")
        return pair
