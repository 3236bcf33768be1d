"""
How a NAT behaves, in the words of RFC 4787.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

# The largest step from one port to the next that counts as sequential: five (what frp takes for
# regular) and as much again for what other hosts behind the same NAT take in between.
STEP_LIMIT = 10


class NATMapping(enum.StrEnum):
    """
    When a NAT uses one external address for what leaves one internal address and port (RFC 4787
    section 4.1): whatever the destination, per destination host, or per destination host and port.
    """

    ENDPOINT_INDEPENDENT = "endpoint-independent"
    ADDRESS_DEPENDENT = "address-dependent"
    ADDRESS_AND_PORT_DEPENDENT = "address-and-port-dependent"


class NATFiltering(enum.StrEnum):
    """
    Whom a NAT lets in to an address that it mapped (RFC 4787 section 5): anybody, hosts that were
    sent to, or hosts and ports that were sent to.
    """

    ENDPOINT_INDEPENDENT = "endpoint-independent"
    ADDRESS_DEPENDENT = "address-dependent"
    ADDRESS_AND_PORT_DEPENDENT = "address-and-port-dependent"


class PortAllocation(enum.StrEnum):
    """
    Which external port a NAT gives to a new mapping (RFC 4787 section 4.2): the internal one, the
    next one, or one that nobody can foretell.
    """

    PRESERVING = "preserving"
    SEQUENTIAL = "sequential"
    RANDOM = "random"


@dataclass(frozen=True, slots=True)
class NATBehavior:
    """
    What is known about the NATs between a port and the Internet, taken together.

    No NAT at all behaves as endpoint-independent mapping that preserves ports.

    @ivar mapping: C{None} for unknown, as everything else here.
    @ivar filtering: what uninvited packets meet.
    @ivar allocation: which ports new mappings get.
    @ivar step: from the port of one mapping to that of the next, where that is sequential; negative
        where ports go down; at most L{STEP_LIMIT} either way.
    @ivar hairpinning: whether one host behind the NAT reaches another at its external address.
    @ivar tcpMapping: the mapping of TCP connections.
    @ivar lifetime: seconds of silence that a UDP mapping is known to survive.
    """

    mapping: NATMapping | None = None
    filtering: NATFiltering | None = None
    allocation: PortAllocation | None = None
    step: int | None = None
    hairpinning: bool | None = None
    tcpMapping: NATMapping | None = None
    lifetime: float | None = None

    def __str__(self) -> str:
        """
        @return: words for people, such as C{"endpoint-independent mapping with unknown filtering"}.
        """
        words = f"{self.mapping or 'unknown'} mapping with {self.filtering or 'unknown'} filtering"
        # A port is preserved for one mapping; where it depends, that says nothing of the next.
        foretold = self.allocation in (PortAllocation.SEQUENTIAL, PortAllocation.RANDOM)
        dependent = self.mapping not in (None, NATMapping.ENDPOINT_INDEPENDENT)
        return f"{words} and {self.allocation} ports" if foretold and dependent else words


UNKNOWN_BEHAVIOR = NATBehavior()
