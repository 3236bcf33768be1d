"""
Tests for L{p2ptwist.net.expedition} and the extra sockets of L{p2ptwist.net.climb}: what comes to
them, and what becomes of them.
"""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.address import HostPort
from p2ptwist.core.ice.agent import Agent
from p2ptwist.core.ice.candidate import Candidate, CandidateType, makeCandidate
from p2ptwist.core.ice.signal import Description, SignalType
from p2ptwist.core.ladder.budget import Budget
from p2ptwist.core.ladder.ground import AIM_DEPTHS, SCATTER_SOCKETS
from p2ptwist.core.ladder.message import Stand, decodeMessage
from p2ptwist.core.ladder.posture import Posture
from p2ptwist.core.nat import NATBehavior, NATMapping, PortAllocation
from p2ptwist.core.stun.binding import bindingRequest
from p2ptwist.core.stun.message import Message, MessageClass, encode
from p2ptwist.net.climb import OBSERVE_TIME, Gear
from p2ptwist.net.datagramport import DatagramPort
from p2ptwist.net.expedition import Expedition
from p2ptwist.net.stunserver import STUNService
from p2ptwist.testing import Internet, Link
from tests.sim.searching import CrampedPort

OWN, OTHER, NOBODY = "203.0.113.1", "203.0.113.2", ("192.0.2.77", 3478)
STEADY = NATBehavior(NATMapping.ENDPOINT_INDEPENDENT)
SCATTERED = NATBehavior(NATMapping.ADDRESS_DEPENDENT, allocation=PortAllocation.RANDOM)
AIMED = NATBehavior(NATMapping.ADDRESS_DEPENDENT, allocation=PortAllocation.SEQUENTIAL, step=1)
# Without FINGERPRINT, which checks have (RFC 8445 section 7.1).
BARE = bindingRequest(b"twelve bytes")
CHECK = encode(MessageClass.REQUEST, 1, b"twelve bytes", fingerprint=True)


class ExpeditionTests(SynchronousTestCase):
    """
    One side's climb; the other side is a plain socket.
    """

    def setUp(self) -> None:
        """
        Two hosts.
        """
        self.internet = Internet()
        link = Link(latency=0.01)
        self.host = self.internet.host("a", OWN, link=link)
        self.port = CrampedPort(self.host)
        self.port.listen()
        self.otherHost = self.internet.host("b", OTHER, link=Link(latency=0.01))
        self.other = DatagramPort(self.otherHost)
        self.other.listen()
        self.server: HostPort | None = NOBODY
        self.offered: list[tuple[DatagramPort, int, HostPort]] = []
        self.said: list[bytes] = []
        self.ended = 0
        self.takes = False

    def start(self, behavior: NATBehavior) -> Expedition:
        """
        @return: the climb of a side whose NAT behaves so, with one that is steady.
        """
        random = Random(1)
        agent = Agent(False, random.randbytes, self.host.seconds(), b"8 bytes!")
        agent.setBehavior(behavior)
        agent.addCandidates([self.reflexive(OWN)], self.host.seconds())
        offer = Description(
            SignalType.OFFER,
            agent.session,
            0,
            b"peer",
            b"p" * 24,
            (self.reflexive(OTHER),),
            True,
            STEADY,
        )
        agent.receiveSignal(offer, self.host.seconds())
        gear = Gear(self.host, self.port, lambda: self.server, lambda: None, Budget(), random)
        expedition = Expedition(gear, agent, self.said.append, self.take, self.over)
        expedition.survey()
        stand = Stand(agent.session, 0, False, Posture.STEADY, (OTHER, self.other.localPort))
        expedition.hear(stand)
        return expedition

    def reflexive(self, host: str) -> Candidate:
        """
        @return: the server-reflexive candidate of either side.
        """
        port = self.port if host == OWN else self.other
        return makeCandidate(CandidateType.SERVER_REFLEXIVE, (host, port.localPort))

    def take(self, port: DatagramPort, message: Message, length: int, source: HostPort) -> bool:
        """
        Keep what is offered.
        """
        self.offered.append((port, length, source))
        return self.takes

    def over(self) -> None:
        """
        Count.
        """
        self.ended += 1

    @property
    def ports(self) -> int:
        """
        How many ports are open.
        """
        return len(self.host.getReaders())

    def finish(self, expedition: Expedition, left: int = 1) -> None:
        """
        Stop, and see that nothing but so many ports is left.
        """
        expedition.stop()
        expedition.stop()
        self.internet.advance(0.1)
        self.assertEqual((self.ports, self.ended, expedition.exhausted), (left, 1, False))
        self.assertEqual(list(self.host.getDelayedCalls()), [])

    def test_malformed(self) -> None:
        """
        What is no check is nobody's; a check that is not authentic changes nothing; an authentic
        one keeps its socket, and closes the others.
        """
        expedition = self.start(SCATTERED)
        self.assertEqual(self.ports, SCATTER_SOCKETS + 1)
        ports = [each.getHost().port for each in self.host.getReaders()]  # type: ignore[attr-defined]
        address = (OWN, max(set(ports) - {self.port.localPort}))
        for data in (b"", b"\0", b"hello", BARE, CHECK[:-1], CHECK + b"\0", b"\xff" * 1500):
            self.other.write(data, address)
        self.internet.advance(0.1)
        self.assertEqual(self.offered, [])
        self.other.write(CHECK, address)
        self.internet.advance(0.1)
        source = (OTHER, self.other.localPort)
        ((extra, length, seen),) = self.offered
        self.assertEqual((extra.localPort, length, seen), (address[1], len(CHECK), source))
        self.assertEqual(self.ports, SCATTER_SOCKETS + 1)
        self.takes = True
        self.other.write(CHECK, address)
        self.internet.advance(0.1)
        self.assertEqual((self.ports, self.ended), (2, 1))
        self.assertGreater(extra.localPort, 0)
        extra.stopListening()
        self.finish(expedition)

    def test_someRoom(self) -> None:
        """
        Where the system gives some sockets only, those are used; where it gives none, the other
        side hears nothing.
        """
        for room in (9, 0):
            self.said.clear()
            self.port.room = room
            self.ended = 0
            expedition = self.start(SCATTERED)
            self.assertEqual(self.ports, 1 + room)
            self.internet.advance(1.0)
            self.assertEqual(len(self.said), min(room, 1))
            self.finish(expedition)

    def test_noServer(self) -> None:
        """
        An aimed side that has no STUN server, or no port to ask from, or gets no answer, says
        nothing, and leaves no port open.
        """
        for server, room in ((None, 9), (NOBODY, 0), (NOBODY, 9)):
            self.server, self.port.room, self.ended = server, room, 0
            expedition = self.start(AIMED)
            self.internet.advance(OBSERVE_TIME + 0.1)
            self.assertEqual((self.ports, self.said), (1, []))
            self.finish(expedition)

    def test_stoppedWhileAsking(self) -> None:
        """
        The port that asks a STUN server is closed as well.
        """
        expedition = self.start(AIMED)
        self.assertEqual(self.ports, 2)
        self.finish(expedition)

    def test_aimed(self) -> None:
        """
        With a server it opens as many sockets as it foretells, and says so.
        """
        service = STUNService(self.otherHost, (OTHER, 3478), None, limits=None)
        service.startService()
        self.server = (OTHER, 3478)
        expedition = self.start(AIMED)
        self.internet.advance(OBSERVE_TIME)
        self.assertEqual(self.ports, 1 + AIM_DEPTHS[0])
        (stand,) = map(decodeMessage, self.said)
        assert isinstance(stand, Stand)
        self.assertEqual((stand.posture, stand.address[0]), (Posture.AIMED, OWN))
        self.finish(expedition)
        service.stopService()
