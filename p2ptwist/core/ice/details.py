"""
What a signal tells of a NAT beyond mapping and filtering, in six bytes.

The wire form is written down in C{docs/punching.md}.
"""

from __future__ import annotations

import struct
from dataclasses import replace

from p2ptwist.core.errors import MalformedDatagram
from p2ptwist.core.nat import STEP_LIMIT, NATBehavior, NATMapping, PortAllocation

# Parts of a second that a lifetime is told in.  With whole seconds, half of what is told would be
# up to half a second too short, which is 5 % more checks where mappings live 20 s.
LIFETIME_PARTS = 10
LIFETIME_LIMIT = 0xFFFF  # of them; two bytes, and longer than any keepalive waits

_DETAILS = struct.Struct("!BbBBH")
DETAILS_LENGTH = _DETAILS.size
_ALLOCATIONS: tuple[PortAllocation | None, ...] = (None, *PortAllocation)
_HAIRPINNINGS: tuple[bool | None, ...] = (None, False, True)
_MAPPINGS: tuple[NATMapping | None, ...] = (None, *NATMapping)


def encodeDetails(behavior: NATBehavior) -> bytes:
    """
    @return: the wire form, or nothing where nothing is known.
    """
    if behavior == NATBehavior(behavior.mapping, behavior.filtering):
        return b""
    return _DETAILS.pack(
        _ALLOCATIONS.index(behavior.allocation),
        behavior.step or 0,
        _HAIRPINNINGS.index(behavior.hairpinning),
        _MAPPINGS.index(behavior.tcpMapping),
        min(int((behavior.lifetime or 0) * LIFETIME_PARTS), LIFETIME_LIMIT),
    )


def addDetails(behavior: NATBehavior, data: bytes) -> NATBehavior:
    """
    @param behavior: mapping and filtering.
    @param data: what L{encodeDetails} made.
    @return: all together.
    @raise MalformedDatagram: for anything else.
    """
    if len(data) != DETAILS_LENGTH:
        raise MalformedDatagram(f"{len(data)} bytes of NAT details")
    allocation, step, hairpinning, mapping, lifetime = _DETAILS.unpack(data)
    if (
        allocation >= len(_ALLOCATIONS)
        or hairpinning >= len(_HAIRPINNINGS)
        or mapping >= len(_MAPPINGS)
    ):
        raise MalformedDatagram(f"NAT details {allocation}, {hairpinning}, {mapping}")
    if abs(step) > STEP_LIMIT or (
        step and _ALLOCATIONS[allocation] is not PortAllocation.SEQUENTIAL
    ):
        raise MalformedDatagram(f"a port step of {step}")
    return replace(
        behavior,
        allocation=_ALLOCATIONS[allocation],
        step=step or None,
        hairpinning=_HAIRPINNINGS[hairpinning],
        tcpMapping=_MAPPINGS[mapping],
        lifetime=lifetime / LIFETIME_PARTS or None,
    )
