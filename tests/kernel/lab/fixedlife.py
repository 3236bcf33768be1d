"""
Sessions of real peers behind NATs that forget every mapping after a while, however much it is used.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from p2ptwist.testing.nat import NAT
from tests.kernel.lab.peers import CALL, START
from tests.kernel.lab.process import Program
from tests.kernel.lab.streams import Streams, longestGap, streams, waitForWord, words

INTERVAL = 0.1  # seconds from one number to the next


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    What came of one session.

    @ivar whole: whether all numbers came back, once and in order.
    @ivar life: seconds that mappings were found to last; C{None} when that was not found out.
    @ivar losses: seconds after the beginning at which the session went to the relay.
    @ivar before: the longest silence until it had gone there for the last time, on either side.
    @ivar settled: seconds after the beginning from which on it was direct.
    @ivar after: the longest silence from then on, on either side.
    @ivar ages: how old each path was when the next one followed, from then on.
    """

    whole: bool
    life: float | None
    losses: Sequence[float]
    before: float
    settled: float
    after: float
    ages: Sequence[float]


def talkAll(pairs: Sequence[tuple[NAT, NAT]], seconds: float) -> list[Outcome]:
    """
    Say a number every 100 ms for so long, in one session for each pair of routers, all at the same
    time.

    @param pairs: the router of the side that calls, and that of the other.
    """
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(streams(near=near, far=far)) for near, far in pairs]
        talks = [each.start("talk", round(seconds / INTERVAL)) for each in peers]
        time.sleep(seconds)
        return [_outcome(each, talk) for each, talk in zip(peers, talks, strict=True)]


def _outcome(peers: Streams, talk: Program) -> Outcome:
    here: dict[str, Any] = waitForWord(talk, lambda word: "times" in word, START + CALL)
    there: dict[str, Any] = waitForWord(peers.callee, lambda word: "times" in word, CALL)
    life = waitForWord(talk, lambda word: "life" in word, CALL)["life"]
    times: list[float] = here["times"]
    began, ended = times[0], times[-1]
    moves = [word for word in words(talk) if "kind" in word and word["at"] < ended]
    losses = [word["at"] for word in moves if word["kind"] == "relayed"]
    last = max(losses, default=began)
    paths = [word["at"] for word in moves if word["transport"] == "udp" and word["at"] > last]
    settled = min(paths, default=ended)

    def silence(since: float, until: float) -> float:
        return max(longestGap(side["times"], since, until) for side in (here, there))

    return Outcome(
        whole=here["count"] == there["count"],
        life=life,
        losses=[at - began for at in losses],
        before=silence(began, settled),
        settled=settled - began,
        # The silence that ended by the session's being direct again is one of the relay's.
        after=silence(settled + INTERVAL, ended),
        ages=[later - at for at, later in pairwise((*paths, ended))],
    )
