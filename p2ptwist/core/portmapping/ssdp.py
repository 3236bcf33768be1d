"""
Finding a router's UPnP description: SSDP, as far as one default gateway is concerned.

Whoever is in the LAN can answer a search, and can say that the description is anywhere.  So an
answer counts only if it says C{http}, and the literal address of the gateway that was asked: what
L{readPlace} accepts is all that is ever connected to.

@see: UPnP Device Architecture 1.1, section 1.3.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from p2ptwist.core.address import HostPort
from p2ptwist.core.errors import MalformedDatagram

SSDP_PORT = 1900
MULTICAST_GROUP = "239.255.255.250"
MAX_ANSWER = 2048  # bytes of one answer; real ones have some 300 to 600
MAX_URL = 512  # characters; those of real routers have some 50

# What is searched for: some routers answer to one only.
_TARGETS = (
    "urn:schemas-upnp-org:device:InternetGatewayDevice:2",
    "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
    "upnp:rootdevice",
)
_MX = 1  # seconds within which an answer is asked for, the smallest there is

_STATUS = re.compile(r"HTTP/1\.[01] 200(?: |$)")
# No user, no name, no fragment; a path of visible ASCII.
_URL = re.compile(r"http://([0-9]{1,3}(?:\.[0-9]{1,3}){3})(?::([0-9]{1,5}))?(/[!-\"$-~]*)?")


@dataclass(frozen=True, slots=True)
class Place:
    """
    What an C{http} URL names.

    @ivar address: where the server is.
    @ivar path: what is asked of it, with its query; begins with a slash.
    """

    address: HostPort
    path: str


def searches() -> tuple[bytes, ...]:
    """
    @return: the datagrams of one search.  The same ones go to the group and to the gateway itself:
        not every router heeds the shorter unicast form.
    """
    return tuple(
        "\r\n".join(
            (
                "M-SEARCH * HTTP/1.1",
                f"HOST: {MULTICAST_GROUP}:{SSDP_PORT}",
                'MAN: "ssdp:discover"',
                f"MX: {_MX}",
                f"ST: {target}",
                "",
                "",
            )
        ).encode()
        for target in _TARGETS
    )


def readAnswer(data: bytes, gateway: str) -> Place:
    """
    Read an answer to a search.

    @param gateway: the gateway's literal IPv4 address.
    @return: where the description is, on that gateway.
    @raise MalformedDatagram: for anything else.
    """
    if len(data) > MAX_ANSWER:
        raise MalformedDatagram("an SSDP answer is too long")
    status, *lines = data.decode("latin-1").split("\n")
    if not _STATUS.match(status.strip()):
        raise MalformedDatagram("not an answer to an SSDP search")
    found = [value for name, value in map(_header, lines) if name == "location"]
    if len(found) != 1:
        raise MalformedDatagram("an SSDP answer says one location")
    return readPlace(found[0], gateway)


def readPlace(url: str, gateway: str) -> Place:
    """
    Read a URL that a router says.

    @param gateway: the only address that it may name, a literal IPv4 address.
    @raise MalformedDatagram: for anything but an C{http} URL with that very address.
    """
    found = _URL.fullmatch(url) if len(url) <= MAX_URL else None
    if found is None or found[1] != gateway:
        raise MalformedDatagram("a URL does not lead to the gateway")
    port = int(found[2] or 80)
    if not 1 <= port <= 65535:
        raise MalformedDatagram("a URL has no such port")
    return Place((gateway, port), found[3] or "/")


def _header(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip().lower(), value.strip()
