"""
Port allocation (RFC 4787 section 4.2): which external ports new mappings get.

Several fresh ports ask one address at the same moment; where mapping depends on the destination,
one port that asks several addresses at the same moment is as good.  Such flows are a volley: in the
order in which they were sent, mappings were made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from p2ptwist.core.nat import STEP_LIMIT, PortAllocation

# Pairs of neighbours that must be known, of at least four flows.  That three of five random ports
# of 2,000 are neighbours by chance happens once in 100,000 times.
_LEAST_PAIRS = 3
_REGULAR = 0.6  # of all known pairs; others' traffic and one old mapping may spoil the rest


@dataclass(frozen=True, slots=True)
class Flow:
    """
    One new mapping.

    @ivar local: the internal port.
    @ivar seen: the external port; C{None} where no answer tells.
    @ivar prompt: whether the first datagram was answered, so that the mapping was made in its turn.
    """

    local: int
    seen: int | None
    prompt: bool = True


def inferAllocation(
    fresh: Sequence[Flow], further: Sequence[Flow] = ()
) -> tuple[PortAllocation | None, int | None]:
    """
    @param fresh: the volley of fresh ports.
    @param further: the volley of one port, if each of its flows has a mapping of its own.
    @return: the allocation, and the step where it is sequential.
    """
    answered = [each for each in fresh if each.seen is not None]
    preserved = sum(each.seen == each.local for each in answered)
    # That a port is kept by chance happens once in 64,000 times.
    if preserved >= 3 and preserved > len(answered) / 2:
        return PortAllocation.PRESERVING, None
    pairs = _pairs(fresh) + _pairs(further)
    if len(pairs) < _LEAST_PAIRS:
        return None, None
    regular = [pair for pair in pairs if pair.isRegular]
    if len(regular) >= max(_LEAST_PAIRS, _REGULAR * len(pairs)):
        return PortAllocation.SEQUENTIAL, _step([pair.step for pair in regular if pair.isPrompt])
    return (PortAllocation.RANDOM, None) if len(regular) <= 1 else (None, None)


@dataclass(frozen=True, slots=True)
class _Pair:
    """
    Two flows that were sent one after the other, whatever was lost in between.

    @ivar step: from port to port.
    @ivar gap: how many flows the second was sent after the first.
    @ivar isPrompt: whether nothing was lost, so that C{step} is that of one allocation, and of
        others' traffic.
    """

    step: int
    gap: int
    isPrompt: bool

    @property
    def isRegular(self) -> bool:
        return 0 < abs(self.step) <= STEP_LIMIT * self.gap


def _pairs(volley: Sequence[Flow]) -> list[_Pair]:
    known = [(index, each, each.seen) for index, each in enumerate(volley) if each.seen is not None]
    return [
        _Pair(
            laterPort - port,
            later - index,
            later == index + 1 and flow.prompt and laterFlow.prompt,
        )
        for (index, flow, port), (later, laterFlow, laterPort) in pairwise(known)
    ]


def _step(steps: Sequence[int]) -> int | None:
    """
    @return: the smallest step in the direction that most go: what others take in between only
        makes steps larger.
    """
    up = [step for step in steps if step > 0]
    down = [step for step in steps if step < 0]
    if len(up) == len(down):
        return None
    return min(up) if len(up) > len(down) else max(down)
