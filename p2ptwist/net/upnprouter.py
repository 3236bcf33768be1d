"""
A UPnP router as miniupnpc knows it, in a child process: found, asked, told.

Everything here blocks; see L{p2ptwist.net.upnpforwarder}.
"""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from p2ptwist.core.errors import MalformedDatagram
from p2ptwist.core.portmapping.grant import LOWEST_PORT
from p2ptwist.core.portmapping.igd import Connection, Description, readDescription
from p2ptwist.core.portmapping.ssdp import (
    MAX_ANSWER,
    MULTICAST_GROUP,
    Place,
    readAnswer,
    searches,
)
from p2ptwist.net.upnpforwarder import Forwarder, RouterFailure, fetch

# Who is searched for, and for how many seconds an answer is waited for: the router alone, again as
# a datagram may be lost; then whoever listens.  An answer may take the second that MX gives it.
_UNICAST_WAITS = (0.3, 0.4)
_MULTICAST_WAITS = (0.4, 1.0)
_MULTICAST_TTL = 2  # UPnP Device Architecture 1.1, section 1.1.2; the router is the first hop
_MAX_LOCATIONS = 4  # devices of one router that are looked at: some have a printer or files as well

_DESCRIPTION = "p2ptwist"  # what the router's own pages show beside the mapping
# How often another external port is tried when one is taken.
_TRIES = 5
# Error codes of WANIPConnection:1 and :2.
_NO_SUCH_ENTRY = 714
_TAKEN = (718, 729)  # ConflictInMappingEntry, ConflictWithOtherMechanisms
_SAME_PORTS = 724  # SamePortValuesRequired
_ONLY_PERMANENT = 725  # OnlyPermanentLeasesSupported


@dataclass(frozen=True, slots=True)
class Mapping:
    """
    A port mapping of a router's.

    @ivar transport: C{"UDP"} or C{"TCP"}.
    @ivar client: the address that it leads to, this host's own.
    @ivar port: the port that it leads to.
    """

    transport: str
    client: str
    port: int


def locations(gateway: str, source: str, port: int) -> Iterator[Place]:
    """
    Search for descriptions.

    @param source: the local address to search from.
    @param port: the UDP port that routers listen on.
    @return: what the gateway itself answers, at most four different places on it.
    """
    found: set[Place] = set()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as searching:
        searching.bind((source, 0))
        interface = socket.inet_aton(source)
        searching.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, interface)
        searching.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, _MULTICAST_TTL)
        rounds = [(gateway, wait) for wait in _UNICAST_WAITS]
        rounds += [(MULTICAST_GROUP, wait) for wait in _MULTICAST_WAITS]
        for host, wait in rounds:
            for datagram in searches():
                searching.sendto(datagram, (host, port))
            for answer in _answers(searching, gateway, wait):
                if answer not in found:
                    found.add(answer)
                    yield answer
                if len(found) == _MAX_LOCATIONS:
                    return
            if found:
                return


def _answers(searching: socket.socket, gateway: str, wait: float) -> Iterator[Place]:
    deadline = time.monotonic() + wait
    while (remaining := deadline - time.monotonic()) > 0:
        searching.settimeout(remaining)
        try:
            data, (host, _) = searching.recvfrom(MAX_ANSWER + 1)
            if host == gateway:
                yield readAnswer(data, gateway)
        except (TimeoutError, MalformedDatagram):
            continue


class Router:
    """
    One router, by one of its WAN connections.

    @ivar name: what it calls itself.
    """

    def __init__(self, upnp: Any, source: str) -> None:
        """
        @param upnp: a C{miniupnpc.UPnP}.
        @param source: the local address to connect to the router from.
        """
        self.name: str | None = None
        self._upnp = upnp
        self._source = source
        self._forwarder = Forwarder(source)

    def find(self, gateway: str, port: int) -> None:
        """
        Find the router.

        @raise RouterFailure: when the gateway has no usable description.
        """
        failure = RouterFailure("silent", "no answer to SSDP")
        for place in locations(gateway, self._source, port):
            try:
                description = self._describe(place)
                self.name = description.router
                return self._choose(description)
            except RouterFailure as next:
                failure = next
        raise failure

    def externalHost(self) -> str:
        """
        @return: the address of the WAN connection, a canonical IPv4 address: maybe a private one.
        """
        said = self._call("externalipaddress")
        try:
            address = IPv4Address(said)
        except ValueError:
            raise RouterFailure("offline", "the router names no external address") from None
        if address.is_unspecified or address.is_loopback or address.is_multicast:
            raise RouterFailure("offline", f"the router names {address} as external address")
        return str(address)

    def status(self) -> tuple[str, int]:
        """
        @return: the state of the WAN connection, C{"Connected"} or another word, and the seconds
            since it is so.
        """
        status, uptime, _ = self._call("statusinfo")
        return str(status), int(uptime)

    def add(self, mapping: Mapping, port: int, lifetime: int) -> tuple[int, int]:
        """
        Make a mapping, or renew it.

        @param port: the external port to try first.
        @param lifetime: the lease to ask for, in seconds, not 0.
        @return: the external port, and the lease that was granted, in seconds.
        """
        for _ in range(_TRIES):
            try:
                self._add(mapping, port, lifetime)
                return port, self._lease(mapping, port, lifetime)
            except RouterFailure as failure:
                if failure.code in _TAKEN:
                    port = random.SystemRandom().randint(LOWEST_PORT, 65535)
                elif failure.code == _SAME_PORTS and port != mapping.port:
                    port = mapping.port
                else:
                    raise
        raise RouterFailure("refused", "ConflictInMappingEntry", _TAKEN[0])

    def delete(self, mapping: Mapping, port: int) -> None:
        """
        Take a mapping back, unless it is gone, or somebody else's by now.
        """
        entry = self._entry(mapping, port)
        if entry is None or tuple(entry[:2]) == (mapping.client, mapping.port):
            self._delete(mapping, port)

    def has(self, mapping: Mapping, port: int) -> bool:
        """
        @return: whether a mapping is still there, as far as the router says.
        """
        entry = self._entry(mapping, port)
        if entry is None:
            return self._forwarder.code != _NO_SUCH_ENTRY
        return tuple(entry[:2]) == (mapping.client, mapping.port)

    def close(self) -> None:
        """
        Be done.
        """
        self._forwarder.close()

    def _describe(self, place: Place) -> Description:
        status, document = fetch(place, self._source)
        if status != 200:
            raise RouterFailure("unusable", f"the router gives its description with {status}")
        try:
            return readDescription(document, place)
        except MalformedDatagram as error:
            raise RouterFailure("unusable", str(error)) from None

    def _choose(self, description: Description) -> None:
        """
        Use the first WAN connection that is up, or the first one that answers at all.
        """
        answering: Connection | None = None
        failure: RouterFailure | None = None
        for connection in description.connections:
            try:
                self._use(connection)
                if self.status()[0] in ("Connected", "Up"):
                    return
                answering = answering or connection
            except RouterFailure as next:
                failure = next
                if next.kind == "refused":  # it does not tell its status
                    answering = answering or connection
        if answering is None:
            assert failure is not None, "a description has a connection"
            raise failure
        self._use(answering)

    def _use(self, connection: Connection) -> None:
        self._call("selectigd", self._forwarder.serve(connection))

    def _add(self, mapping: Mapping, port: int, lifetime: int) -> None:
        host, inner = mapping.client, mapping.port
        # Not C{addanyportmapping}: miniupnpc asks for a lease without an end there.
        self._call(
            *("addportmapping", port, mapping.transport, host, inner, _DESCRIPTION, "", lifetime)
        )

    def _lease(self, mapping: Mapping, port: int, lifetime: int) -> int:
        """
        @return: the lease of a mapping that was just made, as the router's list has it.
        """
        entry = self._entry(mapping, port)
        if entry is None:
            return lifetime
        client, inner, _, enabled, lease = entry
        if (client, inner) != (mapping.client, mapping.port) or not enabled:
            raise RouterFailure("unusable", "the router made another mapping than it was asked for")
        if lease <= 0:
            self._delete(mapping, port)
            raise RouterFailure("refused", "OnlyPermanentLeasesSupported", _ONLY_PERMANENT)
        return int(min(lease, lifetime))

    def _entry(self, mapping: Mapping, port: int) -> Any:
        """
        @return: client, port, description, whether it is enabled, lease; C{None} where the router
            does not say.
        """
        return self._call("getspecificportmapping", port, mapping.transport, "")

    def _delete(self, mapping: Mapping, port: int) -> None:
        try:
            self._call("deleteportmapping", port, mapping.transport, "")
        except RouterFailure as failure:
            if failure.code != _NO_SUCH_ENTRY:
                raise

    def _call(self, method: str, *arguments: object) -> Any:
        """
        Call a method of miniupnpc's.

        @raise RouterFailure: for whatever it raises: it has no exceptions of its own.
        """
        self._forwarder.forget()
        try:
            result = getattr(self._upnp, method)(*arguments)
        except Exception as error:
            code = self._forwarder.code
            if self._forwarder.failure is None and code is not None:
                raise RouterFailure("refused", str(error), code) from None
            raise self._forwarder.failure or RouterFailure("unusable", str(error)) from None
        if self._forwarder.failure is not None:
            raise self._forwarder.failure
        return result
