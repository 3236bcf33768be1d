"""
What a ladder (L{p2ptwist.core.ladder}) asks an agent for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set

from p2ptwist.core.address import HostPort, isIPv6
from p2ptwist.core.ice.candidate import Candidate, CandidateType, isInner, isLoopback
from p2ptwist.core.ice.conversation import Conversation
from p2ptwist.core.ice.events import EndKind
from p2ptwist.core.ice.lineage import Lineage
from p2ptwist.core.ice.localside import LocalSide
from p2ptwist.core.ice.reason import VAIN, explainFailure, explainSilence
from p2ptwist.core.ice.signal import Goodbye
from p2ptwist.core.ladder.memory import Networks, networksOf
from p2ptwist.core.ladder.posture import Posture, Rung, postureOf, rungs
from p2ptwist.core.nat import NATBehavior


class Survey:
    """
    What both sides have said, and checks that stand in no checklist.

    @ivar climbing: whether a ladder is at work, so that the agent is not to give up.
    @ivar climbs: whether there is a ladder.
    @ivar look: has the ladder say anew how far it is; C{None} while it does not climb.
    @ivar climb: what has come of it, in words for a person; C{None} for nothing to tell.
    @ivar fired: how many checks the ladder has sent.
    @ivar putOff: whether it waits for another one of the two programs.
    @ivar rung: where the ladder sent the last of them; C{None} before that.
    """

    __slots__ = (
        "_conversation",
        "_lineage",
        "_localSide",
        "climb",
        "climbing",
        "climbs",
        "fired",
        "look",
        "putOff",
        "rung",
    )

    def __init__(self, localSide: LocalSide, lineage: Lineage, conversation: Conversation) -> None:
        self.climbing = False
        self.climbs = False
        self.look: Callable[[], object] | None = None
        self.climb: str | None = None
        self.fired = 0
        self.putOff = False
        self.rung: Rung | None = None
        self._localSide = localSide
        self._lineage = lineage
        self._conversation = conversation

    @property
    def local(self) -> NATBehavior:
        """
        What this side's NATs were measured to do.
        """
        return self._localSide.behavior

    @property
    def remote(self) -> NATBehavior:
        """
        What the other side says of its own.
        """
        return self._lineage.current.behavior

    @property
    def address(self) -> HostPort | None:
        """
        This side's server-reflexive IPv4 address.  A host that is seen at its own has no such
        candidate (RFC 8445 section 5.1.3): then it is the host's.
        """
        reflexive = [each.address for each in self._localSide if _isReflexive(each)]
        hosts = [each.address for each in self._localSide if _isOuterHost(each)]
        # Inner ones are those that a router maps which is not the outermost.
        outer = [each for each in reflexive if not isInner(each[0])]
        return next(iter((*outer, *hosts, *reflexive)), None)

    @property
    def remoteHosts(self) -> Set[str]:
        """
        The hosts of the other side's server-reflexive IPv4 addresses, or of its host's own where it
        has none; those of inner networks only where this side's is one as well, as nobody is to be
        aimed at who lives in this one's LAN.
        """
        remote = [pair.remote for pair in self._lineage.current.checklist]
        seen = frozenset(each.address[0] for each in remote if _isReflexive(each))
        own = self.address
        if own is None or not isInner(own[0]):
            seen = frozenset(host for host in seen if not isInner(host))
        return seen or frozenset(each.address[0] for each in remote if _isOuterHost(each))

    @property
    def networks(self) -> Networks | None:
        """
        The pair of networks that the two sides are in; C{None} while one is not known.
        """
        return networksOf(self.address, self.remoteHosts)

    @property
    def ordinary(self) -> bool:
        """
        Whether ordinary checks ought to meet, as far as is known.
        """
        expected = (None, Posture.STEADY)
        return postureOf(self.local) in expected and postureOf(self.remote) in expected

    def markFresh(self) -> None:
        """
        Ask the other side for a fresh port, as this side's is one.
        """
        self._localSide.fresh = True

    def prime(self, until: float) -> None:
        """
        Check each address once before that time, by a datagram that dies on the way: it opens this
        side's NATs, but does not come to the other side's before those are open as well.
        """
        self._lineage.current.checklist.primeUntil = until

    def primes(self, address: HostPort, now: float) -> bool:
        """
        @return: whether a check of C{address} is to die on the way.
        """
        generation = self._lineage.current
        return now < generation.checklist.primeUntil and not generation.proves(address)

    def explain(self, seconds: float) -> str:
        """
        @param seconds: how long a path was looked for in vain.
        @return: why there is none, in words for a person.
        """
        generation = self._lineage.current
        if generation.remote is None:
            return explainSilence(seconds)
        checklist = generation.checklist
        return explainFailure(
            seconds,
            checklist.sent,
            len(checklist),
            self.local,
            self.remote,
            self.tellClimb(),
            self.blocked,
        )

    def read(self, goodbye: Goodbye, seconds: float) -> tuple[EndKind, str]:
        """
        The other side has ended the session before there was a path.

        @param seconds: how long a path was looked for.
        @return: what that means.  If it has found nothing in the end, this side has not either, and
            knows best what that is called from here.
        """
        if goodbye.reason.startswith(VAIN) and self._lineage.current.remote is not None:
            return EndKind.FAILED, self.explain(seconds)
        return EndKind.LEFT, f"the other side ended it: {goodbye.reason}"

    @property
    def blocked(self) -> tuple[bool, bool]:
        """
        Whether UDP seems to be blocked on this side, and on the other: all was gathered, but no
        STUN server has told an address, or what the NATs do.
        """
        generation = self._lineage.current
        remote = [pair.remote for pair in generation.checklist]
        return (
            self._localSide.complete and _isUnseen(self.local, self._localSide),
            generation.remoteComplete and _isUnseen(self.remote, remote),
        )

    def tellClimb(self) -> str | None:
        """
        @return: what has come of the ladder, in words for a person; C{None} for nothing to tell.
        """
        if self.look is not None:
            self.look()
        available = rungs(self.local, self.remote)
        if self.climbs or not available:
            return self.climb
        return f"{available[-1].value} was not tried, as it is switched off here"

    def check(self) -> bytes | None:
        """
        @return: a check that no answer is awaited of: what counts is that it arrives; C{None} while
            the other side's credentials are not known.
        """
        generation = self._lineage.current
        if generation.remote is None:
            return None
        conversation = self._conversation
        return conversation.exchange.stray(generation, generation.remote, conversation.controlling)


def _isReflexive(candidate: Candidate) -> bool:
    reflexive = candidate.type is CandidateType.SERVER_REFLEXIVE
    return reflexive and not isIPv6(candidate.address[0])


def _isOuterHost(candidate: Candidate) -> bool:
    """
    @return: whether it is an IPv4 address of the host's own that may be one of the Internet's.
    """
    host = candidate.address[0]
    own = candidate.type is CandidateType.HOST and not isIPv6(host)
    return own and not isInner(host) and not isLoopback(host)


def _isUnseen(behavior: NATBehavior, candidates: Iterable[Candidate]) -> bool:
    seen = any(each.type is CandidateType.SERVER_REFLEXIVE for each in candidates)
    return behavior.mapping is None and not seen
