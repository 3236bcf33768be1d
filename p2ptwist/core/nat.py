"""
How a NAT behaves, in the words of RFC 4787.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


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


@dataclass(frozen=True, slots=True)
class NATBehavior:
    """
    What is known about the NATs between a port and the Internet, taken together.

    No NAT at all behaves as endpoint-independent mapping.

    @ivar mapping: C{None} for unknown.
    @ivar filtering: C{None} for unknown.
    """

    mapping: NATMapping | None = None
    filtering: NATFiltering | None = None

    def __str__(self) -> str:
        """
        @return: words for people, such as C{"endpoint-independent mapping with unknown filtering"}.
        """
        return f"{self.mapping or 'unknown'} mapping with {self.filtering or 'unknown'} filtering"


UNKNOWN_BEHAVIOR = NATBehavior()
