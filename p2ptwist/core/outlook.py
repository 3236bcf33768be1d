"""
What a side's NATs mean for its connections, in words that a person understands.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from p2ptwist.core.ladder.posture import Posture, Rung, postureOf, rungs
from p2ptwist.core.nat import NATBehavior, NATFiltering, NATMapping, PortAllocation

_STRICT = NATFiltering.ADDRESS_AND_PORT_DEPENDENT


class PeerKind(enum.Enum):
    """
    Kinds of other peers, from those that everybody reaches to those that hardly anybody does.
    """

    REACHABLE = "with a public or mapped address"
    STEADY = "behind ordinary home routers"
    AIMED = "behind symmetric NATs that count their ports"
    SCATTERED = "behind symmetric NATs with random ports"
    NO_UDP = "whose networks block UDP"


class Way(enum.Enum):
    """
    How a connection to such a peer will go, the best first.
    """

    DIRECT = "direct"
    PREDICTED = "direct, by foretelling a port"
    SPRAYED = "direct after some seconds, by trying many ports"
    TCP = "direct over TCP, if their routers keep TCP ports"
    RELAYED = "relayed"

    @property
    def direct(self) -> bool:
        """
        Whether it will not be relayed.
        """
        return self is not Way.RELAYED


@dataclass(frozen=True, slots=True)
class Situation:
    """
    What decides how this side connects.

    @ivar udp: whether UDP gets out of this network, and answers back in; C{None} for unknown.
    @ivar behavior: what the NATs in front do.
    @ivar mapped: whether a router has mapped a port that the whole Internet reaches.
    @ivar public: whether one of the host's own addresses is the one that the Internet sees.
    """

    udp: bool | None
    behavior: NATBehavior
    mapped: bool = False
    public: bool = False


_OTHERS = {
    PeerKind.REACHABLE: NATBehavior(
        NATMapping.ENDPOINT_INDEPENDENT, NATFiltering.ENDPOINT_INDEPENDENT
    ),
    PeerKind.STEADY: NATBehavior(NATMapping.ENDPOINT_INDEPENDENT, _STRICT),
    PeerKind.AIMED: NATBehavior(
        NATMapping.ADDRESS_AND_PORT_DEPENDENT, _STRICT, PortAllocation.SEQUENTIAL, 1
    ),
    PeerKind.SCATTERED: NATBehavior(
        NATMapping.ADDRESS_AND_PORT_DEPENDENT, _STRICT, PortAllocation.RANDOM
    ),
}


def wayTo(kind: PeerKind, here: Situation) -> Way | None:
    """
    @return: how connections to peers of that kind will go, at best; C{None} where too little is
        known of this side.
    """
    if here.udp is None:
        return None
    if not here.udp or kind is PeerKind.NO_UDP:
        return _wayOverTCP(here)
    local = _OTHERS[PeerKind.REACHABLE] if here.mapped else here.behavior
    return _wayOverUDP(local, _OTHERS[kind])


def _wayOverTCP(here: Situation) -> Way | None:
    mapping = here.behavior.tcpMapping
    if here.public or mapping is NATMapping.ENDPOINT_INDEPENDENT:
        return Way.TCP
    return None if mapping is None else Way.RELAYED


def _wayOverUDP(local: NATBehavior, remote: NATBehavior) -> Way | None:
    if postureOf(local) is None:
        # Who lets everybody in is reached whatever this side's mapping is.
        return Way.DIRECT if _meet(remote, local) else None
    if _meet(local, remote) or _meet(remote, local):
        return Way.DIRECT
    available = rungs(local, remote)
    if not available:
        return Way.RELAYED
    return Way.PREDICTED if available[0] is Rung.PREDICTION else Way.SPRAYED


def _meet(steady: NATBehavior, other: NATBehavior) -> bool:
    """
    @return: whether ordinary checks meet at the address of C{steady}.
    """
    if postureOf(steady) is not Posture.STEADY:
        return False
    if postureOf(other) is Posture.STEADY:
        return True
    # The other one comes from a port that was not foretold.
    loose = NATFiltering.ENDPOINT_INDEPENDENT, NATFiltering.ADDRESS_DEPENDENT
    return steady.filtering in loose


def outlook(here: Situation) -> dict[PeerKind, Way | None]:
    """
    @return: how connections will go, by the kind of the other peer.
    """
    return {kind: wayTo(kind, here) for kind in PeerKind}


def verdict(here: Situation) -> str:
    """
    @return: one sentence.
    """
    if here.udp is None:
        return "Nothing is known of this network: no server answered, over UDP or TCP."
    if not here.udp:
        return _verdictWithoutUDP(here)
    ways = outlook(here)
    if ways[PeerKind.STEADY] is None:
        return "Some direct connections will work; this NAT's mapping could not be found out."
    if ways[PeerKind.SCATTERED] is Way.DIRECT:
        return "Direct connections will work with nearly all peers."
    if ways[PeerKind.STEADY] is Way.DIRECT:
        return "Direct connections will work with most peers."
    if ways[PeerKind.AIMED] is Way.PREDICTED:
        return (
            "Direct connections will work with many peers, in a second or two; with those behind "
            "symmetric NATs with random ports they stay relayed."
        )
    return (
        "Direct connections will work with many peers, but take some seconds; with those behind "
        "other symmetric NATs they stay relayed."
    )


def _verdictWithoutUDP(here: Situation) -> str:
    way = wayTo(PeerKind.NO_UDP, here)
    if way is Way.TCP:
        return (
            "UDP is blocked here: connections begin relayed, and become direct over TCP with "
            "peers whose routers allow it."
        )
    if way is None:
        return (
            "UDP is blocked here: connections work, but begin relayed; whether they become direct "
            "over TCP could not be found out."
        )
    return "UDP is blocked here: connections work, but are relayed."
