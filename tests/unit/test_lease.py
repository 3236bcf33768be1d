"""
Tests for L{p2ptwist.net.lease}, with mappers that do as they are told.
"""

from __future__ import annotations

from random import Random

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from p2ptwist.core.portmapping.grant import Grant, MappingRequest
from p2ptwist.errors import PortMapperSilent, PortMappingRefused
from p2ptwist.interfaces import IPortMapper
from p2ptwist.net.lease import GRACE, LIMIT, RETRY, STAGGER, Lease

GATEWAY = "192.168.1.1"
PUBLIC, PRIVATE = "11.0.0.1", "10.0.0.1"
WANTED = MappingRequest("udp", "192.168.1.2", 5000, 5000, 3600.0, bytes(12))


@implementer(IPortMapper)
class Puppet:
    """
    A mapper whose answers are given by the test.
    """

    restarted = None

    def __init__(self, name: str) -> None:
        self.name = name
        self.gateway = GATEWAY
        self.asked: list[tuple[MappingRequest, Deferred[Grant]]] = []
        self.released: list[Grant] = []
        self.refusesRelease = False

    def request(self, wanted: MappingRequest) -> Deferred[Grant]:
        """
        Wait for the test.
        """
        self.asked.append((wanted, Deferred()))
        return self.asked[-1][1]

    def release(self, grant: Grant) -> Deferred[None]:
        """
        Remember it.
        """
        self.released.append(grant)
        if self.refusesRelease:
            refused: Deferred[None] = Deferred()
            refused.errback(PortMappingRefused("no", 2, "NOT_AUTHORIZED"))
            return refused
        return succeed(None)

    def check(self) -> Deferred[None]:
        """
        Nothing to do.
        """
        return succeed(None)

    def stop(self) -> Deferred[None]:
        """
        Nothing to do.
        """
        return succeed(None)

    def grant(self, host: str = PUBLIC, port: int = 5000, lifetime: float = 3600.0) -> Grant:
        """
        Answer the last request.
        """
        wanted, waiting = self.asked[-1]
        granted = Grant(self.name, wanted, (host, port), lifetime, GATEWAY)
        waiting.callback(granted)
        return granted

    def fail(self, error: Exception | None = None) -> None:
        """
        Answer the last request.
        """
        self.asked[-1][1].errback(error or PortMapperSilent("silence"))


class LeaseCase(SynchronousTestCase):
    """
    A lease with three mappers.
    """

    def setUp(self) -> None:
        """
        All are asked, one shortly after the other.
        """
        self.clock = Clock()
        self.best, self.second, self.third = (Puppet(name) for name in ("pcp", "nat-pmp", "upnp"))
        self.mappers = [self.best, self.second, self.third]
        self.changes: list[object] = []
        self.answers: list[tuple[str, bool]] = []
        self.lease = Lease(
            self.clock,
            self.mappers,
            WANTED,
            Random(1),
            lambda: self.changes.append(self.external()),
            self.answered,
        )
        self.lease.ask()

    def answered(self, mapper: IPortMapper, result: Grant | Failure) -> None:
        """
        Remember who granted and who did not.
        """
        self.answers.append((mapper.name, isinstance(result, Grant)))

    def external(self) -> object:
        """
        @return: the external address that is held.
        """
        return None if self.lease.held is None else self.lease.held.grant.external

    def stagger(self) -> None:
        """
        Let all be asked.
        """
        self.clock.pump([STAGGER, STAGGER])

    def asked(self) -> list[int]:
        """
        @return: how often each mapper was asked.
        """
        return [len(each.asked) for each in self.mappers]


class ChoiceTests(LeaseCase):
    """
    Which grant is kept.
    """

    def test_puppet(self) -> None:
        """
        A puppet is a mapper.
        """
        verifyObject(IPortMapper, self.best)

    def test_stagger(self) -> None:
        """
        Each protocol has a moment before the next; one that fails makes place at once.
        """
        self.assertEqual(self.asked(), [1, 0, 0])
        self.clock.advance(STAGGER)
        self.assertEqual(self.asked(), [1, 1, 0])
        self.second.fail()
        self.assertEqual(self.asked(), [1, 1, 1])
        self.assertEqual(self.changes, [])

    def test_bestFirst(self) -> None:
        """
        When the best grants a public address, nobody else is waited for or asked.
        """
        self.clock.advance(STAGGER)
        self.best.grant()
        self.clock.advance(LIMIT)
        self.assertEqual(self.asked(), [1, 1, 0])
        self.assertFalse(self.lease.asking)
        self.assertEqual(self.changes[0], (PUBLIC, 5000))
        self.assertEqual(self.answers, [("pcp", True)])

    def test_lateAndBetter(self) -> None:
        """
        A better protocol that answers late replaces, and the other mapping is released; then the
        one that is kept is asked for again, as a router with one table may have deleted both.
        """
        self.stagger()
        loser = self.third.grant(port=7000)
        self.assertEqual(self.external(), (PUBLIC, 7000))
        self.second.grant(port=6000)
        self.assertEqual(self.external(), (PUBLIC, 6000))
        self.assertEqual(self.third.released, [loser])
        self.assertEqual(self.asked(), [1, 2, 1])
        wanted, _ = self.second.asked[-1]
        self.assertEqual((wanted.externalHost, wanted.externalPort), (PUBLIC, 6000))
        self.second.grant(port=6000)
        self.best.fail()
        self.assertFalse(self.lease.asking)
        self.assertEqual(self.external(), (PUBLIC, 6000))

    def test_lateAndWorse(self) -> None:
        """
        A worse one is released at once.
        """
        self.stagger()
        self.best.grant(PRIVATE, 5000)
        loser = self.third.grant(PRIVATE, 7000)
        self.assertEqual(self.third.released, [loser])
        self.assertEqual(self.external(), (PRIVATE, 5000))

    def test_public(self) -> None:
        """
        A public address is better than a private one, of whatever protocol.
        """
        self.stagger()
        loser = self.best.grant(PRIVATE, 5000)
        self.third.grant(PUBLIC, 5001)
        self.assertEqual(self.external(), (PUBLIC, 5001))
        self.assertEqual(self.best.released, [loser])

    def test_same(self) -> None:
        """
        The same external address is the same mapping, which nobody releases.
        """
        self.stagger()
        self.third.grant()
        self.second.grant()
        self.assertEqual(self.changes, [(PUBLIC, 5000)])
        self.assertEqual(self.third.released, [])

    def test_limit(self) -> None:
        """
        Whatever mappers do, all is over after three seconds.
        """
        self.clock.pump([STAGGER, STAGGER, LIMIT])
        self.assertEqual(self.changes, [None])
        self.assertFalse(self.lease.asking)
        self.assertEqual(self.answers, [(each.name, False) for each in self.mappers])
        assert self.lease.failure is not None
        self.assertTrue(self.lease.failure.check(PortMapperSilent))

    def test_broken(self) -> None:
        """
        A mapper that has a bug is one that has nothing; the reason that is kept is the refusal of
        another.
        """
        self.stagger()
        self.best.fail(ZeroDivisionError())
        self.second.fail(PortMappingRefused("no", 2, "NOT_AUTHORIZED"))
        self.third.fail()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        assert self.lease.failure is not None
        self.assertTrue(self.lease.failure.check(PortMappingRefused))


class LifeTests(LeaseCase):
    """
    What comes after the first grant.
    """

    def test_renewalFails(self) -> None:
        """
        When the one that made the mapping fails to renew it, all are asked; another may take over.
        """
        self.best.grant()
        self.clock.advance(1800)
        self.assertEqual(self.asked(), [2, 0, 0])
        self.best.fail()
        self.assertEqual(self.asked(), [3, 0, 0])
        self.best.fail()
        self.assertEqual(self.asked(), [3, 1, 0])
        self.second.grant()
        self.assertEqual(self.changes, [(PUBLIC, 5000)] * 3)
        assert self.lease.held is not None
        self.assertIs(self.lease.held.mapper, self.second)

    def test_retries(self) -> None:
        """
        Without a mapping, all are asked again, later and later, half an hour apart at last.
        """
        times = []
        for _ in range(5):
            for each in self.mappers:
                each.fail()
            before = self.clock.seconds()
            count = len(self.best.asked)
            while len(self.best.asked) == count:
                self.clock.advance(1)
            times.append(self.clock.seconds() - before)
        self.assertEqual(times, [RETRY, RETRY * 4, RETRY * 16, 1800.0, 1800.0])

    def test_lowPort(self) -> None:
        """
        A port of the system that a router gave out is not asked for.
        """
        self.best.grant(port=80)
        self.clock.advance(1800)
        wanted, _ = self.best.asked[-1]
        self.assertEqual((wanted.externalPort, wanted.externalHost), (5000, None))

    def test_redo(self) -> None:
        """
        A router that has restarted is asked anew within a second; one that says so all the time,
        each ten seconds.
        """
        self.best.grant()
        self.lease.redo()
        self.clock.advance(1.0)
        self.assertEqual(self.asked(), [2, 0, 0])
        self.best.grant()
        self.lease.redo()
        self.clock.advance(5.0)
        self.assertEqual(self.asked(), [2, 0, 0])
        self.clock.advance(5.0)
        self.lease.redo()
        self.clock.advance(1.0)
        self.assertEqual(self.asked(), [3, 0, 0])

    def test_redoInVain(self) -> None:
        """
        After a restart that nobody grants anything after, there is no mapping.
        """
        self.best.grant()
        self.lease.redo()
        self.clock.advance(1.0)
        for each in self.mappers:
            each.fail()
        self.assertIsNone(self.external())

    def test_late(self) -> None:
        """
        What is granted after everything was asked anew is nothing.
        """
        _, first = self.best.asked[0]
        first.addErrback(lambda _: None)
        self.lease.ask()
        self.assertEqual(self.asked(), [2, 0, 0])
        self.best.grant(port=6000)
        self.assertEqual(self.external(), (PUBLIC, 6000))


class ReleaseTests(LeaseCase):
    """
    Taking back.
    """

    def test_held(self) -> None:
        """
        What is held is released, and nothing else happens.
        """
        granted = self.best.grant()
        self.successResultOf(self.lease.release())
        self.assertEqual(self.best.released, [granted])
        self.assertEqual(self.second.released + self.third.released, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_over(self) -> None:
        """
        A lease that is released asks no more, whatever it is told.
        """
        self.best.grant()
        self.lease.redo()
        self.successResultOf(self.lease.release())
        self.lease.ask()
        self.lease.redo()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.asked(), [1, 0, 0])

    def test_byAnother(self) -> None:
        """
        What its own protocol may not release, another does.
        """
        granted = self.best.grant()
        self.best.refusesRelease = self.second.refusesRelease = True
        self.successResultOf(self.lease.release())
        for each in self.mappers:
            self.assertEqual(each.released, [granted])

    def test_underWay(self) -> None:
        """
        What is granted in the moment of release is released.
        """
        released = self.lease.release()
        self.assertNoResult(released)
        granted = self.best.grant()
        self.successResultOf(released)
        self.assertEqual(self.best.released, [granted])

    def test_tooLate(self) -> None:
        """
        It is not waited for longer than for a moment.
        """
        released = self.lease.release()
        self.clock.advance(GRACE)
        self.successResultOf(released)
        self.assertEqual(self.clock.getDelayedCalls(), [])
