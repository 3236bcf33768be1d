"""
Tests for L{p2ptwist.net.hostaddresses}.
"""

from __future__ import annotations

import ifaddr
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from p2ptwist.core.address import canonicalHost
from p2ptwist.interfaces import IHostAddresses
from p2ptwist.net.hostaddresses import SystemAddresses, hostAddresses
from p2ptwist.testing import Internet


class SystemAddressesTests(SynchronousTestCase):
    """
    The addresses of the machine that runs this test.
    """

    def test_interface(self) -> None:
        """
        It provides what a reactor may provide itself.
        """
        self.assertTrue(verifyObject(IHostAddresses, SystemAddresses()))

    def test_loopback(self) -> None:
        """
        The loopback address is among them, and all are canonical, without scopes.
        """
        found = SystemAddresses().hostAddresses()
        self.assertIn("127.0.0.1", found)
        self.assertEqual(list(found), [canonicalHost(each) for each in found])
        self.assertEqual([each for each in found if "%" in each], [])

    def test_forbidden(self) -> None:
        """
        A system that does not let a program know its addresses leaves it with none.
        """

        def forbidden() -> None:
            raise PermissionError(13, "Permission denied")

        self.patch(ifaddr, "get_adapters", forbidden)
        self.assertEqual(SystemAddresses().hostAddresses(), [])


class HostAddressesTests(SynchronousTestCase):
    """
    Who is asked.
    """

    def test_reactorThatKnows(self) -> None:
        """
        A simulated host knows its own addresses.
        """
        host = Internet().host("host", "192.0.2.1")
        self.assertEqual(list(hostAddresses(host)), list(host.hostAddresses()))
        self.assertIn("192.0.2.1", hostAddresses(host))

    def test_otherReactor(self) -> None:
        """
        For any other reactor, the operating system is asked.
        """
        self.assertIn("127.0.0.1", hostAddresses(Clock()))
