"""
What is asked of a router in NAT-PMP (RFC 6886): its external address, and mappings.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from p2ptwist.core.errors import MalformedDatagram
from p2ptwist.core.portmapping.answers import (
    MAX_LIFETIME,
    MAX_REFUSAL,
    MIN_LIFETIME,
    Address,
    Announcement,
    Answer,
    Mapped,
    Refused,
    Released,
    Result,
    isExternal,
)
from p2ptwist.core.portmapping.grant import MappingRequest
from p2ptwist.core.portmapping.natpmp import (
    VERSION,
    Opcode,
    Request,
    Response,
    ResultCode,
    decodeResponse,
    encodeRequest,
    nameOf,
)
from p2ptwist.core.portmapping.pcp import HEADER_LENGTH as PCP_HEADER_LENGTH
from p2ptwist.core.portmapping.pcp import VERSION as PCP_VERSION
from p2ptwist.core.portmapping.pcpquestions import PCP

_OPCODES = {"udp": Opcode.MAP_UDP, "tcp": Opcode.MAP_TCP}
# Errors that pass by themselves, in 30 seconds as RFC 6887 section 7.4 has it: RFC 6886 has no word
# on that.
_PASSING = frozenset({ResultCode.NETWORK_FAILURE, ResultCode.OUT_OF_RESOURCES})
_PASSING_LIFETIME = 30.0
_RESPONSE_BIT = 0x80


class AddressQuestion:
    """
    Ask for the external address (RFC 6886 section 3.2).
    """

    datagram = encodeRequest(Request(Opcode.ADDRESS))

    def read(self, data: bytes) -> Answer:
        """
        @return: L{Address} or L{Refused}.
        @raise MalformedDatagram: when it is not the answer to this question.
        """
        return _read(data, Opcode.ADDRESS, self._result)

    def _result(self, response: Response) -> Result:
        # 0.0.0.0 is what a router says that has no address of its own at the moment.
        if response.host is None or not isExternal((response.host, 1)):
            code = ResultCode.NETWORK_FAILURE
            return Refused(code, code.name, _PASSING_LIFETIME)
        return Address(response.host)


class MapQuestion:
    """
    Make a mapping, or renew it (RFC 6886 section 3.3).
    """

    def __init__(self, wanted: MappingRequest) -> None:
        self._wanted = wanted
        self._opcode = _OPCODES[wanted.transport]
        self.datagram = encodeRequest(
            Request(
                self._opcode,
                wanted.internalPort,
                wanted.externalPort or 0,
                math.ceil(wanted.lifetime),
            )
        )

    def read(self, data: bytes) -> Answer:
        """
        @return: L{Mapped} or L{Refused}.
        @raise MalformedDatagram: when it is not the answer to this question.
        """
        return _read(data, self._opcode, self._result)

    def _result(self, response: Response) -> Result:
        if response.internalPort != self._wanted.internalPort or response.lifetime == 0:
            # No time at all is the answer to an earlier request, which was to delete it.
            raise MalformedDatagram("an answer about another mapping")
        if response.externalPort == 0 or response.lifetime < MIN_LIFETIME:
            code = ResultCode.OUT_OF_RESOURCES
            return Refused(code, code.name, MAX_REFUSAL)
        return Mapped(None, response.externalPort, min(response.lifetime, MAX_LIFETIME))


class ReleaseQuestion:
    """
    Delete a mapping (RFC 6886 section 3.4).
    """

    def __init__(self, wanted: MappingRequest) -> None:
        self._wanted = wanted
        self._opcode = _OPCODES[wanted.transport]
        self.datagram = encodeRequest(Request(self._opcode, wanted.internalPort))

    def read(self, data: bytes) -> Answer:
        """
        @return: L{Released} or L{Refused}.
        @raise MalformedDatagram: when it is not the answer to this question.
        """
        return _read(data, self._opcode, self._result)

    def _result(self, response: Response) -> Result:
        if response.internalPort != self._wanted.internalPort or response.lifetime != 0:
            raise MalformedDatagram("an answer about another mapping")
        return Released()


class NATPMP:
    """
    The dialect of NAT-PMP.
    """

    def announced(self, data: bytes) -> Announcement:
        """
        @param data: a datagram that came to everybody.
        @raise MalformedDatagram: when it announces neither an address (RFC 6886 section 3.2.1) nor
            an epoch by PCP, which is the same: such a router speaks both.
        """
        if data[:1] == bytes((PCP_VERSION,)):
            return PCP().announced(data)
        response = decodeResponse(data)
        if response.opcode != Opcode.ADDRESS or response.host is None:
            raise MalformedDatagram("no announcement")
        return Announcement(response.epoch, response.host)

    def continues(self, previous: int, epoch: int, elapsed: float) -> bool:
        """
        The rule of RFC 6886 section 3.6: an epoch is no more than two seconds behind what seven
        eighths of this host's clock make of the last one.
        """
        return epoch >= previous + elapsed * 7 / 8 - 2


def _read(data: bytes, opcode: int, read: Callable[[Response], Result]) -> Answer:
    """
    @param read: makes the result of a success.
    """
    if _isOfPCP(data, opcode):
        code = ResultCode.UNSUPPORTED_VERSION
        return Answer(None, Refused(code, code.name, MAX_REFUSAL))
    response = decodeResponse(data)
    if response.opcode != opcode:
        raise MalformedDatagram("an answer to another opcode")
    if response.result == ResultCode.SUCCESS:
        return Answer(response.epoch, read(response))
    lasting = _PASSING_LIFETIME if response.result in _PASSING else MAX_REFUSAL
    return Answer(response.epoch, Refused(response.result, nameOf(response.result), lasting))


def _isOfPCP(data: bytes, opcode: int) -> bool:
    """
    @return: whether this is how a router refuses that speaks PCP alone (RFC 6887 section 9).
    """
    if len(data) < PCP_HEADER_LENGTH or data[0] == VERSION:
        return False
    return data[1] == opcode | _RESPONSE_BIT and data[3] == ResultCode.UNSUPPORTED_VERSION
