"""
The side of a simulated router that answers PCP (RFC 6887) and NAT-PMP (RFC 6886).

It is pure: it is told the time, is given requests and returns answers.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from random import Random

from p2ptwist.core.address import HostPort
from p2ptwist.core.errors import MalformedDatagram
from p2ptwist.core.portmapping import natpmp, pcp
from p2ptwist.core.portmapping.pcp import IPProtocol, ResultCode
from p2ptwist.testing.grants import Grants, Refused
from p2ptwist.testing.packet import Protocol
from p2ptwist.testing.portmapper import PortMapper, Trouble

# RFC 6887 section 7.4: how long an error lasts that may pass soon, and one that may not.
SHORT_ERROR = 30  # seconds
LONG_ERROR = 1_800  # seconds

# Options below this must be understood (RFC 6887 section 7.3); none is.
_OPTIONAL = 128
_RESPONSE_BIT = 0x80
_PASSING = (ResultCode.NO_RESOURCES, ResultCode.USER_EX_QUOTA, ResultCode.NETWORK_FAILURE)
_TRANSPORTS: dict[int, Protocol] = {
    IPProtocol.UDP: Protocol.UDP,
    IPProtocol.TCP: Protocol.TCP,
}
_NAT_PMP_TRANSPORTS: dict[int, Protocol] = {
    natpmp.Opcode.MAP_UDP: Protocol.UDP,
    natpmp.Opcode.MAP_TCP: Protocol.TCP,
}


class MappingServer:
    """
    Answers requests for port mappings, from when a router boots until it boots again.
    """

    def __init__(
        self,
        mapper: PortMapper,
        grants: Grants,
        pinholes: Grants,
        external: str | None,
        booted: float,
        random: Random,
    ) -> None:
        """
        @param mapper: how it answers.
        @param grants: the mappings of IPv4.
        @param pinholes: the mappings of IPv6.
        @param external: the address that mappings of IPv4 are reached at; C{None} where there is
            no NAT, and each inside address is its own.
        @param booted: when the router has booted.
        @param random: makes garbage.
        """
        self.mapper = mapper
        self._grants = grants
        self._pinholes = pinholes
        self._external = external if mapper.announces is None else mapper.announces
        self._booted = booted
        self._random = random

    def answer(self, data: bytes, client: HostPort, now: float) -> bytes | None:
        """
        @param data: a request.
        @param client: where it came from.
        @param now: the time.
        @return: the answer, if there is one.
        """
        if len(data) < 2 or data[1] & _RESPONSE_BIT or self.mapper.trouble is Trouble.SILENT:
            return None
        if ":" in client[0] and not self.mapper.pcp:
            return None  # NAT-PMP is for IPv4
        if data[0] == natpmp.VERSION and self.mapper.natPMP:
            answer = self._answerNATPMP(data, client, now)
        elif not self.mapper.pcp:
            code = natpmp.ResultCode.UNSUPPORTED_VERSION
            answer = natpmp.encodeResponse(natpmp.Response(data[1], code, self._epoch(now)))
        elif data[0] != pcp.VERSION:
            answer = self._errorHeader(data[1], ResultCode.UNSUPP_VERSION, now)
        else:
            answer = self._answerPCP(data, client[0], now)
        return self._spoiled(answer)

    def _epoch(self, now: float) -> int:
        return 0 if self.mapper.trouble is Trouble.FORGETFUL else int(now - self._booted)

    # PCP

    def _answerPCP(self, data: bytes, client: str, now: float) -> bytes:
        try:
            request = pcp.decodeRequest(data)
        except MalformedDatagram:
            return self._errorHeader(data[1], ResultCode.MALFORMED_REQUEST, now)
        if request.opcode not in (pcp.Opcode.ANNOUNCE, pcp.Opcode.MAP):
            return self._errorHeader(data[1], ResultCode.UNSUPP_OPCODE, now)
        lifetime, mapping = 0, request.mapping
        code = self._objectionTo(request, client)
        if code == ResultCode.SUCCESS and mapping is not None:
            try:
                lifetime, mapping = self._map(mapping, client, request.lifetime, now)
            except Refused as refused:
                code = refused.code
        if code != ResultCode.SUCCESS:
            lifetime = SHORT_ERROR if code in _PASSING else LONG_ERROR
        epoch = self._epoch(now)
        return pcp.encodeResponse(pcp.Response(request.opcode, code, lifetime, epoch, mapping))

    def _objectionTo(self, request: pcp.Request, client: str) -> int:
        """
        @return: why a request is not even looked at, or C{SUCCESS}.
        """
        mapping = request.mapping
        if request.client != client:
            return ResultCode.ADDRESS_MISMATCH
        if any(code < _OPTIONAL for code, _ in request.options):
            return ResultCode.UNSUPP_OPTION
        if mapping and (mapping.protocol not in _TRANSPORTS or not mapping.internalPort):
            return ResultCode.UNSUPP_PROTOCOL  # "all" is too much
        if mapping and self.mapper.refuses is not None:
            return self.mapper.refuses
        return ResultCode.SUCCESS

    def _map(
        self, mapping: pcp.Mapping, client: str, lifetime: int, now: float
    ) -> tuple[int, pcp.Mapping]:
        """
        @return: the granted lifetime and the mapping.
        """
        protocol, port = _TRANSPORTS[mapping.protocol], mapping.internalPort
        grants = self._pinholes if ":" in client else self._grants
        if not lifetime:
            grants.release(protocol, client, port, mapping.nonce, now)
            return 0, mapping
        forward = grants.grant(
            protocol, (client, port), mapping.externalPort, lifetime, mapping.nonce, now
        )
        host, externalPort = forward.external
        if self._external is not None and ":" not in client:
            host = self._external
        granted = replace(mapping, externalHost=host, externalPort=externalPort)
        return round(forward.expires - now), granted

    def _errorHeader(self, opcode: int, code: ResultCode, now: float) -> bytes:
        return struct.pack(
            "!BBBBII12x",
            pcp.VERSION,
            opcode | _RESPONSE_BIT,
            0,
            code,
            LONG_ERROR,
            self._epoch(now),
        )

    # NAT-PMP

    def _answerNATPMP(self, data: bytes, client: HostPort, now: float) -> bytes | None:
        try:
            request = natpmp.decodeRequest(data)
        except MalformedDatagram:
            return None  # the standard has no word for it
        return natpmp.encodeResponse(self._responseTo(request, client[0], now))

    def _responseTo(self, request: natpmp.Request, client: str, now: float) -> natpmp.Response:
        epoch, opcode, inside = self._epoch(now), request.opcode, request.internalPort
        codes = natpmp.ResultCode
        if opcode > natpmp.Opcode.MAP_TCP:
            return natpmp.Response(opcode, codes.UNSUPPORTED_OPCODE, epoch)
        if self._external is None:
            return natpmp.Response(opcode, codes.NETWORK_FAILURE, epoch, None, inside)
        if opcode == natpmp.Opcode.ADDRESS:
            return natpmp.Response(opcode, codes.SUCCESS, epoch, self._external)
        if self.mapper.refuses is not None:
            return natpmp.Response(opcode, self.mapper.refuses, epoch, None, inside)
        try:
            port, lifetime = self._mapNATPMP(request, client, now)
        except Refused as refused:
            isOurs = refused.code != ResultCode.NOT_AUTHORIZED
            code = codes.OUT_OF_RESOURCES if isOurs else codes.NOT_AUTHORIZED
            return natpmp.Response(opcode, code, epoch, None, inside)
        return natpmp.Response(opcode, codes.SUCCESS, epoch, None, inside, port, lifetime)

    def _mapNATPMP(self, request: natpmp.Request, client: str, now: float) -> tuple[int, int]:
        """
        @return: the external port and the granted lifetime.
        """
        protocol, port = _NAT_PMP_TRANSPORTS[request.opcode], request.internalPort
        if not request.lifetime:
            self._grants.release(protocol, client, port or None, b"", now)
            return 0, 0
        if not port:
            raise Refused(ResultCode.NOT_AUTHORIZED)
        forward = self._grants.grant(
            protocol, (client, port), request.externalPort, request.lifetime, b"", now
        )
        return forward.external[1], round(forward.expires - now)

    # Trouble

    def _spoiled(self, answer: bytes | None) -> bytes | None:
        """
        @return: an answer, with what is to be wrong with it.
        """
        trouble, random = self.mapper.trouble, self._random
        if answer is None or trouble is None:
            return answer
        if trouble is Trouble.GARBAGE:
            return random.randbytes(random.randint(1, pcp.MAX_LENGTH))
        if trouble is Trouble.CUT:
            return answer[: random.randrange(len(answer))]
        octets = bytearray(answer)
        isMapping = octets[0] == pcp.VERSION and len(octets) > pcp.HEADER_LENGTH
        if trouble is Trouble.WRONG_OPCODE:
            octets[1] ^= 0x03
        elif trouble is Trouble.WRONG_NONCE and isMapping:
            octets[random.randrange(24, 36)] ^= 0x80
        elif trouble is Trouble.WRONG_PORT and isMapping:
            octets[41] ^= 0x01
        elif trouble is Trouble.WRONG_PORT and len(octets) > 12:
            octets[9] ^= 0x01
        return bytes(octets)
