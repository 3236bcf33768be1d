"""
What one side can promise about its own external port, and so which rungs a pair of NATs has.
"""

from __future__ import annotations

import enum

from p2ptwist.core.nat import NATBehavior, NATMapping, PortAllocation

PREDICTION_ROUNDS = 3  # before the next rung, where there is one


class Posture(enum.IntEnum):
    """
    How the other side can find this one; the numbers are those of the wire.
    """

    STEADY = 1  # one address for every destination
    AIMED = 2  # the port of one of the next few mappings can be foretold
    SCATTERED = 3  # many ports are open, and none is known


class Rung(enum.Enum):
    """
    What a pair of postures allows.
    """

    PREDICTION = "port prediction"
    SPRAYING = "birthday spraying"


def postureOf(behavior: NATBehavior) -> Posture | None:
    """
    @return: the best posture of a side whose NATs behave so; C{None} where the mapping is unknown.
    """
    if behavior.mapping is None:
        return None
    if behavior.mapping is NATMapping.ENDPOINT_INDEPENDENT:
        return Posture.STEADY
    if behavior.allocation is PortAllocation.SEQUENTIAL and behavior.step:
        return Posture.AIMED
    return Posture.SCATTERED


def rungs(local: NATBehavior, remote: NATBehavior) -> tuple[Rung, ...]:
    """
    @return: what may make this pair meet where ordinary checks do not, cheapest first.
    """
    postures = {postureOf(local), postureOf(remote)}
    if postures == {Posture.STEADY, Posture.AIMED}:
        return (Rung.PREDICTION, Rung.SPRAYING)
    if postures == {Posture.STEADY, Posture.SCATTERED}:
        return (Rung.SPRAYING,)
    if postures == {Posture.AIMED}:
        return (Rung.PREDICTION,)
    return ()


def begins(local: NATBehavior, remote: NATBehavior, controlling: bool) -> bool:
    """
    @return: whether this side proposes the rounds: the steady one, whose address needs no
        preparation; of two aimed ones the controlling one.
    """
    if not rungs(local, remote):
        return False
    if postureOf(local) is postureOf(remote):
        return controlling
    return postureOf(local) is Posture.STEADY


def rungAt(number: int, local: NATBehavior, remote: NATBehavior) -> Rung | None:
    """
    @param number: of a round, from 0.
    @return: what both sides do in it; C{None} where there is nothing that this pair can do.
    """
    available = rungs(local, remote)
    if len(available) > 1 and number >= PREDICTION_ROUNDS:
        return available[1]
    return available[0] if available else None
