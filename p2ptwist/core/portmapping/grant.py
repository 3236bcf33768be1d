"""
What is asked of a router, and what it grants: the same for every port mapping protocol.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field

from p2ptwist.core.address import HostPort
from p2ptwist.core.errors import LocalUsageError

TRANSPORTS = ("udp", "tcp")
NONCE_LENGTH = 12  # bytes; RFC 6887 section 11.1
# Ports below it belong to services of the system; no router should give one away, nor is one asked.
LOWEST_PORT = 1024


@dataclass(frozen=True, slots=True)
class MappingRequest:
    """
    One mapping that is wanted.  The same request made again renews it.

    @ivar transport: C{"udp"} or C{"tcp"}.
    @ivar internalHost: this host's address towards the router, in canonical text.
    @ivar internalPort: the local port, 1024..65535.
    @ivar externalPort: the external port that is suggested, 1024..65535; C{None} for any.
    @ivar lifetime: seconds that are asked for, above 0: mappings without an end are never made.
    @ivar nonce: exactly 12 bytes; whoever knows them may change a mapping made by PCP.
    @ivar externalHost: the external address that is suggested; C{None} for any.
    @raise LocalUsageError: for anything else.
    """

    transport: str
    internalHost: str
    internalPort: int
    externalPort: int | None
    lifetime: float
    nonce: bytes = field(repr=False)
    externalHost: str | None = None

    def __post_init__(self) -> None:
        if self.transport not in TRANSPORTS:
            raise LocalUsageError(f"{self.transport!r} cannot be mapped: say 'udp' or 'tcp'")
        for port in (self.internalPort, self.externalPort):
            if port is not None and not LOWEST_PORT <= port <= 65535:
                raise LocalUsageError(
                    f"port {port} is not mapped: use one of {LOWEST_PORT} to 65535"
                )
        if not 1 <= self.lifetime < 2**32:
            raise LocalUsageError(f"a lease of {self.lifetime} s cannot be asked for")
        if len(self.nonce) != NONCE_LENGTH:
            raise LocalUsageError(f"a nonce has {NONCE_LENGTH} bytes")


@dataclass(frozen=True, slots=True)
class Grant:
    """
    One mapping that a router made.

    @ivar mapper: the protocol: C{"pcp"}, C{"nat-pmp"} or C{"upnp"}.
    @ivar request: what was asked.
    @ivar external: the address that the mapping is reached at, as the router says.
    @ivar lifetime: seconds until the router forgets it, as granted; above 0 and finite.
    @ivar gateway: the literal address of the router that was asked.
    @ivar router: what the router calls itself; C{None} where the protocol does not say.
    @ivar epoch: seconds since the router lost its mappings, by its own word; C{None} where the
        protocol does not say.
    """

    mapper: str
    request: MappingRequest
    external: HostPort
    lifetime: float
    gateway: str
    router: str | None = None
    epoch: int | None = None


def mappingNonce(secret: bytes, *names: str | int) -> bytes:
    """
    Make the nonce of a mapping from a secret, so that a program that was started again has the same
    one, and its mapping back, although it has stored nothing (HKDF-Expand, RFC 5869).

    @param secret: 32 bytes that nobody else has.
    @param names: what tells the mapping from others.
    @return: 12 bytes.
    """
    info = b"p2ptwist port mapping " + " ".join(map(str, names)).encode("ascii")
    return hmac.digest(secret, info + b"\x01", "sha256")[:NONCE_LENGTH]
