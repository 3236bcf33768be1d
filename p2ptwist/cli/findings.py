"""
What C{p2ptwist doctor} says: a verdict, and the facts behind it, in words or as JSON.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from p2ptwist.core.address import HostPort, formatAddress
from p2ptwist.core.nat import PortAllocation
from p2ptwist.core.outlook import PeerKind, Way
from p2ptwist.net.mappedport import MapperReport
from p2ptwist.peer.diagnosis import Diagnosis, NodeReport

_UNKNOWN = "not found out"
_TITLES = {"pcp": "PCP", "nat-pmp": "NAT-PMP", "upnp": "UPnP"}
_WIDTH = 12  # of the longest title, "double NAT" and "hairpinning" among them


def asJSON(diagnosis: Diagnosis) -> dict[str, object]:
    """
    @return: everything, by the keys that C{docs/doctor.md} has.
    """
    behavior, nat = diagnosis.behavior, diagnosis.nat
    return {
        "verdict": diagnosis.verdict,
        "advice": list(advice(diagnosis)),
        "udp": diagnosis.udp,
        "public": [formatAddress(each) for each in diagnosis.addresses],
        "translated": diagnosis.translated,
        "mapping": behavior.mapping,
        "filtering": behavior.filtering,
        "allocation": behavior.allocation,
        "step": behavior.step,
        "tcp_mapping": behavior.tcpMapping,
        "hairpin": behavior.hairpinning,
        "lifetime": behavior.lifetime,
        "port_mapping": {mapper.replace("-", "_"): _grant(diagnosis, mapper) for mapper in _TITLES},
        "double_nat": diagnosis.doubleNAT,
        "routers": [_router(diagnosis, report) for report in diagnosis.routers],
        "ipv6": diagnosis.ipv6,
        "nodes": [_node(report) for report in diagnosis.nodes],
        "servers": [
            {"address": formatAddress(address), "rtt": _rounded(seconds)}
            for address, seconds in _servers(diagnosis)
        ],
        "classic": None if nat is None else nat.classic,
        "classic_expected": None if nat is None else nat.ourClassic,
        "classic_differs": nat is not None and nat.classicDiffers,
        "peers": {
            kind.name.lower(): None if way is None else way.name.lower()
            for kind, way in diagnosis.outlook.items()
        },
        "seconds": round(diagnosis.seconds, 3),
    }


def inWords(diagnosis: Diagnosis) -> Iterator[str]:
    """
    @return: lines for a person: the verdict, what would help, and the facts.
    """
    yield diagnosis.verdict
    yield from advice(diagnosis)
    yield ""
    for title, words in _facts(diagnosis):
        yield f"  {title:{_WIDTH}} {words}"
    yield ""
    yield "Connections to peers"
    for kind, way in diagnosis.outlook.items():
        yield f"  {kind.value}: {_UNKNOWN if way is None else way.value}"


def advice(diagnosis: Diagnosis) -> Iterator[str]:
    """
    @return: what would make things better, a sentence each.
    """
    if diagnosis.doubleNAT:
        yield (
            "There is another NAT in front of your router, so ports that it maps cannot be reached "
            "from the Internet: have one of the two work as a bridge, or ask the provider for a "
            "public address."
        )
    elif not diagnosis.mapped and _wantsMapping(diagnosis):
        yield (
            "A mapped port would help: switch UPnP, NAT-PMP or PCP on in the router's settings, or "
            "forward a UDP port there."
        )


def _wantsMapping(diagnosis: Diagnosis) -> bool:
    if diagnosis.translated is False:
        return False  # there is no NAT that could map one
    ways = diagnosis.outlook
    hard = (ways[PeerKind.STEADY], ways[PeerKind.SCATTERED])
    return diagnosis.udp and any(way not in (Way.DIRECT, None) for way in hard)


def _facts(diagnosis: Diagnosis) -> Iterator[tuple[str, str]]:
    behavior = diagnosis.behavior
    yield "UDP", _udp(diagnosis)
    yield "addresses", _addresses(diagnosis)
    yield "mapping", _known(behavior.mapping)
    yield "filtering", _known(behavior.filtering)
    yield "ports", _ports(behavior.allocation, behavior.step)
    yield "TCP mapping", _known(behavior.tcpMapping)
    yield "hairpinning", _yesOrNo(behavior.hairpinning)
    if behavior.lifetime is not None:
        yield "lifetime", f"at least {behavior.lifetime:.0f} s of silence"
    yield from _mappings(diagnosis)
    yield "double NAT", _yesOrNo(diagnosis.doubleNAT)
    yield "IPv6", _yesOrNo(diagnosis.ipv6)
    for report in diagnosis.nodes:
        yield "node", _nodeWords(report)
    for address, seconds in _servers(diagnosis):
        took = "answered, late" if seconds is None else _milliseconds(seconds)
        yield "STUN", f"{formatAddress(address)}: {took}"
    yield "pystun3", _classic(diagnosis)


def _udp(diagnosis: Diagnosis) -> str:
    if diagnosis.udp:
        return "passes"
    if diagnosis.nat is None:
        return f"{_UNKNOWN}: no STUN server is known"
    return "is blocked: no server answered" if diagnosis.online else "no server answered"


def _addresses(diagnosis: Diagnosis) -> str:
    if not diagnosis.addresses:
        return _UNKNOWN
    words = ", ".join(map(formatAddress, diagnosis.addresses))
    if diagnosis.translated is False:
        return f"{words} (this host's own: no NAT)"
    return words


def _ports(allocation: PortAllocation | None, step: int | None) -> str:
    return f"{_known(allocation)}, by {step:+}" if step else _known(allocation)


def _mappings(diagnosis: Diagnosis) -> Iterator[tuple[str, str]]:
    for mapper, title in _TITLES.items():
        reports = [each for each in diagnosis.routers if each.mapper == mapper]
        for report in reports:
            yield title, _mappingWords(diagnosis, report)
        if not reports:
            yield title, "no router to ask"


def _mappingWords(diagnosis: Diagnosis, report: MapperReport) -> str:
    name = diagnosis.routerName(report.gateway)
    router = f"{name} ({report.gateway})" if name else report.gateway
    if report.external is None:
        return (report.problem or f"{router} maps nothing").removeprefix("UPnP: ")
    words = f"{router} grants {formatAddress(report.external)}"
    if report.lifetime is not None:
        words += f" for {report.lifetime:.0f} s"
    return f"{words}, behind another NAT" if report.doubleNAT else words


def _nodeWords(report: NodeReport) -> str:
    if report.roundTrip is None:
        return report.problem or report.node
    return f"{report.node}: {_milliseconds(report.roundTrip)}"


def _classic(diagnosis: Diagnosis) -> str:
    nat = diagnosis.nat
    if nat is None or nat.classic is None:
        return "has no opinion"
    if nat.classicDiffers:
        return f"says {nat.classic!r}; what was found out here is {nat.ourClassic!r}"
    return f"says {nat.classic!r}"


def _grant(diagnosis: Diagnosis, mapper: str) -> dict[str, object] | None:
    report = diagnosis.grantedBy(mapper)
    if report is None or report.external is None:
        return None
    return {
        "external": formatAddress(report.external),
        "lifetime": report.lifetime,
        "gateway": report.gateway,
        "router": diagnosis.routerName(report.gateway),
        "double_nat": report.doubleNAT,
    }


def _router(diagnosis: Diagnosis, report: MapperReport) -> dict[str, object]:
    return {
        "protocol": report.mapper,
        "gateway": report.gateway,
        "router": diagnosis.routerName(report.gateway),
        "external": None if report.external is None else formatAddress(report.external),
        "lifetime": report.lifetime,
        "double_nat": report.doubleNAT,
        "problem": report.problem,
    }


def _node(report: NodeReport) -> dict[str, object]:
    observed = report.observed
    return {
        "node": report.node,
        "name": report.name,
        "up": report.up,
        "rtt": _rounded(report.roundTrip),
        "observed": formatAddress(observed) if observed is not None and observed[0] else None,
        "problem": report.problem,
    }


def _servers(diagnosis: Diagnosis) -> Sequence[tuple[HostPort, float | None]]:
    nat = diagnosis.nat
    families = () if nat is None else (nat.ipv4, nat.ipv6)
    return [each for family in families if family is not None for each in family.roundTrips.items()]


def _known(fact: object) -> str:
    return _UNKNOWN if fact is None else str(fact)


def _yesOrNo(fact: bool | None) -> str:
    return _UNKNOWN if fact is None else ("yes" if fact else "no")


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)
