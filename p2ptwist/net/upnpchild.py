"""
The child process of L{p2ptwist.net.upnp}: one question on standard input, one answer on standard
output, both a line of JSON, and the end.

Whatever a router sends is read here, with bounds; and miniupnpc is here.  The process limits its
own memory, time and files first, so that one that was led astray harms nobody.

Question: C{verb} (C{add}, C{delete}, C{check}, C{status}), C{gateway}, C{source}, C{port} (of
SSDP); but for the last C{transport}, C{internal}, C{external}, and C{lifetime} in seconds.

Answer: C{router}; for C{add} C{external}, C{port} and C{lifetime}, for C{check} C{gone}, for
C{status} C{external}, C{status} and C{uptime}; or C{failure} (C{missing}, C{silent}, C{unusable},
C{refused}), C{why} and C{code}.
"""

from __future__ import annotations

import importlib
import json
import signal
import sys
from typing import Any

from p2ptwist.net.upnpforwarder import RouterFailure
from p2ptwist.net.upnprouter import Mapping, Router

_MAX_QUESTION = 4096  # characters; a question has some 200
# The parent ends the process sooner; this is for a parent that is no more.
_LIFETIME = 5.0  # seconds
_PROCESSOR_TIME = 2  # seconds; a whole mapping takes 0.1
_MAX_MEMORY = 192 * 2**20  # bytes of address space, of which the interpreter has some 40 MB
_MAX_FILES = 32  # at most eight are open at once


def limitProcess() -> None:
    """
    Be ended after five seconds, and before this process is large or busy.
    """
    signal.setitimer(signal.ITIMER_REAL, _LIFETIME)
    try:
        import resource
    except ImportError:  # not on this system
        return
    for kind, limit in (
        (resource.RLIMIT_AS, _MAX_MEMORY),
        (resource.RLIMIT_DATA, _MAX_MEMORY),
        (resource.RLIMIT_CPU, _PROCESSOR_TIME),
        (resource.RLIMIT_NOFILE, _MAX_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        try:
            resource.setrlimit(kind, (limit, limit))
        except (OSError, ValueError):  # some systems do not have each
            continue


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """
    Do what is asked.
    """
    try:
        upnp = importlib.import_module("miniupnpc").UPnP()
    except ImportError:
        return {"failure": "missing", "why": "miniupnpc is not installed", "code": 0}
    try:
        router = Router(upnp, question["source"])
        try:
            router.find(question["gateway"], question["port"])
            return {"router": router.name, **_do(router, question)}
        finally:
            router.close()
    except RouterFailure as failure:
        return {"failure": failure.kind, "why": failure.why, "code": failure.code}
    except OSError as error:  # the local address is gone, or the network is
        return {"failure": "silent", "why": str(error), "code": 0}


def _do(router: Router, question: dict[str, Any]) -> dict[str, Any]:
    if question["verb"] == "status":
        status, uptime = router.status()
        return {"external": router.externalHost(), "status": status, "uptime": uptime}
    mapping = Mapping(question["transport"], question["source"], question["internal"])
    if question["verb"] == "delete":
        router.delete(mapping, question["external"])
        return {}
    if question["verb"] == "check":
        return {"gone": not router.has(mapping, question["external"])}
    # First of all, for a router without an address has no use for a mapping.
    host = router.externalHost()
    port, lifetime = router.add(mapping, question["external"], question["lifetime"])
    return {"external": host, "port": port, "lifetime": lifetime}


def main() -> None:
    """
    Answer one question.
    """
    limitProcess()
    print(json.dumps(answer(json.loads(sys.stdin.readline(_MAX_QUESTION)))), flush=True)


if __name__ == "__main__":
    main()
