"""
Sessions of peers whose routers map ports.
"""

from __future__ import annotations

from dataclasses import replace

from p2ptwist.net.portmapping import PortMappings
from p2ptwist.peer.service import PathEvent
from p2ptwist.testing import NAT, Mapping, PortAllocation
from p2ptwist.testing.portmapper import PortMapper, Trouble
from tests.sim.sessions import SessionCase, SessionPairs

# Random ports in both directions: nobody can guess them.
RANDOM = NAT(mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT, allocation=PortAllocation.RANDOM)
MAPPERS = (PortMapper(natPMP=False), PortMapper(pcp=False), PortMapper())


def behind(mapper: PortMapper | None) -> NAT:
    """
    @return: the hardest NAT, whose router maps ports.
    """
    return replace(RANDOM, portMapping=mapper)


class MappedPeersTests(SessionCase):
    """
    Two peers behind symmetric NATs.
    """

    def connect(
        self, near: PortMapper | None, far: PortMapper | None, seconds: float = 5.0
    ) -> tuple[float, list[PathEvent], SessionPairs]:
        """
        Call from one side to the other.

        @return: the seconds until the stream was open, what the caller was told of paths in so
            many seconds, and the neighborhood.
        """
        pairs = self.pairs()
        routers = pairs.twoRouters(behind(near), behind(far))
        caller, callee = (
            pairs.caller(router.host(name)) for router, name in zip(routers, "ab", strict=True)
        )
        pairs.ready()
        callee.echoes()
        start = pairs.internet.seconds()
        pairs.talk(caller, callee)
        opened = pairs.internet.seconds() - start
        pairs.internet.advance(seconds)
        return opened, [event for _, event in caller.events], pairs

    def test_direct(self) -> None:
        """
        They are direct over UDP when either's router maps ports, and at the end nothing is left of
        that.
        """
        for mapper in MAPPERS:
            for near, far in ((mapper, None), (None, mapper)):
                _, events, pairs = self.connect(near, far)
                self.assertEqual((events[-1].kind, events[-1].transport), ("direct", "udp"))
                pairs.close()

    def test_relayed(self) -> None:
        """
        They are not when neither's does.
        """
        _, events, pairs = self.connect(None, None)
        self.assertNotIn("direct", {event.kind for event in events})
        pairs.close()

    def test_trouble(self) -> None:
        """
        A router that lies costs nothing, however it does: the stream is open as soon as without.
        """
        expected, _, pairs = self.connect(None, None, 0.0)
        pairs.close()
        for trouble in Trouble:
            opened, _, pairs = self.connect(PortMapper(trouble=trouble), None, 0.0)
            self.assertAlmostEqual(opened, expected, places=3)
            pairs.close()

    def test_candidates(self) -> None:
        """
        A mapped address is offered, until it is no more; who wants none has none.
        """
        pairs = self.pairs()
        near, far = pairs.twoRouters(behind(PortMapper()), behind(PortMapper()))
        caller = pairs.caller(near.host("a"))
        other = pairs.caller(far.host("b"), portMapping=False)
        pairs.ready()
        self.assertEqual(len(near.forwards()), 1)
        self.assertEqual(far.forwards(), [])
        ((external,),) = ({each.external for each in near.forwards()},)
        reach = caller.peer._requireReach()
        self.assertIn(external, [each.address for each in reach.local.candidates()])
        pairs.internet.runUntil(other.peer.stopService(), timeout=5.0)
        pairs.internet.runUntil(caller.peer.stopService(), timeout=5.0)
        self.assertEqual(near.forwards(), [])

    def test_double(self) -> None:
        """
        What STUN servers see tells that another NAT is in front.
        """
        pairs = self.pairs()
        near, _ = pairs.twoRouters(behind(PortMapper(announces="203.0.113.200")), RANDOM)
        caller = pairs.caller(near.host("a"))
        pairs.ready()
        mappings = caller.peer._requireReach()._mappings
        assert isinstance(mappings, PortMappings)
        self.assertEqual({each.doubleNAT for each in mappings.reports()}, {True})
        pairs.close()
