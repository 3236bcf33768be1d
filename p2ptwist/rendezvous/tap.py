"""
C{twistd natrendezvous}: options in, a service out.
"""

from __future__ import annotations

from typing import Any, NoReturn

from twisted.application.service import IService, MultiService
from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint, serverFromString
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.logger import Logger

from p2ptwist.core.address import HostPort, formatAddress
from p2ptwist.errors import LocalUsageError, PortUnusable
from p2ptwist.net.stunserver import STUNService
from p2ptwist.net.stunstreams import STUNStreamService
from p2ptwist.rendezvous.descriptors import raiseDescriptorLimit
from p2ptwist.rendezvous.options import LINK_PORT, Options, anyHost
from p2ptwist.rendezvous.service import NodeService

__all__ = ["NodeApplication", "Options", "makeService"]

_BACKLOG = 1024  # connections; a node's peers come back at the same time

_log = Logger()


class _Exit(SystemExit, Exception):
    """
    End the program with one line and status 1.  It is also an C{Exception}, because that is what
    twistd cleans up after.
    """


def _exit(message: str) -> NoReturn:
    raise _Exit(f"twistd natrendezvous: {message}")


class NodeApplication(MultiService):
    """
    The node and its STUN servers.

    @ivar node: the links.
    @ivar stun: the STUN servers.
    @ivar options: what the operator said.
    """

    def __init__(
        self, reactor: Any, node: NodeService, stun: list[STUNService], options: Options
    ) -> None:
        super().__init__()
        self._reactor = reactor
        self.node = node
        self.stun = stun
        self.options = options
        for service in (node, *stun):
            service.setServiceParent(self)

    def privilegedStartService(self) -> None:
        """
        Listen everywhere, or end the program with one line.

        @raise SystemExit: when a port cannot be opened.
        """
        raiseDescriptorLimit()
        try:
            super().privilegedStartService()
        except PortUnusable as error:
            _exit(str(error))
        # Only now are the ports known that the system has chosen.
        self.node.announce(self.options.stunServers([it.addresses[0] for it in self.stun]))
        for server in self.stun:
            for address in server.addresses:
                _log.info("p2ptwist: STUN on {address}", address=f"udp:{formatAddress(address)}")
        self._startStreams()

    def _startStreams(self) -> None:
        """
        Serve STUN over TCP on the same addresses.
        """
        for server in self.stun:
            served = server.configuration
            streams = STUNStreamService(
                self._reactor, served.primary, served.alternate, self.options.stunLimits
            )
            streams.setServiceParent(self)
            streams.privilegedStartService()
            for address in streams.addresses:
                _log.info("p2ptwist: STUN on {address}", address=f"tcp:{formatAddress(address)}")


def _endpoints(reactor: object, options: Options) -> list[tuple[str, IStreamServerEndpoint]]:
    descriptions: list[str] = options["listen"]
    if not descriptions:
        return [(f"tcp:{LINK_PORT}", _anyAddress(reactor))]
    return [(text, _endpoint(reactor, text)) for text in descriptions]


def _anyAddress(reactor: object) -> IStreamServerEndpoint:
    host = anyHost()
    kind = TCP6ServerEndpoint if host == "::" else TCP4ServerEndpoint
    endpoint: IStreamServerEndpoint = kind(reactor, LINK_PORT, _BACKLOG, host)
    return endpoint


def _endpoint(reactor: object, description: str) -> IStreamServerEndpoint:
    try:
        endpoint: IStreamServerEndpoint = serverFromString(reactor, description)
    except Exception as error:  # a parser, perhaps a plugin's, raises what it likes
        _exit(
            f"--listen: {description!r} is not an endpoint ({error}): write such as tcp:{LINK_PORT}"
        )
    return endpoint


def _stunServices(reactor: Any, options: Options) -> list[STUNService]:
    alternate: HostPort | None = options["stun-alternate-address"]
    services = []
    for address in options["stun"]:
        try:
            service = STUNService(reactor, address, alternate, limits=options.stunLimits)
        except LocalUsageError as error:
            _exit(f"--stun: {error}")
        services.append(service)
        alternate = None
    return services


def makeService(options: Options) -> IService:
    """
    @return: the whole node, not yet started.
    @raise SystemExit: with one line, when an endpoint is none.
    """
    from twisted.internet import reactor

    node = NodeService(
        reactor,
        options["name"],
        _endpoints(reactor, options),
        limits=options.limits,
    )
    return NodeApplication(reactor, node, _stunServices(reactor, options), options)
