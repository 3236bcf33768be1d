"""
Sessions through real NATs that ordinary checks do not meet through.

Whether one is direct is judged by what crosses the links of the sites, not by a peer's word alone.
L{benchmarks.matrix} tries many more.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from dataclasses import dataclass

from twisted.trial import unittest

from p2ptwist.core.ladder.budget import SECOND_LIMIT
from tests.hardpairs import HOME, RANDOM, ROWS, Pair
from tests.kernel.lab.capture import Capture, mostWithin
from tests.kernel.lab.hardpairs import LIMIT, Meeting, Try, tryAll
from tests.kernel.lab.laboratory import Laboratory
from tests.kernel.lab.once import once
from tests.kernel.lab.peers import LINKS, startNode

_PREDICTED = (
    "sequential, steady calls",
    "busy sequential, steady is called",
    "two sequential",
    "two busy sequential",
)
_SPRAYED = ("by address, steady is called", "hashed, steady calls", "random, steady calls")
_PLAIN = ("two double", "inner mapping")
_ACCEPTING = (
    "address-and-port-dependent filtering, preserving ports, accepting",
    "sequential, steady is called, accepting",
    "random, steady is called, accepting",
    "two sequential, accepting",
    "two double, accepting",
)
_RELAYED, _OVER_TCP = "two random", ("two random, steady TCP", "no UDP at all, accepting")
_NAMES = (*_PREDICTED, *_SPRAYED, *_PLAIN, *_ACCEPTING, _RELAYED, *_OVER_TCP)
# Seconds after the end of a ladder in which sessions look again by ordinary checks.
_AFTER = 10
_END = round(LIMIT) + _AFTER
# Seconds in which what is allowed in one second may leave, and no more: by the clock of the program
# it is one, and the first packet of a burst may be later on its way than the next burst's.
_AT_ONCE = 0.9
_TRIES = 3
_SILENCE = 5  # packets a second from site to site that are no more than a few ordinary checks


@once
def _outcomes() -> dict[str, Try]:
    """
    @return: what came of each pair.  Those that were not direct are tried once more: a spray finds
        no port in one of fifty cases.
    """
    every = {pair.name: pair for row in ROWS for pair in row.pairs}
    found: dict[str, Try] = {}
    _tryThese([every[name] for name in _NAMES], found)
    late = [name for name in _NAMES if name != _RELAYED and not found[name].direct]
    if late:
        _tryThese([every[name] for name in late], found)
    return found


def _tryThese(pairs: list[Pair], found: dict[str, Try]) -> None:
    for pair, tries in zip(pairs, tryAll(pairs), strict=True):
        found[pair.name] = tries[0]


class HardTests(unittest.SynchronousTestCase):
    """
    Direct although the NATs deny it.
    """

    def assertDirect(self, name: str, transport: str = "udp") -> None:
        """
        Assert that the session became direct in time, and that what it carried did not pass the
        node.
        """
        outcome = _outcomes()[name]
        self.assertTrue(outcome.direct, f"{name}: {outcome}")
        self.assertEqual(outcome.transport, transport, f"{name}: {outcome}")

    def test_predicted(self) -> None:
        """
        Ports that are counted up are foretold, on one side and on both, also while others behind
        the same NAT take some.
        """
        for name in _PREDICTED:
            self.assertDirect(name)

    def test_sprayed(self) -> None:
        """
        Random ports of one side are found by trying.
        """
        for name in _SPRAYED:
            self.assertDirect(name)

    def test_plain(self) -> None:
        """
        Two routers on each side, and two homes of one carrier whose own routers map ports, though
        that of the carrier sends nothing back inside.
        """
        for name in _PLAIN:
            self.assertDirect(name)

    def test_accepting(self) -> None:
        """
        Routers that take uninvited packets for their own do no harm.
        """
        for name in _ACCEPTING:
            self.assertDirect(name)

    def test_relayed(self) -> None:
        """
        Two symmetric NATs with random ports stay relayed, and the reason names both.
        """
        outcome = _outcomes()[_RELAYED]
        self.assertFalse(outcome.direct)
        self.assertEqual(outcome.crossed, 0)
        assert outcome.reason is not None
        behavior = "address-and-port-dependent mapping"
        self.assertIn(f"this side's NAT has {behavior}", outcome.reason)
        self.assertIn(f"the other side's has {behavior}", outcome.reason)

    def test_overTCP(self) -> None:
        """
        Where UDP finds no way, or does not pass, TCP does, if the NATs keep its ports.
        """
        for name in _OVER_TCP:
            self.assertDirect(name, "tcp")

    def test_relayedAtOnce(self) -> None:
        """
        However long a direct path takes, the session is of use before.
        """
        for name in (*_SPRAYED, *_OVER_TCP):
            outcome = _outcomes()[name]
            self.assertLess(outcome.echo, outcome.seconds, name)


@dataclass(frozen=True, slots=True)
class _Apart:
    """
    What came of a session between sites that hear nothing of each other.

    @ivar sent: when a packet left each site for the other one, in seconds from the call on.
    @ivar watched: whom both hosts sent to.
    @ivar allowed: whom each may send to.
    """

    sent: tuple[list[float], list[float]]
    watched: tuple[set[str], set[str]]
    allowed: tuple[set[str], set[str]]

    @property
    def most(self) -> tuple[int, int]:
        """
        The most that left each site at once.
        """
        near, far = (mostWithin(times, _AT_ONCE) for times in self.sent)
        return near, far

    def seconds(self, since: int) -> list[int]:
        """
        @return: for each second from C{since} on, how many left the site that sent more.
        """
        counts = [Counter(map(math.floor, times)) for times in self.sent]
        return [max(each[second] for each in counts) for second in range(since, _END)]


@once
def _apart() -> _Apart:
    """
    @return: what every strategy did in vain, once more when a program was held up while it sent.
    """
    for _ in range(_TRIES):
        outcome = _tryApart()
        if max(outcome.most) <= SECOND_LIMIT:
            break
    return outcome


def _tryApart() -> _Apart:
    with Laboratory() as laboratory:
        node = laboratory.publicHost("node")
        startNode(node)
        meeting = Meeting(laboratory, Pair("apart", (HOME,), (RANDOM,)), 0)
        meeting.keepApart()
        address = f"{node.addresses[0]}:{LINKS}"
        meeting.listen(address)
        meeting.join(address)
        meeting.watch()
        here, there = meeting.routers
        captures = Capture(here, there), Capture(there, here)
        meeting.call()
        since = time.time()
        time.sleep(_END)
        sent = [[at - since for at in capture.end()] for capture in captures]
        near, far = meeting.near, meeting.far
        # The node, the own router and where UPnP asks for one, the own outer address, and the
        # other side's candidates.
        allowed = {*node.addresses[:2], "239.255.255.250", here.external, there.external}
        return _Apart(
            (sent[0], sent[1]),
            meeting.watched(),
            (
                allowed | {_gateway(near.addresses[0]), far.addresses[0]},
                allowed | {_gateway(far.addresses[0]), near.addresses[0]},
            ),
        )


def _gateway(host: str) -> str:
    return f"{host.rpartition('.')[0]}.1"


class ModestyTests(unittest.SynchronousTestCase):
    """
    A ladder that comes to nothing.
    """

    def test_addresses(self) -> None:
        """
        Nothing is sent to anybody whom the other side did not name.
        """
        outcome = _apart()
        for watched, allowed in zip(outcome.watched, outcome.allowed, strict=True):
            self.assertEqual(watched - allowed, set())

    def test_rate(self) -> None:
        """
        The sprays are there, and slow.  A machine that is busy with something else may hold a
        program up between its look at the clock and the packet, so that two seconds' worth leaves
        in one: then all is tried once more, up to three times.  What leaves in the whole time has
        no such excuse.
        """
        outcome = _apart()
        for most, times in zip(outcome.most, outcome.sent, strict=True):
            self.assertGreater(most, SECOND_LIMIT / 2)
            self.assertLessEqual(most, SECOND_LIMIT)
            self.assertLessEqual(len(times), SECOND_LIMIT * LIMIT)

    def test_quiet(self) -> None:
        """
        After twenty seconds there are just a few ordinary checks now and then.
        """
        after = _apart().seconds(since=round(LIMIT) + 1)
        self.assertLess(max(after), 2 * _SILENCE, after)
        self.assertLess(sum(after), _SILENCE * len(after) / 2, after)
