"""
The side that proposes the rounds of a ladder: the steady one, or the controlling one of two aimed.
"""

from __future__ import annotations

import enum

from p2ptwist.core.address import HostPort
from p2ptwist.core.ladder.action import Observe, Open
from p2ptwist.core.ladder.ground import ROUND_LIMIT, TIME_LIMIT, Ground, depthOf
from p2ptwist.core.ladder.message import Busy, Stand
from p2ptwist.core.ladder.posture import Posture, Rung, postureOf
from p2ptwist.core.ladder.volley import charge, knock, spray

REPLY_LIMIT = 3.0  # seconds; the other side asks a STUN server first, over a link that loses
ROUND_TIME = 2.0  # seconds of a prediction: its shots take one and a half, and a round trip
BUSY_LIMIT = 3  # times that a side which is busy is asked again
BUSY_LONGEST = 60  # seconds, whatever it says


class _Step(enum.Enum):
    WAITING = enum.auto()  # for the time of the next round
    OBSERVING = enum.auto()
    PROPOSED = enum.auto()
    OPENING = enum.auto()
    FIRING = enum.auto()


class Proposer:
    """
    One ladder's rounds, from this side.
    """

    def __init__(self, ground: Ground, startAt: float, first: int = 0) -> None:
        """
        @param first: the number of the first round.
        """
        self._ground = ground
        self._round = first - 1
        self._step = _Step.WAITING
        self._due = startAt
        self._end = startAt + TIME_LIMIT
        self._busy = 0
        self._proposed = False
        self._target: HostPort | None = None

    @property
    def waits(self) -> bool:
        """
        Whether one of the two sides is busy, or was until the end.
        """
        return self._busy > 0

    @property
    def proposed(self) -> bool:
        """
        Whether anything was proposed to the other side.
        """
        return self._proposed

    def receive(self, message: Stand | Busy, now: float) -> None:
        """
        Take the reply to a proposal.
        """
        if self._step is not _Step.PROPOSED or message.round != self._round:
            return
        if isinstance(message, Busy):
            self._round -= 1
            self._postpone(max(1, min(message.pause, BUSY_LONGEST)), now)
        elif message.reply and self._ground.trusts(message, now):
            self._take(message, now)

    def observed(self, address: HostPort | None, now: float) -> None:
        """
        @param address: what the STUN server saw; C{None} when it did not answer.
        """
        if self._step is not _Step.OBSERVING:
            return
        if address is None:
            self._begin(now)
            return
        aim = self._ground.foretell(address, depthOf(self._round))
        self._propose(Posture.AIMED, aim, now)

    def opened(self, count: int, now: float) -> None:
        """
        @param count: how many sockets there are now.
        """
        if self._step is _Step.OPENING and self._target is not None:
            self._step = _Step.FIRING
            self._due = now + ROUND_TIME
            self._ground.fire(charge(count, self._target), now)

    def handleTimeout(self, now: float) -> None:
        """
        Go on to the next round, if this one is over.
        """
        if now >= self._end and self._step is not _Step.WAITING:
            self._ground.end(now, exhausted=True)
        elif now >= self._due:
            self._begin(now)

    def deadline(self) -> float:
        """
        @return: when L{handleTimeout} is due.
        """
        return self._due if self._step is _Step.WAITING else min(self._due, self._end)

    def _begin(self, now: float) -> None:
        ground = self._ground
        rung = ground.rungAt(self._round + 1)
        if rung is None or ground.address is None or self._round + 1 >= ROUND_LIMIT:
            ground.end(now, exhausted=True)
            return
        if not ground.mayAim(now):
            ground.end(now, exhausted=False)
            return
        wait = ground.budget.beginSpray(ground, now) if rung is Rung.SPRAYING else 0.0
        if wait > 0:
            self._postpone(wait, now)
            return
        ground.cease()
        self._round += 1
        ground.rung = rung
        if postureOf(ground.local) is Posture.AIMED:
            self._step = _Step.OBSERVING
            self._due = now + REPLY_LIMIT
            ground.ask(Observe())
        else:
            self._propose(Posture.STEADY, ground.address, now)

    def _propose(self, posture: Posture, address: HostPort, now: float) -> None:
        self._step = _Step.PROPOSED
        self._proposed = True
        self._due = now + REPLY_LIMIT
        self._ground.stand(self._round, posture, address, reply=False)

    def _take(self, reply: Stand, now: float) -> None:
        ground = self._ground
        rung = ground.rung
        if rung is Rung.SPRAYING and reply.posture is Posture.SCATTERED:
            self._step = _Step.FIRING
            self._due = self._end
            ground.fire(spray(reply.address, ground.random), now)
        elif rung is Rung.PREDICTION and reply.posture is Posture.AIMED:
            if postureOf(ground.local) is Posture.AIMED:
                self._step = _Step.OPENING
                self._target = reply.address
                ground.ask(Open(depthOf(self._round)))
            else:
                self._step = _Step.FIRING
                self._due = now + ROUND_TIME
                ground.fire(knock(reply.address), now)

    def _postpone(self, pause: float, now: float) -> None:
        """
        One of the two sides sprays for another session, or has just done so.
        """
        self._busy += 1
        if self._busy > BUSY_LIMIT:
            self._ground.end(now, exhausted=False)
            return
        self._ground.budget.endSpray(self._ground, now)
        self._step = _Step.WAITING
        self._due = now + pause
        self._end += pause  # the time of waiting is not this one's fault
