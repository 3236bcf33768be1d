"""
Tests for L{p2ptwist.core.portmapping.client} and the questions that are asked with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.address import HostPort
from p2ptwist.core.errors import LocalUsageError
from p2ptwist.core.portmapping import natpmp, natpmpquestions, pcp, pcpquestions
from p2ptwist.core.portmapping.answers import (
    MAX_LIFETIME,
    MAX_REFUSAL,
    Address,
    Alive,
    Answer,
    Dialect,
    Mapped,
    Question,
    Refused,
    Released,
)
from p2ptwist.core.portmapping.client import (
    MAX_OUTSTANDING,
    Answered,
    Restarted,
    RouterClient,
    RouterEvent,
    Unanswered,
)
from p2ptwist.core.portmapping.grant import MappingRequest

ROUTER = "192.168.1.1"
SERVER = (ROUTER, 5351)
HOST = "192.168.1.2"
NONCE = bytes(range(12))
WANTED = MappingRequest("udp", HOST, 5000, 6000, 3600.0, NONCE)
MAPPING = pcp.Mapping(NONCE, 17, 5000, 6000, "11.0.0.1")
MAPPED = pcp.Response(pcp.Opcode.MAP, 0, 3600, 77, MAPPING)
PMP_MAPPED = natpmp.Response(natpmp.Opcode.MAP_UDP, 0, 77, None, 5000, 6000, 3600)
PMP_ADDRESS = natpmp.Response(natpmp.Opcode.ADDRESS, 0, 77, "11.0.0.1")

WRONG_ANSWERS = 100_000  # of each kind


def events(client: RouterClient) -> list[RouterEvent]:
    """
    @return: what has happened.
    """
    found: list[RouterEvent] = []
    while (event := client.pollEvent()) is not None:
        found.append(event)
    return found


def answerTo(question: Question, dialect: Dialect, data: bytes) -> Answer | None:
    """
    Ask a new client C{question}, and give it C{data} for an answer.

    @return: what it made of it.
    """
    client = RouterClient(dialect, ROUTER)
    client.ask(question, 0.0)
    if not client.receiveDatagram(data, SERVER, 0.1):
        return None
    (event,) = events(client)
    assert isinstance(event, Answered)
    return event.answer


def byPCP(response: pcp.Response, question: Question | None = None) -> Answer | None:
    """
    @return: what the answer C{response} to a question in PCP tells, L{WANTED} as a rule.
    """
    asked = question or pcpquestions.MapQuestion(WANTED)
    return answerTo(asked, pcpquestions.PCP(), pcp.encodeResponse(response))


def byNATPMP(response: natpmp.Response, question: Question | None = None) -> Answer | None:
    """
    @return: what the answer C{response} to a question in NAT-PMP tells, L{WANTED} as a rule.
    """
    asked = question or natpmpquestions.MapQuestion(WANTED)
    return answerTo(asked, natpmpquestions.NATPMP(), natpmp.encodeResponse(response))


class ExchangeTests(SynchronousTestCase):
    """
    When requests are sent.
    """

    def test_schedule(self) -> None:
        """
        A silent router is asked at 0, 0.25, 0.75 and 1.75 s, and given up at 3 s.
        """
        client = RouterClient(pcpquestions.PCP(), ROUTER)
        question = pcpquestions.MapQuestion(WANTED)
        token = client.ask(question, 10.0)
        sent = []
        now: float | None = 10.0
        while now is not None:
            client.handleTimeout(now)
            while (transmit := client.pollTransmit()) is not None:
                self.assertEqual((transmit.data, transmit.address), (question.datagram, SERVER))
                sent.append(now)
            last, now = now, client.deadline()
        self.assertEqual(sent, [10.0, 10.25, 10.75, 11.75])
        self.assertEqual(last, 13.0)
        self.assertEqual(events(client), [Unanswered(token, 4)])

    def test_early(self) -> None:
        """
        Nothing is sent before its time, and nothing after the answer.
        """
        client = RouterClient(pcpquestions.PCP(), ROUTER)
        client.ask(pcpquestions.MapQuestion(WANTED), 0.0)
        self.assertIsNotNone(client.pollTransmit())
        client.handleTimeout(0.2)
        self.assertIsNone(client.pollTransmit())
        data = pcp.encodeResponse(MAPPED)
        self.assertTrue(client.receiveDatagram(data, SERVER, 0.2))
        self.assertFalse(client.receiveDatagram(data, SERVER, 0.2))
        client.handleTimeout(5.0)
        self.assertIsNone(client.pollTransmit())
        self.assertIsNone(client.deadline())
        self.assertEqual(client.ignored, 1)

    def test_forget(self) -> None:
        """
        What is forgotten is not asked any more, and its answer is for nobody.
        """
        client = RouterClient(pcpquestions.PCP(), ROUTER)
        token = client.ask(pcpquestions.MapQuestion(WANTED), 0.0)
        client.forget(token)
        client.forget(token)
        self.assertFalse(client.receiveDatagram(pcp.encodeResponse(MAPPED), SERVER, 0.2))
        self.assertEqual(events(client), [])

    def test_bound(self) -> None:
        """
        No more questions wait than there are mappings.
        """
        client = RouterClient(pcpquestions.PCP(), ROUTER)
        for _ in range(MAX_OUTSTANDING):
            client.ask(pcpquestions.MapQuestion(WANTED), 0.0)
        question = pcpquestions.MapQuestion(WANTED)
        self.assertRaises(LocalUsageError, client.ask, question, 0.0)

    def test_several(self) -> None:
        """
        Each answer goes to its question.
        """
        client = RouterClient(natpmpquestions.NATPMP(), ROUTER)
        first = client.ask(natpmpquestions.AddressQuestion(), 0.0)
        second = client.ask(natpmpquestions.MapQuestion(WANTED), 0.0)
        client.receiveDatagram(natpmp.encodeResponse(PMP_MAPPED), SERVER, 0.1)
        client.receiveDatagram(natpmp.encodeResponse(PMP_ADDRESS), SERVER, 0.1)
        tokens = [event.token for event in events(client) if isinstance(event, Answered)]
        self.assertEqual(tokens, [second, first])


class PCPTests(SynchronousTestCase):
    """
    Questions in PCP.
    """

    def test_map(self) -> None:
        """
        A request carries what is wanted, and the answer what was granted.
        """
        request = pcp.decodeRequest(pcpquestions.MapQuestion(WANTED).datagram)
        self.assertEqual(
            request,
            pcp.Request(1, 3600, HOST, pcp.Mapping(NONCE, 17, 5000, 6000, "0.0.0.0")),
        )
        self.assertEqual(byPCP(MAPPED), Answer(77, Mapped("11.0.0.1", 6000, 3600)))

    def test_suggestion(self) -> None:
        """
        An address that is suggested is sent, of TCP and IPv6 as well.
        """
        wanted = MappingRequest("tcp", "2001:db8::5", 5000, None, 60.5, NONCE)
        request = pcp.decodeRequest(pcpquestions.MapQuestion(wanted).datagram)
        self.assertEqual(request.mapping, pcp.Mapping(NONCE, 6, 5000, 0, "::"))
        self.assertEqual(request.lifetime, 61)
        wanted = replace(wanted, externalPort=7000, externalHost="2001:db8::5")
        request = pcp.decodeRequest(pcpquestions.MapQuestion(wanted).datagram)
        self.assertEqual(request.mapping, pcp.Mapping(NONCE, 6, 5000, 7000, "2001:db8::5"))

    def test_otherMappings(self) -> None:
        """
        An answer about another mapping, by nonce, protocol or port, is none.
        """
        for mapping in (
            replace(MAPPING, nonce=bytes(12)),
            replace(MAPPING, protocol=6),
            replace(MAPPING, internalPort=5001),
        ):
            self.assertIsNone(byPCP(replace(MAPPED, mapping=mapping)))
        self.assertIsNone(byPCP(pcp.Response(pcp.Opcode.ANNOUNCE, 0, 3600, 77)))

    def test_nonsense(self) -> None:
        """
        What could not be used counts as refused; a lease that is too long is cut.
        """
        refused = Answer(77, Refused(11, "CANNOT_PROVIDE_EXTERNAL", MAX_REFUSAL))
        self.assertEqual(byPCP(replace(MAPPED, lifetime=7)), refused)
        for mapping in (
            replace(MAPPING, externalPort=0),
            replace(MAPPING, externalHost="0.0.0.0"),
            replace(MAPPING, externalHost="127.0.0.1"),
        ):
            self.assertEqual(byPCP(replace(MAPPED, mapping=mapping)), refused)
        longest = byPCP(replace(MAPPED, lifetime=2**32 - 1))
        self.assertEqual(longest, Answer(77, Mapped("11.0.0.1", 6000, MAX_LIFETIME)))

    def test_refusals(self) -> None:
        """
        Errors last as long as the router says, half an hour at most; where it does not say, half a
        minute for those that pass.
        """
        for code, lifetime, lasting in (
            (2, 60, 60.0),
            (2, 0, MAX_REFUSAL),
            (2, 2**32 - 1, MAX_REFUSAL),
            (8, 0, 30.0),
        ):
            answer = byPCP(replace(MAPPED, result=code, lifetime=lifetime))
            self.assertEqual(answer, Answer(77, Refused(code, pcp.nameOf(code), lasting)))

    def test_release(self) -> None:
        """
        A mapping is deleted by asking for no time; the answer to an earlier request is not that
        one's.
        """
        question = pcpquestions.ReleaseQuestion(WANTED)
        request = pcp.decodeRequest(question.datagram)
        self.assertEqual(request.lifetime, 0)
        self.assertEqual(request.mapping, pcp.Mapping(NONCE, 17, 5000, 0, "0.0.0.0"))
        self.assertEqual(byPCP(replace(MAPPED, lifetime=0), question), Answer(77, Released()))
        self.assertIsNone(byPCP(MAPPED, question))
        answer = byPCP(replace(MAPPED, result=2), question)
        self.assertEqual(answer, Answer(77, Refused(2, "NOT_AUTHORIZED", MAX_REFUSAL)))

    def test_announce(self) -> None:
        """
        A router that is asked for its epoch tells that.
        """
        question = pcpquestions.AnnounceQuestion(HOST)
        self.assertEqual(len(question.datagram), 24)
        announce = pcp.Response(pcp.Opcode.ANNOUNCE, 0, 0, 5)
        self.assertEqual(byPCP(announce, question), Answer(5, Alive()))
        self.assertIsNone(byPCP(MAPPED, question))
        refusal = byPCP(replace(announce, result=4), question)
        self.assertEqual(refusal, Answer(5, Refused(4, "UNSUPP_OPCODE", MAX_REFUSAL)))

    def test_otherVersions(self) -> None:
        """
        A router that speaks NAT-PMP alone refuses at once, whatever is asked.
        """
        refused = Answer(None, Refused(1, "UNSUPP_VERSION", MAX_REFUSAL))
        for question in (pcpquestions.MapQuestion(WANTED), pcpquestions.ReleaseQuestion(WANTED)):
            data = natpmp.encodeResponse(natpmp.Response(1, 1, 77))[:8]
            self.assertEqual(answerTo(question, pcpquestions.PCP(), data), refused)
        data = natpmp.encodeResponse(natpmp.Response(0, 1, 77))
        asked = pcpquestions.AnnounceQuestion(HOST)
        self.assertEqual(answerTo(asked, pcpquestions.PCP(), data), refused)


class NATPMPTests(SynchronousTestCase):
    """
    Questions in NAT-PMP.
    """

    def test_address(self) -> None:
        """
        A router tells its external address, or that it has none.
        """
        question = natpmpquestions.AddressQuestion()
        self.assertEqual(byNATPMP(PMP_ADDRESS, question), Answer(77, Address("11.0.0.1")))
        failed = Answer(77, Refused(3, "NETWORK_FAILURE", 30.0))
        self.assertEqual(byNATPMP(replace(PMP_ADDRESS, host="0.0.0.0"), question), failed)
        self.assertEqual(byNATPMP(replace(PMP_ADDRESS, result=3), question), failed)
        self.assertIsNone(byNATPMP(PMP_MAPPED, question))

    def test_map(self) -> None:
        """
        A request carries what is wanted, and the answer what was granted.
        """
        request = natpmp.decodeRequest(natpmpquestions.MapQuestion(WANTED).datagram)
        self.assertEqual(request, natpmp.Request(1, 5000, 6000, 3600))
        tcp = natpmpquestions.MapQuestion(replace(WANTED, transport="tcp", externalPort=None))
        self.assertEqual(natpmp.decodeRequest(tcp.datagram), natpmp.Request(2, 5000, 0, 3600))
        self.assertEqual(byNATPMP(PMP_MAPPED), Answer(77, Mapped(None, 6000, 3600)))

    def test_otherMappings(self) -> None:
        """
        An answer about another mapping, or to a deletion, is none.
        """
        for response in (
            replace(PMP_MAPPED, internalPort=5001),
            replace(PMP_MAPPED, opcode=2),
            replace(PMP_MAPPED, lifetime=0),
        ):
            self.assertIsNone(byNATPMP(response))

    def test_nonsense(self) -> None:
        """
        What could not be used counts as refused; a lease that is too long is cut.
        """
        refused = Answer(77, Refused(4, "OUT_OF_RESOURCES", MAX_REFUSAL))
        self.assertEqual(byNATPMP(replace(PMP_MAPPED, externalPort=0)), refused)
        self.assertEqual(byNATPMP(replace(PMP_MAPPED, lifetime=7)), refused)
        longest = byNATPMP(replace(PMP_MAPPED, lifetime=2**32 - 1))
        self.assertEqual(longest, Answer(77, Mapped(None, 6000, MAX_LIFETIME)))

    def test_refusals(self) -> None:
        """
        What a person has to change lasts; the rest passes.
        """
        for code, name, lasting in (
            (2, "NOT_AUTHORIZED", MAX_REFUSAL),
            (4, "OUT_OF_RESOURCES", 30.0),
        ):
            answer = byNATPMP(natpmp.Response(1, code, 77))
            self.assertEqual(answer, Answer(77, Refused(code, name, lasting)))

    def test_release(self) -> None:
        """
        A mapping is deleted by asking for no time.
        """
        question = natpmpquestions.ReleaseQuestion(WANTED)
        self.assertEqual(natpmp.decodeRequest(question.datagram), natpmp.Request(1, 5000, 0, 0))
        released = replace(PMP_MAPPED, externalPort=0, lifetime=0)
        self.assertEqual(byNATPMP(released, question), Answer(77, Released()))
        self.assertIsNone(byNATPMP(PMP_MAPPED, question))
        self.assertIsNone(byNATPMP(replace(released, internalPort=1), question))

    def test_otherVersions(self) -> None:
        """
        A router that speaks PCP alone refuses at once.
        """
        answer = answerTo(
            natpmpquestions.MapQuestion(WANTED),
            natpmpquestions.NATPMP(),
            b"\x02\x81\x00\x01" + bytes(20),
        )
        self.assertEqual(answer, Answer(None, Refused(1, "UNSUPPORTED_VERSION", MAX_REFUSAL)))
        for data in (b"\x02\x81\x00\x01", b"\x02\x82\x00\x01" + bytes(20), bytes(24)):
            question = natpmpquestions.MapQuestion(WANTED)
            self.assertIsNone(answerTo(question, natpmpquestions.NATPMP(), data))


class EpochTests(SynchronousTestCase):
    """
    Whether a router has restarted.
    """

    def test_pcp(self) -> None:
        """
        The rule of RFC 6887 section 8.5.
        """
        continues = pcpquestions.PCP().continues
        for previous, epoch, elapsed, kept in (
            (100, 200, 100.0, True),
            (100, 99, 0.0, True),
            (100, 98, 0.0, False),
            (100, 3, 3600.0, False),
            (0, 3600, 3600.0, True),
            (0, 3300, 3600.0, False),
            (0, 3380, 3600.0, True),
            (0, 4000, 3600.0, False),
            (0, 3820, 3600.0, True),
        ):
            self.assertEqual(continues(previous, epoch, elapsed), kept, (previous, epoch, elapsed))

    def test_natpmp(self) -> None:
        """
        The rule of RFC 6886 section 3.6.
        """
        continues = natpmpquestions.NATPMP().continues
        for previous, epoch, elapsed, kept in (
            (100, 200, 100.0, True),
            (100, 98, 0.0, True),
            (100, 97, 0.0, False),
            (0, 698, 800.0, True),
            (0, 697, 800.0, False),
            (0, 5000, 800.0, True),
        ):
            self.assertEqual(continues(previous, epoch, elapsed), kept, (previous, epoch, elapsed))

    def ask(self, client: RouterClient, epoch: int, now: float) -> list[RouterEvent]:
        """
        Have a mapping asked for and granted.

        @return: what happened.
        """
        client.ask(pcpquestions.MapQuestion(WANTED), now)
        data = pcp.encodeResponse(replace(MAPPED, epoch=epoch))
        self.assertTrue(client.receiveDatagram(data, SERVER, now))
        return events(client)

    def test_restart(self) -> None:
        """
        An epoch that fell is told after the answer that told it, once.
        """
        client = RouterClient(pcpquestions.PCP(), ROUTER)
        self.assertEqual(len(self.ask(client, 1000, 0.0)), 1)
        self.assertEqual(len(self.ask(client, 1100, 100.0)), 1)
        answered, restarted = self.ask(client, 3, 200.0)
        self.assertIsInstance(answered, Answered)
        self.assertEqual(restarted, Restarted())
        self.assertEqual(len(self.ask(client, 4, 201.0)), 1)

    def test_noEpoch(self) -> None:
        """
        Who speaks another protocol tells nothing of this one.
        """
        client = RouterClient(pcpquestions.PCP(), ROUTER)
        self.ask(client, 1000, 0.0)
        client.ask(pcpquestions.MapQuestion(WANTED), 1.0)
        data = natpmp.encodeResponse(natpmp.Response(1, 1, 0))[:8]
        self.assertTrue(client.receiveDatagram(data, SERVER, 1.0))
        self.assertEqual(len(events(client)), 1)
        self.assertEqual(len(self.ask(client, 1002, 2.0)), 1)

    def test_newAddress(self) -> None:
        """
        A router with another external address has lost its mappings as well.
        """
        client = RouterClient(natpmpquestions.NATPMP(), ROUTER)
        for now, host, restarted in (
            (0.0, "11.0.0.1", False),
            (1.0, "11.0.0.1", False),
            (2.0, "11.0.0.9", True),
        ):
            client.ask(natpmpquestions.AddressQuestion(), now)
            data = natpmp.encodeResponse(replace(PMP_ADDRESS, host=host))
            client.receiveDatagram(data, SERVER, now)
            self.assertEqual(Restarted() in events(client), restarted)


class AnnouncementTests(SynchronousTestCase):
    """
    What routers tell everybody.
    """

    def heard(self) -> RouterClient:
        """
        @return: a client whose router told epoch 77 at time 0.
        """
        client = RouterClient(pcpquestions.PCP(), ROUTER)
        client.ask(pcpquestions.MapQuestion(WANTED), 0.0)
        client.receiveDatagram(pcp.encodeResponse(MAPPED), SERVER, 0.0)
        events(client)
        return client

    def announce(self, client: RouterClient, epoch: int, address: HostPort = SERVER) -> bool:
        """
        Tell an epoch, ten seconds later.

        @return: whether it was new.
        """
        data = pcp.encodeResponse(pcp.Response(pcp.Opcode.ANNOUNCE, 0, 0, epoch))
        return client.receiveAnnouncement(data, address, 10.0)

    def test_restarted(self) -> None:
        """
        A router that starts anew says so; one that goes on says nothing new.
        """
        client = self.heard()
        self.assertFalse(self.announce(client, 87))
        self.assertEqual(events(client), [])
        self.assertTrue(self.announce(client, 0))
        self.assertEqual(events(client), [Restarted()])

    def test_forged(self) -> None:
        """
        Anybody can forge it, so that it is a reason to ask, and nothing of it is kept.
        """
        client = self.heard()
        self.announce(client, 0)
        self.announce(client, 5000)
        events(client)
        self.assertFalse(self.announce(client, 87))

    def test_ignored(self) -> None:
        """
        What comes from elsewhere, is no announcement, or from a router that nothing was heard from,
        is ignored.
        """
        client = self.heard()
        self.assertFalse(self.announce(client, 0, ("192.168.1.9", 5351)))
        self.assertFalse(self.announce(client, 0, (ROUTER, 5350)))
        self.assertFalse(client.receiveAnnouncement(b"nonsense", SERVER, 1.0))
        self.assertFalse(client.receiveAnnouncement(pcp.encodeResponse(MAPPED), SERVER, 1.0))
        fresh = RouterClient(pcpquestions.PCP(), ROUTER)
        self.assertFalse(self.announce(fresh, 0))
        self.assertEqual(events(client) + events(fresh), [])
        self.assertEqual((client.ignored, fresh.ignored), (4, 1))

    def test_natpmp(self) -> None:
        """
        NAT-PMP announces the external address as well; what PCP announces is heard too.
        """
        client = RouterClient(natpmpquestions.NATPMP(), ROUTER)
        client.ask(natpmpquestions.AddressQuestion(), 0.0)
        client.receiveDatagram(natpmp.encodeResponse(PMP_ADDRESS), SERVER, 0.0)
        for response, told in (
            (PMP_ADDRESS, False),
            (replace(PMP_ADDRESS, epoch=0), True),
            (replace(PMP_ADDRESS, host="11.0.0.2"), True),
            (PMP_MAPPED, False),
            (replace(PMP_ADDRESS, result=3), False),
        ):
            data = natpmp.encodeResponse(response)
            self.assertEqual(client.receiveAnnouncement(data, SERVER, 0.0), told)
        self.assertTrue(self.announce(client, 0))
        self.assertFalse(self.announce(client, 87))


Forger = Callable[[Random], tuple[bytes, HostPort]]


def forgers(
    right: list[bytes], wrongHeaders: list[Callable[[bytes, Random], bytes]]
) -> list[Forger]:
    """
    @param right: answers that would be accepted.
    @param wrongHeaders: make such an answer wrong.
    @return: ways to forge.
    """

    def elsewhere(random: Random) -> tuple[bytes, HostPort]:
        host = random.choice([ROUTER, HOST, f"192.168.1.{random.randrange(3, 255)}", "11.0.0.1"])
        port = random.choice([5350, 5352, random.randrange(1, 5351), 65535])
        return random.choice(right), (host, 5351 if host != ROUTER else port)

    def shorter(random: Random) -> tuple[bytes, HostPort]:
        data = random.choice(right)
        return data[: random.randrange(len(data))], SERVER

    def longer(random: Random) -> tuple[bytes, HostPort]:
        # An odd length: what is a multiple of four longer may carry options.
        return random.choice(right) + random.randbytes(random.randrange(300) * 4 + 1), SERVER

    def noise(random: Random) -> tuple[bytes, HostPort]:
        return random.randbytes(random.randrange(80)), SERVER

    def spoilt(spoil: Callable[[bytes, Random], bytes]) -> Forger:
        return lambda random: (spoil(random.choice(right), random), SERVER)

    return [elsewhere, shorter, longer, noise, *map(spoilt, wrongHeaders)]


def otherByte(position: int, *allowed: int) -> Callable[[bytes, Random], bytes]:
    """
    @return: what changes the byte at C{position} into none of C{allowed}, nor what it is.
    """

    def spoil(data: bytes, random: Random) -> bytes:
        values = set(range(256)) - {data[position], *allowed}
        return data[:position] + bytes((random.choice(sorted(values)),)) + data[position + 1 :]

    return spoil


class WrongAnswerTests(SynchronousTestCase):
    """
    Answers that are not the router's.
    """

    def check(self, client: RouterClient, wrong: Iterator[tuple[bytes, HostPort]]) -> None:
        """
        None is accepted, nothing is sent, told or moved by any.
        """
        while client.pollTransmit() is not None:
            pass
        before = (client.deadline(), client._heard, client._host, client.ignored)
        count = 0
        for data, address in wrong:
            count += 1
            if client.receiveDatagram(data, address, 0.1):
                self.fail(f"accepted {data.hex()} from {address}")
        after = (client.deadline(), client._heard, client._host, client.ignored - count)
        self.assertEqual(after, before)
        self.assertIsNone(client.pollEvent())
        self.assertIsNone(client.pollTransmit())

    def test_pcp(self) -> None:
        """
        100,000 of each kind: wrong source, length, version, opcode, nonce, protocol or port, and
        noise; each with an epoch that would mean a restart.
        """
        client = RouterClient(pcpquestions.PCP(), ROUTER)
        client.ask(pcpquestions.MapQuestion(WANTED), 0.0)
        client.receiveDatagram(pcp.encodeResponse(MAPPED), SERVER, 0.0)
        events(client)
        client.ask(pcpquestions.MapQuestion(WANTED), 0.0)
        right = [
            pcp.encodeResponse(replace(MAPPED, epoch=epoch, result=result))
            for epoch in (0, 77, 2**32 - 1)
            for result in (0, 2, 8)
        ]
        spoilers = [otherByte(0), otherByte(1), otherByte(36), otherByte(40), otherByte(41)]
        spoilers += [otherByte(position) for position in range(24, 36)]
        for number, forge in enumerate(forgers(right, spoilers[:6])):
            random = Random(number)
            self.check(client, (forge(random) for _ in range(WRONG_ANSWERS)))
        # Each byte of the nonce.
        random = Random(99)
        nonces = spoilers[5:]
        self.check(
            client,
            (
                (random.choice(nonces)(random.choice(right), random), SERVER)
                for _ in range(WRONG_ANSWERS)
            ),
        )

    def test_natpmp(self) -> None:
        """
        The same for NAT-PMP, which has no nonce.
        """
        client = RouterClient(natpmpquestions.NATPMP(), ROUTER)
        client.ask(natpmpquestions.AddressQuestion(), 0.0)
        client.receiveDatagram(natpmp.encodeResponse(PMP_ADDRESS), SERVER, 0.0)
        events(client)
        client.ask(natpmpquestions.MapQuestion(WANTED), 0.0)
        right = [
            natpmp.encodeResponse(replace(PMP_MAPPED, epoch=epoch)) for epoch in (0, 77, 2**32 - 1)
        ]
        spoilers = [otherByte(0), otherByte(1), otherByte(8), otherByte(9)]
        for number, forge in enumerate(forgers(right, spoilers)):
            random = Random(number)
            self.check(client, (forge(random) for _ in range(WRONG_ANSWERS)))
