"""
What C{p2ptwist doctor PEER-ID} says: how a connection went, and why so.
"""

from __future__ import annotations

from collections.abc import Iterator

from p2ptwist.core.address import HostPort, formatAddress
from p2ptwist.core.ladder.posture import Posture
from p2ptwist.core.nat import UNKNOWN_BEHAVIOR, NATBehavior
from p2ptwist.peer.chronicle import Attempt, Chronicle, Round, Side, Try
from p2ptwist.peer.service import PathEvent


def verdict(chronicle: Chronicle) -> str:
    """
    @return: what came of it, and why, for a person.
    """
    direct = chronicle.direct
    if direct is not None:
        opened = chronicle.paths[-1][0]
        words = f"Direct over {direct.transport.upper()}, {opened:.2f} s after the call began."
        return words if direct.transport == "udp" else f"{words} {_why(chronicle, 'udp')}"
    if not chronicle.attempts:
        return "Relayed: no attempt to be direct was made."
    return f"Relayed. {_why(chronicle, 'udp')} {_why(chronicle, 'tcp')}".rstrip()


def behaviors(chronicle: Chronicle) -> tuple[NATBehavior, NATBehavior]:
    """
    @return: what this side's NATs do, and the other's, as far as the two have told each other.
    """
    here = [each.here.behavior for each in chronicle.attempts]
    there = [each.there.behavior for each in chronicle.attempts]
    return _last(here), _last(there)


def storyInWords(chronicle: Chronicle) -> Iterator[str]:
    """
    @return: lines for a person: the verdict, and all that happened, with seconds since the call.
    """
    here, there = behaviors(chronicle)
    yield verdict(chronicle)
    yield ""
    yield f"  this side's NAT   {_known(here)}"
    yield f"  the other side's  {_known(there)}"
    if chronicle.admitted is not None:
        yield f"  {chronicle.admitted:6.2f}  the peer has answered; relayed from here on"
    for at, path in chronicle.paths:
        yield f"  {at:6.2f}  {_pathWords(path)}"
    for number, attempt in enumerate(chronicle.attempts, 1):
        yield ""
        yield from _attemptWords(number, attempt)


def storyAsJSON(chronicle: Chronicle, peerID: str) -> dict[str, object]:
    """
    @return: the same, by the keys that C{docs/doctor.md} has.
    """
    here, there = behaviors(chronicle)
    return {
        "peer": peerID,
        "verdict": verdict(chronicle),
        "kind": "relayed" if chronicle.direct is None else "direct",
        "admitted": _rounded(chronicle.admitted),
        "paths": [_path(at, path) for at, path in chronicle.paths],
        "local_nat": _behavior(here),
        "remote_nat": _behavior(there),
        "attempts": [_attempt(each) for each in chronicle.attempts],
        "seconds": _rounded(chronicle.now),
    }


def _known(behavior: NATBehavior) -> str:
    return "not known by then" if behavior == UNKNOWN_BEHAVIOR else str(behavior)


def _last(known: list[NATBehavior]) -> NATBehavior:
    told = [each for each in known if each != UNKNOWN_BEHAVIOR]
    return told[-1] if told else UNKNOWN_BEHAVIOR


def _why(chronicle: Chronicle, transport: str) -> str:
    """
    @return: why the latest attempt over that transport that was made to its end failed.
    """
    ended = [each for each in chronicle.attempts if each.transport == transport and each.failed]
    return f"Over {transport.upper()}: {ended[-1].reason}." if ended else ""


# Words


def _attemptWords(number: int, attempt: Attempt) -> Iterator[str]:
    offered = "this side" if attempt.calling else "the other side"
    transport = attempt.transport.upper()
    yield f"attempt {number}, over {transport}, offered by {offered} at {attempt.began:.2f} s"
    yield f"  this side: {_sideWords(attempt.here)}"
    yield f"  the other: {_sideWords(attempt.there)}"
    moments = [(each.at, _tryWords(each, transport)) for each in attempt.tries]
    moments += [(at, f"heard {formatAddress(address)}") for at, address in attempt.heard]
    moments += [(each.at, _roundWords(each)) for each in attempt.rounds]
    if attempt.opened is not None:
        moments.append((attempt.opened, f"a path is open{_to(attempt.remote)}"))
    if attempt.over is not None:
        moments.append((attempt.over, f"over: {attempt.reason}"))
    for at, words in sorted(moments, key=lambda moment: moment[0]):
        yield f"  {at:6.2f}  {words}"


def _sideWords(side: Side) -> str:
    words = [
        f"{kind.name.lower().replace('_', '-')} {formatAddress(address)}"
        for address, kind in side.candidates.items()
    ]
    return ", ".join(words) or "no address"


def _tryWords(record: Try, transport: str) -> str:
    verb = "check of" if transport == "UDP" else "dialed"
    words = f"{verb} {formatAddress(record.address)}: "
    if record.ended is None or not (record.succeeded or record.refused):
        return f"{words}no answer"
    took = f"after {(record.ended - record.at) * 1000:.0f} ms"
    return f"{words}{'answered' if record.succeeded else 'refused'} {took}"


def _roundWords(said: Round) -> str:
    side = "this side" if said.local else "the other side"
    where = "" if said.posture is Posture.SCATTERED else f" at {formatAddress(said.address)}"
    return f"ladder, round {said.number}: {side} is {said.posture.name.lower()}{where}"


def _pathWords(path: PathEvent) -> str:
    took = "" if path.roundTrip is None else f", {path.roundTrip * 1000:.0f} ms"
    return f"{path.kind} over {path.transport.upper()}{_to(path.remote)}{took}"


def _to(remote: HostPort | None) -> str:
    return "" if remote is None else f" to {formatAddress(remote)}"


# JSON


def _attempt(attempt: Attempt) -> dict[str, object]:
    return {
        "transport": attempt.transport,
        "calling": attempt.calling,
        "began": _rounded(attempt.began),
        "local": _side(attempt.here),
        "remote": _side(attempt.there),
        "checks" if attempt.transport == "udp" else "dials": [_try(each) for each in attempt.tries],
        "heard": [
            {"address": formatAddress(address), "at": _rounded(at)} for at, address in attempt.heard
        ],
        "rounds": [_round(each) for each in attempt.rounds],
        "opened": _rounded(attempt.opened),
        "path": None if attempt.remote is None else formatAddress(attempt.remote),
        "over": _rounded(attempt.over),
        "reason": attempt.reason,
    }


def _side(side: Side) -> list[dict[str, object]]:
    return [
        {"type": kind.name.lower().replace("_", "-"), "address": formatAddress(address)}
        for address, kind in side.candidates.items()
    ]


def _try(record: Try) -> dict[str, object]:
    return {
        "address": formatAddress(record.address),
        "at": _rounded(record.at),
        "answered": record.succeeded,
        "refused": record.refused,
        "seconds": None if record.ended is None else _rounded(record.ended - record.at),
    }


def _round(said: Round) -> dict[str, object]:
    scattered = said.posture is Posture.SCATTERED
    return {
        "at": _rounded(said.at),
        "round": said.number,
        "side": "local" if said.local else "remote",
        "posture": said.posture.name.lower(),
        "address": None if scattered else formatAddress(said.address),
    }


def _path(at: float, path: PathEvent) -> dict[str, object]:
    return {
        "at": _rounded(at),
        "kind": path.kind,
        "transport": path.transport,
        "remote": None if path.remote is None else formatAddress(path.remote),
        "rtt": _rounded(path.roundTrip),
    }


def _behavior(behavior: NATBehavior) -> dict[str, object]:
    return {
        "mapping": behavior.mapping,
        "filtering": behavior.filtering,
        "allocation": behavior.allocation,
        "step": behavior.step,
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)
