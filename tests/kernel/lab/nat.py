"""
The NATs of the simulated Internet (L{p2ptwist.testing.nat.NAT}), as rules for nftables.

Linux itself translates per connection: to the same source port while it can, with
address-and-port-dependent filtering.  Every other behaviour is made of that and a few tables.
C{owner} and C{seen} are filled after the source translation, when both the inner and the outer
address are known: C{owner} leads from an outer port to the inside address that it stands for, and
C{seen} has the remote addresses that an outer port has sent to.

Where Linux would not choose the port as the NAT does, the rules draw one before the translation:
C{udp_mapped} has what was drawn for a mapping, and C{udp_taken} what is drawn at all.  Without that
two mappings would sometimes get the same port; and of two flows from one port to one remote address
the kernel drops all of the second, where it is told the port and may not choose another.
"""

from __future__ import annotations

from dataclasses import dataclass

from p2ptwist.testing.nat import NAT, Filtering, Hairpinning, Mapping, PortAllocation, Uninvited
from tests.kernel.lab.namespace import LaboratoryError

# The interfaces of every router in the laboratory.
WAN, LAN = "wan0", "lan0"
# Outer ports that a hash, a counter or chance chooses from: many times the flows of one test, and
# few enough to list in a rule.  (A computed number must go through such a list, since nftables
# hands it over in the byte order of the host.)
_PORTS = range(40000, 42048)
# What hashes begin with, one after the other while the port is taken: four in a row are when a
# tenth of the ports is, once in 10,000 times; then the port inside is kept.
_SEEDS = range(0x2545F491, 0x2545F495)

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


def _portOf(number: str) -> str:
    """
    @return: the expression for the outer port of a number from 1 on, yet to be formatted.
    """
    ports = ", ".join(f"{index} : {port}" for index, port in enumerate(_PORTS, 1))
    return f"{number} map {{{{ {ports} }}}}"


_COUNTED = "snat to {external} : " + _portOf(f"numgen inc mod {len(_PORTS)} offset 1")


@dataclass(frozen=True, slots=True)
class _Drawing:
    """
    How a NAT draws a port that no other mapping has.

    @ivar key: what tells one mapping from another, as an expression and as the type of that.
    @ivar hashed: whether it is the same port for the same mapping, and not any.
    """

    key: tuple[str, str]
    hashed: bool

    def tables(self, transport: str, timeout: str) -> str:
        """
        @return: the tables for a transport, and the chain that marks a packet with what was drawn.
        """
        key = self.key[0].format(transport=transport)
        keep = (
            f"update @{transport}_mapped {{ {key} : meta mark }} "
            f"update @{transport}_taken {{ meta mark }} accept"
        )
        method = f"jhash {key}" if self.hashed else "numgen random"
        tries = "\n    ".join(
            f"meta mark set {method} mod {len(_PORTS)} {f'seed {seed}' if self.hashed else ''} "
            f"offset 1 meta mark != @{transport}_taken {keep}"
            for seed in _SEEDS
        )
        return f"""
  map {transport}_mapped {{ type {self.key[1]} : mark; {timeout}; }}
  set {transport}_taken {{ type mark; {timeout}; }}
  chain {transport}_draw {{
    meta mark set {key} map @{transport}_mapped {keep}
    {tries}
    meta mark set 0
  }}"""


_EI, _AD, _APD = (
    Mapping.ENDPOINT_INDEPENDENT,
    Mapping.ADDRESS_DEPENDENT,
    Mapping.ADDRESS_AND_PORT_DEPENDENT,
)
_KEPT = "snat to {external}"
_DRAWN = "meta mark != 0 snat to {external} : " + _portOf("meta mark")
_BY_SOURCE = "ip saddr . {transport} sport", "ipv4_addr . inet_service"
_BY_ADDRESS = f"{_BY_SOURCE[0]} . ip daddr", f"{_BY_SOURCE[1]} . ipv4_addr"
_BY_PORT = f"{_BY_ADDRESS[0]} . {{transport}} dport", f"{_BY_ADDRESS[1]} . inet_service"
# The behaviours that the laboratory has: by drawing a port, or by what the kernel does itself.
_TRANSLATIONS: dict[tuple[Mapping, PortAllocation], _Drawing | str] = {
    (_EI, PortAllocation.PRESERVING): _KEPT,
    (_EI, PortAllocation.RANDOM): _Drawing(_BY_SOURCE, hashed=False),
    (_AD, PortAllocation.RANDOM): _Drawing(_BY_ADDRESS, hashed=True),
    (_APD, PortAllocation.HASHED): _Drawing(_BY_PORT, hashed=True),
    (_APD, PortAllocation.RANDOM): "snat to {external}:1024-65535 fully-random",
    (_APD, PortAllocation.SEQUENTIAL): _COUNTED,
}

BEHAVIOURS = tuple(_TRANSLATIONS)


def _recordOwner(direction: str) -> str:
    """
    @return: the statement that remembers whom the outer port of an outgoing packet belongs to.
    """
    inside = f"ct {direction} ip saddr . ct {direction} proto-src"
    return f"ct direction {direction} update @owner {{ udp sport : {inside} }}"


def _translation(mapping: Mapping, allocation: PortAllocation) -> _Drawing | str:
    """
    @return: the source translation of such a NAT.
    """
    if (mapping, allocation) not in _TRANSLATIONS:
        named = f"{mapping.value} mapping to {allocation.value} ports"
        raise LaboratoryError(f"no {named} in the kernel laboratory: see tests/kernel/lab/nat.py")
    return _TRANSLATIONS[mapping, allocation]


def _translations(nat: NAT) -> dict[str, _Drawing | str]:
    """
    @return: how each transport is translated.
    """
    tcp: _Drawing | str = _KEPT
    if nat.tcpMapping is not None and nat.tcpMapping is not _EI:
        tcp = _translation(nat.tcpMapping, nat.allocation)
    return {"udp": _translation(nat.mapping, nat.allocation), "tcp": tcp}


def _lines(rules: list[str]) -> str:
    return "\n    ".join(rules)


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
    timeout = f"flags dynamic,timeout; timeout {nat.udpTimeout:.0f}s"
    tables, draw, translate = "", [], []
    for transport, way in _translations(nat).items():
        if isinstance(way, _Drawing):
            tables += way.tables(transport, timeout)
            draw.append(f"meta l4proto {transport} jump {transport}_draw")
        statement = way if isinstance(way, str) else _DRAWN
        translate.append(f"meta l4proto {transport} {statement.format(external=external)}")
    letIn = _LET_IN[nat.filtering].format(external=external)
    fromInside = sendBack = ""
    if nat.hairpinning is not Hairpinning.NONE:
        fromInside = _FROM_INSIDE.format(external=external)
    if nat.hairpinning is Hairpinning.EXTERNAL:
        sendBack = f"iifname {LAN} oifname {LAN} ct status dnat meta l4proto udp jump translate"
    return f"""
table ip lab
delete table ip lab
table ip lab {{
  map owner {{ type inet_service : ipv4_addr . inet_service; {timeout}; }}
  set seen {{ type inet_service . ipv4_addr; {timeout}; }}{tables}
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
  chain draw {{ type filter hook postrouting priority srcnat - 10;
    iifname != {LAN} accept
    {_lines(draw)}
  }}
  chain translate {{
    {_lines(translate)}
    snat to {external}
  }}
  chain postrouting {{ type nat hook postrouting priority srcnat;
    oifname {WAN} jump translate
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
