"""
Whether the other side, and nobody else, is at the end of a connection (RFC 6544 section 7).

Connectivity checks of RFC 8445 go in both directions.  Whoever dialed begins; whoever accepted says
nothing before an authentic check has come.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from p2ptwist.core.address import HostPort
from p2ptwist.core.errors import MalformedDatagram
from p2ptwist.core.ice.candidate import CandidateType, candidatePriority
from p2ptwist.core.ice.check import (
    Check,
    Credentials,
    decodeCheck,
    encodeAnswer,
    encodeCheck,
    mappedAddress,
    userNameFragments,
)
from p2ptwist.core.stun.message import (
    TRANSACTION_ID_LENGTH,
    Message,
    MessageClass,
    Method,
    decode,
    isSTUN,
)

# Checks of this side that may still be answered: one to prove, one to nominate, and those of the
# path's upkeep, of which there is one at a time.
OUTSTANDING_LIMIT = 4


@dataclass(frozen=True, slots=True)
class Keys:
    """
    What both sides of an attempt know of each other.

    @ivar local: this side's credentials.
    @ivar remote: the other side's.
    @ivar controlling: this side's role, which the signals decided.
    @ivar tieBreaker: this side's number, which RFC 8445 wants in checks.
    """

    local: Credentials
    remote: Credentials
    controlling: bool
    tieBreaker: int = field(repr=False, default=0)


class Verification:
    """
    The checks of one connection.

    @ivar address: the other end's.
    @ivar mapped: this end's address as the other side sees it; C{None} before an answer.
    @ivar roundTrip: seconds that the latest answer took; C{None} before one.
    @ivar answers: how many checks were answered.
    @ivar heard: whether an authentic check of the other side has come.
    @ivar nominated: whether the controlling side has chosen this connection.
    @ivar transmits: frames to send.
    """

    __slots__ = (
        "_keys",
        "_outstanding",
        "_randomBytes",
        "_spoken",
        "address",
        "answers",
        "heard",
        "mapped",
        "nominated",
        "roundTrip",
        "transmits",
    )

    def __init__(self, keys: Keys, address: HostPort, randomBytes: Callable[[int], bytes]) -> None:
        self.address = address
        self.mapped: HostPort | None = None
        self.roundTrip: float | None = None
        self.answers = 0
        self.heard = False
        self.nominated = False
        self.transmits: deque[bytes] = deque()
        self._keys = keys
        self._randomBytes = randomBytes
        self._spoken = False
        self._outstanding: dict[bytes, float] = {}

    @property
    def proved(self) -> bool:
        """
        Whether a check was answered in each direction.
        """
        return self.heard and self.roundTrip is not None

    def check(self, now: float) -> None:
        """
        Send a check.
        """
        self._spoken = True
        self._send(now, nominates=False)

    def nominate(self, now: float) -> None:
        """
        Choose this connection: the controlling side's to say.
        """
        self.nominated = True
        self._send(now, nominates=True)

    def receive(self, frame: bytes, now: float) -> bool:
        """
        Take a frame.

        @return: whether it was a STUN message; if not, it is the application's.
        @raise MalformedDatagram: when it must not come, or is not authentic: the connection is to
            be closed.
        """
        if not isSTUN(frame):
            if not self.nominated:
                raise MalformedDatagram("a datagram before the connection was proved")
            return False
        message = decode(frame, requireFingerprint=True)
        if message.method != Method.BINDING:
            raise MalformedDatagram(f"STUN method {message.method}")
        if message.messageClass is MessageClass.REQUEST:
            self._receiveCheck(message, now)
        elif message.messageClass is not MessageClass.INDICATION:  # which is a keepalive, unproved
            self._receiveAnswer(message, now)
        return True

    def _send(self, now: float, *, nominates: bool) -> None:
        keys = self._keys
        transactionID = self._randomBytes(TRANSACTION_ID_LENGTH)
        if len(self._outstanding) >= OUTSTANDING_LIMIT:
            del self._outstanding[next(iter(self._outstanding))]
        self._outstanding[transactionID] = now
        priority = candidatePriority(CandidateType.PEER_REFLEXIVE, self.address[0])
        check = Check(priority, keys.controlling, keys.tieBreaker, nominates)
        self.transmits.append(encodeCheck(transactionID, check, keys.local, keys.remote))

    def _receiveCheck(self, message: Message, now: float) -> None:
        keys = self._keys
        names = (keys.local.fragment, keys.remote.fragment)
        if userNameFragments(message) != names or not message.verify(keys.local.password):
            raise MalformedDatagram("a check that is not the other side's")
        check = decodeCheck(message)
        if check.controlling is keys.controlling:
            raise MalformedDatagram("a check of this side's own role")
        self.heard = True
        self.transmits.append(encodeAnswer(message, self.address, keys.local.password))
        if not self._spoken:
            self.check(now)
        if check.nominates and not keys.controlling:
            if not self.proved:
                raise MalformedDatagram("a connection was chosen that is not proved")
            self.nominated = True

    def _receiveAnswer(self, message: Message, now: float) -> None:
        sentAt = self._outstanding.pop(message.transactionID, None)
        if sentAt is None or not message.verify(self._keys.remote.password):
            raise MalformedDatagram("an answer to nothing, or not the other side's")
        if message.messageClass is MessageClass.ERROR:
            raise MalformedDatagram("the other side refuses a check")
        self.mapped = mappedAddress(message)
        self.roundTrip = now - sentAt
        self.answers += 1
