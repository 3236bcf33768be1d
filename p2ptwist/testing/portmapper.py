"""
What a simulated router's port mapping is like.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from p2ptwist.core.errors import LocalUsageError

# RFC 6887 section 15: not under two minutes, not over 24 hours.
MIN_LIFETIME = 120  # seconds
MAX_LIFETIME = 86_400  # seconds
# A port mapping in a home is for a program; many more than these are a mistake.
MAX_FORWARDS = 1_000
MAX_FORWARDS_PER_HOST = 100


class Trouble(enum.Enum):
    """
    What may be wrong with the answers of a router.

    @cvar SILENT: there are none, though something listens.
    @cvar GARBAGE: they are random octets.
    @cvar CUT: they end early.
    @cvar WRONG_NONCE: those of PCP have another nonce.
    @cvar WRONG_OPCODE: they are to another question.
    @cvar WRONG_PORT: they are about another inside port.
    @cvar WRONG_SOURCE_PORT: they come from another port of the router.
    @cvar WRONG_SOURCE_ADDRESS: they come from another address than was asked.
    @cvar FORGETFUL: each says that the router has just lost all mappings.
    """

    SILENT = "silent"
    GARBAGE = "garbage"
    CUT = "cut"
    WRONG_NONCE = "wrong nonce"
    WRONG_OPCODE = "wrong opcode"
    WRONG_PORT = "wrong port"
    WRONG_SOURCE_PORT = "wrong source port"
    WRONG_SOURCE_ADDRESS = "wrong source address"
    FORGETFUL = "forgetful"


@dataclass(frozen=True, slots=True, kw_only=True)
class PortMapper:
    """
    How a router maps ports on request, by PCP (RFC 6887) and NAT-PMP (RFC 6886), for whoever asks
    at its address on the LAN.

    @ivar pcp: whether it speaks PCP.
    @ivar natPMP: whether it speaks NAT-PMP.
    @ivar minLifetime: the least seconds that it grants.
    @ivar maxLifetime: the most seconds that it grants.
    @ivar announces: the external IPv4 address that it tells, where that is not its own.
    @ivar mapsOutgoing: whether flows that a mapped inside port begins come from the mapped external
        port as well.  Those of Linux (miniupnpd 2.3 with nftables) do not.
    @ivar checksNonce: whether it refuses to change a mapping of PCP for who does not know its
        nonce, as the standard says.  Miniupnpd does not look at it.
    @ivar maxMappings: mappings at one time.
    @ivar maxMappingsPerHost: mappings of one inside host at one time.
    @ivar refuses: the result code that all requests get, or C{None}.
    @ivar delay: seconds that every answer takes.
    @ivar copies: how often every answer is sent.
    @ivar trouble: what is wrong with the answers, if anything.
    """

    pcp: bool = True
    natPMP: bool = True
    minLifetime: int = MIN_LIFETIME
    maxLifetime: int = MAX_LIFETIME
    announces: str | None = None
    mapsOutgoing: bool = False
    checksNonce: bool = True
    maxMappings: int = MAX_FORWARDS
    maxMappingsPerHost: int = MAX_FORWARDS_PER_HOST
    refuses: int | None = None
    delay: float = 0.0
    copies: int = 1
    trouble: Trouble | None = None

    def __post_init__(self) -> None:
        if not (self.pcp or self.natPMP):
            raise LocalUsageError("a port mapper speaks PCP, NAT-PMP or both")
        if not 0 < self.minLifetime <= self.maxLifetime:
            raise LocalUsageError("a mapping is granted for some seconds, and no fewer at most")
