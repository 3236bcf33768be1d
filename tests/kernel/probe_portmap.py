"""
A probe behind a router that maps ports.

C{MAPPERS LIFETIME SECRET TRANSPORT:PORT...} has these ports mapped until it is asked to end, and
prints a line for whatever happens: C{mapped TRANSPORT:PORT MAPPER EXTERNAL...}, C{lost
TRANSPORT:PORT}, C{none TRANSPORT:PORT ERROR}, and C{heard TRANSPORT:PORT} when somebody comes in by
one.  MAPPERS are names with commas; LIFETIME is the seconds to ask for; SECRET a number.

C{report} instead of all that prints what each protocol would do, as a JSON object: external
address, router, problem, double NAT; and the seconds that it took, and the kilobytes by which this
process grew.
"""

from __future__ import annotations

import json
import resource
import sys
from typing import Any

from twisted.internet.protocol import DatagramProtocol, Protocol, ServerFactory
from twisted.internet.task import react
from twisted.python.failure import Failure

from p2ptwist.core.address import formatAddress
from p2ptwist.interfaces import IPortMapping
from p2ptwist.net.mapperprobe import probeMappers
from p2ptwist.net.portmapper import natpmpMapper, pcpMapper, upnpMapper
from p2ptwist.net.portmapping import PortMappings

_MAPPERS = {"pcp": pcpMapper, "nat-pmp": natpmpMapper, "upnp": upnpMapper}


class _Heard(DatagramProtocol):
    def __init__(self, name: str) -> None:
        self._name = name

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        print(f"heard {self._name}")


def _listen(reactor: Any, transport: str, port: int) -> None:
    name = f"{transport}:{port}"
    if transport == "udp":
        reactor.listenUDP(port, _Heard(name))
        return

    class Accepted(Protocol):
        def connectionMade(self) -> None:
            print(f"heard {name}")

    factory: Any = ServerFactory()
    factory.protocol = Accepted
    reactor.listenTCP(port, factory)


def _tell(mapping: IPortMapping) -> None:
    name = f"{mapping.transport}:{mapping.port}"
    if mapping.externals:
        externals = " ".join(map(formatAddress, mapping.externals))
        print(f"mapped {name} {mapping.mapper} {externals}")
    else:
        print(f"lost {name}")


async def report(reactor: Any) -> None:
    """
    Print what each protocol would do.
    """
    start, before = reactor.seconds(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found: dict[str, object] = {
        each.mapper: [each.external, each.router, each.problem, each.doubleNAT]
        for each in await probeMappers(reactor)
    }
    found["seconds"] = reactor.seconds() - start
    found["kilobytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps(found))


def main(mappers: str, lifetime: str, secret: str, *wanted: str) -> None:
    """
    Have them mapped.
    """
    from twisted.internet import reactor

    clock: Any = reactor
    mappings = PortMappings(
        clock,
        [_MAPPERS[name] for name in mappers.split(",")],
        secret=int(secret).to_bytes(32, "big"),
        lifetime=float(lifetime),
    )
    mappings.observe(_tell)
    mappings.startService()
    for each in wanted:
        transport, _, port = each.partition(":")
        _listen(clock, transport, int(port))

        def failed(failure: Failure, each: str = each) -> None:
            print(f"none {each} {type(failure.value).__name__}")

        mappings.map(transport, int(port)).addErrback(failed)
    clock.addSystemEventTrigger("before", "shutdown", mappings.stopService)
    clock.run()


if __name__ == "__main__":
    if sys.argv[1:] == ["report"]:
        react(report)
    main(*sys.argv[1:])
