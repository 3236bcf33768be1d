"""
The NATs of the simulated Internet (L{p2ptwist.testing.nat.NAT}), as rules for nftables.

Linux itself translates per connection: to the same source port while it can, with
address-and-port-dependent filtering.  Every other behaviour is made of that and three tables.
C{mapped} holds the outer port of an inside address, where Linux would not keep one.  The other two
are filled after the source translation, when both the inner and the outer address are known:
C{owner} leads from an outer port to the inside address that it stands for, and C{seen} has the
remote addresses that an outer port has sent to.
"""

from __future__ import annotations

from p2ptwist.testing.nat import NAT, Filtering, Hairpinning, Mapping, PortAllocation, Uninvited
from tests.kernel.lab.namespace import LaboratoryError

# The interfaces of every router in the laboratory.
WAN, LAN = "wan0", "lan0"
# Outer ports that a hash or a counter chooses from: enough that two flows of one test seldom meet,
# few enough to list in a rule.  (A computed number must go through such a list, since nftables
# hands it over in the byte order of the host.)
_PORTS = range(40000, 42048)

_SEEN = "udp dport . ip saddr @seen"
_TO_OWNER = "dnat ip to udp dport map @owner"
_LET_IN = {
    Filtering.ENDPOINT_INDEPENDENT: f"iifname {WAN} ip daddr {{external}} {_TO_OWNER}",
    Filtering.ADDRESS_DEPENDENT: f"iifname {WAN} ip daddr {{external}} {_SEEN} {_TO_OWNER}",
    # What connection tracking does without being told.
    Filtering.ADDRESS_AND_PORT_DEPENDENT: "",
}
_FROM_INSIDE = f"iifname {LAN} ip daddr {{external}} {_TO_OWNER}"
_INPUT = {
    Uninvited.DROP: "ct state new,invalid drop",
    Uninvited.ICMP: "meta l4proto udp ct state new reject with icmp type port-unreachable",
    Uninvited.RESET: "ct state new jump refuse",
    Uninvited.ACCEPT: "accept",
}


def _hashed(*key: str) -> str:
    """
    @return: a source translation to a port that a hash of C{key} chooses.
    """
    ports = ", ".join(f"{index} : {port}" for index, port in enumerate(_PORTS))
    choice = f"jhash {' . '.join(key)} mod {len(_PORTS)} seed 0x2545f491"
    return f"snat to {{external}} : {choice} map {{{{ {ports} }}}}"


def _counted() -> str:
    """
    @return: a source translation to the port after the last one.
    """
    ports = ", ".join(f"{index} : {port}" for index, port in enumerate(_PORTS))
    return f"snat to {{external}} : numgen inc mod {len(_PORTS)} map {{{{ {ports} }}}}"


_EI, _AD, _APD = (
    Mapping.ENDPOINT_INDEPENDENT,
    Mapping.ADDRESS_DEPENDENT,
    Mapping.ADDRESS_AND_PORT_DEPENDENT,
)
# The behaviours that the laboratory has.
_TRANSLATIONS = {
    (_EI, PortAllocation.PRESERVING): "snat to {external}",
    (_EI, PortAllocation.RANDOM): "snat ip to {external} : ip saddr . udp sport map @mapped",
    (_AD, PortAllocation.RANDOM): _hashed("ip saddr", "{transport} sport", "ip daddr"),
    (_APD, PortAllocation.HASHED): _hashed(
        "ip saddr", "{transport} sport", "ip daddr", "{transport} dport"
    ),
    (_APD, PortAllocation.RANDOM): "snat to {external}:1024-65535 fully-random",
    (_APD, PortAllocation.SEQUENTIAL): _counted(),
}
# Every outgoing packet draws a port, and keeps the one that its mapping has.  The number lands in
# the port with its bytes swapped: the bit makes it one of 32768 to 65535.
_ALLOCATE = "update @mapped { ip saddr . udp sport : numgen random mod 65536 | 0x80 }"

BEHAVIOURS = tuple(_TRANSLATIONS)


def _recordOwner(direction: str) -> str:
    """
    @return: the statement that remembers whom the outer port of an outgoing packet belongs to.
    """
    inside = f"ct {direction} ip saddr . ct {direction} proto-src"
    return f"ct direction {direction} update @owner {{ udp sport : {inside} }}"


def _translation(
    mapping: Mapping, allocation: PortAllocation, external: str, transport: str
) -> str:
    """
    @return: the source translation of such a NAT.
    """
    if (mapping, allocation) not in _TRANSLATIONS:
        named = f"{mapping.value} mapping to {allocation.value} ports"
        raise LaboratoryError(f"no {named} in the kernel laboratory: see tests/kernel/lab/nat.py")
    return _TRANSLATIONS[mapping, allocation].format(external=external, transport=transport)


def _blockade(ports: frozenset[int] | None) -> str:
    """
    @param ports: the remote ports that UDP passes to and from, or C{None} for all.
    @return: the rule that drops the rest.
    """
    if ports is None:
        return ""
    if not ports:
        return "meta l4proto udp drop"
    return f"iifname {LAN} udp dport != {{ {', '.join(map(str, sorted(ports)))} }} drop"


def rules(nat: NAT, external: str) -> str:
    """
    @param external: the router's outer address.
    @return: a script for C{nft -f}, which replaces what was there before in one step.
    @raise LaboratoryError: when the laboratory has no such NAT.
    """
    translate = _translation(nat.mapping, nat.allocation, external, "udp")
    translateTCP = f"snat to {external}"
    if nat.tcpMapping is not None and nat.tcpMapping is not _EI:
        translateTCP = _translation(nat.tcpMapping, nat.allocation, external, "tcp")
    letIn = _LET_IN[nat.filtering].format(external=external)
    fromInside = sendBack = allocate = ""
    if nat.hairpinning is not Hairpinning.NONE:
        fromInside = _FROM_INSIDE.format(external=external)
    if nat.hairpinning is Hairpinning.EXTERNAL:
        sendBack = f"iifname {LAN} oifname {LAN} ct status dnat meta l4proto udp {translate}"
    if (nat.mapping, nat.allocation) == (_EI, PortAllocation.RANDOM):
        allocate = f"oifname {WAN} meta l4proto udp {_ALLOCATE}"
    timeout = f"flags dynamic,timeout; timeout {nat.udpTimeout:.0f}s"
    return f"""
table ip lab
delete table ip lab
table ip lab {{
  map mapped {{ type ipv4_addr . inet_service : inet_service; {timeout}; }}
  map owner {{ type inet_service : ipv4_addr . inet_service; {timeout}; }}
  set seen {{ type inet_service . ipv4_addr; {timeout}; }}
  chain prerouting {{ type nat hook prerouting priority dstnat;
    {letIn}
    {fromInside}
  }}
  chain forward {{ type filter hook forward priority filter;
    {_blockade(nat.udpPorts)}
    iifname {WAN} ct status dnat accept
    iifname {WAN} ct state new,invalid drop
  }}
  chain refuse {{
    meta l4proto tcp reject with tcp reset
    reject with icmp type port-unreachable
  }}
  chain input {{ type filter hook input priority filter;
    iifname {WAN} {_INPUT[nat.uninvited]}
  }}
  chain allocate {{ type filter hook postrouting priority srcnat - 10;
    {allocate}
  }}
  chain postrouting {{ type nat hook postrouting priority srcnat;
    oifname {WAN} meta l4proto udp {translate}
    oifname {WAN} meta l4proto tcp {translateTCP}
    oifname {WAN} snat to {external}
    {sendBack}
  }}
  chain record {{ type filter hook postrouting priority srcnat + 10;
    oifname {WAN} meta l4proto udp {_recordOwner("original")}
    oifname {WAN} meta l4proto udp {_recordOwner("reply")}
    oifname {WAN} meta l4proto udp update @seen {{ udp sport . ip daddr }}
  }}
}}
"""


# A stateful firewall (RFC 6092) instead of a translation.
FIREWALL6 = f"""
table ip6 lab
delete table ip6 lab
table ip6 lab {{
  chain forward {{ type filter hook forward priority filter;
    iifname {WAN} ct state new,invalid drop
  }}
  chain input {{ type filter hook input priority filter;
    iifname {WAN} ct state new,invalid drop
  }}
}}
"""
