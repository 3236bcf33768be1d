"""
TCP opened from both sides at once through simulated NATs: the cases that a laboratory of Linux
routers has measured.
"""

from __future__ import annotations

from typing import Any

from twisted.internet import tcp
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.testing import NAT, Host, Internet, Link, Mapping, Uninvited
from tests.sim.test_internet_tcp import Stream

PORT = 7000
# Linux with masquerade: each flow has a mapping of its own, and keeps its port.
LINUX = NAT(mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT, portOverloading=True)
# The laboratory's wires: next to no round trip.
SHORT = Link(latency=0.0002)


class Dialer:
    """
    A program that dials from one port, again and again.

    @ivar stream: its connection, once there is one.
    @ivar failures: how many dials have failed.
    """

    def __init__(self, host: Host, to: str) -> None:
        self.host = host
        self.stream: Any = None
        self.failures = 0
        self.why: Failure | None = None
        binding: Any = tcp.makeBinding(host.address, PORT, reuseAddress=True, reusePort=True)
        self.endpoint = TCP4ClientEndpoint(host, to, PORT, 20, binding)

    def dial(self, tries: int = 1, pause: float = 0.050) -> None:
        """
        Dial until there is a connection.
        """
        if tries and self.stream is None:
            dialing: Deferred[Any] = self.endpoint.connect(Factory.forProtocol(Stream))
            dialing.addCallbacks(self._opened, self._failed)
            dialing.addCallback(lambda _: self.host.callLater(pause, self.dial, tries - 1, pause))

    def listen(self) -> list[Stream]:
        """
        Listen on the same port.

        @return: what is accepted there.
        """
        factory: Any = Factory.forProtocol(Stream)
        factory.streams = []
        binding: Any = tcp.makeBinding(self.host.address, PORT, True, True)
        self.host.listenTCP(binding, factory, 50, self.host.address)
        accepted: list[Stream] = factory.streams
        return accepted

    def _opened(self, stream: Any) -> None:
        self.stream = stream

    def _failed(self, why: Failure) -> None:
        self.failures += 1
        self.why = why


class OpeningTests(SynchronousTestCase):
    """
    Two hosts, each behind a router, that dial each other.
    """

    def dialers(self, nat: NAT = LINUX, link: Link = SHORT) -> list[Dialer]:
        """
        @return: a program on each side.
        """
        self.internet = Internet(seed=4)
        self.internet.showOnFailure(self)
        hosts = [
            self.internet.router(f"r{n}", f"203.0.113.{n}", nat=nat, link=link).host(f"h{n}")
            for n in (1, 2)
        ]
        return [Dialer(host, f"203.0.113.{2 - n}") for n, host in enumerate(hosts)]

    def meet(self, dialers: list[Dialer], skew: float, tries: int = 1) -> None:
        """
        Let one side dial, and the other one later.
        """
        for dialer in dialers:
            dialer.dial(tries)
            self.internet.advance(skew)

    def talk(self, dialers: list[Dialer]) -> None:
        """
        Both sides hear each other.
        """
        for dialer in dialers:
            self.assertIsNotNone(dialer.stream)
            dialer.stream.transport.write(b"hello")
        self.internet.advance(1.0)
        self.assertEqual([dialer.stream.data for dialer in dialers], [b"hello"] * 2)

    def test_skew(self) -> None:
        """
        However much later the second side starts: it is connected as soon as its SYN has come.
        """
        for skew in (0.0, 0.3, 2.5):
            dialers = self.dialers()
            for dialer in dialers:
                begun = self.internet.seconds()
                dialer.dial()
                self.internet.advance(skew)
            self.internet.advance(max(0.0, begun + 0.004 - self.internet.seconds()))
            self.assertTrue(all(dialer.stream for dialer in dialers), skew)
            self.talk(dialers)

    def test_sharedWithListener(self) -> None:
        """
        A listener on the same port gets nothing of it, and others as before.
        """
        for skew in (0.0, 0.3, 2.5):
            dialers = self.dialers()
            accepted = [dialer.listen() for dialer in dialers]
            self.meet(dialers, skew)
            self.internet.advance(0.1)
            self.talk(dialers)
            self.assertEqual(accepted, [[], []])

    def test_resets(self) -> None:
        """
        Routers that answer with a RST end one dial after the other, unless SYNs cross on the way.
        """
        for uninvited in (Uninvited.RESET, Uninvited.ACCEPT):
            nat = NAT(mapping=LINUX.mapping, portOverloading=True, uninvited=uninvited)
            never = self.dialers(nat)
            self.meet(never, 0.3 + 0.025, tries=40)
            self.internet.advance(5.0)
            self.assertEqual([dialer.stream for dialer in never], [None, None])
            self.assertEqual([dialer.failures for dialer in never], [40, 40])
            crossing = self.dialers(nat, Link(latency=0.02))
            self.meet(crossing, 0.03)
            self.internet.advance(0.2)
            self.talk(crossing)

    def test_resetsOnTheWay(self) -> None:
        """
        On a long way they cross before long, unless both try again at the same pace: then each
        meets the other one's RST for ever.
        """
        nat = NAT(mapping=LINUX.mapping, portOverloading=True, uninvited=Uninvited.RESET)
        for pause, meets in ((0.050, False), (0.070, True)):
            dialers = self.dialers(nat, Link(latency=0.02))
            dialers[0].dial(40)
            self.internet.advance(0.325)
            dialers[1].dial(40, pause)
            self.internet.advance(10.0)
            self.assertEqual(all(dialer.stream for dialer in dialers), meets)
        self.talk(dialers)
        self.assertGreater(dialers[0].failures, 0)

    def test_again(self) -> None:
        """
        After it was closed the same two ports connect again: at once when it was reset, else once
        the side that closed first has waited for a minute.
        """
        for isReset, pause in ((True, 0.1), (False, 61.0)):
            dialers = self.dialers()
            self.meet(dialers, 0.0)
            self.internet.advance(0.1)
            one, two = dialers
            if isReset:
                one.stream.transport.abortConnection()
            else:
                one.stream.transport.loseConnection()
            self.internet.advance(0.1)
            one.stream = two.stream = None
            if not isReset:
                one.dial()
                self.internet.advance(0.1)
                assert one.why is not None
                self.assertTrue(one.why.check(ConnectError))
            self.internet.advance(pause)
            self.meet(dialers, 0.0)
            self.internet.advance(0.1)
            self.talk(dialers)

    def test_portsComeBack(self) -> None:
        """
        No port stays taken when its connections are over.
        """
        dialers = self.dialers()
        stacks = [dialer.host._stack for dialer in dialers]
        for _ in range(3):
            self.meet(dialers, 0.0)
            self.internet.advance(0.1)
            dialers[0].stream.transport.loseConnection()
            self.internet.advance(0.1)
            self.assertEqual([len(stack.ports._bound) for stack in stacks], [1, 0])
            self.internet.advance(60.0)
            self.assertEqual([stack.ports._bound for stack in stacks], [{}, {}])
            dialers[0].stream = dialers[1].stream = None
