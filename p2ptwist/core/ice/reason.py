"""
Why there is no direct path, in words for a person.
"""

from __future__ import annotations

from p2ptwist.core.ladder.posture import Posture, postureOf, rungs
from p2ptwist.core.nat import NATBehavior, NATMapping

# How the reason of a search begins that was made to its end: whoever reads it in the other side's
# goodbye has found nothing either.
VAIN = "no direct path in "


def explainFailure(
    seconds: float,
    checks: int,
    addresses: int,
    local: NATBehavior,
    remote: NATBehavior,
    climb: str | None = None,
    blocked: tuple[bool, bool] = (False, False),
) -> str:
    """
    @param seconds: how long it was tried.
    @param checks: how many checks were sent.
    @param addresses: to how many addresses.
    @param local: what this side's NAT was measured to do.
    @param remote: what the other side says of its own.
    @param climb: what came of the ladder; C{None} for nothing to tell.
    @param blocked: whether UDP seems to be blocked on this side, and on the other.
    @return: one line: what was tried, why it came to nothing, what the two NATs do, and what would
        help.
    """
    tried = f"{VAIN}{seconds:.1f} s: {checks} checks to {addresses} addresses were not answered"
    cause = None if any(blocked) else climb or _cause(local, remote)
    words = (tried, cause, _nats(local, remote, blocked), _advice(local, remote))
    return "; ".join(each for each in words if each)


def explainTCP(failure: str, local: NATBehavior, remote: NATBehavior) -> str:
    """
    @param failure: how an attempt over TCP ended.
    @param local: what this side's NAT was measured to do.
    @param remote: what the other side says of its own.
    @return: the same, and what the two NATs have to do with it.
    """
    known = (local.tcpMapping, remote.tcpMapping)
    keeps = (None, NATMapping.ENDPOINT_INDEPENDENT)
    names = ("this side's", "the other side's")
    dependent = [name for name, each in zip(names, known, strict=True) if each not in keeps]
    if not dependent:
        return failure
    sides = " and ".join(dependent)
    return f"{failure}, and {sides} NAT has another TCP port for every destination"


def explainSilence(seconds: float) -> str:
    """
    @return: the reason when the other side never said anything.
    """
    return (
        f"the other side did not answer the call in {seconds:.1f} s; "
        "is it running, and does it accept calls?"
    )


def _nats(local: NATBehavior, remote: NATBehavior, blocked: tuple[bool, bool]) -> str:
    if all(blocked):
        return "UDP seems to be blocked on both sides, as no STUN server answers either"
    here = f"this side's NAT has {local}"
    if blocked[1]:
        return f"UDP seems to be blocked on the other side, as no STUN server answers it; {here}"
    if blocked[0]:
        return (
            "UDP seems to be blocked on this side, as no STUN server answers it; "
            f"the other side's NAT has {remote}"
        )
    return f"{here}, the other side's has {remote}"


def _cause(local: NATBehavior, remote: NATBehavior) -> str | None:
    """
    @return: why there was nothing to climb, if that is known.
    """
    postures = {postureOf(local), postureOf(remote)}
    if None in postures or rungs(local, remote) or Posture.STEADY in postures:
        return None
    if postures == {Posture.SCATTERED}:
        return "both sides' ports are random, so that neither can be foretold or found by trying"
    return "one side's ports are random, and the other's port depends on them"


def _advice(local: NATBehavior, remote: NATBehavior) -> str:
    dependent = [
        side
        for side, behavior in (("this side's", local), ("the other side's", remote))
        if behavior.mapping not in (None, NATMapping.ENDPOINT_INDEPENDENT)
    ]
    if not dependent:
        return ""
    return (
        f"{' and '.join(dependent)} NAT uses another port for every destination: "
        "a forwarded port there would help"
    )
