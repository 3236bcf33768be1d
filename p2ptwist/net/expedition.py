"""
The climb of one punching session: what its agent knows goes to the ladder, and the socket that the
ladder finds goes to the session.
"""

from __future__ import annotations

from collections.abc import Callable

from p2ptwist.core.address import HostPort, canonicalHost
from p2ptwist.core.errors import MalformedDatagram
from p2ptwist.core.ice.agent import Agent
from p2ptwist.core.ladder.ladder import Ladder
from p2ptwist.core.ladder.message import LadderMessage
from p2ptwist.core.stun.message import Message, decode
from p2ptwist.net.climb import Climb, Climber, Gear
from p2ptwist.net.datagramport import DatagramPort


class Expedition:
    """
    One session's climb.  Single use.

    @ivar exhausted: whether all was tried that the two NATs allow.
    """

    def __init__(
        self,
        gear: Gear,
        agent: Agent,
        say: Callable[[bytes], object],
        takeFrom: Callable[[DatagramPort, Message, int, HostPort], bool],
        over: Callable[[], object],
    ) -> None:
        """
        @param agent: the session's.
        @param say: sends a signal.
        @param takeFrom: is offered a STUN message that came to an extra socket, with that socket,
            the length of the datagram in bytes, and its source; says whether it was the session's
            and authentic.
        @param over: called when the climb has ended, so that the agent may give up.
        """
        self.exhausted = False
        agent.survey.climbs = True
        agent.survey.look = self._note
        self._agent = agent
        self._clock = gear.clock
        self._takeFrom = takeFrom
        self._over = over
        climber = Climber(agent.survey.check, self._receive, say, self._ended)
        ladder = Ladder(agent.session, agent.controlling, gear.budget, gear.random, gear.memory)
        self._climb: Climb | None = Climb(gear, climber, ladder)

    def survey(self) -> None:
        """
        Something more is known of this side or the other.
        """
        survey, climb = self._agent.survey, self._climb
        if climb is not None:
            climb.ladder.learn(
                survey.local,
                survey.address,
                survey.remote,
                survey.remoteHosts,
                self._clock.seconds(),
            )
            climb.drain()
            self._note()

    def hear(self, message: LadderMessage) -> None:
        """
        Take a message of the other side.
        """
        if self._climb is not None:
            self._climb.receive(message)
            self._note()

    def stop(self) -> None:
        """
        A path is open, or the session is over.
        """
        if self._climb is not None:
            self._climb.stop()
            self._note()
            # The two hold each other, and 2.5 kB of every session: not until the garbage collector
            # has its turn.
            self._climb = self._agent.survey.look = None

    def _receive(self, port: DatagramPort, data: bytes, source: HostPort) -> bool:
        try:
            message = decode(data, requireFingerprint=True)
        except MalformedDatagram:
            return False
        return self._takeFrom(port, message, len(data), (canonicalHost(source[0]), source[1]))

    def _ended(self, exhausted: bool) -> None:
        self.exhausted = exhausted
        self._note()
        self._over()

    def _note(self) -> None:
        if self._climb is not None:
            self._agent.survey.climbing = self._climb.ladder.active
            self._agent.survey.fired = self._climb.ladder.fired
            self._agent.survey.rung = self._climb.ladder.rung
            self._agent.survey.climb = self._climb.ladder.outcome
            self._agent.survey.putOff = self._climb.ladder.putOff
