"""
A UPnP mapper and a router for it, for tests.
"""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from p2ptwist.core.portmapping.grant import MappingRequest
from p2ptwist.errors import PortMappingError
from p2ptwist.net.upnp import UPnPMapper
from tests.contract.fakeigd import HOST, FakeRouter

UDP = MappingRequest("udp", HOST, 5000, None, 7200.0, bytes(12))
TCP = MappingRequest("tcp", HOST, 5001, 6001, 120.0, bytes(12))


class Cases(TestCase):
    """
    What every case may use.
    """

    timeout = 60

    def mapper(self, router: FakeRouter) -> UPnPMapper:
        """
        @return: a mapper that knows this router as the default gateway.
        """
        router.start(self, reactor)
        mapper = UPnPMapper(reactor, HOST, router.ssdpPort)
        self.addCleanup(mapper.stop)
        return mapper

    async def fails(
        self, router: FakeRouter, kind: type[PortMappingError] = PortMappingError
    ) -> Any:
        """
        @return: the error that a request to this router fails with.
        """
        return await self.failed(self.mapper(router).request(UDP), kind)

    async def failed(
        self, asked: Deferred[Any], kind: type[PortMappingError] = PortMappingError
    ) -> Any:
        """
        @return: the error that this request fails with.
        """
        return await self.assertFailure(asked, kind)
