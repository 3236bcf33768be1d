"""
A probe that asks the gateway of its arguments by UPnP, and prints what came of it as JSON.

C{GATEWAY SOURCE VERB [TRANSPORT INTERNAL EXTERNAL LIFETIME]}, where VERB is C{map}, C{release} or
C{status}.  Beside the result stand the seconds that it took, and by how many kilobytes this process
grew while C{TIMES} of the environment such requests were made, one after the other.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from dataclasses import asdict, is_dataclass
from typing import Any

from twisted.internet.task import react

from p2ptwist.core.portmapping.grant import Grant, MappingRequest
from p2ptwist.errors import PortMappingError
from p2ptwist.net.upnp import UPnPMapper


def _wanted(source: str, arguments: list[str]) -> MappingRequest:
    transport, internal, external, lifetime = arguments
    return MappingRequest(
        transport, source, int(internal), int(external) or None, float(lifetime), bytes(12)
    )


async def _ask(mapper: UPnPMapper, source: str, verb: str, arguments: list[str]) -> Any:
    if verb == "status":
        return await mapper.status(source)
    wanted = _wanted(source, arguments)
    if verb == "map":
        return await mapper.request(wanted)
    external = ("192.0.2.1", wanted.externalPort or wanted.internalPort)
    return await mapper.release(Grant("upnp", wanted, external, wanted.lifetime, mapper.gateway))


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


async def main(reactor: Any, gateway: str, source: str, verb: str, *arguments: str) -> None:
    """
    Ask.
    """
    mapper = UPnPMapper(reactor, gateway)
    # The first child costs what every later one does not: loaded modules.
    await mapper.stop()
    before, results = _peak(), []
    for _ in range(int(os.environ.get("TIMES", "1"))):
        start = reactor.seconds()
        try:
            said = await _ask(mapper, source, verb, list(arguments))
            result = asdict(said) if is_dataclass(said) and not isinstance(said, type) else said
            result = {"result": result}
        except PortMappingError as error:
            result = {"error": type(error).__name__, "why": str(error)}
        results.append({**result, "seconds": reactor.seconds() - start})
    await mapper.stop()
    print(json.dumps({**results[-1], "grown": _peak() - before}, default=repr))


if __name__ == "__main__":
    react(main, sys.argv[1:])
