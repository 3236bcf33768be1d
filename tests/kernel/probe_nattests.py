"""
A probe for any host: it finds out how the NATs before it behave.

C{probe_nattests.py [SECONDS] SERVER...} measures with each server in turn and prints, for each, its
number from 0 and one JSON object of all facts.  A server is C{ADDRESS}, or several with commas,
which are used together.  With C{SECONDS} the lifetime of mappings is looked for up to that.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from twisted.internet.defer import ensureDeferred
from twisted.internet.task import react

from p2ptwist.core.address import HostPort
from p2ptwist.net.natreport import NATReport, measureNAT

_STUN = 3478


def facts(report: NATReport, seconds: float) -> dict[str, Any]:
    """
    @return: what was found out.
    """
    behavior = report.behavior
    return {
        "udp": report.udp,
        "mapping": behavior.mapping,
        "filtering": behavior.filtering,
        "allocation": behavior.allocation,
        "step": behavior.step,
        "hairpinning": behavior.hairpinning,
        "tcpMapping": behavior.tcpMapping,
        "lifetime": behavior.lifetime,
        "addresses": [host for host, _ in report.addresses],
        "classic": report.classic,
        "ourClassic": report.ourClassic,
        "seconds": seconds,
    }


async def measure(reactor: Any, groups: list[list[HostPort]], lifetime: float | None) -> None:
    """
    Measure with each group of servers.
    """
    for number, servers in enumerate(groups):
        started = reactor.seconds()
        report = await measureNAT(reactor, servers, lifetime=lifetime)
        print(number, json.dumps(facts(report, reactor.seconds() - started)), flush=True)


def main() -> None:
    """
    Run the probe.
    """
    arguments = sys.argv[1:]
    lifetime = float(arguments.pop(0)) if arguments[0].isdecimal() else None
    groups: list[list[HostPort]] = [
        [(address, _STUN) for address in group.split(",")] for group in arguments
    ]
    react(lambda reactor: ensureDeferred(measure(reactor, groups, lifetime)))


if __name__ == "__main__":
    main()
