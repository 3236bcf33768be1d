"""
L{p2ptwist.net.localcandidates} on the simulated Internet.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.address import HostPort
from p2ptwist.core.errors import LocalUsageError
from p2ptwist.core.ice.candidate import CandidateType
from p2ptwist.core.nat import NATFiltering, NATMapping
from p2ptwist.errors import STUNTimeout
from p2ptwist.net.datagramport import DatagramPort
from p2ptwist.net.localcandidates import (
    HOST_LIMIT,
    REFRESH_BUSY,
    REFRESH_IDLE,
    REFRESH_LEAST,
    REFRESH_SHARED,
    LocalCandidates,
)
from p2ptwist.net.stunserver import STUNService
from p2ptwist.testing import NAT, Filtering, Host, Internet, Link, Mapping

SERVER: HostPort = ("192.0.2.1", 3478)
ALTERNATE: HostPort = ("192.0.2.2", 3479)
SECOND: HostPort = ("192.0.2.3", 3478)
SILENT: HostPort = ("192.0.2.99", 3478)
EXTERNAL = "203.0.113.7"


class World:
    """
    Two STUN servers, and a port on a host that may be behind a NAT.

    @ivar changes: how often observers were told.
    """

    def __init__(self, test: SynchronousTestCase, nat: NAT | None = None) -> None:
        self.internet = Internet(seed=11)
        self.internet.showOnFailure(test)
        node = self.internet.host("node", SERVER[0], ALTERNATE[0])
        second = self.internet.host("second", SECOND[0])
        services = [STUNService(node, SERVER, ALTERNATE), STUNService(second, SECOND)]
        for service in services:
            service.startService()
        self.servers = services
        link = Link(latency=0.02)
        if nat is None:
            self.host: Host = self.internet.host("host", "198.51.100.1", link=link)
        else:
            router = self.internet.router("home", EXTERNAL, nat=nat, link=link)
            self.host = router.host("host")
        self.changes = 0
        self.paths: tuple[HostPort | None, ...] = ()
        self.port = DatagramPort(self.host)
        self.port.listen()
        self.local = self.make(self.port)

    def make(self, port: DatagramPort, addresses: Sequence[str] | None = None) -> LocalCandidates:
        """
        @param addresses: what the host says that it has; the truth when left out.
        """
        local = LocalCandidates(
            self.host,
            port,
            self.host.hostAddresses if addresses is None else lambda: addresses,
            Random(1),
            lambda: self.paths,
        )
        local.observe(self.changed)
        return local

    def changed(self) -> None:
        """
        Count.
        """
        self.changes += 1

    def gather(self, *servers: HostPort) -> list[Failure]:
        """
        Gather, and wait for it.
        """
        return self.internet.runUntil(self.local.gather(servers))

    def found(self, kind: CandidateType) -> list[HostPort]:
        """
        @return: the addresses of the candidates of that kind.
        """
        return [each.address for each in self.local.candidates() if each.type is kind]

    @property
    def reflexive(self) -> list[HostPort]:
        """
        The server-reflexive ones.
        """
        return self.found(CandidateType.SERVER_REFLEXIVE)

    def programCalls(self) -> list[object]:
        """
        @return: what the host has still to do.
        """
        return list(self.host.getDelayedCalls())

    def close(self) -> None:
        """
        Stop, and see that nothing is left.
        """
        self.internet.runUntil(self.local.stop())
        self.internet.runUntil(self.port.stopListening())
        assert not self.programCalls(), self.programCalls()
        assert not self.host.getReaders(), self.host.getReaders()


class HostTests(SynchronousTestCase):
    """
    The host's own addresses.
    """

    def hosts(self, *addresses: str, interface: str = "") -> list[str]:
        """
        @return: the hosts of the candidates on a host that says it has C{addresses}.
        """
        world = World(self)
        port = DatagramPort(world.host, interface)
        port.listen()
        found = world.make(port, addresses).candidates()
        self.assertEqual([each.address[1] for each in found], [port.localPort] * len(found))
        self.assertEqual({each.type for each in found}, {CandidateType.HOST} if found else set())
        return [each.address[0] for each in found]

    def test_order(self) -> None:
        """
        Each is there once, in the host's order, which is that of their priorities.
        """
        world = World(self)
        addresses = ["10.0.0.1", "198.51.100.1", "10.0.0.1", "192.168.1.2"]
        found = world.make(world.port, addresses).candidates()
        self.assertEqual([each.address[0] for each in found], list(dict.fromkeys(addresses)))
        priorities = [each.priority for each in found]
        self.assertEqual(priorities, sorted(priorities, reverse=True))

    def test_unusable(self) -> None:
        """
        What cannot be one peer's address is left out, and loopback where there is another.
        """
        found = self.hosts("127.0.0.1", "::1", "fe80::1", "0.0.0.0", "2001:db8::1", "10.0.0.1")
        self.assertEqual(found, ["2001:db8::1", "10.0.0.1"])

    def test_onlyLoopback(self) -> None:
        """
        A host without a network has its loopback address.
        """
        self.assertEqual(self.hosts("127.0.0.1"), ["127.0.0.1"])
        self.assertEqual(self.hosts(), [])

    def test_interface(self) -> None:
        """
        A port that is bound to one address has that one.
        """
        self.assertEqual(self.hosts("10.0.0.1", interface="127.0.0.1"), ["127.0.0.1"])

    def test_many(self) -> None:
        """
        A host with very many addresses leaves room for the others'.
        """
        found = self.hosts(*(f"10.0.0.{number}" for number in range(1, 100)))
        self.assertEqual(len(found), HOST_LIMIT)

    def test_IPv6(self) -> None:
        """
        IPv6 addresses are candidates where the port speaks IPv6.
        """
        internet = Internet(seed=1)
        host = internet.host("host", "198.51.100.1", "2001:db8::1")
        port = DatagramPort(host)
        port.listen()
        local = LocalCandidates(host, port, host.hostAddresses, Random(1))
        found = {each.address[0] for each in local.candidates()}
        self.assertEqual(found, {"198.51.100.1", "2001:db8::1"})


class GatherTests(SynchronousTestCase):
    """
    What STUN servers say.
    """

    def test_behindNAT(self) -> None:
        """
        The address that a server sees is a candidate, and the NAT is measured after that.
        """
        world = World(self, NAT(filtering=Filtering.ADDRESS_DEPENDENT))
        self.assertEqual((world.local.complete, world.local.answered), (False, False))
        self.assertEqual(world.gather(SERVER), [])
        self.assertEqual((world.local.complete, world.local.answered), (True, True))
        self.assertEqual([host for host, _ in world.reflexive], [EXTERNAL])
        self.assertGreater(world.changes, 0)
        world.internet.advance(5.0)
        self.assertEqual(world.local.behavior.mapping, NATMapping.ENDPOINT_INDEPENDENT)
        self.assertEqual(world.local.behavior.filtering, NATFiltering.ADDRESS_DEPENDENT)
        world.close()

    def test_public(self) -> None:
        """
        Where there is no NAT, the host candidate is all there is.
        """
        world = World(self)
        self.assertEqual(world.gather(SERVER, SECOND), [])
        self.assertEqual(world.reflexive, [])
        self.assertTrue(world.local.answered)
        world.close()

    def test_symmetric(self) -> None:
        """
        A NAT that maps by destination shows each server another address: each is a candidate.
        """
        world = World(self, NAT(mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT))
        world.gather(SERVER, SECOND)
        self.assertEqual(len(world.reflexive), 2)
        world.close()

    def test_nobody(self) -> None:
        """
        Without servers, gathering is over at once, and nothing is left to do.
        """
        world = World(self)
        self.assertEqual(self.successResultOf(world.local.gather([])), [])
        self.assertTrue(world.local.complete)
        self.assertEqual(world.programCalls(), [])
        world.close()

    def test_silent(self) -> None:
        """
        A server that does not answer is given up in time, says so, and keeps no other one from
        being of use.
        """
        world = World(self, NAT())
        (failure,) = world.gather(SILENT, SERVER)
        failure.trap(STUNTimeout)
        self.assertIn("192.0.2.99:3478", failure.getErrorMessage())
        self.assertLessEqual(world.internet.seconds(), 3.1)
        self.assertEqual(len(world.reflexive), 1)
        world.close()

    def test_allSilent(self) -> None:
        """
        When none answers, the host's own addresses are what there is.
        """
        world = World(self, NAT())
        self.assertEqual(len(world.gather(SILENT)), 1)
        self.assertFalse(world.local.answered)
        self.assertTrue(world.local.complete)
        self.assertEqual(len(world.local.candidates()), 1)
        world.close()

    def test_otherFamily(self) -> None:
        """
        Servers that the port cannot send to are left out, and three of the rest are asked.
        """
        world = World(self, NAT())
        port = DatagramPort(world.host, world.host.address)
        port.listen()
        local = world.make(port)
        servers = [("2001:db8::1", 3478), SILENT, SERVER, SECOND, ("192.0.2.98", 1)]
        failures = world.internet.runUntil(local.gather(servers))
        self.assertEqual(len(failures), 1)
        world.internet.runUntil(local.stop())
        world.internet.runUntil(port.stopListening())
        world.close()

    def test_again(self) -> None:
        """
        Gathering again from other servers forgets what the former ones said.
        """
        world = World(self, NAT(mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT))
        world.gather(SERVER)
        before = world.reflexive
        world.gather(SECOND)
        self.assertEqual(len(world.reflexive), 1)
        self.assertNotEqual(world.reflexive, before)
        world.close()

    def test_againMeanwhile(self) -> None:
        """
        An answer to a round that another one has replaced is ignored.
        """
        world = World(self, NAT(mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT))
        first, second = world.local.gather([SERVER]), world.local.gather([SECOND])
        world.internet.runUntil(first)
        world.internet.runUntil(second)
        self.assertEqual(len(world.reflexive), 1)
        world.close()

    def test_unmeasured(self) -> None:
        """
        Where no other port can be opened, the NAT stays unknown.
        """
        world = World(self, NAT())
        number = world.port.localPort
        self.patch(world.port, "another", lambda: DatagramPort(world.host, "", number))
        world.gather(SERVER)
        world.internet.advance(5.0)
        self.assertIsNone(world.local.behavior.mapping)
        world.close()

    def test_measuredInVain(self) -> None:
        """
        A server that falls silent before the NAT is measured leaves it unknown.
        """
        world = World(self, NAT())
        world.gather(SERVER)
        world.internet.runUntil(world.servers[0].stopService())
        changes = world.changes
        world.internet.advance(10.0)
        self.assertIsNone(world.local.behavior.mapping)
        self.assertEqual(world.changes, changes)
        world.close()

    def test_cancel(self) -> None:
        """
        Gathering can be given up.
        """
        world = World(self, NAT())
        gathering = world.local.gather([SERVER, SILENT])
        gathering.cancel()
        self.failureResultOf(gathering, CancelledError)
        self.assertFalse(world.local.complete)
        world.close()


class RefreshTests(SynchronousTestCase):
    """
    The address is asked for again.
    """

    def test_atOnce(self) -> None:
        """
        Somebody who thinks that the NAT has changed is right in a round trip; one who thinks so all
        the time, every 5 s.
        """
        world = World(self, NAT())
        world.gather(SERVER)
        world.internet.advance(1.0)
        world.paths = (None,)
        for external in ("203.0.113.8", "203.0.113.9"):
            world.internet.routers["home"].changeExternal(external)
            world.local.refresh()
            world.internet.advance(0.1)
        self.assertEqual([host for host, _ in world.reflexive], ["203.0.113.8"])
        world.internet.advance(REFRESH_LEAST)
        world.local.refresh()
        world.internet.advance(0.1)
        self.assertEqual([host for host, _ in world.reflexive], ["203.0.113.9"])
        world.close()
        world.local.refresh()

    def test_kept(self) -> None:
        """
        A NAT that forgets after 20 s does not forget this port.
        """
        world = World(self, NAT(udpTimeout=20.0))
        world.gather(SERVER)
        before = world.reflexive
        world.internet.advance(300.0)
        self.assertEqual(world.reflexive, before)
        world.close()

    def test_changed(self) -> None:
        """
        A new address is found, and told, with the next question.
        """
        world = World(self, NAT())
        world.gather(SERVER)
        world.internet.advance(5.0)
        world.internet.routers["home"].changeExternal("203.0.113.99")
        changes = world.changes
        world.internet.advance(REFRESH_IDLE + 1.0)
        self.assertEqual([host for host, _ in world.reflexive], ["203.0.113.99"])
        self.assertEqual(world.changes, changes + 1)
        world.close()

    def test_busy(self) -> None:
        """
        While there are paths the server is asked more seldom, and still more where one is seen to
        keep the mapping.
        """
        for shares, interval in ((False, REFRESH_BUSY), (True, REFRESH_SHARED)):
            world = World(self, NAT())
            world.gather(SERVER)
            world.paths = (None, world.reflexive[0] if shares else ("192.168.1.9", 1025))
            self.assertAsks(world, interval)
            world.close()

    def test_pathGone(self) -> None:
        """
        When the last path ends, or its other side sees another address, the server is asked soon.
        """
        world = World(self, NAT())
        world.gather(SERVER)
        other = ("203.0.113.99", 1025)
        for paths, interval in (((), REFRESH_IDLE), ((other,), REFRESH_IDLE)):
            world.paths = tuple(world.reflexive)
            world.internet.advance(200.0)
            before = world.host.counters.packetsSent
            world.paths = paths
            world.internet.advance(interval)
            self.assertEqual(world.host.counters.packetsSent - before, 1)
        world.close()

    def test_idle(self) -> None:
        """
        Without paths, it is asked before the shortest lived mappings are forgotten.
        """
        world = World(self, NAT())
        world.gather(SERVER)
        self.assertAsks(world, REFRESH_IDLE)
        world.close()

    def assertAsks(self, world: World, interval: float) -> None:
        """
        Assert that the server is asked about once in C{interval}, never less.
        """
        world.internet.advance(200.0)  # everything was measured by then
        before = world.host.counters.packetsSent
        world.internet.advance(1800.0)
        asked = world.host.counters.packetsSent - before
        # What is looked at each 15 s may be late by that.
        self.assertGreaterEqual(asked, 1800 // interval - 1)
        self.assertLessEqual(asked, 1800 / (0.9 * interval) + 1)

    def test_silentLater(self) -> None:
        """
        What a server said is kept when it falls silent.
        """
        world = World(self, NAT())
        world.gather(SERVER)
        world.internet.runUntil(world.servers[0].stopService())
        before = world.reflexive
        world.internet.advance(60.0)
        self.assertEqual(world.reflexive, before)
        world.close()


class StopTests(SynchronousTestCase):
    """
    Stopping, at whatever moment, leaves nothing.
    """

    def test_atOnce(self) -> None:
        """
        Before anything was asked, and once more.
        """
        world = World(self)
        world.close()
        world.internet.runUntil(world.local.stop())
        self.assertRaises(LocalUsageError, world.local.gather, [SERVER])

    def test_atAnyMoment(self) -> None:
        """
        While servers are asked, while the NAT is measured, and later.
        """
        for moment in (0.0, 0.01, 0.045, 0.1, 0.5, 2.0, 10.0, 14.5, 15.1):
            world = World(self, NAT())
            gathering = world.local.gather([SERVER, SILENT])
            gathering.addErrback(lambda failure: failure.trap(CancelledError))
            world.internet.advance(moment)
            world.close()
            self.assertTrue(gathering.called)
            changes = world.changes
            world.internet.advance(100.0)
            self.assertEqual(world.changes, changes)
