"""
Mapping (RFC 5780 section 4.3): one port asks several addresses where they see it.

The addresses may belong to one server that has four, or to several servers that have one each.
"""

from __future__ import annotations

from collections.abc import Mapping

from p2ptwist.core.address import HostPort
from p2ptwist.core.nat import NATMapping


def inferMapping(seen: Mapping[HostPort, HostPort]) -> NATMapping | None:
    """
    @param seen: by the address that was asked: the address that it saw the port at.
    @return: what follows.  Two ports of one host cannot show independence; two hosts that were
        asked on one port each can show nothing else.
    """
    byHost: dict[str, set[HostPort]] = {}
    for address, reflexive in seen.items():
        byHost.setdefault(address[0], set()).add(reflexive)
    if any(len(reflexives) > 1 for reflexives in byHost.values()):
        return NATMapping.ADDRESS_AND_PORT_DEPENDENT
    if len(byHost) < 2:
        return None
    if len(set(seen.values())) == 1:
        return NATMapping.ENDPOINT_INDEPENDENT
    # Some host was asked on two ports, and saw no difference.
    return NATMapping.ADDRESS_DEPENDENT if len(seen) > len(byHost) else None
