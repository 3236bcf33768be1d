"""
What is asked of a router in PCP (RFC 6887): MAP, to make, renew and delete, and ANNOUNCE.
"""

from __future__ import annotations

import math

from p2ptwist.core.address import isIPv6
from p2ptwist.core.errors import MalformedDatagram
from p2ptwist.core.portmapping.answers import (
    MAX_LIFETIME,
    MAX_REFUSAL,
    MIN_LIFETIME,
    Alive,
    Announcement,
    Answer,
    Mapped,
    Refused,
    Released,
    Result,
    isExternal,
)
from p2ptwist.core.portmapping.grant import MappingRequest
from p2ptwist.core.portmapping.pcp import (
    IPProtocol,
    Mapping,
    Opcode,
    Request,
    Response,
    ResultCode,
    decodeResponse,
    encodeRequest,
    nameOf,
    unsupportedVersion,
)

_PROTOCOLS = {"udp": IPProtocol.UDP, "tcp": IPProtocol.TCP}
# Errors that pass by themselves, and how many seconds they are taken to last where the router does
# not say (RFC 6887 section 7.4: "short lifetime", 30 seconds).
_PASSING = frozenset(
    {ResultCode.NETWORK_FAILURE, ResultCode.NO_RESOURCES, ResultCode.USER_EX_QUOTA}
)
_PASSING_LIFETIME = 30.0


class MapQuestion:
    """
    Make a mapping, or renew it.  For an IPv6 host it is a hole in a firewall.
    """

    def __init__(self, wanted: MappingRequest) -> None:
        self._wanted = wanted
        self.datagram = _mapRequest(wanted, math.ceil(wanted.lifetime))

    def read(self, data: bytes) -> Answer:
        """
        @return: L{Mapped} or L{Refused}.
        @raise MalformedDatagram: when it is not the answer to this question.
        """
        unspoken = _unspoken(data, Opcode.MAP)
        if unspoken is not None:
            return unspoken
        response, mapping = _mapResponse(data, self._wanted)
        if response.result != ResultCode.SUCCESS:
            return Answer(response.epoch, _refusal(response))
        return Answer(response.epoch, _mapped(response, mapping))


class ReleaseQuestion:
    """
    Delete a mapping (RFC 6887 section 15.1).
    """

    def __init__(self, wanted: MappingRequest) -> None:
        self._wanted = wanted
        self.datagram = _mapRequest(wanted, 0)

    def read(self, data: bytes) -> Answer:
        """
        @return: L{Released} or L{Refused}.
        @raise MalformedDatagram: when it is not the answer to this question.
        """
        unspoken = _unspoken(data, Opcode.MAP)
        if unspoken is not None:
            return unspoken
        response, _ = _mapResponse(data, self._wanted)
        if response.result != ResultCode.SUCCESS:
            return Answer(response.epoch, _refusal(response))
        if response.lifetime != 0:
            # Of an earlier request for the same mapping, which was to make it.
            raise MalformedDatagram("a mapping that was not deleted")
        return Answer(response.epoch, Released())


class AnnounceQuestion:
    """
    Ask for the epoch alone (RFC 6887 section 14.1.2).
    """

    def __init__(self, client: str) -> None:
        """
        @param client: this host's address towards the router.
        """
        self.datagram = encodeRequest(Request(Opcode.ANNOUNCE, 0, client))

    def read(self, data: bytes) -> Answer:
        """
        @return: L{Alive} or L{Refused}.
        @raise MalformedDatagram: when it is not the answer to this question.
        """
        unspoken = _unspoken(data, Opcode.ANNOUNCE)
        if unspoken is not None:
            return unspoken
        response = decodeResponse(data)
        if response.opcode != Opcode.ANNOUNCE:
            raise MalformedDatagram("an answer to another opcode")
        if response.result != ResultCode.SUCCESS:
            return Answer(response.epoch, _refusal(response))
        return Answer(response.epoch, Alive())


class PCP:
    """
    The dialect of PCP.
    """

    def announced(self, data: bytes) -> Announcement:
        """
        @param data: a datagram that came to everybody.
        @raise MalformedDatagram: when it is no ANNOUNCE response (RFC 6887 section 14.1.3).
        """
        response = decodeResponse(data)
        if response.opcode != Opcode.ANNOUNCE or response.result != ResultCode.SUCCESS:
            raise MalformedDatagram("no announcement")
        return Announcement(response.epoch)

    def continues(self, previous: int, epoch: int, elapsed: float) -> bool:
        """
        The rule of RFC 6887 section 8.5: an epoch neither falls, but for a second, nor runs faster
        or slower than this host's clock by more than a sixteenth and two seconds.
        """
        if epoch + 1 < previous:
            return False
        told = epoch - previous
        return elapsed + 2 >= told - told / 16 and told + 2 >= elapsed - elapsed / 16


def _mapRequest(wanted: MappingRequest, lifetime: int) -> bytes:
    # What is not suggested is zero, which tells the router the family that is wanted (RFC 6887
    # section 11.1).
    unspecified = "::" if isIPv6(wanted.internalHost) else "0.0.0.0"
    mapping = Mapping(
        wanted.nonce,
        _PROTOCOLS[wanted.transport],
        wanted.internalPort,
        (wanted.externalPort or 0) if lifetime else 0,
        (wanted.externalHost or unspecified) if lifetime else unspecified,
    )
    return encodeRequest(Request(Opcode.MAP, lifetime, wanted.internalHost, mapping))


def _mapResponse(data: bytes, wanted: MappingRequest) -> tuple[Response, Mapping]:
    """
    @raise MalformedDatagram: when it is not about this mapping (RFC 6887 section 11.4).
    """
    response = decodeResponse(data)
    mapping = response.mapping
    if mapping is None:
        raise MalformedDatagram("an answer to another opcode")
    if (mapping.nonce, mapping.protocol, mapping.internalPort) != (
        wanted.nonce,
        _PROTOCOLS[wanted.transport],
        wanted.internalPort,
    ):
        raise MalformedDatagram("an answer about another mapping")
    return response, mapping


def _mapped(response: Response, mapping: Mapping) -> Result:
    """
    @return: the mapping; a refusal for one that could not be used.
    """
    usable = isExternal((mapping.externalHost, mapping.externalPort))
    if not usable or response.lifetime < MIN_LIFETIME:
        code = ResultCode.CANNOT_PROVIDE_EXTERNAL
        return Refused(code, code.name, MAX_REFUSAL)
    lifetime = min(response.lifetime, MAX_LIFETIME)
    return Mapped(mapping.externalHost, mapping.externalPort, lifetime)


def _refusal(response: Response) -> Refused:
    usual = _PASSING_LIFETIME if response.result in _PASSING else MAX_REFUSAL
    lasting = min(float(response.lifetime or usual), MAX_REFUSAL)
    return Refused(response.result, nameOf(response.result), lasting)


def _unspoken(data: bytes, opcode: int) -> Answer | None:
    """
    @return: a refusal, when the router speaks another version; NAT-PMP is asked for by itself.
    """
    if unsupportedVersion(data, opcode) is None:
        return None
    code = ResultCode.UNSUPP_VERSION
    return Answer(None, Refused(code, code.name, MAX_REFUSAL))
