"""
The small messages of the rendezvous link: hello, prove, welcome and goodbye.

Each class encodes itself as a frame and decodes itself from a frame's body.  Decoding is exact: a
body has one meaning or is refused with L{MalformedFrame<p2ptwist.core.errors.MalformedFrame>}.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from p2ptwist.core.address import HostPort, canonicalHost, parseHost
from p2ptwist.core.errors import LocalUsageError, MalformedFrame
from p2ptwist.core.link.frames import FrameType, encodeFrame
from p2ptwist.core.peerid import PUBLIC_KEY_LENGTH

PROTOCOL_VERSION = 1
CHALLENGE_LENGTH = 32  # bytes: nobody guesses or repeats one
SIGNATURE_LENGTH = 64  # bytes; RFC 8032 section 5.1.6
INSTANCE_LENGTH = 8  # bytes: enough to tell the programs that hold one key apart
MAX_NAME_LENGTH = 64  # bytes of UTF-8; a host name's label has 63
MAX_TEXT_LENGTH = 200  # bytes of UTF-8: one sentence
MAX_STUN_SERVERS = 4  # RFC 5780 behaviour discovery needs two addresses; twice that is plenty
MAX_HOST_LENGTH = 253  # characters; RFC 1035 section 2.3.4
UNKNOWN_ADDRESS: HostPort = ("", 0)  # of a connection without an IP address, such as a Unix socket

_TAKE_OVER = 0x01
_CONTEXT = b"p2ptwist link prove v1\x00"
_PORT = struct.Struct("!H")


class _Body:
    """
    Read a body from its front; every read past its end raises MalformedFrame.
    """

    __slots__ = ("_data", "_offset")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._offset = 0

    def take(self, length: int) -> bytes:
        """
        @return: exactly C{length} bytes.
        """
        end = self._offset + length
        if end > len(self._data):
            raise MalformedFrame("a body ends too soon")
        taken = self._data[self._offset : end]
        self._offset = end
        return taken

    def takeInt(self, length: int) -> int:
        """
        @return: an unsigned number of C{length} bytes.
        """
        return int.from_bytes(self.take(length), "big")

    def takeText(self, limit: int, encoding: str = "utf-8") -> str:
        """
        @return: a text of at most C{limit} bytes with its length byte before it.
        """
        length = self.takeInt(1)
        if length > limit:
            raise MalformedFrame(f"a text of {length} bytes, where {limit} may come")
        try:
            return self.take(length).decode(encoding)
        except UnicodeDecodeError:
            raise MalformedFrame(f"a text is not {encoding}") from None

    def finish(self) -> None:
        """
        @raise MalformedFrame: when bytes are left.
        """
        if self._offset != len(self._data):
            raise MalformedFrame("a body goes on after its end")


def _encodeText(text: str, limit: int) -> bytes:
    data = text.encode()
    if len(data) > limit:
        raise LocalUsageError(f"{text!r} is longer than {limit} bytes")
    return bytes((len(data),)) + data


@dataclass(frozen=True, slots=True)
class Hello:
    """
    What a node says first.

    @ivar challenge: 32 fresh random bytes.
    @ivar nodeName: not empty, at most 64 bytes of UTF-8.
    @ivar lowestVersion: the oldest protocol version that the node speaks.
    @ivar highestVersion: the newest one.
    """

    challenge: bytes
    nodeName: str
    lowestVersion: int = PROTOCOL_VERSION
    highestVersion: int = PROTOCOL_VERSION

    def encode(self) -> bytes:
        """
        @return: the whole frame.
        """
        versions = bytes((self.lowestVersion, self.highestVersion))
        name = _encodeText(self.nodeName, MAX_NAME_LENGTH)
        return encodeFrame(FrameType.HELLO, versions + self.challenge + name)

    @classmethod
    def decode(cls, body: bytes) -> Hello:
        """
        @raise MalformedFrame: when C{body} is not one hello.
        """
        reader = _Body(body)
        lowest, highest = reader.takeInt(1), reader.takeInt(1)
        challenge = reader.take(CHALLENGE_LENGTH)
        name = reader.takeText(MAX_NAME_LENGTH)
        reader.finish()
        if not name:
            raise MalformedFrame("a node without a name")
        return cls(challenge, name, lowest, highest)


@dataclass(frozen=True, slots=True)
class Prove:
    """
    A peer's proof that it holds a key.

    @ivar publicKey: exactly 32 bytes.
    @ivar instance: exactly 8 bytes, the same for as long as the peer's program runs.
    @ivar takeOver: whether another program's link with this key is to be ended.
    @ivar signature: exactly 64 bytes, over L{signedText}.
    @ivar version: the protocol version that the peer chose.
    """

    publicKey: bytes
    instance: bytes
    takeOver: bool = True
    signature: bytes = bytes(SIGNATURE_LENGTH)
    version: int = PROTOCOL_VERSION

    def _signedPart(self) -> bytes:
        return bytes((self.version, self.takeOver)) + self.instance + self.publicKey

    def signedText(self, hello: Hello) -> bytes:
        """
        @return: what the signature covers, when C{hello} is what the node said.
        """
        name = _encodeText(hello.nodeName, MAX_NAME_LENGTH)
        return _CONTEXT + self._signedPart() + hello.challenge + name

    def encode(self) -> bytes:
        """
        @return: the whole frame.
        """
        return encodeFrame(FrameType.PROVE, self._signedPart() + self.signature)

    @classmethod
    def decode(cls, body: bytes) -> Prove:
        """
        @raise MalformedFrame: when C{body} is not one prove.
        """
        reader = _Body(body)
        version, flags = reader.takeInt(1), reader.takeInt(1)
        instance = reader.take(INSTANCE_LENGTH)
        publicKey = reader.take(PUBLIC_KEY_LENGTH)
        signature = reader.take(SIGNATURE_LENGTH)
        reader.finish()
        if flags & ~_TAKE_OVER:
            raise MalformedFrame(f"unknown flags {flags:#04x}")
        return cls(publicKey, instance, flags == _TAKE_OVER, signature, version)


@dataclass(frozen=True, slots=True)
class Welcome:
    """
    What a node tells a peer that has proved its key.

    @ivar observedAddress: where the node saw the peer come from; L{UNKNOWN_ADDRESS} when the
        connection has no IP address.
    @ivar pingInterval: seconds of silence after which the peer pings, 1..65535.
    @ivar maxPayload: bytes that one message may carry.
    @ivar stunServers: UDP addresses; an empty host stands for the node's own.
    """

    observedAddress: HostPort
    pingInterval: int
    maxPayload: int
    stunServers: tuple[HostPort, ...] = ()

    def encode(self) -> bytes:
        """
        @return: the whole frame.
        @raise LocalUsageError: when there are too many STUN servers, or one is not an address.
        """
        if len(self.stunServers) > MAX_STUN_SERVERS:
            raise LocalUsageError(f"at most {MAX_STUN_SERVERS} STUN servers fit into a welcome")
        return encodeFrame(
            FrameType.WELCOME,
            _encodeAddress(self.observedAddress)
            + struct.pack("!HH", self.pingInterval, self.maxPayload)
            + bytes((len(self.stunServers),))
            + b"".join(map(_encodeServer, self.stunServers)),
        )

    @classmethod
    def decode(cls, body: bytes) -> Welcome:
        """
        @raise MalformedFrame: when C{body} is not one welcome.
        """
        reader = _Body(body)
        observed = _decodeAddress(reader)
        interval, maxPayload = reader.takeInt(2), reader.takeInt(2)
        count = reader.takeInt(1)
        if count > MAX_STUN_SERVERS or not interval:
            raise MalformedFrame("a welcome with too many STUN servers, or no ping interval")
        servers = tuple(_decodeServer(reader) for _ in range(count))
        reader.finish()
        return cls(observed, interval, maxPayload, servers)


@dataclass(frozen=True, slots=True)
class Goodbye:
    """
    Why a node ends the link.

    @ivar reason: a L{Reason}, or a number that this version does not know.
    @ivar text: one sentence for people.
    @ivar retryAfter: seconds within which the peer should come back at a random time; 0 for as
        it likes.
    """

    reason: int
    text: str = ""
    retryAfter: int = 0

    def encode(self) -> bytes:
        """
        @return: the whole frame.
        """
        head = struct.pack("!BH", self.reason, self.retryAfter)
        return encodeFrame(FrameType.GOODBYE, head + _encodeText(self.text, MAX_TEXT_LENGTH))

    @classmethod
    def decode(cls, body: bytes) -> Goodbye:
        """
        @raise MalformedFrame: when C{body} is not one goodbye.
        """
        reader = _Body(body)
        reason, retryAfter = reader.takeInt(1), reader.takeInt(2)
        text = reader.takeText(MAX_TEXT_LENGTH)
        reader.finish()
        return cls(reason, text, retryAfter)


def _encodeAddress(address: HostPort) -> bytes:
    if address == UNKNOWN_ADDRESS:
        return b"\x00"
    host = parseHost(address[0])
    return bytes((host.version,)) + host.packed + _PORT.pack(address[1])


def _decodeAddress(reader: _Body) -> HostPort:
    family = reader.takeInt(1)
    if family == 0:
        return UNKNOWN_ADDRESS
    if family == 4:
        host = str(IPv4Address(reader.take(4)))
    elif family == 6:
        host = canonicalHost(str(IPv6Address(reader.take(16))))
    else:
        raise MalformedFrame(f"unknown address family {family}")
    return host, reader.takeInt(2)


def _encodeServer(server: HostPort) -> bytes:
    host, port = server
    if not host.isascii() or not 0 < port < 65536:
        raise LocalUsageError(f"{server!r} is not the address of a STUN server")
    return _encodeText(host, MAX_HOST_LENGTH) + _PORT.pack(port)


def _decodeServer(reader: _Body) -> HostPort:
    host = reader.takeText(MAX_HOST_LENGTH, "ascii")
    port = reader.takeInt(2)
    if not port:
        raise MalformedFrame("a STUN server without a port")
    return host, port
