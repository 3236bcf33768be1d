"""
Why a session is relayed, and how quiet it is then.
"""

from __future__ import annotations

from p2ptwist.core.ladder.budget import QUIET_TIME
from p2ptwist.core.session.control import CloseCode
from p2ptwist.net.attempts import AttemptBegun
from p2ptwist.net.climb import budgetOf
from p2ptwist.net.stunstreams import STUNStreamService
from p2ptwist.testing import NAT, Mapping, PortAllocation
from p2ptwist.testing.packet import Packet
from p2ptwist.testing.packet import Protocol as PacketProtocol
from tests.sim.neighborhood import NODE, STUN_PORT
from tests.sim.sessions import Caller, SessionCase, SessionPairs, Talk, block

_APD = Mapping.ADDRESS_AND_PORT_DEPENDENT
HOME = NAT()
RANDOM = NAT(mapping=_APD, tcpMapping=_APD, allocation=PortAllocation.RANDOM)
NO_UDP = NAT(udpPorts=frozenset())
NO_UDP_RANDOM = NAT(
    udpPorts=frozenset(), mapping=_APD, tcpMapping=_APD, allocation=PortAllocation.RANDOM
)
STRICT = "address-and-port-dependent mapping with address-and-port-dependent filtering"


def apart(one: Caller, other: Caller) -> None:
    """
    Let the sites of two peers hear nothing of each other over UDP.
    """
    for caller in (one, other):
        wire = caller.host.link
        sendUp = wire.sendUp

        def sift(packet: Packet, sendUp: object = sendUp) -> None:
            away = packet.destination[0].startswith("203.0.113.")
            if packet.protocol is not PacketProtocol.UDP or not away:
                sendUp(packet)  # type: ignore[operator]

        wire.sendUp = sift  # type: ignore[method-assign]


class RelayedCase(SessionCase):
    """
    What tests of relayed sessions share.
    """

    def relayed(self, a: NAT, b: NAT) -> tuple[SessionPairs, Caller, Caller]:
        """
        @return: two peers, ready.
        """
        pairs = self.pairs()
        STUNStreamService(pairs.node, (NODE, STUN_PORT)).startService()
        routers = zip("ab", pairs.twoRouters(a, b), strict=True)
        alice, bob = (pairs.caller(router.host(name)) for name, router in routers)
        pairs.ready()
        bob.echoes()
        return pairs, alice, bob

    def call(self, pairs: SessionPairs, a: Caller, b: Caller) -> Talk:
        """
        @return: a stream.
        """
        return pairs.talk(a, b)

    def why(self, caller: Caller, other: Caller) -> str:
        """
        @return: why the session is relayed.
        """
        path = caller.peer.path(other.peerID)
        assert path is not None
        self.assertEqual(path.kind, "relayed")
        self.assertNotIn("\n", path.reason or "")
        return path.reason or ""


class ReasonTests(RelayedCase):
    """
    One line that names the cause.
    """

    def test_random(self) -> None:
        """
        Both sides' ports are random, also those of TCP.
        """
        pairs, a, b = self.relayed(RANDOM, RANDOM)
        self.call(pairs, a, b)
        self.assertEqual(self.why(a, b), "")
        pairs.internet.advance(15.0)
        for caller, other in ((a, b), (b, a)):
            reason = self.why(caller, other)
            for words in (
                "both sides' ports are random",
                f"this side's NAT has {STRICT} and random ports, the other side's has {STRICT}",
                "no direct path over TCP in 10 s",
            ):
                self.assertIn(words, reason)
        pairs.close()

    def test_blocked(self) -> None:
        """
        UDP is blocked on one side or both, and TCP finds no way.
        """
        for near, far, words in (
            (NO_UDP_RANDOM, NO_UDP_RANDOM, ("blocked on both sides",) * 2),
            (NO_UDP_RANDOM, RANDOM, ("blocked on this side", "blocked on the other side")),
        ):
            pairs, a, b = self.relayed(near, far)
            self.call(pairs, a, b)
            pairs.internet.advance(20.0)
            for caller, other, expected in ((a, b, words[0]), (b, a, words[1])):
                reason = self.why(caller, other)
                self.assertIn(f"UDP seems to be {expected}, as no STUN server", reason)
                self.assertNotIn("unknown mapping", reason)
                self.assertIn("no direct path over TCP in 10 s", reason)
            pairs.close()

    def test_refused(self) -> None:
        """
        The same where there is nobody to observe TCP by, so that all dials are refused.
        """
        pairs = self.pairs()
        a, b = pairs.two(blockUDP=True)
        b.echoes()
        self.call(pairs, a, b)
        pairs.internet.advance(20.0)
        reason = self.why(a, b)
        self.assertIn("blocked on both sides", reason)
        self.assertIn("no direct path over TCP in 10 s", reason)
        pairs.close()

    def sprayedInVain(self) -> tuple[SessionPairs, Caller, Caller]:
        """
        @return: two peers that have sprayed, and found nothing.
        """
        pairs, a, b = self.relayed(HOME, RANDOM)
        apart(a, b)
        self.call(pairs, a, b)
        pairs.internet.advance(24.0)
        return pairs, a, b

    def test_sprayed(self) -> None:
        """
        What the ladder found is told after later attempts as well, which climb no more.
        """
        pairs, a, b = self.sprayedInVain()
        for _ in range(4):
            for caller, other in ((a, b), (b, a)):
                reason = self.why(caller, other)
                self.assertRegex(reason, r"birthday spraying sent \d{3,4} checks, and none found")
                self.assertIn(STRICT, reason)
                self.assertNotIn("ended it", reason.partition("over TCP")[0])
            pairs.internet.advance(100.0)
        pairs.close()

    def test_again(self) -> None:
        """
        A session of the same networks says that it was tried before.
        """
        pairs, a, b = self.sprayedInVain()
        for caller in (a, b):
            (held,) = caller.peer._sessions._held.values()
            held.session.close(CloseCode.CLOSED, "again")
        pairs.internet.advance(1.0)
        self.call(pairs, a, b)
        pairs.internet.advance(15.0)
        self.assertIn("came to nothing between these networks before", self.why(a, b))
        pairs.close()

    def test_switchedOff(self) -> None:
        """
        Who does not climb says so, and the other side that nobody took part.
        """
        for off in (0, 1):
            pairs, *callers = self.relayed(HOME, RANDOM)
            callers[off].peer._requireReach().puncher.gear = None
            a, b = callers
            self.call(pairs, a, b)
            pairs.internet.advance(30.0)
            reason = self.why(callers[off], callers[1 - off])
            self.assertIn("was not tried, as it is switched off here", reason)
            if off == 1:
                self.assertIn("the other side did not take part in it", self.why(a, b))
            pairs.close()

    def test_quietTime(self) -> None:
        """
        While another spray, or the quiet after it, is waited for, that is the reason.
        """
        pairs, a, b = self.relayed(HOME, RANDOM)
        apart(a, b)
        other = object()
        budget = budgetOf(a.host)
        budget.beginSpray(other, pairs.internet.seconds())
        budget.endSpray(other, pairs.internet.seconds())
        self.call(pairs, a, b)
        pairs.internet.advance(3.0)
        self.assertIn("no direct path yet; birthday spraying is put off", self.why(a, b))
        pairs.internet.advance(QUIET_TIME - 8.0)
        self.assertIn("; birthday spraying is put off", self.why(a, b))
        pairs.internet.advance(30.0)
        self.assertIn("birthday spraying sent", self.why(a, b))
        pairs.close()

    def test_noAnswers(self) -> None:
        """
        A node whose STUN is silent looks like a network without UDP, and nobody says of NATs what
        nobody has measured.
        """
        pairs = self.pairs()
        block(pairs.node, PacketProtocol.UDP)
        routers = zip("ab", pairs.twoRouters(), strict=True)
        a, b = (pairs.caller(router.host(name)) for name, router in routers)
        pairs.ready()
        b.echoes()
        self.call(pairs, a, b)
        pairs.internet.advance(20.0)
        self.assertIn("on both sides, as no STUN server answers either", self.why(a, b))
        pairs.close()


class QuietTests(RelayedCase):
    """
    What a session sends that does not become direct.
    """

    def sent(self, pairs: SessionPairs, caller: Caller, seconds: float) -> list[int]:
        """
        @return: for each second, the packets that the host has sent.
        """
        counts = []
        for _ in range(round(seconds)):
            before = caller.host.counters.packetsSent
            pairs.internet.advance(1.0)
            counts.append(caller.host.counters.packetsSent - before)
        return counts

    def test_quiet(self) -> None:
        """
        After some twenty seconds there are a few checks every some minutes, whatever was tried.
        """
        for a, b in ((RANDOM, RANDOM), (HOME, RANDOM), (NO_UDP_RANDOM, NO_UDP_RANDOM)):
            pairs, alice, bob = self.relayed(a, b)
            apart(alice, bob)
            self.call(pairs, alice, bob)
            pairs.internet.advance(24.0)
            soon = self.sent(pairs, alice, 25.0)
            self.assertLess(sum(soon), 50, soon)
            later = self.sent(pairs, alice, 900.0)
            busy = [count for count in later if count > 4]
            self.assertLess(len(busy), 90, later)
            self.assertLess(sum(later), 900, later)
            pairs.close()

    def attempts(self, caller: Caller) -> list[object]:
        """
        @return: the attempts that the peer makes from now on.
        """
        begun: list[object] = []

        def observe(event: object) -> None:
            if isinstance(event, AttemptBegun):
                begun.append(event.transport)

        caller.peer._requireReach().observe(observe)
        return begun

    def hopeless(self) -> tuple[SessionPairs, list[Caller], list[object]]:
        """
        @return: two peers that will not be direct, the first of which has called, some minutes
            after that; and the attempts that it makes.
        """
        pairs, *callers = self.relayed(RANDOM, RANDOM)
        self.call(pairs, callers[0], callers[1])
        pairs.internet.advance(500.0)
        begun = self.attempts(callers[0])
        while not begun:
            pairs.internet.advance(1.0)
        pairs.internet.advance(20.0)
        begun.clear()
        return pairs, callers, begun

    def test_change(self) -> None:
        """
        Another address of either side is tried at once, over UDP and TCP; but not every second, if
        it changes all the time.
        """
        for side in (0, 1):
            pairs, callers, begun = self.hopeless()
            pairs.internet.advance(5.0)
            self.assertEqual(begun, [])
            local = callers[side].peer._requireReach().local
            local.mapped([("203.0.113.9", 4000)])
            pairs.internet.advance(2.0)
            self.assertEqual(sorted(begun), ["tcp", "udp"])
            for port in range(5000, 5200):
                local.mapped([("203.0.113.9", port)])
                pairs.internet.advance(1.0)
            self.assertLess(begun.count("udp"), 20, begun)
            pairs.close()

    def test_link(self) -> None:
        """
        When the link was away and is there again, an attempt is made at once.
        """
        pairs, _, begun = self.hopeless()
        pairs.killNode()
        pairs.internet.advance(1.0)
        pairs.startNode()
        pairs.internet.advance(10.0)
        self.assertIn("udp", begun)
        pairs.close()

    def test_renewed(self) -> None:
        """
        An attempt to renew a path, whose ladder is put off and which comes to nothing, is no part
        of the search after that path: its first attempt is made at once, and nothing is said of
        why there was none before.
        """
        pairs, alice, bob = self.relayed(HOME, RANDOM)
        self.call(pairs, alice, bob)
        pairs.internet.advance(40.0)
        (held,) = alice.peer._sessions._held.values()
        carrier = held.session.carrier
        budget, other = budgetOf(alice.host), object()
        budget.beginSpray(other, pairs.internet.seconds())
        budget.endSpray(other, pairs.internet.seconds())
        carrier._udp.renew()
        pairs.internet.advance(60.0)
        self.assertEqual(carrier.kind, "direct")
        begun = self.attempts(alice)
        assert carrier.direct is not None
        carrier.direct.close()
        self.assertEqual(self.why(alice, bob), "")
        pairs.internet.advance(1.1)
        self.assertIn("udp", begun)
        pairs.close()
