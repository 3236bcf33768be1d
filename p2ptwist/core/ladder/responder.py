"""
The side that a round of a ladder is proposed to: an aimed or a scattered one.
"""

from __future__ import annotations

from math import ceil

from p2ptwist.core.address import HostPort
from p2ptwist.core.ladder.action import Observe, Open
from p2ptwist.core.ladder.ground import (
    ROUND_LIMIT,
    SCATTER_SOCKETS,
    TIME_LIMIT,
    Ground,
    depthOf,
)
from p2ptwist.core.ladder.message import Busy, Stand
from p2ptwist.core.ladder.posture import Posture, Rung, postureOf
from p2ptwist.core.ladder.volley import prime, scatter

# Seconds after the other side's time is over: its last shots are under way, and count here as well.
GRACE = 2.0


class Responder:
    """
    One ladder's rounds, as the other side proposes them.
    """

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._end: float | None = None
        self._round = -1
        self._proposal: Stand | None = None
        self._aim: HostPort | None = None
        self._observing = False

    def receive(self, proposal: Stand | Busy, now: float) -> None:
        """
        Take a proposal; one that is not newer than the last is a repetition.
        """
        if isinstance(proposal, Busy) or proposal.reply or not self._fits(proposal, now):
            return
        ground, number = self._ground, proposal.round
        own, rung = postureOf(ground.local), ground.rungAt(number)
        if rung is Rung.PREDICTION and own is Posture.AIMED:
            self._accept(proposal, now)
            self._observing = True
            ground.ask(Observe())
        elif rung is Rung.SPRAYING and own is not Posture.STEADY:
            wait = ground.budget.beginSpray(ground, now)
            if wait > 0:
                ground.say(Busy(ground.session, number, ceil(wait)))
            else:
                self._accept(proposal, now)
                ground.ask(Open(SCATTER_SOCKETS))

    def observed(self, address: HostPort | None, now: float) -> None:
        """
        @param address: what the STUN server saw; C{None} when it did not answer, and the other side
            hears nothing of this round.
        """
        if self._observing and address is not None:
            depth = depthOf(self._round)
            self._aim = self._ground.foretell(address, depth)
            self._ground.ask(Open(depth))
        self._observing = False

    def opened(self, count: int, now: float) -> None:
        """
        @param count: how many sockets there are now.
        """
        proposal, self._proposal = self._proposal, None
        if proposal is None or count == 0:
            return
        ground = self._ground
        if self._aim is not None:
            # First the mappings, then the word: the other side may be quick, and others behind the
            # same NAT take ports meanwhile.
            ground.fire(prime(count, proposal.address), now)
            ground.stand(proposal.round, Posture.AIMED, self._aim, reply=True)
        elif ground.address is not None:
            ground.stand(proposal.round, Posture.SCATTERED, ground.address, reply=True)
            ground.fire(scatter(count, proposal.address), now)

    def handleTimeout(self, now: float) -> None:
        """
        End, when the other side's time is over.
        """
        if self._end is not None and now >= self._end:
            self._ground.end(now, exhausted=True)

    def deadline(self) -> float | None:
        """
        @return: when L{handleTimeout} is due; C{None} while nothing was proposed.
        """
        return self._end

    def _fits(self, proposal: Stand, now: float) -> bool:
        newer = self._round < proposal.round < ROUND_LIMIT
        aimable = proposal.posture is not Posture.SCATTERED
        return newer and aimable and self._ground.trusts(proposal, now)

    def _accept(self, proposal: Stand, now: float) -> None:
        self._ground.cease()
        self._round = proposal.round
        self._ground.rung = self._ground.rungAt(proposal.round)
        self._proposal = proposal
        self._aim = None
        if self._end is None:
            self._end = now + TIME_LIMIT + GRACE
