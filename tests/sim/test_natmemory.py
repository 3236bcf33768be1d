"""
What a peer measures of its NATs in the background, network by network, and how that drives what it
sends.
"""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.nat import NATBehavior, NATMapping
from p2ptwist.testing import NAT, Mapping
from tests.sim.test_localcandidates import EXTERNAL, SERVER, World


class BackgroundTests(SynchronousTestCase):
    """
    L{p2ptwist.net.localcandidates.LocalCandidates}, while time passes and networks change.
    """

    def test_lifetime(self) -> None:
        """
        A minute later the lifetime of mappings is measured, once, and if it is short the server is
        asked at half of it.
        """
        world = World(self, NAT(udpTimeout=20.0))
        world.gather(SERVER)
        world.internet.advance(50.0)
        self.assertIsNone(world.local.behavior.lifetime)
        world.internet.advance(100.0)
        lifetime = world.local.behavior.lifetime
        assert lifetime is not None
        self.assertTrue(18.0 <= lifetime <= 20.0, lifetime)
        self.assertIs(world.local.behavior.mapping, NATMapping.ENDPOINT_INDEPENDENT)
        before = world.host.counters.packetsSent
        world.internet.advance(600.0)
        asked = world.host.counters.packetsSent - before
        self.assertGreaterEqual(asked, 600 / (lifetime / 2))
        self.assertLess(asked, 600 / (lifetime / 2) / 0.9 + 2)
        world.close()

    def test_remembered(self) -> None:
        """
        What was measured in a network is known at once when the host comes back to it, and a
        network that was never seen is unknown until it is measured.
        """
        world = World(self, NAT(udpTimeout=20.0))
        world.gather(SERVER)
        world.internet.advance(150.0)
        known = world.local.behavior
        self.assertIsNotNone(known.lifetime)
        home = world.internet.routers["home"]
        home.changeExternal("203.0.113.99")
        world.gather(SERVER)
        self.assertEqual(world.local.behavior, NATBehavior())
        world.internet.advance(5.0)
        self.assertEqual(world.local.behavior, replace(known, lifetime=None))
        home.changeExternal(EXTERNAL)
        world.gather(SERVER)
        self.assertEqual(world.local.behavior, known)
        world.close()

    def test_leftMeanwhile(self) -> None:
        """
        A network that was left while it was measured is given up, and the new one measured.
        """
        world = World(self, NAT(mapping=Mapping.ADDRESS_DEPENDENT))
        world.gather(SERVER)
        world.internet.advance(0.3)
        world.internet.routers["home"].changeExternal("203.0.113.99")
        world.gather(SERVER)
        world.internet.advance(5.0)
        self.assertIs(world.local.behavior.mapping, NATMapping.ADDRESS_DEPENDENT)
        self.assertEqual(world.changes, 5)
        world.close()

    def test_stoppedMeanwhile(self) -> None:
        """
        Stopping ends whatever is measured.
        """
        for moment in (0.01, 0.5, 3.0, 59.0, 61.0, 80.0):
            world = World(self, NAT())
            world.gather(SERVER)
            world.internet.advance(moment)
            world.close()
