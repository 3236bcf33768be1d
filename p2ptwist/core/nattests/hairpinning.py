"""
Hairpinning (RFC 5780 section 4.5): two ports behind the same NAT send to each other's external
address.
"""

from __future__ import annotations

from p2ptwist.core.nat import NATFiltering, NATMapping


def inferHairpinning(
    heard: bool, mapping: NATMapping | None, filtering: NATFiltering | None
) -> bool | None:
    """
    @param heard: whether anything arrived.
    @return: whether the NAT hairpins.  Silence shows that it does not only where its filter would
        have let them in: it lets everybody in, or each port has sent to the very address that the
        other one's datagrams come from.
    """
    if heard:
        return True
    open_ = (
        mapping is NATMapping.ENDPOINT_INDEPENDENT or filtering is NATFiltering.ENDPOINT_INDEPENDENT
    )
    return False if open_ else None
