"""
What a NAT does to the packets of one host, in the words of RFC 4787.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class NATMapping(enum.Enum):
    """
    When a NAT uses the same external address and port again (RFC 4787 section 4.1).
    """

    ENDPOINT_INDEPENDENT = "endpoint-independent"
    ADDRESS_DEPENDENT = "address-dependent"
    ADDRESS_AND_PORT_DEPENDENT = "address-and-port-dependent"


class NATFiltering(enum.Enum):
    """
    Whose packets a NAT lets in through a mapping (RFC 4787 section 5).
    """

    ENDPOINT_INDEPENDENT = "endpoint-independent"
    ADDRESS_DEPENDENT = "address-dependent"
    ADDRESS_AND_PORT_DEPENDENT = "address-and-port-dependent"


@dataclass(frozen=True, slots=True)
class NATBehavior:
    """
    What was found out about a NAT.

    @ivar mapping: L{None} where it was not found out.
    @ivar filtering: L{None} where it was not found out.
    """

    mapping: NATMapping | None = None
    filtering: NATFiltering | None = None

    def __str__(self) -> str:
        mapping = "unknown" if self.mapping is None else self.mapping.value
        filtering = "unknown" if self.filtering is None else self.filtering.value
        return f"{mapping} mapping with {filtering} filtering"
