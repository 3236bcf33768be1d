"""
The kinds of NAT of RFC 3489, which are so many of the behaviours of RFC 4787.
"""

from __future__ import annotations

from p2ptwist.core.nat import NATBehavior, NATFiltering, NATMapping

# The words of pystun3.
BLOCKED = "Blocked"
OPEN_INTERNET = "Open Internet"
SYMMETRIC_FIREWALL = "Symmetric UDP Firewall"
FULL_CONE = "Full Cone"
RESTRICTED = "Restric NAT"
PORT_RESTRICTED = "Restric Port NAT"
SYMMETRIC = "Symmetric NAT"

_CONES = {
    NATFiltering.ENDPOINT_INDEPENDENT: FULL_CONE,
    NATFiltering.ADDRESS_DEPENDENT: RESTRICTED,
    NATFiltering.ADDRESS_AND_PORT_DEPENDENT: PORT_RESTRICTED,
}


def classicKind(behavior: NATBehavior, translated: bool | None) -> str | None:
    """
    @param translated: whether the host is seen at another address than it has.
    @return: what the tests of RFC 3489 call such a NAT; C{None} where too little is known.
    """
    mapping, filtering = behavior.mapping, behavior.filtering
    if translated is None:
        return None
    if filtering is NATFiltering.ENDPOINT_INDEPENDENT:
        # These tests ask for the mapping only where somebody is kept out.
        return FULL_CONE if translated else OPEN_INTERNET
    if not translated:
        return None if filtering is None else SYMMETRIC_FIREWALL
    if mapping is NATMapping.ENDPOINT_INDEPENDENT:
        return None if filtering is None else _CONES[filtering]
    return None if mapping is None or filtering is None else SYMMETRIC
