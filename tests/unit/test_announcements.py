"""
Tests for L{p2ptwist.net.announcements}, L{p2ptwist.net.alarm} and L{p2ptwist.net.uplink}.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorMulticast
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from p2ptwist.core.address import HostPort
from p2ptwist.net.alarm import Alarm
from p2ptwist.net.announcements import GROUP, Announcements
from p2ptwist.net.uplink import localAddress


@implementer(IReactorMulticast)
class Multicast:
    """
    A reactor that has multicast, or has not.

    @ivar done: what was asked of it.
    """

    def __init__(self, *, taken: bool = False, joins: bool = True) -> None:
        self.done: list[object] = []
        self._taken = taken
        self._joins = joins

    def listenMulticast(
        self,
        port: int,
        protocol: Any,
        interface: str = "",
        maxPacketSize: int = 8192,
        listenMultiple: bool = False,
    ) -> Any:
        """
        Open the port, if it is free.
        """
        self.done.append((port, listenMultiple))
        if self._taken:
            raise CannotListenError(interface, port, OSError("taken"))
        protocol.transport = self
        return self

    def joinGroup(self, group: str, interface: str) -> Deferred[None]:
        """
        Join, if that is possible.
        """
        self.done.append((group, interface))
        return succeed(None) if self._joins else fail(OSError("no such group"))

    def stopListening(self) -> Deferred[None] | None:
        """
        Close it at once.
        """
        self.done.append("closed")
        return None


class AnnouncementsTests(SynchronousTestCase):
    """
    The socket.
    """

    def listen(self, reactor: object) -> Announcements:
        """
        @return: announcements that were asked to listen twice.
        """
        self.heard: list[tuple[bytes, HostPort]] = []
        announcements = Announcements(reactor, lambda *heard: self.heard.append(heard))
        announcements.listen("192.168.1.2")
        announcements.listen("192.168.1.2")
        return announcements

    def test_life(self) -> None:
        """
        One socket, which other programs may have as well, hears what comes, until it is closed.
        """
        reactor = Multicast()
        announcements = self.listen(reactor)
        self.assertEqual(reactor.done, [(5350, True), (GROUP, "192.168.1.2")])
        announcements.datagramReceived(b"x", ("::ffff:192.168.1.1", 5351))
        self.assertEqual(self.heard, [(b"x", ("192.168.1.1", 5351))])
        for _ in range(2):
            self.successResultOf(announcements.stop())
        self.assertEqual(reactor.done[2:], ["closed"])

    def test_without(self) -> None:
        """
        Where there is no multicast, the port is taken or the group cannot be joined, nothing is
        heard, and nothing fails.
        """
        self.successResultOf(self.listen(object()).stop())
        taken = Multicast(taken=True)
        self.successResultOf(self.listen(taken).stop())
        self.assertEqual(taken.done, [(5350, True)] * 2)
        self.successResultOf(self.listen(Multicast(joins=False)).stop())


class AlarmTests(SynchronousTestCase):
    """
    The timer.
    """

    def test_set(self) -> None:
        """
        What was set last is called, once.
        """
        clock, called = Clock(), list[str]()
        alarm = Alarm(clock)
        alarm.set(1.0, lambda: called.append("first"))
        alarm.set(2.0, lambda: called.append("second"))
        clock.pump([1.0, 1.0])
        alarm.clear()
        alarm.set(-1.0, lambda: called.append("third"))
        clock.advance(0)
        self.assertEqual(called, ["second", "third"])
        alarm.set(1.0, lambda: called.append("fourth"))
        alarm.clear()
        self.assertEqual(clock.getDelayedCalls(), [])


class Unroutable:
    """
    A reactor whose host has no way to anywhere, or no socket.
    """

    def __init__(self, sockets: bool) -> None:
        self._sockets = sockets
        self.closed = 0

    def listenUDP(self, port: int, protocol: object, interface: str) -> Any:
        """
        Open a port, if there is one.
        """
        if not self._sockets:
            raise CannotListenError(interface, port, OSError("no more files"))
        return self

    def connect(self, host: str, port: int) -> None:
        """
        Fail.
        """
        raise OSError("network is unreachable")

    def stopListening(self) -> None:
        """
        Close it at once.
        """
        self.closed += 1


class UplinkTests(SynchronousTestCase):
    """
    This host's own address.
    """

    def test_none(self) -> None:
        """
        There is none where there is no route, or no socket to look it up with.
        """
        for sockets in (True, False):
            reactor = Unroutable(sockets)
            for gateway in ("192.168.1.1", "fe80::1%eth0"):
                found = Deferred.fromCoroutine(localAddress(reactor, gateway))
                self.assertIsNone(self.successResultOf(found))
            self.assertEqual(reactor.closed, 2 * sockets)
