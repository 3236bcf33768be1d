"""
Sessions whose direct path is over TCP, because UDP does not pass.
"""

from __future__ import annotations

from collections.abc import Callable

from p2ptwist.core.tcppath.signal import Answer, SignalType, TCPSignal, decodeSignal, isTCPSignal
from p2ptwist.net.stunstreams import STUNStreamService
from p2ptwist.net.tcppath import TCPPath
from p2ptwist.peer.session import Session
from p2ptwist.peer.tcpsearch import PAUSE_FIRST, UDP_LEAD
from p2ptwist.testing import NAT, Host, Mapping, PortAllocation, Uninvited
from p2ptwist.testing.packet import Packet
from p2ptwist.testing.packet import Protocol as PacketProtocol
from tests.sim.neighborhood import NODE, STUN_PORT, UNIT
from tests.sim.sessions import Caller, SessionCase, SessionPairs, Talk, block

# Seconds until a session is direct over TCP: UDP's lead; a round trip of signals, and half of one;
# the observations beside them; a connection and its checks.
DIRECT = UDP_LEAD + 5 * UNIT
SYMMETRIC = NAT(mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT, allocation=PortAllocation.RANDOM)


class TCPSessionTests(SessionCase):
    """
    Sessions without UDP.
    """

    def meet(
        self, blocked: str, nat: NAT | None = None, answering: bool = True, **options: object
    ) -> tuple[SessionPairs, Caller, Caller, Talk]:
        """
        Connect two peers, and let the search for a direct path come to its end.

        @param blocked: the names of the hosts without UDP.
        @param nat: both routers.
        @param answering: whether the node answers STUN over TCP.
        """
        pairs = self.pairs()
        if answering:
            STUNStreamService(pairs.node, (NODE, STUN_PORT)).startService()
        hosts = dict(zip("ab", pairs.twoRouters(nat, nat), strict=True))
        peers = []
        for name, router in hosts.items():
            host = router.host(name)
            if name in blocked:
                block(host, PacketProtocol.UDP)
            peers.append(pairs.caller(host))
        pairs.ready()
        a, b = peers
        b.echoes()
        self.called = pairs.internet.seconds()
        return pairs, a, b, pairs.talk(a, b)

    def test_blocked(self) -> None:
        """
        UDP is blocked on either side or on both: the session is relayed at once, and direct over
        TCP soon after, whatever the routers answer to SYNs.
        """
        for blocked in ("a", "b", "ab"):
            for uninvited in (Uninvited.DROP, Uninvited.RESET, Uninvited.ACCEPT):
                pairs, a, b, talk = self.meet(blocked, NAT(uninvited=uninvited))
                talk.transport.write(b"relayed")
                pairs.internet.advance(2 * UNIT)
                self.assertEqual(talk.data, b"relayed")
                self.assertEqual(a.events, [])
                pairs.internet.advance(DIRECT)
                for caller in (a, b):
                    ((time, event),) = caller.events
                    self.assertEqual((event.kind, event.transport), ("direct", "tcp"))
                    self.assertLess(time - self.called, DIRECT)
                    self.assertIsNotNone(event.roundTrip)
                before = pairs.node.counters.packets
                talk.transport.write(bytes(100_000))
                pairs.internet.advance(5.0)
                self.assertEqual(talk.count, 7 + 100_000)
                # Nothing of it passes the node: it would take ten times as many.
                self.assertLess(pairs.node.counters.packets - before, 50)
                pairs.close()

    def test_notNeeded(self) -> None:
        """
        Where UDP comes up, TCP is not tried.
        """
        pairs, a, _, _ = self.meet("")
        pairs.internet.advance(5.0)
        self.assertEqual([event.transport for _, event in a.events], ["udp"])
        self.assertEqual(len(a.peer._requireReach().opener), 0)
        pairs.close()

    def session(self, caller: Caller) -> Session:
        """
        @return: its one session.
        """
        (held,) = caller.peer._sessions._held.values()
        return held.session

    def test_dies(self) -> None:
        """
        A path over TCP that dies is left for the relay within a second or so, and found again.
        """
        pairs, a, _, talk = self.meet("ab")
        pairs.internet.advance(DIRECT)
        path = self.session(a).carrier.direct
        assert isinstance(path, TCPPath)
        undo = _blockTCP(a.host, path.remote[0])
        for _ in range(20):
            talk.transport.write(b"still there? ")
            pairs.internet.advance(0.1)
        pairs.internet.advance(1.0)
        self.assertEqual(len(talk.data), 20 * 13)
        pairs.internet.advance(7.0)
        self.assertEqual(self.kinds(a.events), ["direct", "relayed"])
        undo()
        pairs.internet.advance(PAUSE_FIRST + 60.0)
        self.assertEqual(self.kinds(a.events), ["direct", "relayed", "direct"])
        pairs.close()

    def test_UDPComesBack(self) -> None:
        """
        A session on TCP goes on over UDP when that passes again.
        """
        pairs = self.pairs()
        STUNStreamService(pairs.node, (NODE, STUN_PORT)).startService()
        routers = pairs.twoRouters()
        hosts = [router.host(name) for name, router in zip("ab", routers, strict=True)]
        undo = [block(host, PacketProtocol.UDP) for host in hosts]
        a, b = (pairs.caller(host) for host in hosts)
        pairs.ready()
        b.echoes()
        talk = pairs.talk(a, b)
        pairs.internet.advance(DIRECT)
        for unblock in undo:
            unblock()
        pairs.internet.advance(150.0)
        transports = [event.transport for _, event in a.events]
        self.assertEqual((transports[0], transports[-1]), ("tcp", "udp"))
        for each in (a, b):  # not on the relay between, as the other side may be a bit later
            self.assertEqual({event.kind for _, event in each.events}, {"direct"})
        talk.transport.write(b"still there?")
        pairs.internet.advance(1.0)
        self.assertEqual(talk.data, b"still there?")
        pairs.close()

    def test_hopeless(self) -> None:
        """
        Where TCP does not meet either the session stays relayed, and tries seldom.
        """
        pairs, a, _, talk = self.meet("ab", SYMMETRIC)
        pairs.internet.advance(PAUSE_FIRST)
        self.assertEqual(a.events, [])
        before = a.host.counters.packetsSent
        pairs.internet.advance(600.0)
        # Three attempts of TCP, with few SYNs, beside what UDP costs.
        self.assertLess(a.host.counters.packetsSent - before, 600)
        talk.transport.write(b"still there?")
        pairs.internet.advance(1.0)
        self.assertEqual(talk.data, b"still there?")
        pairs.close()

    def test_offers(self) -> None:
        """
        The caller answers no offers; the other side few of them, and none that are malformed.
        """
        pairs, a, b, _ = self.meet("ab")
        pairs.internet.advance(DIRECT)
        caller, called = self.session(a), self.session(b)
        heard: list[TCPSignal] = []
        tell = caller.carrier.signalReceived

        def listen(data: bytes) -> None:
            if isTCPSignal(data):
                heard.append(decodeSignal(data))
            tell(data)

        caller.carrier.signalReceived = listen  # type: ignore[method-assign]
        credentials = b"\x04abcd\x16" + b"p" * 22
        for number in range(10):
            caller.signal(bytes((2, SignalType.OFFER)) + b"session%d" % number + credentials)
            called.signal(bytes((2, SignalType.OFFER)) + b"session%d" % number + credentials)
            pairs.internet.advance(0.5)
        caller.signal(bytes((2, SignalType.OFFER)) + b"malformed")
        caller.signal(bytes((2, SignalType.START)) + b"session9")
        pairs.internet.advance(30.0)
        answers = [signal for signal in heard if isinstance(signal, Answer)]
        # With the one that made the path, three at once.
        self.assertEqual(len(answers), 2)
        self.assertEqual([event.transport for _, event in a.events], ["tcp"])
        pairs.close()


def _blockTCP(host: Host, remote: str) -> Callable[[], None]:
    wire = host.link
    sendUp = wire.sendUp

    def sift(packet: Packet) -> None:
        if packet.destination[0] != remote:
            sendUp(packet)

    wire.sendUp = sift  # type: ignore[method-assign]
    return lambda: setattr(wire, "sendUp", sendUp)
