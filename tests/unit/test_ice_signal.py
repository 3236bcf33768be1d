"""
Tests for L{p2ptwist.core.ice.signal}.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace

from hypothesis import assume, example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.core.address import HostPort, canonicalHost
from p2ptwist.core.errors import MalformedDatagram
from p2ptwist.core.ice.candidate import CANDIDATE_LIMIT, Candidate, CandidateType
from p2ptwist.core.ice.details import LIFETIME_LIMIT, encodeDetails
from p2ptwist.core.ice.signal import (
    REASON_LIMIT,
    SIGNAL_LIMIT,
    Description,
    Goodbye,
    MoreCandidates,
    Signal,
    SignalType,
    decodeSignal,
    encodeSignal,
)
from p2ptwist.core.ladder.message import Busy, Stand
from p2ptwist.core.ladder.posture import Posture
from p2ptwist.core.nat import (
    STEP_LIMIT,
    NATBehavior,
    NATFiltering,
    NATMapping,
    PortAllocation,
)

SESSION = b"12345678"
CREDENTIAL = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

hosts = st.one_of(st.ip_addresses().map(lambda each: canonicalHost(str(each))))
addresses: st.SearchStrategy[HostPort] = st.tuples(hosts, st.integers(1, 65535))
candidates = st.builds(
    Candidate, st.sampled_from(CandidateType), addresses, st.integers(1, 2**31 - 1)
)
candidateLists = st.lists(candidates, max_size=CANDIDATE_LIMIT).map(tuple)
allocations: st.SearchStrategy[tuple[PortAllocation | None, int | None]] = st.one_of(
    st.tuples(st.sampled_from([None, *PortAllocation]), st.none()),
    st.tuples(
        st.just(PortAllocation.SEQUENTIAL), st.integers(-STEP_LIMIT, STEP_LIMIT).filter(bool)
    ),
)


@st.composite
def behaviors(draw: st.DrawFn) -> NATBehavior:
    """
    @return: anything that may be known of a NAT.
    """
    allocation, step = draw(allocations)
    return NATBehavior(
        draw(st.sampled_from([None, *NATMapping])),
        draw(st.sampled_from([None, *NATFiltering])),
        allocation,
        step,
        draw(st.sampled_from([None, False, True])),
        draw(st.sampled_from([None, *NATMapping])),
        draw(st.one_of(st.none(), st.integers(1, LIFETIME_LIMIT).map(lambda each: each / 10))),
    )


def credentials(shortest: int, longest: int) -> st.SearchStrategy[bytes]:
    """
    @return: what RFC 8445 allows in a user name fragment or a password.
    """
    return st.lists(st.sampled_from(CREDENTIAL), min_size=shortest, max_size=longest).map(bytes)


descriptions = st.builds(
    Description,
    st.sampled_from([SignalType.OFFER, SignalType.ANSWER]),
    st.binary(min_size=8, max_size=8),
    st.integers(0, 255),
    credentials(4, 32),
    credentials(22, 64),
    candidateLists,
    st.booleans(),
    behaviors(),
    st.booleans(),
)
moreCandidates = st.builds(
    MoreCandidates,
    st.binary(min_size=8, max_size=8),
    st.integers(0, 255),
    candidateLists,
    st.booleans(),
    behaviors(),
)
goodbyes = st.builds(
    Goodbye,
    st.binary(min_size=8, max_size=8),
    st.text(st.characters(exclude_categories=["C", "Z"]), max_size=REASON_LIMIT // 5),
)
stands = st.builds(
    Stand,
    st.binary(min_size=8, max_size=8),
    st.integers(0, 255),
    st.booleans(),
    st.sampled_from([Posture.STEADY, Posture.AIMED]),
    st.tuples(st.ip_addresses(v=4).map(str), st.integers(1, 65535)),
)
busies = st.builds(
    Busy, st.binary(min_size=8, max_size=8), st.integers(0, 255), st.integers(0, 65535)
)
signals: st.SearchStrategy[Signal] = st.one_of(
    descriptions, moreCandidates, goodbyes, stands, busies
)

OFFER = Description(
    SignalType.OFFER,
    SESSION,
    3,
    b"frag",
    b"p" * 22,
    (
        Candidate(CandidateType.HOST, ("192.0.2.1", 4000), 0x7EFFFEFF),
        Candidate(CandidateType.SERVER_REFLEXIVE, ("2001:db8::1", 5000), 1),
    ),
    True,
    NATBehavior(NATMapping.ENDPOINT_INDEPENDENT, NATFiltering.ADDRESS_AND_PORT_DEPENDENT),
)
# Written by hand, so that the wire form cannot change by mistake.
OFFER_BYTES = bytes.fromhex(
    "0101"
    + SESSION.hex()
    + "0301"
    + "04"
    + b"frag".hex()
    + "16"
    + (b"p" * 22).hex()
    + "0103"
    + "02"
    "01047efffeff0fa0c0000201"
    "0206000000011388" + "20010db8000000000000000000000001"
)


class RoundTripTests(SynchronousTestCase):
    """
    What one side encodes is what the other side decodes.
    """

    @given(signals)
    def test_roundTrip(self, signal: Signal) -> None:
        """
        Every signal comes back the same, within the bound on its length.
        """
        data = encodeSignal(signal)
        self.assertLessEqual(len(data), SIGNAL_LIMIT)
        self.assertEqual(decodeSignal(data), signal)

    def test_wireForm(self) -> None:
        """
        The wire form of an offer is fixed.
        """
        self.assertEqual(encodeSignal(OFFER), OFFER_BYTES)
        self.assertEqual(decodeSignal(OFFER_BYTES), OFFER)

    def test_details(self) -> None:
        """
        What else is known of a NAT follows the candidates, and what is not known is not sent.
        """
        details = bytes.fromhex("010602fe0103012c")
        behavior = replace(
            OFFER.behavior,
            allocation=PortAllocation.SEQUENTIAL,
            step=-2,
            hairpinning=False,
            tcpMapping=NATMapping.ADDRESS_AND_PORT_DEPENDENT,
            lifetime=30.0,
        )
        offer = replace(OFFER, behavior=behavior)
        self.assertEqual(encodeSignal(offer), OFFER_BYTES + details)
        self.assertEqual(decodeSignal(OFFER_BYTES + details), offer)

    def test_fresh(self) -> None:
        """
        A fresh port is told of at the end.
        """
        offer = replace(OFFER, fresh=True)
        self.assertEqual(encodeSignal(offer), OFFER_BYTES + b"\x02\x00")
        self.assertEqual(decodeSignal(OFFER_BYTES + b"\x02\x00"), offer)

    def test_lifetimeRounded(self) -> None:
        """
        A lifetime is told in tenths of a second, never more than it is, and as much as there is
        room for.
        """
        for lifetime, told in ((29.99, 299), (1e6, LIFETIME_LIMIT)):
            data = encodeDetails(NATBehavior(lifetime=lifetime))
            self.assertEqual(int.from_bytes(data[-2:], "big"), told)

    def test_laterExtensions(self) -> None:
        """
        Extensions of types that are not known are skipped.
        """
        self.assertEqual(decodeSignal(OFFER_BYTES + b"\x03\x03abc\x07\x00"), OFFER)

    def test_passwordIsNotShown(self) -> None:
        """
        A signal that is logged does not tell the password.
        """
        self.assertNotIn("pppp", repr(OFFER))

    def test_mappedAddress(self) -> None:
        """
        An IPv4-mapped IPv6 address becomes the IPv4 address, whatever rule it was to get round.
        """
        address = bytes.fromhex("0106000000011388" + "00" * 10 + "ffff7f000001")
        data = b"\x01\x03" + SESSION + b"\0\0" + b"\0\0" + b"\1" + address
        signal = decodeSignal(data)
        self.assertIsInstance(signal, MoreCandidates)
        assert isinstance(signal, MoreCandidates)
        self.assertEqual(signal.candidates[0].address, ("127.0.0.1", 5000))

    def test_longReason(self) -> None:
        """
        A reason that is too long is cut, between two characters.
        """
        data = encodeSignal(Goodbye(SESSION, "\N{SNOWMAN}" * 100))
        self.assertEqual(decodeSignal(data), Goodbye(SESSION, "\N{SNOWMAN}" * 66))

    def test_unprintableReason(self) -> None:
        """
        Escape sequences, line breaks, lone surrogates and what is no UTF-8 do not come through.
        """
        head = b"\x01\x04" + SESSION
        self.assertEqual(
            decodeSignal(head + b"a\x1b[2J\nb\xff"), Goodbye(SESSION, "a\ufffd[2J\ufffdb\ufffd")
        )
        self.assertEqual(
            decodeSignal(encodeSignal(Goodbye(SESSION, "\ud800"))), Goodbye(SESSION, "?")
        )


class MalformedTests(SynchronousTestCase):
    """
    Whatever comes, L{decodeSignal} raises L{MalformedDatagram} and nothing else.
    """

    @given(st.binary(max_size=SIGNAL_LIMIT + 10))
    @example(b"")
    def test_anything(self, data: bytes) -> None:
        """
        Arbitrary bytes either are a signal or are refused.
        """
        with contextlib.suppress(MalformedDatagram):
            decodeSignal(data)

    @given(signals, st.data())
    def test_mutated(self, signal: Signal, data: st.DataObject) -> None:
        """
        A signal with one byte changed is refused, or says something within all bounds.
        """
        encoded = bytearray(encodeSignal(signal))
        index = data.draw(st.integers(0, len(encoded) - 1))
        encoded[index] = data.draw(st.integers(0, 255))
        try:
            decoded = decodeSignal(bytes(encoded))
        except MalformedDatagram:
            return
        self.assertEqual(decodeSignal(encodeSignal(decoded)), decoded)

    @given(st.one_of(descriptions, moreCandidates), st.data())
    def test_truncated(self, signal: Description | MoreCandidates, data: st.DataObject) -> None:
        """
        A description or a list of candidates that is cut short is refused, unless an extension is
        cut off as a whole, and so is one with something after its end.
        """
        encoded = encodeSignal(signal)
        known = signal.behavior
        bare = replace(signal, fresh=False) if isinstance(signal, Description) else signal
        unmeasured = replace(bare, behavior=NATBehavior(known.mapping, known.filtering))
        length = data.draw(st.integers(0, len(encoded) - 1))
        assume(length not in (len(encodeSignal(bare)), len(encodeSignal(unmeasured))))
        self.assertRaises(MalformedDatagram, decodeSignal, encoded[:length])
        self.assertRaises(MalformedDatagram, decodeSignal, encoded + b"\0")

    def test_refused(self) -> None:
        """
        Each rule of the wire form is kept.
        """
        more = b"\x01\x03" + SESSION
        cases = {
            "too long": b"\x01\x04" + SESSION + bytes(SIGNAL_LIMIT),
            "version": b"\x02" + OFFER_BYTES[1:],
            "type": b"\x01\x09" + OFFER_BYTES[2:],
            "flag": OFFER_BYTES[:11] + b"\x02" + OFFER_BYTES[12:],
            "short fragment": OFFER_BYTES[:12] + b"\x03" + OFFER_BYTES[13:],
            "long fragment": OFFER_BYTES[:12] + b"\x21" + OFFER_BYTES[13:],
            "colon": OFFER_BYTES.replace(b"frag", b"fr:g"),
            "not ASCII": OFFER_BYTES.replace(b"frag", b"fr\xe4g"),
            "short password": OFFER_BYTES[:17] + b"\x15" + OFFER_BYTES[18:],
            "long reason": b"\x01\x04" + SESSION + bytes(REASON_LIMIT + 1),
            "mapping": more + b"\0\0\x04\0\0",
            "filtering": more + b"\0\0\0\x04\0",
            "many candidates": more + b"\0\0\0\0" + bytes((CANDIDATE_LIMIT + 1,)),
            "family": more + b"\0\0\0\0\x01" + bytes.fromhex("0105000000011388c0000201"),
            "candidate type": more + b"\0\0\0\0\x01" + bytes.fromhex("0504000000011388c0000201"),
            "no priority": more + b"\0\0\0\0\x01" + bytes.fromhex("0104000000001388c0000201"),
            "priority": more + b"\0\0\0\0\x01" + bytes.fromhex("0104800000001388c0000201"),
            "short details": OFFER_BYTES + b"\x01\x05\0\0\0\0\0",
            "long details": OFFER_BYTES + b"\x01\x07\0\0\0\0\0\0\0",
            "allocation": OFFER_BYTES + bytes.fromhex("0106 04 00 00 00 0000"),
            "step": OFFER_BYTES + bytes.fromhex("0106 02 0b 00 00 0000"),
            "step down": OFFER_BYTES + bytes.fromhex("0106 02 f5 00 00 0000"),
            "step of random ports": OFFER_BYTES + bytes.fromhex("0106 03 01 00 00 0000"),
            "hairpinning": OFFER_BYTES + bytes.fromhex("0106 00 00 03 00 0000"),
            "TCP mapping": OFFER_BYTES + bytes.fromhex("0106 00 00 00 04 0000"),
            "details twice": OFFER_BYTES + 2 * bytes.fromhex("0106 01 00 00 00 0000"),
            "descending": OFFER_BYTES + b"\x03\0\x02\0",
            "type zero": OFFER_BYTES + b"\0\0",
            "no length": OFFER_BYTES + b"\x02",
            "no port": more + b"\0\0\0\0\x01" + bytes.fromhex("0104000000010000c0000201"),
        }
        for name, data in cases.items():
            with self.subTest(name):
                self.assertRaises(MalformedDatagram, decodeSignal, data)
