"""
The ladder of one punching session: rounds that both sides agree on, until one makes them meet.

====================  ====================  ============================  ======================
this side             and a steady one      and an aimed one              and a scattered one
====================  ====================  ============================  ======================
steady                ordinary checks       is told a port, knocks there  sprays random ports
aimed                 tells its port        each tells the other          relayed
scattered             opens many ports      relayed                       relayed
====================  ====================  ============================  ======================

An aimed side looks which port a new mapping gets, and foretells that of a mapping some steps on;
then it opens as many from fresh sockets, so that one of them has it.  Whatever arrives is an
authenticated check, and opens the path as any check does; the ladder only ends then.

A machine in the sense of L{p2ptwist.core.machine}, but that it asks for what it needs by actions
(L{p2ptwist.core.ladder.action}), because it sends from several sockets.
"""

from __future__ import annotations

from collections.abc import Set
from random import Random

from p2ptwist.core.address import HostPort
from p2ptwist.core.ladder.action import Action
from p2ptwist.core.ladder.budget import Budget
from p2ptwist.core.ladder.ground import Ground
from p2ptwist.core.ladder.memory import CLIMB_PAUSE, Means, Networks, PairMemory, networksOf
from p2ptwist.core.ladder.message import LadderMessage
from p2ptwist.core.ladder.posture import (
    PREDICTION_ROUNDS,
    Posture,
    Rung,
    begins,
    postureOf,
    rungs,
)
from p2ptwist.core.ladder.proposer import Proposer
from p2ptwist.core.ladder.responder import Responder
from p2ptwist.core.nat import NATBehavior, NATFiltering

# Seconds that ordinary checks get where they have a chance: where the steady side also lets in who
# comes from another port than was told.
PATIENCE = 2.0

_RUNGS = (Means.PREDICTION, Means.SPRAYING)


class Ladder:
    """
    All rounds of one punching session.  Single use.
    """

    def __init__(
        self,
        session: bytes,
        controlling: bool,
        budget: Budget,
        random: Random,
        memory: PairMemory,
    ) -> None:
        """
        @param session: exactly 8 bytes that name the punching session.
        @param controlling: whether this side offered it.
        @param budget: of the process.
        @param random: chooses the ports of a spray.
        @param memory: of the process.
        """
        self._controlling = controlling
        self._paused = False
        self._memory = memory
        self._ground = Ground(session, budget, random)
        self._proposer: Proposer | None = None
        self._responder = Responder(self._ground)

    @property
    def fired(self) -> int:
        """
        How many checks were sent.
        """
        return self._ground.fired

    @property
    def rung(self) -> Rung | None:
        """
        The rung that is or was climbed last; C{None} when no check was sent.
        """
        return self._ground.rung if self._ground.fired else None

    @property
    def outcome(self) -> str | None:
        """
        What has come of it, in words for a person; C{None} when there is nothing to tell yet.
        """
        ground, proposer = self._ground, self._proposer
        rung = ground.rung or ground.rungAt(PREDICTION_ROUNDS)
        if rung is None:
            return None
        if ground.fired:
            return f"{rung.value} sent {ground.fired} checks, and none found the other side"
        if self._paused:
            return (
                f"{rung.value} came to nothing between these networks before, and is tried again "
                f"{CLIMB_PAUSE / 60:.0f} minutes after that"
            )
        if self.putOff:
            return (
                f"{rung.value} is put off, as one of the two programs does it for another session, "
                "or has just done so"
            )
        if ground.spent:
            return (
                f"{rung.value} is put off, as this program has sent much to the other side's "
                "network that was not answered"
            )
        if proposer is not None and proposer.proposed:
            return f"{rung.value} was not tried, as the other side did not take part in it"
        return None

    @property
    def putOff(self) -> bool:
        """
        Whether nothing was sent yet, because one of the two programs is busy with another ladder.
        """
        return self._proposer is not None and self._proposer.waits and not self._ground.fired

    @property
    def active(self) -> bool:
        """
        Whether rounds are under way, or will be.
        """
        engaged = self._proposer is not None or self._responder.deadline() is not None
        return engaged and not self._ground.over

    def learn(
        self,
        local: NATBehavior,
        address: HostPort | None,
        remote: NATBehavior,
        remoteHosts: Set[str],
        now: float,
    ) -> None:
        """
        Ordinary checks are running, and this is what the two sides said with them; call it again
        when more is known.

        @param local: how this side's NATs behave.
        @param address: this side's server-reflexive IPv4 address, if it has one.
        @param remote: how the other side's behave.
        @param remoteHosts: the IPv4 hosts of its server-reflexive addresses.
        """
        ground = self._ground
        ground.local, ground.address = local, address
        ground.remote, ground.remoteHosts = remote, remoteHosts
        if self._proposer is not None or address is None or ground.over:
            return
        self._paused = not self._memory.mayClimb(self.networks, now)
        if begins(local, remote, self._controlling) and not self._paused:
            before = self._memory.recall(self.networks)
            patient = _mayMeet(local, remote) and before not in _RUNGS
            skips = before is Means.SPRAYING and len(rungs(local, remote)) > 1
            first = PREDICTION_ROUNDS if skips else 0
            self._proposer = Proposer(ground, now + (PATIENCE if patient else 0.0), first)

    def stop(self, now: float) -> None:
        """
        A path is open, or nobody wants one any more.
        """
        self._ground.end(now, exhausted=False)

    def receive(self, message: LadderMessage, now: float) -> None:
        """
        Take a message of the other side, as the channel authenticated it.
        """
        if message.session != self._ground.session or self._ground.over:
            return
        if self._proposer is not None or self._memory.mayClimb(self.networks, now):
            self._role.receive(message, now)

    def observed(self, address: HostPort | None, now: float) -> None:
        """
        @param address: the one that a fresh socket has, as a STUN server sees it; C{None} when none
            answered.
        """
        if not self._ground.over:
            self._role.observed(address, now)

    def opened(self, count: int, now: float) -> None:
        """
        @param count: how many extra sockets there are now, perhaps fewer than wanted.
        """
        if not self._ground.over:
            self._role.opened(count, now)

    def handleTimeout(self, now: float) -> None:
        """
        Fire what is due, and go on.
        """
        if not self._ground.over:
            self._ground.work(now)
            self._role.handleTimeout(now)

    def deadline(self, now: float) -> float | None:
        """
        @return: when L{handleTimeout} must be called next.
        """
        if self._ground.over:
            return None
        times = (self._ground.deadline(now), self._role.deadline())
        return min((time for time in times if time is not None), default=None)

    def pollAction(self) -> Action | None:
        """
        @return: the next thing to do.
        """
        return self._ground.pollAction()

    @property
    def networks(self) -> Networks | None:
        """
        The pair of networks, by their external hosts; C{None} while one is not known.
        """
        return networksOf(self._ground.address, self._ground.remoteHosts)

    @property
    def _role(self) -> Proposer | Responder:
        return self._proposer or self._responder


def _mayMeet(local: NATBehavior, remote: NATBehavior) -> bool:
    """
    @return: whether ordinary checks have a chance: a steady side is there that admits who comes
        from another port than it was told, or that does not know whom it admits.
    """
    strict = NATFiltering.ADDRESS_AND_PORT_DEPENDENT
    return any(
        postureOf(side) is Posture.STEADY and side.filtering is not strict
        for side in (local, remote)
    )
