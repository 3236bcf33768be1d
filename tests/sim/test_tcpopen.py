"""
L{p2ptwist.net.tcpopen} on the simulated Internet.

C{P2PTWIST_TCP_SEEDS} says how many seeds the tests run that take one: 50 if it is not set, 1,000
for a night.
"""

from __future__ import annotations

import os
from typing import Any, cast

from twisted.internet.defer import CancelledError
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.interfaces import ITransport
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.errors import LocalUsageError, MalformedDatagram
from p2ptwist.core.stun.binding import bindingRequest
from p2ptwist.core.tcppath.opening import BUDGET, LEAD_LIMIT
from p2ptwist.core.tcppath.upkeep import KEEPALIVE, SILENCE
from p2ptwist.errors import P2PError, PathLost, PeerUnreachable, PortUnusable, PunchFailed
from p2ptwist.net.tcpframes import QUEUE_LIMIT
from p2ptwist.net.tcpopen import TCPOpener
from p2ptwist.net.tcpport import TCPPort
from p2ptwist.testing import (
    NAT,
    Filtering,
    Hairpinning,
    Internet,
    Link,
    Mapping,
    PortAllocation,
    Uninvited,
)
from tests.sim.opening import (
    LATENCY,
    SERVER,
    SERVER_LATENCY,
    SIGNAL_DELAY,
    STUNOverTCP,
    World,
)
from tests.sim.punching import FailingReceiver, Receiver

SEEDS = int(os.environ.get("P2PTWIST_TCP_SEEDS", "50"))
# Seconds: the two ways of the signaling channel and those of the observations beside them, then a
# SYN across, and a check with its answer.
QUICK = 4 * SIGNAL_DELAY + 4 * (LATENCY + SERVER_LATENCY) + 6 * LATENCY + 0.1

RESET = NAT(uninvited=Uninvited.RESET)
LOOSE = NAT(filtering=Filtering.ENDPOINT_INDEPENDENT)
SYMMETRIC = NAT(mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT, allocation=PortAllocation.RANDOM)
# UDP as bad as it can be, TCP as good.
SYMMETRIC_UDP = NAT(
    mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT,
    tcpMapping=Mapping.ENDPOINT_INDEPENDENT,
    allocation=PortAllocation.RANDOM,
)


class OpenTests(SynchronousTestCase):
    """
    Pairs that meet.
    """

    def meet(self, world: World) -> float:
        """
        Open a path, send something both ways, and see that nothing is left behind.

        @return: seconds that it took.
        """
        world.internet.showOnFailure(self)
        alice, bob = world.alice, world.bob
        path = world.internet.runUntil(alice.call(bob), timeout=30.0)
        world.internet.advance(0.5)
        path.write(b"from alice")
        bob.path.write(b"from bob")
        world.internet.advance(2.0)
        self.assertEqual(bob.receiver.log, [b"from alice"])
        self.assertEqual(alice.receiver.log, [b"from bob"])
        self.assertEqual(path.session, bob.path.session)
        for side in (alice, bob):
            # Nothing but the path: no observation, no listener, no other connection.
            self.assertEqual(len(side.host.getReaders()), 1)
        world.close()
        return path.openedAfter

    def test_pairs(self) -> None:
        """
        Every pair whose TCP mapping is endpoint-independent meets, in a few round trips, whatever
        uninvited SYNs get.
        """
        nats = {
            "public": None,
            "common": NAT(),
            "loose": LOOSE,
            "reset": RESET,
            "ICMP": NAT(uninvited=Uninvited.ICMP),
            "accept": NAT(uninvited=Uninvited.ACCEPT),
            "random": NAT(allocation=PortAllocation.RANDOM),
            "UDP symmetric": SYMMETRIC_UDP,
        }
        for near, first in nats.items():
            for far, second in nats.items():
                taken = self.meet(World(first, second))
                self.assertLess(taken, QUICK, f"{near} to {far}")

    def test_reservedPort(self) -> None:
        """
        A side whose NAT gives it a port that nobody dials takes another one.
        """
        nat = NAT(allocation=PortAllocation.RANDOM, firstPort=1722, lastPort=1723)
        for pair in ((nat, NAT()), (NAT(), nat), (nat, nat)):
            for seed in range(8):
                self.assertLess(self.meet(World(*pair, seed)), QUICK + 0.5)

    def test_oneSideOpen(self) -> None:
        """
        A symmetric NAT is no matter where the other side can be dialed.
        """
        for first, second in ((SYMMETRIC, None), (None, SYMMETRIC), (LOOSE, SYMMETRIC)):
            self.assertLess(self.meet(World(first, second)), QUICK)

    def test_late(self) -> None:
        """
        A side that is late by 0.3 or 2.5 s is met when it is there.
        """
        for lag in (0.3, 2.5):
            for nat in (NAT(), RESET):
                world = World(nat, nat)
                world.bob.lag = lag
                # It is late with the offer, and with the start.
                self.assertLess(self.meet(world), 2 * lag + QUICK + 0.5)

    def test_callerLate(self) -> None:
        """
        So is a caller that is late, and so believes that signals are slow.
        """
        world = World(NAT(), NAT())
        world.alice.lag = 2.5
        self.assertLess(self.meet(world), 2.5 + LEAD_LIMIT + QUICK)

    def test_sameLAN(self) -> None:
        """
        Two hosts behind one router that does not hairpin meet at their inside addresses.
        """
        world = World(NAT(hairpinning=Hairpinning.NONE), NAT())
        router = world.internet.router("home", "203.0.113.9")
        world.alice = type(world.alice)(router.host("anna"))
        world.bob = type(world.bob)(router.host("ben"))
        path = world.internet.runUntil(world.alice.call(world.bob))
        self.assertTrue(path.remote[0].startswith("192.168."))
        world.close()

    def test_doubleNAT(self) -> None:
        """
        Two NATs in a row are as one.
        """
        world = World(NAT(), NAT())
        outer = world.internet.router("isp", "203.0.113.9", lan="100.64.0.0/24")
        world.alice = type(world.alice)(outer.router("inner").host("anna"))
        self.assertLess(self.meet(world), QUICK)

    def test_IPv6(self) -> None:
        """
        Two firewalls of IPv6 are opened like two NATs.
        """
        world = World(NAT(), NAT())
        hosts = []
        for number, name in enumerate(("anna", "ben"), 1):
            prefix = f"2001:db8:{number}::/64"
            router = world.internet.router(f"{name}'s", lan=f"198.51.{number}.0/24", prefix6=prefix)
            hosts.append(router.host(name))
        world.alice, world.bob = (type(world.alice)(host) for host in hosts)
        self.meet(world)

    def test_seeds(self) -> None:
        """
        With one packet in ten lost from site to site 99 of 100 meet, also when routers answer SYNs
        with RST.
        """
        failed = []
        for seed in range(SEEDS):
            nat = (NAT(), RESET)[seed % 2]
            world = World(nat, nat, seed=seed, loss=0.05)
            try:
                world.internet.runUntil(world.alice.call(world.bob), timeout=30.0)
            except P2PError as error:
                failed.append((seed, str(error)))
            world.close()
        self.assertLessEqual(len(failed), SEEDS // 100, failed)


class FailureTests(SynchronousTestCase):
    """
    Attempts that come to nothing.
    """

    def fails(self, world: World) -> PunchFailed:
        """
        @return: the error of the caller, after 10 s at most.
        """
        world.internet.showOnFailure(self)
        started = world.internet.seconds()
        called = world.alice.call(world.bob)
        with self.assertRaises(PunchFailed) as caught:
            world.internet.runUntil(called, timeout=30.0)
        self.assertLessEqual(world.internet.seconds() - started, BUDGET + 0.01)
        world.close()
        error: PunchFailed = caught.exception
        return error

    def test_symmetric(self) -> None:
        """
        Where the TCP mapping depends on the destination there is no path, which is said in time.
        """
        error = self.fails(World(SYMMETRIC, NAT()))
        self.assertIn("no direct path over TCP in 10 s", str(error))
        self.assertGreater(error.checks, 0)
        self.assertLessEqual(error.elapsed, BUDGET + 0.01)

    def test_unreachable(self) -> None:
        """
        Two sides whose links are cut after they have agreed, too.
        """
        world = World(NAT(), NAT())

        def cut() -> None:
            for side in (world.alice, world.bob):
                side.host.link.cut()

        world.alice.host.callLater(2 * SIGNAL_DELAY + 0.12, cut)
        self.assertIn("dials to", str(self.fails(world)))
        self.assertIsInstance(world.bob.results[0], Failure)

    def test_silent(self) -> None:
        """
        A side that never takes the offer is waited for no longer.
        """
        world = World(NAT(), NAT())
        world.bob.signalReceived = lambda signal, sender: None  # type: ignore[method-assign]
        self.assertIn("did not get ready", str(self.fails(world)))

    def test_noServer(self) -> None:
        """
        Without a STUN server there are the hosts' own addresses, which on public hosts are enough.
        """
        world = World(None, None)
        world.server.kill()
        path = world.internet.runUntil(world.alice.call(world.bob))
        self.assertEqual(path.remote[0], world.bob.host.address)
        world.close()

    def test_strangeServer(self) -> None:
        """
        A server that says something else, or too much, or that ends, is as good as none.
        """

        class Strange(Protocol):
            def dataReceived(self, data: bytes) -> None:
                assert self.transport is not None
                self.transport.write(answers.pop())
                self.transport.write(b"more")

        class Ending(Protocol):
            def connectionMade(self) -> None:
                assert self.transport is not None
                self.transport.loseConnection()

        answers = [b"\x01\x01\xff\xff" + bytes(16), b"HTTP/1.1 200 OK....."] * 2
        for kind in (Strange, Strange, Ending):
            world = World(None, None)
            factory: Any = Factory.forProtocol(kind)
            world.server.listenTCP(9999, factory)
            for side in (world.alice, world.bob):
                side.opener.servers = ((SERVER[0], 9999),)
            world.internet.runUntil(world.alice.call(world.bob))
            world.close()

    def test_slowServer(self) -> None:
        """
        An answer that comes in pieces is as good as another; what follows it is not read.
        """

        class Slow(STUNOverTCP):
            def dataReceived(self, data: bytes) -> None:
                assert self.transport is not None
                whole: list[bytes] = []
                transport, writer = self.transport, cast(ITransport, _Writer(self.transport, whole))
                self.transport = writer
                super().dataReceived(data)
                self.transport = transport
                for number, byte in enumerate(whole[0] + b"more"):
                    world.server.callLater(0.001 * number, transport.write, bytes((byte,)))

        world = World(NAT(), NAT())
        factory: Any = Factory.forProtocol(Slow)
        world.server.listenTCP(9999, factory)
        for side in (world.alice, world.bob):
            side.opener.servers = ((SERVER[0], 9999),)
        world.internet.runUntil(world.alice.call(world.bob))
        world.close()

    def test_channelFails(self) -> None:
        """
        A channel that raises loses a signal, and is told of its bug.
        """
        world = World(NAT(), NAT())

        def send(signal: bytes) -> None:
            raise ZeroDivisionError

        opening = world.alice.opener.call(send)
        failing = opening.whenOpen()
        ended = opening.whenOver()
        world.internet.advance(BUDGET + 1.0)
        self.failureResultOf(failing, PunchFailed)
        self.assertIsInstance(self.successResultOf(ended), PunchFailed)
        # The offer, and the goodbye.
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)
        world.close()

    def test_otherFamily(self) -> None:
        """
        Candidates of a family that a side does not have are not dialed.
        """
        world = World(None, None)
        world.alice.host.addAddress("2001:db8::1")
        path = world.internet.runUntil(world.bob.call(world.alice))
        self.assertEqual(path.remote[0], "203.0.113.1")
        world.close()

    def test_interfaces(self) -> None:
        """
        A port is on one address, on all of IPv4, or on all there are.
        """
        hosts = ["127.0.0.1", "192.0.2.7", "fe80::1", "2001:db8::7"]
        internet = Internet()
        host = internet.host("host", "192.0.2.7", "2001:db8::7")
        for interface, expected in (
            ("", ["192.0.2.7", "2001:db8::7"]),
            ("::", ["192.0.2.7", "2001:db8::7"]),
            ("0.0.0.0", ["192.0.2.7"]),
            ("2001:db8::7", ["2001:db8::7"]),
        ):
            port = TCPPort(host, hosts, interface)
            port.listen(lambda: None)
            self.assertEqual(list(port.hosts), expected)
            spoken = [each for each in expected if port.speaks(each)]
            self.assertEqual(spoken, expected)
            self.assertNotEqual(port.localPort, 0)
            internet.runUntil(port.close())
        self.assertEqual(TCPPort(host, ["127.0.0.1"]).hosts, ["127.0.0.1"])

    def test_gaveUp(self) -> None:
        """
        Who cancels ends the attempt on both sides; who closes it, as well.
        """
        for moment in (0.0, 0.15, 0.25, 0.35):
            world = World(NAT(), NAT())
            called = world.alice.call(world.bob)
            world.internet.advance(moment)
            called.cancel()
            self.failureResultOf(called, CancelledError)
            world.alice.openings[0].close("enough")
            world.internet.advance(1.0)
            for failure in world.bob.results:
                assert isinstance(failure, Failure)
                failure.trap(PeerUnreachable)
            self.assertEqual((len(world.alice.opener), len(world.bob.opener)), (0, 0))
            world.close()

    def test_noPort(self) -> None:
        """
        An attempt without a TCP port fails at once, and says so to the other side.
        """
        world = World(NAT(), NAT())
        world.alice.opener = TCPOpener(world.alice.host, interface="192.0.2.99")
        called = world.alice.call(world.bob)
        self.failureResultOf(called, PortUnusable)
        world.internet.advance(1.0)
        world.close()

    def test_wrongSignals(self) -> None:
        """
        What is no signal is counted; what is no offer begins nothing.
        """
        world = World(NAT(), NAT())
        world.alice.call(world.bob).addErrback(lambda _: None)
        opening = world.alice.openings[0]
        opening.signalReceived(b"nonsense")
        self.assertEqual(opening.malformed, 1)
        goodbye = b"\x02\x04" + opening.session
        for signal in (b"nonsense", goodbye):
            self.assertRaises(MalformedDatagram, world.bob.opener.answer, signal, print)
        world.close()


class PathTests(SynchronousTestCase):
    """
    What becomes of a path.
    """

    def setUp(self) -> None:
        """
        Open one.
        """
        self.world = World(NAT(), NAT())
        self.world.internet.showOnFailure(self)
        self.alice, self.bob = self.world.alice, self.world.bob
        self.world.internet.runUntil(self.alice.call(self.bob))
        self.world.internet.advance(0.5)

    def test_datagrams(self) -> None:
        """
        It carries datagrams whole and in order, up to 1,500 bytes; nothing that looks like STUN.
        """
        path = self.alice.path
        sent = [bytes([65 + number]) * size for number, size in enumerate((1, 1200, 1500))]
        path.writeMany(sent)
        path.write(b"last")
        self.world.internet.advance(1.0)
        self.assertEqual(self.bob.receiver.log, [*sent, b"last"])
        self.assertRaises(LocalUsageError, path.write, bytes(1501))
        stun = b"\0\1\0\0\x21\x12\xa4\x42" + bytes(12)
        self.assertRaises(LocalUsageError, path.write, stun)
        self.assertTrue(path.flowing)
        self.assertEqual(path.mapped, self.bob.path.remote)
        self.world.close()

    def test_unread(self) -> None:
        """
        What came before there was a receiver is delivered to it: the latest 64.
        """
        world = World(NAT(), NAT())
        path = world.internet.runUntil(world.alice.call(world.bob))
        world.internet.advance(0.2)
        waiting = world.bob.path
        waiting._receiver = None
        for number in range(70):
            path.write(b"%d" % number)
        world.internet.advance(1.0)
        receiver = Receiver()
        waiting.receiver = receiver
        self.assertEqual(receiver.log, [b"%d" % number for number in range(6, 70)])
        world.close()
        self.assertEqual(receiver.log[-1], "lost: this side ended it: closed")
        late = Receiver()
        waiting.receiver = late
        self.assertEqual(late.log, ["lost: this side ended it: closed"])

    def test_full(self) -> None:
        """
        A transport that is full drops what does not fit, and takes more when there is room.
        """
        path = self.alice.path
        self.bob.host.link.config = Link(latency=LATENCY, bandwidth=50_000)
        for _ in range(1_000):
            path.write(bytes(1_200))
            self.world.internet.advance(0.001)
        self.assertGreater(path.dropped, 100)
        self.world.internet.advance(30.0)
        came = len(self.bob.receiver.log)
        self.assertEqual(came + path.dropped, 1_000)
        dropped = path.dropped
        path.write(b"more")
        self.world.internet.advance(1.0)
        self.assertEqual((len(self.bob.receiver.log), path.dropped), (came + 1, dropped))
        self.world.close()

    def test_flood(self) -> None:
        """
        What is more than the queue holds is dropped at once.
        """
        path = self.alice.path
        for _ in range(3):
            path.writeMany([bytes(1_200)] * 1_000)
        waiting = QUEUE_LIMIT // 1_200
        self.assertGreater(path.dropped, 3_000 - waiting - 400)
        self.assertLess(path.dropped, 3_000 - waiting)
        self.world.internet.advance(10.0)
        self.assertEqual(len(self.bob.receiver.log) + path.dropped, 3_000)
        self.world.close()

    def test_end(self) -> None:
        """
        Who closes it sends what was written; the other side is told.
        """
        self.alice.path.write(b"last words")
        self.alice.path.close("done")
        self.alice.path.close("again")
        self.alice.path.write(b"too late")
        self.assertFalse(self.alice.path.flowing)
        self.world.internet.advance(1.0)
        self.assertEqual(self.alice.receiver.log, ["lost: this side ended it: done"])
        self.assertEqual(self.bob.receiver.log, [b"last words", "lost: the connection was closed"])
        reason = self.successResultOf(self.bob.path.whenOver())
        self.assertIsInstance(reason, PathLost)
        self.world.close()

    def test_idle(self) -> None:
        """
        An idle path is kept alive by few packets, and stays.
        """
        before = self.alice.host.counters.packetsSent
        self.world.internet.advance(600.0)
        sent = self.alice.host.counters.packetsSent - before
        self.assertTrue(self.alice.path.flowing and self.bob.path.flowing)
        self.assertLessEqual(sent, 3 * 600 / KEEPALIVE)
        self.assertGreaterEqual(sent, 600 / KEEPALIVE)
        self.world.close()

    def test_dead(self) -> None:
        """
        A path that carries no more is dead some seconds after something was sent on it.
        """
        self.bob.host.link.cut()
        self.alice.path.write(b"hello?")
        started = self.world.internet.seconds()
        reason = self.world.internet.runUntil(self.alice.path.whenOver(), timeout=60.0)
        self.assertIn("nothing came from the other side", str(reason))
        self.assertLessEqual(self.world.internet.seconds() - started, 1.0 + SILENCE + 0.1)
        self.world.internet.advance(KEEPALIVE + 30.0)
        self.assertFalse(self.bob.path.flowing)
        self.world.close()

    def test_nonsense(self) -> None:
        """
        A frame that is too long ends the path, and so does STUN that is not authentic.
        """
        self.alice.path._connection.transport.write(b"\xff\xff")
        self.world.internet.advance(1.0)
        self.assertEqual(self.bob.receiver.log, ["lost: the connection was closed"])
        self.world.close()

    def test_forged(self) -> None:
        """
        STUN that is not authentic ends the path.
        """
        frame = bindingRequest(bytes(12))
        self.alice.path._connection.sendCheck(frame)
        self.world.internet.advance(1.0)
        (said,) = self.bob.receiver.log
        self.assertIn("the other side broke a rule", str(said))
        self.world.close()

    def test_bugs(self) -> None:
        """
        A receiver that fails does not end the path.
        """
        failing = FailingReceiver()
        self.bob.path.receiver = failing
        self.alice.path.write(b"one")
        self.alice.path.write(b"two")
        self.world.internet.advance(1.0)
        self.assertEqual(failing.log, [b"one", b"two"])
        self.world.close()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 3)


class _Writer:
    """
    Keeps what is written instead of a transport.
    """

    def __init__(self, transport: Any, whole: list[bytes]) -> None:
        self.getPeer = transport.getPeer
        self.write = whole.append


class StrangerTests(SynchronousTestCase):
    """
    Whoever else dials the port.
    """

    def test_silence(self) -> None:
        """
        A stranger is told nothing, and does no harm; nor does one who talks.
        """
        heard: list[bytes] = []

        class Stranger(Protocol):
            def __init__(self, words: bytes) -> None:
                self.words = words

            def connectionMade(self) -> None:
                assert self.transport is not None
                self.transport.write(self.words)

            def dataReceived(self, data: bytes) -> None:
                heard.append(data)

        for words in (b"", b"\x00\x05hello", b"\xff\xff"):
            world = World(None, None)
            mallory = world.internet.host("mallory", "198.51.100.66")
            called = world.alice.call(world.bob)
            port = world.alice.openings[0]._port.localPort
            endpoint = TCP4ClientEndpoint(mallory, world.alice.host.address, port)
            connecting = connectProtocol(endpoint, Stranger(words))
            world.internet.runUntil(called)
            world.internet.runUntil(connecting)
            world.close()
            self.assertEqual(heard, [])
