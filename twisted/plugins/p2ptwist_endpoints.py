"""
The endpoint descriptions C{p2p:PEER-ID:service=NAME} and C{p2p:service=NAME}.

Twisted loads this whenever it looks for plugins, so that it imports the rest only when one is used.
"""

from twisted.internet.interfaces import (
    IStreamClientEndpointStringParserWithReactor,
    IStreamServerEndpointStringParser,
)
from twisted.plugin import IPlugin
from zope.interface import implementer


@implementer(
    IPlugin, IStreamClientEndpointStringParserWithReactor, IStreamServerEndpointStringParser
)
class PeerEndpoints:
    """
    Makes endpoints of descriptions that begin with C{p2p:}.
    """

    prefix = "p2p"

    def parseStreamClient(self, reactor, *args, **kwargs):
        """
        See L{p2ptwist.compose.clientEndpoint}.
        """
        from p2ptwist.compose import clientEndpoint

        return clientEndpoint(reactor, *args, **kwargs)

    def parseStreamServer(self, reactor, *args, **kwargs):
        """
        See L{p2ptwist.compose.serverEndpoint}.
        """
        from p2ptwist.compose import serverEndpoint

        return serverEndpoint(reactor, *args, **kwargs)


endpoints = PeerEndpoints()
