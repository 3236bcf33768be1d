"""
The published test vectors of STUN, as bytes and as what they mean.

RFC 5769 sections 2.1 to 2.4; RFC 8489 appendix B.1 with its erratum 6268.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from p2ptwist.core.stun.attributes import encodeUInt32, encodeUInt64, encodeXORAddress
from p2ptwist.core.stun.message import AttributeType, MessageClass, longTermKey


@dataclass(frozen=True)
class Vector:
    """
    One published message.

    @ivar name: where it is published.
    @ivar datagram: its bytes.
    @ivar key: what verifies it.
    @ivar sha256: whether its integrity is SHA-256.
    @ivar fingerprint: whether it has a FINGERPRINT.
    @ivar padding: the byte that it is padded with.
    """

    name: str
    datagram: bytes
    key: bytes
    messageClass: MessageClass
    transactionID: bytes
    attributes: tuple[tuple[int, bytes], ...]
    sha256: bool = False
    fingerprint: bool = True
    padding: bytes = b" "


PASSWORD = b"VOkJxbRl1RmTxUk/WvJxBt"
SHORT_TERM_ID = bytes.fromhex("b7e7a701bc34d686fa87dfae")
LONG_TERM_ID = bytes.fromhex("78ad3433c6ad72c029da412e")
IPV4_MAPPED = ("192.0.2.1", 32853)
IPV6_MAPPED = ("2001:db8:1234:5678:11:2233:4455:6677", 32853)

# The user name and password as they are after SASLprep (RFC 4013) and OpaqueString (RFC 8265):
# the soft hyphens and the Roman numeral of the published password are mapped away.
USERNAME = "\u30de\u30c8\u30ea\u30c3\u30af\u30b9"
REALM = "example.org"
PREPARED_PASSWORD = "TheMatrIX"

REQUEST = Vector(
    "RFC 5769 2.1",
    bytes.fromhex(
        "00010058 2112a442 b7e7a701bc34d686fa87dfae"
        "80220010 5354554e207465737420636c69656e74"
        "00240004 6e0001ff"
        "80290008 932ff9b151263b36"
        "00060009 6576746a3a68367659202020"
        "00080014 9aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2"
        "80280004 e57a3bcf"
    ),
    PASSWORD,
    MessageClass.REQUEST,
    SHORT_TERM_ID,
    (
        (AttributeType.SOFTWARE, b"STUN test client"),
        (AttributeType.PRIORITY, encodeUInt32(0x6E0001FF)),
        (AttributeType.ICE_CONTROLLED, encodeUInt64(0x932FF9B151263B36)),
        (AttributeType.USERNAME, b"evtj:h6vY"),
    ),
)

IPV4_RESPONSE = Vector(
    "RFC 5769 2.2",
    bytes.fromhex(
        "0101003c 2112a442 b7e7a701bc34d686fa87dfae"
        "8022000b 7465737420766563746f7220"
        "00200008 0001a147e112a643"
        "00080014 2b91f599fd9e90c38c7489f92af9ba53f06be7d7"
        "80280004 c07d4c96"
    ),
    PASSWORD,
    MessageClass.SUCCESS,
    SHORT_TERM_ID,
    (
        (AttributeType.SOFTWARE, b"test vector"),
        (AttributeType.XOR_MAPPED_ADDRESS, encodeXORAddress(IPV4_MAPPED, SHORT_TERM_ID)),
    ),
)

IPV6_RESPONSE = Vector(
    "RFC 5769 2.3",
    bytes.fromhex(
        "01010048 2112a442 b7e7a701bc34d686fa87dfae"
        "8022000b 7465737420766563746f7220"
        "00200014 0002a1470113a9faa5d3f179bc25f4b5bed2b9d9"
        "00080014 a382954e4be67bf11784c97c8292c275bfe3ed41"
        "80280004 c8fb0b4c"
    ),
    PASSWORD,
    MessageClass.SUCCESS,
    SHORT_TERM_ID,
    (
        (AttributeType.SOFTWARE, b"test vector"),
        (AttributeType.XOR_MAPPED_ADDRESS, encodeXORAddress(IPV6_MAPPED, SHORT_TERM_ID)),
    ),
)

LONG_TERM_REQUEST = Vector(
    "RFC 5769 2.4",
    bytes.fromhex(
        "00010060 2112a442 78ad3433c6ad72c029da412e"
        "00060012 e3839ee38388e383aae38383e382afe382b90000"
        "0015001c 662f2f3439396b39353464364f4c33346f4c39465354767936347341"
        "0014000b 6578616d706c652e6f726700"
        "00080014 f67024656dd64a3e02b8e0712e85c9a28ca89666"
    ),
    longTermKey(USERNAME, REALM, PREPARED_PASSWORD),
    MessageClass.REQUEST,
    LONG_TERM_ID,
    (
        (AttributeType.USERNAME, USERNAME.encode()),
        (AttributeType.NONCE, b"f//499k954d6OL34oL9FSTvy64sA"),
        (AttributeType.REALM, REALM.encode()),
    ),
    fingerprint=False,
    padding=b"\0",
)

SHA256_REQUEST = Vector(
    "RFC 8489 B.1",
    bytes.fromhex(
        "00010090 2112a442 78ad3433c6ad72c029da412e"
        "001e0020 4a3cf38fef6992bda952c6780417da0f24819415569e60b205c46e41407f1704"
        "00150029 6f624d61744a6f733241414143662f2f3439396b3935346436"
        "4f4c33346f4c39465354767936347341000000"
        "0014000b 6578616d706c652e6f726700"
        "001d0004 00020000"
        "001c0020 b5c7bf005b6c52a21c51c5e892f81924136296cb927c43149309278cc6518e65"
    ),
    # The key of PASSWORD-ALGORITHM 2 (RFC 8489 section 18.5.1.2).
    sha256(f"{USERNAME}:{REALM}:{PREPARED_PASSWORD}".encode()).digest(),
    MessageClass.REQUEST,
    LONG_TERM_ID,
    (
        (AttributeType.USERHASH, sha256(f"{USERNAME}:{REALM}".encode()).digest()),
        (AttributeType.NONCE, b"obMatJos2AAACf//499k954d6OL34oL9FSTvy64sA"),
        (AttributeType.REALM, REALM.encode()),
        (AttributeType.PASSWORD_ALGORITHM, bytes.fromhex("00020000")),
    ),
    sha256=True,
    fingerprint=False,
    padding=b"\0",
)

VECTORS = (REQUEST, IPV4_RESPONSE, IPV6_RESPONSE, LONG_TERM_REQUEST, SHA256_REQUEST)
