"""
What the two roles of a ladder share: what is known of both sides, the budget, and the guns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Set
from random import Random

from p2ptwist.core.address import HostPort
from p2ptwist.core.ice.candidate import LOWEST_PORT, isCheckable
from p2ptwist.core.ladder.action import Action, Fire, Over, Say
from p2ptwist.core.ladder.budget import SPRAY_CHECKS, SPRAY_LIMIT, Budget
from p2ptwist.core.ladder.message import LadderMessage, Stand
from p2ptwist.core.ladder.posture import Posture, Rung, rungAt
from p2ptwist.core.ladder.volley import Shot, Volley
from p2ptwist.core.nat import NATBehavior

TIME_LIMIT = SPRAY_LIMIT  # seconds of all rounds together
ROUND_LIMIT = 8  # rounds take 2 s, but for the last one, which sprays
# By round: how many mappings on the foretold port is.  Few, and other hosts behind the same NAT
# take it first; many, and it is many packets.
AIM_DEPTHS = (8, 16, 32)
SCATTER_SOCKETS = 256  # half of what some home routers stop a host at, without a word


class Ground:
    """
    @ivar session: exactly 8 bytes that name the punching session.
    @ivar local: how this side's NATs behave.
    @ivar remote: how the other side's do, as it says.
    @ivar address: this side's server-reflexive IPv4 address; C{None} for unknown.
    @ivar remoteHosts: the hosts of the other side's server-reflexive addresses; nothing is sent to
        any other.
    @ivar budget: of the process.
    @ivar random: chooses the ports of a spray.
    @ivar fired: how many checks were sent.
    @ivar rung: what both sides do in the round under way; C{None} before the first.
    @ivar spent: whether a round was not begun because too much was sent there in vain.
    """

    def __init__(self, session: bytes, budget: Budget, random: Random) -> None:
        self.session = session
        self.budget = budget
        self.random = random
        self.local = self.remote = NATBehavior()
        self.address: HostPort | None = None
        self.remoteHosts: Set[str] = frozenset()
        self.fired = 0
        self.rung: Rung | None = None
        self.over = False
        self.spent = False
        self._volley: Volley | None = None
        self._actions: deque[Action] = deque()

    def rungAt(self, number: int) -> Rung | None:
        """
        @return: what both sides do in that round.
        """
        return rungAt(number, self.local, self.remote)

    def foretell(self, seen: HostPort, depth: int) -> HostPort:
        """
        @param seen: the address that the latest mapping has.
        @return: the address that the one C{depth} mappings on will have.
        """
        port = seen[1] + (self.local.step or 1) * depth
        span = 65536 - LOWEST_PORT
        return seen[0], LOWEST_PORT + (port - LOWEST_PORT) % span

    def trusts(self, stand: Stand, now: float) -> bool:
        """
        @return: whether this side may send to where the other one says that it stands.
        """
        host, port = stand.address
        # A scattered side's port is only a hint.
        target = LOWEST_PORT if stand.posture is Posture.SCATTERED else port
        offered = host in self.remoteHosts
        return (
            offered and isCheckable((host, target), allowLoopback=False) and self._spares(host, now)
        )

    def mayAim(self, now: float) -> bool:
        """
        @return: whether there is a host of the other side's that a round may be aimed at, or may be
            one yet.
        """
        hosts = self.remoteHosts
        return not hosts or any(self._spares(host, now) for host in hosts)

    def ask(self, action: Action) -> None:
        """
        Queue an action.
        """
        self._actions.append(action)

    def say(self, message: LadderMessage) -> None:
        """
        Tell the other side.
        """
        self._actions.append(Say(message))

    def stand(self, number: int, posture: Posture, address: HostPort, *, reply: bool) -> None:
        """
        Tell the other side where this one stands.
        """
        self.say(Stand(self.session, number, reply, posture, address))

    def fire(self, shots: Iterator[Shot], now: float) -> None:
        """
        Send these, each in its time, and nothing else any more.
        """
        self._volley = Volley(shots, self.budget, now)
        self.work(now)

    def cease(self) -> None:
        """
        Send nothing more of what was begun.
        """
        self._volley = None

    def work(self, now: float) -> None:
        """
        Send what is due.
        """
        while self._volley is not None and (shot := self._volley.take(now)) is not None:
            self.fired += 1
            self._actions.append(Fire(shot))

    def end(self, now: float, *, exhausted: bool) -> None:
        """
        All is over.
        """
        if not self.over:
            self.over = True
            self._volley = None
            self.budget.endSpray(self, now)
            self._actions.append(Over(exhausted))

    def deadline(self, now: float) -> float | None:
        """
        @return: when L{work} has something to do.
        """
        return None if self._volley is None else self._volley.deadline(now)

    def pollAction(self) -> Action | None:
        """
        @return: the next action.
        """
        return self._actions.popleft() if self._actions else None

    def _spares(self, host: str, now: float) -> bool:
        spared = self.budget.left(host, now) >= SPRAY_CHECKS
        self.spent = self.spent or not spared
        return spared


def depthOf(number: int) -> int:
    """
    @return: the depth of the aim in that round.
    """
    return AIM_DEPTHS[min(number, len(AIM_DEPTHS) - 1)]
