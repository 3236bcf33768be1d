"""
A simulated router's answers to PCP and NAT-PMP.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.portmapping import natpmp, pcp
from p2ptwist.core.portmapping.pcp import Opcode, ResultCode
from p2ptwist.errors import LocalUsageError, MalformedDatagram
from p2ptwist.testing import NAT, Firewall, PortMapper, Trouble
from p2ptwist.testing.allocation import IdentityAllocator, PortAllocator
from p2ptwist.testing.grants import Grants
from p2ptwist.testing.mappingserver import LONG_ERROR, SHORT_ERROR, MappingServer
from p2ptwist.testing.nattable import NATTable

EXTERNAL = "203.0.113.1"
ALICE, CAROL, SIX = "192.168.1.2", "192.168.1.3", "2001:db8:1::2"
NONCE, OTHER = b"n" * 12, b"o" * 12
UDP, TCP = 17, 6


class Bench:
    """
    A server with shorter verbs.
    """

    def __init__(self, mapper: PortMapper | None = None, external: str | None = EXTERNAL) -> None:
        self.mapper = mapper or PortMapper()
        nat = NAT()
        self.table = NATTable(nat, PortAllocator(nat, [EXTERNAL], Random(1)), Random(1))
        flows = NATTable(Firewall().asNAT(), IdentityAllocator(), Random(1))
        self.pinholes = flows
        self.server = MappingServer(
            self.mapper,
            Grants(self.mapper, self.table if external else flows, external, Random(1)),
            Grants(self.mapper, flows, None, Random(1)),
            external,
            100.0,
            Random(1),
        )

    def raw(self, data: bytes, client: str = ALICE, now: float = 100.0) -> bytes | None:
        """
        @return: what the server answers.
        """
        return self.server.answer(data, (client, 6000), now)

    def map(
        self,
        port: int = 5000,
        suggested: int = 0,
        lifetime: int = 600,
        nonce: bytes = NONCE,
        client: str = ALICE,
        now: float = 100.0,
        **others: Any,
    ) -> pcp.Response:
        """
        @return: the answer to a MAP request.
        """
        protocol = others.pop("protocol", UDP)
        mapping = pcp.Mapping(nonce, protocol, port, suggested, "0.0.0.0")
        request = pcp.Request(Opcode.MAP, lifetime, client, mapping)
        answer = self.raw(pcp.encodeRequest(replace(request, **others)), client, now)
        assert answer is not None
        return pcp.decodeResponse(answer)

    def port(self, *arguments: Any, **others: Any) -> int:
        """
        @return: the external port that is granted.
        """
        response = self.map(*arguments, **others)
        assert response.result == ResultCode.SUCCESS and response.mapping is not None
        return response.mapping.externalPort

    def mapNATPMP(
        self,
        port: int = 5000,
        suggested: int = 0,
        lifetime: int = 600,
        client: str = ALICE,
        now: float = 100.0,
        opcode: int = natpmp.Opcode.MAP_UDP,
    ) -> natpmp.Response:
        """
        @return: the answer to a NAT-PMP request.
        """
        request = natpmp.Request(opcode, port, suggested, lifetime)
        answer = self.raw(natpmp.encodeRequest(request), client, now)
        assert answer is not None
        return natpmp.decodeResponse(answer)


class GrantTests(SynchronousTestCase):
    """
    What is granted.
    """

    def test_ports(self) -> None:
        """
        The suggested port is given where it may be, else that inside, else any.
        """
        bench = Bench()
        self.assertEqual(bench.port(5000, 7000), 7000)
        self.assertEqual(bench.port(5001, 7000), 5001)
        self.assertEqual(bench.port(5001, client=CAROL), bench.port(5001, client=CAROL))
        self.assertEqual(bench.port(5002, 80), 5002)
        low = bench.port(22, 22)
        self.assertGreaterEqual(low, 1024)
        self.assertEqual(bench.port(5000, 7000, protocol=TCP), 7000)

    def test_renewed(self) -> None:
        """
        A mapping that is there is renewed, with the port that it has.
        """
        bench = Bench()
        bench.map(5000, 7000)
        self.assertEqual(bench.port(5000, 7001, now=300.0), 7000)
        [forward] = bench.table.forwards.living(800.0)
        self.assertEqual((forward.expires, forward.external), (900.0, (EXTERNAL, 7000)))

    def test_lifetimes(self) -> None:
        """
        Lifetimes are kept within bounds; what is not renewed ends.
        """
        bench = Bench(PortMapper(minLifetime=100, maxLifetime=1000))
        for wanted, granted in ((1, 100), (500, 500), (2**32 - 1, 1000)):
            self.assertEqual(bench.map(lifetime=wanted).lifetime, granted)
        self.assertEqual(len(bench.table.forwards.living(1099.0)), 1)
        self.assertEqual(bench.table.forwards.living(1100.0), [])

    def test_released(self) -> None:
        """
        A lifetime of 0 takes a mapping back, and does nothing where there is none.
        """
        bench = Bench()
        bench.map()
        for _ in range(2):
            response = bench.map(lifetime=0)
            self.assertEqual((response.result, response.lifetime), (ResultCode.SUCCESS, 0))
            self.assertEqual(len(bench.table.forwards), 0)

    def test_nonces(self) -> None:
        """
        Without the nonce nothing of a mapping is changed, unless nobody looks.
        """
        bench = Bench()
        bench.map()
        for lifetime in (600, 0):
            response = bench.map(nonce=OTHER, lifetime=lifetime)
            self.assertEqual(response.result, ResultCode.NOT_AUTHORIZED)
            self.assertEqual(response.lifetime, LONG_ERROR)
        self.assertEqual(len(bench.table.forwards), 1)
        careless = Bench(PortMapper(checksNonce=False))
        self.assertEqual(careless.port(5000, 7000), careless.port(nonce=OTHER))
        careless.map(nonce=OTHER, lifetime=0)
        self.assertEqual(len(careless.table.forwards), 0)

    def test_quotas(self) -> None:
        """
        There are so many mappings, and so many for each host.
        """
        bench = Bench(PortMapper(maxMappings=3, maxMappingsPerHost=2))
        bench.map(5000)
        bench.map(5001)
        response = bench.map(5002)
        self.assertEqual((response.result, response.lifetime), (10, SHORT_ERROR))
        bench.map(5000, client=CAROL)
        response = bench.map(5001, client=CAROL)
        self.assertEqual((response.result, response.lifetime), (8, SHORT_ERROR))
        self.assertEqual(bench.mapNATPMP(5002).result, natpmp.ResultCode.OUT_OF_RESOURCES)

    def test_noPortLeft(self) -> None:
        """
        When every port is somebody's there is none to be had.
        """
        bench = Bench()
        bench.table.mayForward = lambda *_: False  # type: ignore[method-assign]
        self.assertEqual(bench.map().result, ResultCode.NO_RESOURCES)

    def test_badConfigurations(self) -> None:
        """
        A mapper speaks something, and grants some time.
        """
        self.assertRaises(LocalUsageError, PortMapper, pcp=False, natPMP=False)
        self.assertRaises(LocalUsageError, PortMapper, minLifetime=10, maxLifetime=9)


class PCPTests(SynchronousTestCase):
    """
    RFC 6887.
    """

    def test_addresses(self) -> None:
        """
        The router tells its own address, or what it is told to tell; IPv6 is not translated.
        """
        for bench, client, host in (
            (Bench(), ALICE, EXTERNAL),
            (Bench(PortMapper(announces="100.64.0.9")), ALICE, "100.64.0.9"),
            (Bench(PortMapper(announces="100.64.0.9")), SIX, SIX),
            (Bench(external=None), ALICE, ALICE),
        ):
            mapping = bench.map(5000, 7000, client=client).mapping
            assert mapping is not None
            self.assertEqual(mapping.externalHost, host)
            self.assertEqual(mapping.externalPort, 7000 if host not in (SIX, ALICE) else 5000)

    def test_pinhole(self) -> None:
        """
        Mappings of IPv6 are in the firewall.
        """
        bench = Bench()
        bench.map(client=SIX)
        self.assertEqual((len(bench.table.forwards), len(bench.pinholes.forwards)), (0, 1))

    def test_epoch(self) -> None:
        """
        The epoch is the time since the router booted.
        """
        bench = Bench()
        epochs = [bench.map(now=now).epoch for now in (100.0, 107.9, 200.0)]
        self.assertEqual(epochs, [0, 7, 100])

    def test_announce(self) -> None:
        """
        Who asks whether the router is there is told.
        """
        request = pcp.encodeRequest(pcp.Request(Opcode.ANNOUNCE, 0, ALICE))
        answer = Bench().raw(request, now=130.0)
        assert answer is not None
        self.assertEqual(pcp.decodeResponse(answer), pcp.Response(Opcode.ANNOUNCE, 0, 0, 30))

    def test_objections(self) -> None:
        """
        Requests that cannot be understood, or meant, are told so.
        """
        bench = Bench()
        self.assertEqual(bench.map(client=ALICE, opcode=1).result, ResultCode.SUCCESS)
        mismatch = pcp.Mapping(NONCE, UDP, 5000, 0, "0.0.0.0")
        answer = bench.raw(pcp.encodeRequest(pcp.Request(1, 60, CAROL, mismatch)))
        assert answer is not None
        self.assertEqual(pcp.decodeResponse(answer).result, ResultCode.ADDRESS_MISMATCH)
        self.assertEqual(bench.map(options=((2, b""),)).result, ResultCode.UNSUPP_OPTION)
        self.assertEqual(bench.map(options=((130, b""),)).result, ResultCode.SUCCESS)
        self.assertEqual(bench.map(protocol=1).result, ResultCode.UNSUPP_PROTOCOL)
        self.assertEqual(bench.map(port=0).result, ResultCode.UNSUPP_PROTOCOL)
        refusing = Bench(PortMapper(refuses=ResultCode.NETWORK_FAILURE))
        response = refusing.map()
        self.assertEqual((response.result, response.lifetime), (7, SHORT_ERROR))

    def test_malformed(self) -> None:
        """
        What is cut off, of another opcode or another version gets an error; what is no request
        gets nothing.
        """
        bench = Bench()
        good = pcp.encodeRequest(pcp.Request(Opcode.ANNOUNCE, 0, ALICE))
        for data, code in (
            (good[:20], ResultCode.MALFORMED_REQUEST),
            (good[:1] + b"\x02" + good[2:], ResultCode.UNSUPP_OPCODE),
            (b"\x01" + good[1:], ResultCode.UNSUPP_VERSION),
        ):
            answer = bench.raw(data)
            assert answer is not None
            self.assertEqual((len(answer), answer[0], answer[1] >> 7, answer[3]), (24, 2, 1, code))
        for data in (b"", b"\x02", good[:1] + b"\x80" + good[2:]):
            self.assertIsNone(bench.raw(data))

    def test_onlyPCP(self) -> None:
        """
        A router that does not speak NAT-PMP says which version it speaks.
        """
        answer = Bench(PortMapper(natPMP=False)).raw(b"\0\0")
        assert answer is not None
        self.assertEqual((answer[0], answer[3]), (2, ResultCode.UNSUPP_VERSION))


class NATPMPTests(SynchronousTestCase):
    """
    RFC 6886.
    """

    def test_address(self) -> None:
        """
        The router tells its address, unless it has none.
        """
        answers = [bench.raw(b"\0\0", now=105.0) for bench in (Bench(), Bench(external=None))]
        responses = [natpmp.decodeResponse(answer) for answer in answers if answer is not None]
        self.assertEqual(responses[0], natpmp.Response(0, 0, 5, EXTERNAL))
        self.assertEqual(responses[1].result, natpmp.ResultCode.NETWORK_FAILURE)

    def test_map(self) -> None:
        """
        Mappings of both transports are made, renewed and taken back.
        """
        bench = Bench()
        response = bench.mapNATPMP(5000, 7000)
        self.assertEqual(response, natpmp.Response(1, 0, 0, None, 5000, 7000, 600))
        self.assertEqual(bench.mapNATPMP(5000, 7001, now=200.0).externalPort, 7000)
        self.assertEqual(bench.mapNATPMP(5000, 7000, opcode=2).externalPort, 7000)
        self.assertEqual(bench.mapNATPMP(5000, 0, 0).lifetime, 0)
        [left] = bench.table.forwards.living(300.0)
        self.assertEqual(left.protocol.value, "TCP")

    def test_all(self) -> None:
        """
        Port 0 takes all of a host's mappings back, and maps none.
        """
        bench = Bench()
        for port in (5000, 5001):
            bench.mapNATPMP(port)
        bench.mapNATPMP(5000, client=CAROL)
        self.assertEqual(bench.mapNATPMP(0).result, natpmp.ResultCode.NOT_AUTHORIZED)
        bench.mapNATPMP(0, 0, 0)
        [left] = bench.table.forwards.living(300.0)
        self.assertEqual(left.inside[0], CAROL)

    def test_besidesPCP(self) -> None:
        """
        What PCP made NAT-PMP does not touch; what NAT-PMP made PCP takes over.
        """
        bench = Bench()
        bench.map(5000)
        self.assertEqual(bench.mapNATPMP(5000).result, natpmp.ResultCode.NOT_AUTHORIZED)
        bench.mapNATPMP(5001)
        self.assertEqual(bench.port(5001), 5001)
        self.assertEqual(bench.map(5001, nonce=OTHER).result, ResultCode.NOT_AUTHORIZED)

    def test_errors(self) -> None:
        """
        Other opcodes are not supported; what is cut off gets nothing; a refusal is one.
        """
        bench = Bench()
        answer = bench.raw(b"\0\x05")
        assert answer is not None
        self.assertEqual(answer[3], natpmp.ResultCode.UNSUPPORTED_OPCODE)
        self.assertIsNone(bench.raw(b"\0\x01"))
        refusing = Bench(PortMapper(refuses=2))
        self.assertEqual(refusing.mapNATPMP().result, natpmp.ResultCode.NOT_AUTHORIZED)

    def test_onlyNATPMP(self) -> None:
        """
        A router that does not speak PCP says so in its own way, and is silent to IPv6.
        """
        bench = Bench(PortMapper(pcp=False))
        request = pcp.encodeRequest(pcp.Request(Opcode.ANNOUNCE, 0, ALICE))
        answer = bench.raw(request)
        assert answer is not None
        self.assertEqual(pcp.unsupportedVersion(answer, Opcode.ANNOUNCE), 0)
        self.assertIsNone(bench.raw(request, SIX))


class TroubleTests(SynchronousTestCase):
    """
    Answers that are wrong.
    """

    def request(self) -> bytes:
        """
        @return: a good request.
        """
        mapping = pcp.Mapping(NONCE, UDP, 5000, 7000, "0.0.0.0")
        return pcp.encodeRequest(pcp.Request(Opcode.MAP, 600, ALICE, mapping))

    def answer(self, trouble: Trouble, data: bytes = b"") -> bytes | None:
        """
        @return: an answer of such a router.
        """
        return Bench(PortMapper(trouble=trouble)).raw(data or self.request(), now=150.0)

    def test_differences(self) -> None:
        """
        Each has just what it is called after.
        """
        good = pcp.decodeResponse(Bench().raw(self.request(), now=150.0) or b"")
        assert good.mapping is not None
        for trouble in (Trouble.WRONG_NONCE, Trouble.WRONG_PORT, Trouble.FORGETFUL):
            bad = pcp.decodeResponse(self.answer(trouble) or b"")
            assert bad.mapping is not None
            differs = (
                bad.mapping.nonce != good.mapping.nonce,
                bad.mapping.internalPort != good.mapping.internalPort,
                bad.epoch != good.epoch,
            )
            expected = (Trouble.WRONG_NONCE, Trouble.WRONG_PORT, Trouble.FORGETFUL)
            self.assertEqual(differs, tuple(trouble is each for each in expected))
        self.assertIsNone(self.answer(Trouble.SILENT))
        self.assertEqual((self.answer(Trouble.WRONG_OPCODE) or b"")[1], 0x82)
        for trouble in (Trouble.WRONG_SOURCE_PORT, Trouble.WRONG_SOURCE_ADDRESS):
            self.assertEqual(pcp.decodeResponse(self.answer(trouble) or b""), good)

    def test_garbage(self) -> None:
        """
        Garbage and what is cut off are no answers.
        """
        for trouble in (Trouble.GARBAGE, Trouble.CUT):
            data = self.answer(trouble)
            assert data is not None
            self.assertRaises(MalformedDatagram, pcp.decodeResponse, data)

    def test_natPMP(self) -> None:
        """
        NAT-PMP has no nonce, but ports and opcodes.
        """
        request = natpmp.encodeRequest(natpmp.Request(1, 5000, 7000, 600))
        good = natpmp.decodeResponse(Bench().raw(request, now=150.0) or b"")
        wrong = natpmp.decodeResponse(self.answer(Trouble.WRONG_PORT, request) or b"")
        self.assertEqual(wrong, replace(good, internalPort=5001))
        same = natpmp.decodeResponse(self.answer(Trouble.WRONG_NONCE, request) or b"")
        self.assertEqual(same, good)
        self.assertEqual((self.answer(Trouble.WRONG_PORT, b"\0\0") or b"")[3], 0)
        other = natpmp.decodeResponse(self.answer(Trouble.WRONG_OPCODE, request) or b"")
        self.assertEqual(other.opcode, natpmp.Opcode.MAP_TCP)
