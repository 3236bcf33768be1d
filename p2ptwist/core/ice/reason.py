"""
Why there is no direct path, in words for a person.
"""

from __future__ import annotations

from p2ptwist.core.ice.generation import Generation
from p2ptwist.core.nat import NATBehavior, NATMapping


def explainEnd(generation: Generation, local: NATBehavior, seconds: float, fired: int = 0) -> str:
    """
    @param generation: the one that found nothing.
    @param local: what this side's NAT was measured to do.
    @param seconds: how long it was tried.
    @param fired: how many checks a ladder sent besides.
    @return: why.
    """
    if generation.remote is None:
        return explainSilence(seconds)
    checklist = generation.checklist
    return explainFailure(
        seconds, checklist.sent, len(checklist), local, generation.behavior, fired
    )


def explainFailure(
    seconds: float,
    checks: int,
    addresses: int,
    local: NATBehavior,
    remote: NATBehavior,
    fired: int = 0,
) -> str:
    """
    @param seconds: how long it was tried.
    @param checks: how many checks were sent.
    @param addresses: to how many addresses.
    @param local: what this side's NAT was measured to do.
    @param remote: what the other side says of its own.
    @param fired: how many checks were sent to or from ports that nobody knew.
    @return: one sentence or a few: what was tried, what the two NATs do, and what would help.
    """
    tried = (
        f"no direct path in {seconds:.1f} s: {checks} checks to {addresses} addresses "
        "were not answered"
    )
    if fired:
        tried += f", nor were {fired} to foretold and random ports"
    nats = f"this side's NAT has {local}, the other side's has {remote}"
    return f"{tried}; {nats}{_advice(local, remote)}"


def explainSilence(seconds: float) -> str:
    """
    @return: the reason when the other side never said anything.
    """
    return (
        f"the other side did not answer the call in {seconds:.1f} s; "
        "is it running, and does it accept calls?"
    )


def _advice(local: NATBehavior, remote: NATBehavior) -> str:
    dependent = [
        side
        for side, behavior in (("this side's", local), ("the other side's", remote))
        if behavior.mapping not in (None, NATMapping.ENDPOINT_INDEPENDENT)
    ]
    if not dependent:
        return ""
    return (
        f"; {' and '.join(dependent)} NAT uses another port for every destination: "
        "a forwarded port there would help"
    )
