"""
A peer that says that it is where somebody else is: what an honest program sends there.
"""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.ice.candidate import CandidateType, makeCandidate
from p2ptwist.core.ice.signal import Description, Goodbye, SignalType, decodeSignal, encodeSignal
from p2ptwist.core.ladder.message import Stand, encodeMessage
from p2ptwist.core.ladder.posture import Posture
from p2ptwist.core.nat import NATBehavior, NATFiltering, NATMapping, PortAllocation
from p2ptwist.net.climb import Gear, budgetOf, memoryOf
from p2ptwist.net.datagramport import DatagramPort
from p2ptwist.net.puncher import Puncher
from p2ptwist.peer.udpsearch import UDPSearch
from p2ptwist.testing import NAT, Host, Link, Mapping
from p2ptwist.testing import PortAllocation as Ports
from tests.sim.neighborhood import Neighborhood
from tests.sim.searching import SERVER, Addresses
from tests.sim.sessions import Caller, SessionPairs
from tests.sim.test_pairs import A_EXTERNAL, B_EXTERNAL

OWN, VICTIM = "203.0.113.1", "203.0.113.9"
HALF_AN_HOUR = 1800.0
STRICT = NATFiltering.ADDRESS_AND_PORT_DEPENDENT
SCATTERED = NATBehavior(NATMapping.ADDRESS_AND_PORT_DEPENDENT, STRICT, PortAllocation.RANDOM)
RANDOM = NAT(mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT, allocation=Ports.RANDOM)


class Liar:
    """
    One session of a peer that says that it is at the victim's, and at an address of nobody's that
    is another one in each session.
    """

    def __init__(self, honest: Host, puncher: Puncher, addresses: Addresses, number: int) -> None:
        """
        @param honest: where the honest program is.
        @param puncher: its.
        @param addresses: where it is reached.
        @param number: of the session.
        """
        self._honest = honest
        self._session = number.to_bytes(8, "big")
        self._decoy = f"11.0.{number // 250}.{number % 250}"
        self._search = UDPSearch(
            honest,
            puncher,
            addresses,
            Random(number),
            self._said,
            lambda punch: None,
            lambda: False,
        )

    def offer(self) -> None:
        """
        Have the honest side look for a path.
        """
        addresses = ((VICTIM, 4000), (self._decoy, 4000))
        kind = CandidateType.SERVER_REFLEXIVE
        candidates = tuple(makeCandidate(kind, each) for each in addresses)
        offer = Description(
            SignalType.OFFER, self._session, 0, b"peer", b"p" * 24, candidates, True, SCATTERED
        )
        self._tell(encodeSignal(offer))

    def leave(self) -> None:
        """
        Say goodbye.
        """
        self._tell(encodeSignal(Goodbye(self._session, "another time")))
        self._search.close("over")

    def _said(self, data: bytes) -> None:
        """
        Agree to be sprayed at the victim's.
        """
        said = decodeSignal(data)
        if isinstance(said, Stand) and not said.reply:
            stand = Stand(said.session, said.round, True, Posture.SCATTERED, (VICTIM, 4000))
            self._honest.callLater(0.05, self._tell, encodeMessage(stand))

    def _tell(self, data: bytes) -> None:
        self._search.signalReceived(decodeSignal(data), True)


class VictimTests(SynchronousTestCase):
    """
    An honest program, a liar, and a host that never asked for anything.
    """

    def lie(self, seconds: float) -> tuple[int, int]:
        """
        For half an hour, let a session follow the other.

        @param seconds: of each.
        @return: how many sessions there were, and how many packets came to the victim.
        """
        internet = Neighborhood().internet
        victim = internet.host("victim", VICTIM, link=Link(latency=0.01))
        host = internet.router("router", OWN, nat=NAT()).host("honest")
        port = DatagramPort(host)
        port.listen()
        random = Random(1)
        puncher = Puncher(host, port.write, random.randbytes)
        puncher.gear = Gear(
            host, port, lambda: SERVER, lambda: None, budgetOf(host), random, memoryOf(host)
        )
        port.addConsumer(puncher.datagramReceived)
        addresses = Addresses()
        addresses.known = (
            makeCandidate(CandidateType.HOST, (host.address, port.localPort)),
            makeCandidate(CandidateType.SERVER_REFLEXIVE, (OWN, port.localPort)),
        )
        sessions = 0
        while internet.seconds() < HALF_AN_HOUR:
            sessions += 1
            liar = Liar(host, puncher, addresses, sessions)
            liar.offer()
            internet.advance(seconds)
            liar.leave()
            internet.advance(1.0)
        port.stopListening()
        return sessions, victim.counters.packetsReceived

    def test_bounded(self) -> None:
        """
        However soon the liar leaves: not more than four sprays in half an hour, and the eight
        ordinary checks at most that a session sends to each address.
        """
        for seconds in (44.0, 14.0):
            sessions, packets = self.lie(seconds)
            self.assertGreater(packets, 5000)
            self.assertLessEqual(packets, 7040 + 8 * sessions)


class HonestTests(SynchronousTestCase):
    """
    Who answers.
    """

    def test_again(self) -> None:
        """
        Two networks that meet by spraying do so again and again: what was sent to a host with
        which there is a path counts no more, on either side.
        """
        pairs = SessionPairs()
        hosts = [
            router.host(name)
            for router, name in zip(pairs.twoRouters(NAT(), RANDOM), "ab", strict=True)
        ]
        sides = [[pairs.caller(host) for host in hosts] for _ in range(2)]
        pairs.ready()
        for caller, callee in sides:
            callee.echoes()
            self.connect(pairs, caller, callee)
            pairs.internet.advance(22.0)
            for host, other in zip(hosts, (B_EXTERNAL, A_EXTERNAL), strict=True):
                self.assertEqual(budgetOf(host).left(other, pairs.internet.seconds()), 5280.0)
        pairs.close()

    def connect(self, pairs: SessionPairs, caller: Caller, callee: Caller) -> None:
        """
        Have one call the other, and wait until they are direct.
        """
        pairs.talk(caller, callee).transport.write(b"hello")
        end = pairs.internet.seconds() + 22.0
        while not all(
            side.events and side.events[-1][1].kind == "direct" for side in (caller, callee)
        ):
            self.assertLess(pairs.internet.seconds(), end)
            pairs.internet.advance(0.05)
