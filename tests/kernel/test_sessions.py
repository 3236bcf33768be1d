"""
Sessions of real peers, whose NATs forget and change and whose node is killed: nothing is lost, and
the silence is short.

C{P2PTWIST_SESSION_TRANSFERS} says how many transfers to make, C{P2PTWIST_SESSION_TRANSFER_BYTES}
how much each moves.
"""

from __future__ import annotations

import os
import time
from typing import Any

from twisted.trial import unittest

from tests.kernel.lab.peers import CALL, START
from tests.kernel.lab.process import Program
from tests.kernel.lab.streams import CHANGES, Streams, longestGap, streams, waitForWord

TRANSFERS = int(os.environ.get("P2PTWIST_SESSION_TRANSFERS", "1"))
TRANSFER_BYTES = int(os.environ.get("P2PTWIST_SESSION_TRANSFER_BYTES", "200000000"))
# How long a silence may last when a NAT changes, in seconds.
_GAP = 1.0
# How long a relayed stream may take to go on once the node is back, in seconds.
_BACK = 5.0
# How long the world is left alone after a change, in seconds: until the path is direct again.
_SETTLE = 8.0
# Seconds of talk before the first change and after the last.
_LEAD = 2.0
# A machine that is busy with something else for half a second is measured once more.
_TRIES = 3
# How long a transfer may take, in seconds.
_TRANSFER = 300.0


def _talked(talk: Program, listener: Program) -> tuple[dict[str, Any], dict[str, Any]]:
    """
    @return: what came back to the caller, and what came to the other side.
    """
    here = waitForWord(talk, lambda word: "times" in word, START + CALL)
    there = waitForWord(listener, lambda word: "times" in word, CALL)
    return here, there


def _changed(near: bool) -> tuple[dict[str, tuple[float, float]], bool]:
    """
    Talk while one side's NAT changes in three ways.

    @param near: whether it is the NAT of the side that calls.
    @return: for each change the longest silence of the echoes and of what the other side heard, and
        whether all came once and in order.
    """
    seconds = 2 * _LEAD + len(CHANGES) * _SETTLE
    with streams() as peers:
        talk = peers.start("talk", int(seconds * 10))
        time.sleep(_LEAD)
        changes: dict[str, float] = {}
        for name, change in CHANGES.items():
            changes[name] = time.monotonic()
            change(peers.near if near else peers.far)
            time.sleep(_SETTLE)
        here, there = _talked(talk, peers.callee)
    gaps = {}
    for name, at in changes.items():
        sides = [longestGap(side["times"], at, at + _SETTLE) for side in (here, there)]
        gaps[name] = (sides[0], sides[1])
    return gaps, here["count"] == there["count"] == int(seconds * 10)


def _transferred(near: bool) -> tuple[str, str, list[int]]:
    """
    Send much while one side's NAT changes in three ways.

    @return: both digests, and how much had come at each change.
    """
    with streams() as peers:
        bulk = peers.start("bulk", TRANSFER_BYTES)
        reached = []
        for number, change in enumerate(CHANGES.values(), 1):
            goal = TRANSFER_BYTES * number // (len(CHANGES) + 1)
            reached.append(_received(peers.callee, goal))
            change(peers.near if near else peers.far)
        sent = waitForWord(bulk, lambda word: "sha256" in word, _TRANSFER)
        came = waitForWord(peers.callee, lambda word: "sha256" in word, CALL)
    return sent["sha256"], came["sha256"], reached


def _received(listener: Program, goal: int) -> int:
    """
    Wait until so many bytes have come.

    @return: how many it were when that was seen.
    """
    word = waitForWord(listener, lambda word: word.get("received", 0) >= goal, _TRANSFER)
    count: int = word["received"]
    return count


class ChangeTests(unittest.SynchronousTestCase):
    """
    The NAT of one side forgets every flow, then gives out other ports, then has another address.
    """

    def test_gaps(self) -> None:
        """
        A number every 100 ms is echoed: on neither side is there a longer silence than a second,
        whichever NAT changes, and none is lost.
        """
        for near in (True, False):
            for attempt in range(_TRIES):
                gaps, whole = _changed(near)
                self.assertTrue(whole)
                worst = max(max(sides) for sides in gaps.values())
                if worst <= _GAP or attempt == _TRIES - 1:
                    break
            self.assertLessEqual(worst, _GAP, str(gaps))

    def test_transfers(self) -> None:
        """
        What is sent meanwhile arrives whole.
        """
        for number in range(TRANSFERS):
            sent, came, reached = _transferred(near=number % 2 == 0)
            self.assertEqual(sent, came, f"transfer {number}, changes at {reached}")


class NodeTests(unittest.SynchronousTestCase):
    """
    The node is killed, and started again.
    """

    def test_direct(self) -> None:
        """
        A direct stream does not notice: on neither side is there a longer silence than a second.
        A machine that is busy with something else may make one of its own: then it is tried once
        more, up to three times.  What is lost has no such excuse.
        """
        for _ in range(_TRIES):
            gap, whole = _direct()
            self.assertTrue(whole)
            if gap <= _GAP:
                break
        self.assertLessEqual(gap, _GAP)

    def test_relayed(self) -> None:
        """
        A relayed one goes on soon after the node is back, and nothing is lost.  It is measured as
        often as a direct one.
        """
        for _ in range(_TRIES):
            pause, whole = _relayed()
            self.assertTrue(whole)
            if pause <= _BACK:
                break
        self.assertLessEqual(pause, _BACK)


def _direct() -> tuple[float, bool]:
    with streams() as peers:
        at, _, (here, there) = _restarted(peers, "direct")
    gaps = [longestGap(side["times"], at, at + 60.0) for side in (here, there)]
    return max(gaps), here["count"] == there["count"] == _RESTARTED


def _relayed() -> tuple[float, bool]:
    with streams(udp=False) as peers:
        _, back, (here, there) = _restarted(peers, "relayed")
    pause = min(time for time in here["times"] if time > back) - back
    return pause, here["count"] == there["count"] == _RESTARTED


# Numbers that are said meanwhile.
_RESTARTED = 200


def _restarted(
    peers: Streams, kind: str
) -> tuple[float, float, tuple[dict[str, Any], dict[str, Any]]]:
    """
    @return: when the node was killed, when it was back, and what came on both sides.
    """
    talk = peers.start("talk", _RESTARTED, kind=kind)
    time.sleep(_LEAD)
    at = time.monotonic()
    back = peers.restartNode(3.0)
    return at, back, _talked(talk, peers.callee)
