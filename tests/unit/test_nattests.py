"""
Tests for L{p2ptwist.core.nattests}: what follows from which evidence.
"""

from __future__ import annotations

from itertools import product

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.address import HostPort
from p2ptwist.core.nat import NATBehavior, NATFiltering, NATMapping, PortAllocation
from p2ptwist.core.nattests.allocation import Flow, inferAllocation
from p2ptwist.core.nattests.filtering import Answer, FilteringEvidence
from p2ptwist.core.nattests.hairpinning import inferHairpinning
from p2ptwist.core.nattests.lifetime import HIGH, LOW, LifetimeSearch
from p2ptwist.core.nattests.mapping import inferMapping
from p2ptwist.core.nattests.memory import NATMemory
from p2ptwist.core.nattests.servers import TestServer, testServer

A1P1 = ("192.0.2.1", 3478)
A1P2 = ("192.0.2.1", 3479)
A2P1 = ("192.0.2.2", 3478)
A2P2 = ("192.0.2.2", 3479)
ELSEWHERE = ("198.51.100.3", 3478)
NAMES = {"a1p1": A1P1, "a1p2": A1P2, "a2p1": A2P1, "a2p2": A2P2, "elsewhere": ELSEWHERE}
ONE, TWO, THREE, FOUR = (("203.0.113.7", port) for port in (1001, 1002, 1003, 1004))

EI, AD, APD = NATMapping
FREE, BY_HOST, BY_PORT = NATFiltering


class ServerTests(SynchronousTestCase):
    """
    The addresses of a server.
    """

    def test_everything(self) -> None:
        """
        Two hosts and two ports are three more addresses.
        """
        server = testServer(A1P1, A2P2)
        self.assertTrue(server.hasAlternate and server.hostsDiffer and server.portsDiffer)
        self.assertEqual(set(server.alternates()), {A1P2, A2P1, A2P2})

    def test_less(self) -> None:
        """
        Another host or another port is one more address, and nothing is none.
        """
        for other in (A1P2, A2P1):
            server = testServer(A1P1, other)
            self.assertEqual(server.alternates(), (other,))
            self.assertNotEqual(server.hostsDiffer, server.portsDiffer)
        for none in (None, A1P1):
            self.assertEqual(testServer(A1P1, none).alternates(), ())
            self.assertFalse(testServer(A1P1, none).hasAlternate)

    def test_unusable(self) -> None:
        """
        A server cannot aim requests at groups, at this host, at services, or at another family.
        """
        for host, port in (
            ("224.0.0.1", 3479),
            ("0.0.0.0", 3479),
            ("255.255.255.255", 3479),
            ("127.0.0.1", 3479),
            ("169.254.169.254", 3479),
            ("192.0.2.2", 0),
            ("192.0.2.2", 53),
            ("2001:db8::1", 3479),
        ):
            self.assertFalse(testServer(A1P1, (host, port)).hasAlternate, host)
        self.assertTrue(testServer(("127.0.0.1", 3478), ("127.0.0.2", 3479)).hasAlternate)


class MappingTests(SynchronousTestCase):
    """
    What follows from where a port was seen.
    """

    def mapping(self, **seen: HostPort) -> NATMapping | None:
        """
        @param seen: by the short name of each address that answered.
        """
        return inferMapping({NAMES[each]: seen[each] for each in seen})

    def test_complete(self) -> None:
        """
        With four addresses that answer, everything is known.
        """
        for result, ports in (
            (EI, (ONE, ONE, ONE, ONE)),
            (AD, (ONE, ONE, TWO, TWO)),
            (APD, (ONE, TWO, THREE, FOUR)),
            (APD, (ONE, TWO, THREE, ONE)),
            # Where a port seems to make no difference, it did for another host.
            (APD, (ONE, ONE, TWO, THREE)),
            (APD, (ONE, TWO, ONE, ONE)),
        ):
            a1p1, a1p2, a2p1, a2p2 = ports
            self.assertIs(self.mapping(a1p1=a1p1, a1p2=a1p2, a2p1=a2p1, a2p2=a2p2), result)

    def test_everyCombination(self) -> None:
        """
        Whichever addresses of those four answer: what is told is right, and nothing is told
        without two addresses.
        """
        rules = {EI: lambda each: 1, AD: lambda each: each[0], APD: lambda each: each}
        names = ("a1p1", "a1p2", "a2p1", "a2p2")
        for (right, rule), answered in product(rules.items(), product((False, True), repeat=4)):
            chosen = [name for name, there in zip(names, answered, strict=True) if there]
            keys: list[object] = [rule(NAMES[name]) for name in chosen]
            seen = {
                name: ("203.0.113.7", 1 + keys.index(key))
                for name, key in zip(chosen, keys, strict=True)
            }
            self.assertIn(self.mapping(**seen), (None, right), chosen)
            if len(chosen) < 2:
                self.assertIsNone(self.mapping(**seen))
            if len(chosen) >= 3:
                self.assertIs(self.mapping(**seen), right, chosen)

    def test_oneHost(self) -> None:
        """
        Two ports of one host show dependence on the port, and nothing else.
        """
        self.assertIsNone(self.mapping(a1p1=ONE, a1p2=ONE))
        self.assertIs(self.mapping(a1p1=ONE, a1p2=TWO), APD)

    def test_severalServers(self) -> None:
        """
        Servers of one address each show independence, or that there is none, but not of what.
        """
        self.assertIs(self.mapping(a1p1=ONE, elsewhere=ONE), EI)
        self.assertIsNone(self.mapping(a1p1=ONE, elsewhere=TWO))
        self.assertIsNone(self.mapping(a1p1=ONE, a2p1=ONE, elsewhere=TWO))
        self.assertIs(self.mapping(a1p1=ONE, a1p2=ONE, elsewhere=TWO), AD)
        self.assertIs(self.mapping(a1p1=ONE, a1p2=TWO, elsewhere=THREE), APD)


class FilteringTests(SynchronousTestCase):
    """
    What follows from who could answer.
    """

    def filtering(
        self,
        fromOther: Answer,
        fromOtherPort: Answer,
        *,
        other: HostPort = A2P2,
        alive: tuple[HostPort, ...] = (A1P1, A1P2, A2P1, A2P2),
        rounds: int = 10,
        lost: int = 0,
        honoured: bool | None = True,
    ) -> NATFiltering | None:
        """
        @param alive: the addresses that answer when they are asked.
        """
        evidence = FilteringEvidence(
            TestServer(A1P1, other), fromOther, fromOtherPort, rounds, lost
        )
        return evidence.infer(alive, honoured)

    def test_complete(self) -> None:
        """
        The three results of RFC 5780 section 4.4.
        """
        for honoured in (True, None):
            self.assertIs(self.filtering(Answer.AS_ASKED, Answer.NONE, honoured=honoured), FREE)
            self.assertIs(self.filtering(Answer.AS_ASKED, Answer.AS_ASKED, honoured=honoured), FREE)
            self.assertIs(self.filtering(Answer.NONE, Answer.AS_ASKED, honoured=honoured), BY_HOST)
            self.assertIs(self.filtering(Answer.NONE, Answer.NONE, honoured=honoured), BY_PORT)

    def test_open(self) -> None:
        """
        An answer that comes needs no proof that it could.
        """
        open_ = self.filtering(Answer.AS_ASKED, Answer.NONE, alive=(), lost=10, honoured=False)
        self.assertIs(open_, FREE)

    def test_dead(self) -> None:
        """
        Silence of an address that never answers proves no filter.
        """
        self.assertIsNone(self.filtering(Answer.NONE, Answer.NONE, alive=(A1P1, A1P2)))
        self.assertIsNone(self.filtering(Answer.NONE, Answer.NONE, alive=(A1P1, A2P1, A2P2)))
        self.assertIsNone(self.filtering(Answer.NONE, Answer.AS_ASKED, alive=(A1P1, A1P2)))

    def test_lossy(self) -> None:
        """
        Silence proves nothing where plain requests get lost as often.
        """
        self.assertIs(self.filtering(Answer.NONE, Answer.NONE, lost=3), BY_PORT)
        self.assertIsNone(self.filtering(Answer.NONE, Answer.NONE, lost=4))
        self.assertIsNone(self.filtering(Answer.NONE, Answer.AS_ASKED, lost=10))
        self.assertIsNone(self.filtering(Answer.NONE, Answer.NONE, rounds=3))

    def test_unwilling(self) -> None:
        """
        A server that does not answer as it is asked proves nothing either.
        """
        for other, otherPort in (
            (Answer.OTHERWISE, Answer.OTHERWISE),
            (Answer.OTHERWISE, Answer.AS_ASKED),
            (Answer.NONE, Answer.OTHERWISE),
        ):
            self.assertIsNone(self.filtering(other, otherPort))
        for otherPort in Answer:
            self.assertIsNone(self.filtering(Answer.NONE, otherPort, honoured=False))

    def test_oneHost(self) -> None:
        """
        Two ports of one host show filtering by port, and nothing else.
        """
        self.assertIsNone(self.filtering(Answer.OTHERWISE, Answer.AS_ASKED, other=A1P2))
        self.assertIs(self.filtering(Answer.OTHERWISE, Answer.NONE, other=A1P2), BY_PORT)

    def test_onePort(self) -> None:
        """
        One port of two hosts shows that there is a filter, but not which.
        """
        self.assertIs(self.filtering(Answer.AS_ASKED, Answer.OTHERWISE, other=A2P1), FREE)
        self.assertIsNone(self.filtering(Answer.NONE, Answer.OTHERWISE, other=A2P1))


def volley(*seen: int | None, late: tuple[int, ...] = ()) -> list[Flow]:
    """
    @param seen: the external ports.
    @param late: which flows were answered only when they were asked again.
    @return: flows of local ports 50000, 50001, and so on.
    """
    return [Flow(50_000 + i, port, i not in late) for i, port in enumerate(seen)]


class AllocationTests(SynchronousTestCase):
    """
    What follows from the ports of new mappings.
    """

    def test_preserving(self) -> None:
        """
        The internal ports, but for the few that somebody else had already.
        """
        kept = list(range(50_000, 50_006))
        preserving = (PortAllocation.PRESERVING, None)
        self.assertEqual(inferAllocation(volley(*kept)), preserving)
        self.assertEqual(inferAllocation(volley(*kept[:3])), preserving)
        self.assertEqual(inferAllocation(volley(*kept[:4], 1234, None)), preserving)
        self.assertEqual(inferAllocation(volley(*kept[:2])), (None, None))

    def test_sequential(self) -> None:
        """
        Steps of one size, of either sign.
        """
        for step in (1, 2, 5, 10, -1, -3, -10):
            ports = [4000 + step * i for i in range(6)]
            self.assertEqual(
                inferAllocation(volley(*ports)), (PortAllocation.SEQUENTIAL, step), step
            )

    def test_background(self) -> None:
        """
        Others' mappings in between make single steps larger, even too large to count.
        """
        for ports, step in (
            ((4000, 4001, 4004, 4005, 4007, 4008), 1),
            ((4000, 4004, 4006, 4012, 4014, 4016), 2),
            ((4000, 4001, 4002, 4900, 4901, 4902), 1),
            ((4000, 3999, 3995, 3994, 3993, 3990), -1),
            ((65534, 65535, 1024, 1025, 1026, 1027), 1),
        ):
            self.assertEqual(inferAllocation(volley(*ports)), (PortAllocation.SEQUENTIAL, step))

    def test_lost(self) -> None:
        """
        What is lost leaves gaps, and takes its turn later; the step is that of those which were
        not.
        """
        sequential = PortAllocation.SEQUENTIAL
        self.assertEqual(
            inferAllocation(volley(4000, None, 4001, 4002, 4003, 4004)), (sequential, 1)
        )
        self.assertEqual(
            inferAllocation(volley(4005, 4000, 4001, 4002, 4003, 4004, late=(0,))), (sequential, 1)
        )
        self.assertEqual(
            inferAllocation(volley(4000, 4006, 4002, 4008, 4004, 4010, late=(1, 3, 5))),
            (sequential, None),
        )

    def test_reordered(self) -> None:
        """
        Flows that overtake one another do not turn the step round; as many up as down tell none.
        """
        self.assertEqual(
            inferAllocation(volley(4000, 4002, 4001, 4003, 4004, 4005)),
            (PortAllocation.SEQUENTIAL, 1),
        )
        self.assertEqual(
            inferAllocation(volley(4001, 4000, 4003, 4002, 4002 + 3)),
            (PortAllocation.SEQUENTIAL, None),
        )

    def test_random(self) -> None:
        """
        No rule, also where two ports happen to be neighbours.
        """
        self.assertEqual(
            inferAllocation(volley(4000, 61000, 12345, 30000, 2222, 55555)),
            (PortAllocation.RANDOM, None),
        )
        self.assertEqual(
            inferAllocation(volley(4000, 4003, 12345, 30000, 2222, 55555)),
            (PortAllocation.RANDOM, None),
        )

    def test_unclear(self) -> None:
        """
        Too few flows, or some of this and some of that, tell nothing.
        """
        for ports in (
            (),
            (4000, 61000, 12345),
            (4000, 4001, 4002),
            (4000, 4001, 4002, 9000, 20000, 61000),
            (None, None, None, None, 4000, 4001),
        ):
            self.assertEqual(inferAllocation(volley(*ports)), (None, None), ports)

    def test_further(self) -> None:
        """
        Several flows of one port add to the evidence.
        """
        further = [Flow(50_000, port) for port in (5000, 5001, 5002)]
        self.assertEqual(
            inferAllocation(volley(4000, 4001, 4002), further), (PortAllocation.SEQUENTIAL, 1)
        )

    @given(st.lists(st.integers(1024, 65535), min_size=0, max_size=8))
    def test_anything(self, ports: list[int]) -> None:
        """
        A step is told of sequential ports alone, and is within its bound.
        """
        allocation, step = inferAllocation(volley(*ports))
        if step is not None:
            self.assertIs(allocation, PortAllocation.SEQUENTIAL)
            self.assertTrue(0 < abs(step) <= 10)


class HairpinningTests(SynchronousTestCase):
    """
    What follows from what two ports heard of each other.
    """

    def test_everyCombination(self) -> None:
        """
        What is heard is there; silence tells only where no filter explains it.
        """
        for mapping, filtering in product((None, *NATMapping), (None, *NATFiltering)):
            self.assertIs(inferHairpinning(True, mapping, filtering), True)
            told = inferHairpinning(False, mapping, filtering)
            if mapping is EI or filtering is FREE:
                self.assertIs(told, False)
            else:
                self.assertIsNone(told)


class LifetimeTests(SynchronousTestCase):
    """
    The search for the lifetime.
    """

    def search(
        self, lifetime: float, low: float = LOW, high: float = HIGH
    ) -> tuple[LifetimeSearch, float]:
        """
        @return: the finished search, and the seconds that it took: each round as long as the
            shortest delay that no mapping survived.
        """
        search, seconds = LifetimeSearch(low, high), 0.0
        while delays := search.delays():
            self.assertEqual(delays, tuple(sorted(set(delays))))
            self.assertLessEqual(len(delays), 5)
            dead = [delay for delay in delays if delay >= lifetime]
            seconds += min(dead, default=delays[-1])
            search.report({delay: delay < lifetime for delay in delays})
        return search, seconds

    def test_everyLifetime(self) -> None:
        """
        What is told is at most the lifetime, and at least nine tenths of it.
        """
        for lifetime in (5.5, 10.0, 15.0, 20.0, 29.0, 30.0, 31.0, 60.0, 61.0, 119.0):
            search, seconds = self.search(lifetime)
            assert search.alive is not None
            self.assertTrue(0.9 * lifetime <= search.alive < lifetime, (lifetime, search.alive))
            self.assertLess(seconds, 4.5 * lifetime + 10)

    def test_bounds(self) -> None:
        """
        Longer than the upper bound is as good as the upper bound; shorter than the lower one is
        not known.
        """
        search, seconds = self.search(1000.0)
        self.assertEqual((search.alive, search.dead, seconds), (HIGH, None, HIGH))
        search, _ = self.search(1.0)
        self.assertEqual((search.alive, search.dead), (None, LOW))

    def test_unknown(self) -> None:
        """
        A round that tells nothing is the last one; one that tells something is not.
        """
        search = LifetimeSearch()
        search.report(dict.fromkeys(search.delays()))
        self.assertEqual((search.delays(), search.alive, search.dead), ((), None, None))
        search = LifetimeSearch(10.0, 40.0)
        first = search.delays()
        search.report({first[0]: None, first[1]: None, first[2]: False, first[3]: False})
        self.assertIn(10.0, search.delays())
        self.assertNotIn(40.0, search.delays())

    def test_upper(self) -> None:
        """
        Where nothing died, what is longer is tried.
        """
        search = LifetimeSearch(10.0, 40.0)
        search.report({10.0: True, 40.0: None})
        delays = search.delays()
        self.assertEqual((delays[-1], len(delays)), (40.0, 4))

    def test_contradiction(self) -> None:
        """
        Where a shorter silence was fatal and a longer one was not, only less than both counts.
        """
        search = LifetimeSearch(10.0, 40.0)
        search.report({10.0: True, 20.0: False, 30.0: True})
        self.assertEqual((search.alive, search.dead, search.delays()), (10.0, 20.0, ()))


class MemoryTests(SynchronousTestCase):
    """
    What is remembered of networks.
    """

    def test_perNetwork(self) -> None:
        """
        Each network has its own, and one that was never seen has nothing.
        """
        memory = NATMemory()
        memory.remember("home", NATBehavior(EI, BY_PORT))
        memory.remember("work", NATBehavior(APD, BY_PORT))
        self.assertEqual(memory.recall("home"), NATBehavior(EI, BY_PORT))
        self.assertEqual(memory.recall("work"), NATBehavior(APD, BY_PORT))
        self.assertEqual(memory.recall("street"), NATBehavior())

    def test_merged(self) -> None:
        """
        What is found out anew replaces what was known, and what is not leaves it; a step belongs
        to its allocation.
        """
        memory = NATMemory()
        first = NATBehavior(APD, BY_PORT, PortAllocation.SEQUENTIAL, 2, False, EI, 30.0)
        self.assertEqual(memory.remember("home", first), first)
        self.assertEqual(memory.remember("home", NATBehavior()), first)
        again = memory.remember("home", NATBehavior(mapping=AD, allocation=PortAllocation.RANDOM))
        expected = NATBehavior(AD, BY_PORT, PortAllocation.RANDOM, None, False, EI, 30.0)
        self.assertEqual(again, expected)
        self.assertEqual(memory.recall("home"), expected)

    def test_bounded(self) -> None:
        """
        The network that was measured longest ago makes room.
        """
        memory = NATMemory()
        for number in range(16):
            memory.remember(number, NATBehavior(EI))
        memory.remember(0, NATBehavior(AD))
        memory.remember("new", NATBehavior(EI))
        self.assertEqual(memory.recall(0), NATBehavior(AD))
        self.assertEqual(memory.recall(1), NATBehavior())
        self.assertEqual(memory.recall("new"), NATBehavior(EI))
