"""
The data path of an agent: the pair that application data is sent on, and what waits for it.

Until a check of our own has proved the address, no more bytes leave than came from it in
authenticated checks (the rule of RFC 9000 section 8.1, with a factor of 1 instead of 3).  After
that L{Consent} decides.
"""

from __future__ import annotations

from p2ptwist.core.address import HostPort
from p2ptwist.core.ice.candidate import CandidateType
from p2ptwist.core.ice.checklist import Pair, PairState
from p2ptwist.core.ice.consent import Consent
from p2ptwist.core.ice.generation import Generation
from p2ptwist.core.ice.jitter import Uniform
from p2ptwist.core.ice.localside import LocalSide
from p2ptwist.core.machine import Transmit
from p2ptwist.core.nat import UNKNOWN_BEHAVIOR

HELD_LIMIT = 64  # datagrams that wait for consent: a small burst of one round trip
PARKED_LIMIT = 16  # datagrams that overtook the check which proves their sender


class DataPath:
    """
    Where data goes.

    @ivar pair: the pair it goes on, or C{None} before the path is open.
    @ivar generation: the generation of that pair.
    @ivar consent: its clock, or C{None} while the pair is not proved.
    @ivar successor: where the other side was heard last, when that was not at the pair in use: its
        NAT gives it another address, perhaps.  C{None} when it was.
    """

    __slots__ = (
        "_followed",
        "_held",
        "_localSide",
        "_parked",
        "_random",
        "consent",
        "generation",
        "pair",
        "successor",
    )

    def __init__(self, random: Uniform, localSide: LocalSide | None = None) -> None:
        """
        @param random: for the spread of renewals.
        @param localSide: whose NAT matters for the keepalive.
        """
        self.pair: Pair | None = None
        self.generation: Generation | None = None
        self.consent: Consent | None = None
        self.successor: Pair | None = None
        self._followed = False
        self._localSide = localSide
        self._random = random
        self._held: list[bytes] = []
        self._parked: list[tuple[bytes, HostPort]] = []

    def open(self, generation: Generation, pair: Pair, now: float) -> None:
        """
        Use a pair on which the other side was heard, within the bytes that it sent.
        """
        self.pair, self.generation = pair, generation
        generation.linger(now)

    def prove(self, generation: Generation, pair: Pair, controlling: bool, now: float) -> None:
        """
        Use a pair whose check was answered.
        """
        if pair is not self.pair or self.consent is None:
            self.consent = Consent(self._random, controlling, now)
            self.consent.granted(now, pair.roundTrip or 0.0)
        self._followed = self._followed or pair is self.successor
        self.pair, self.generation, self.successor = pair, generation, None
        self._keepMappings(self.consent, generation)

    def confirm(self, pair: Pair, request: bool, now: float) -> bool:
        """
        An authentic message came on C{pair}.

        @param request: whether it was a check of the other side, and no answer to our own.
        @return: whether that is the pair that data goes on.
        """
        if pair is not self.pair or self.consent is None:
            return False
        self.successor = None
        if request:
            self.consent.answered(now)
        else:
            self.consent.granted(now, pair.roundTrip or 0.0)
        assert self.generation is not None  # as there is a pair
        self._keepMappings(self.consent, self.generation)
        return True

    def _keepMappings(self, consent: Consent, generation: Generation) -> None:
        """
        What is known of either NAT may have become more since the last check.
        """
        local = UNKNOWN_BEHAVIOR if self._localSide is None else self._localSide.behavior
        consent.keepMappings(local, generation.behavior)

    def follow(self, generation: Generation, pair: Pair) -> bool:
        """
        A check of the other side came on C{pair}, where data does not go.

        @return: whether data is to go there if a check of our own proves it: the pair in use was
            chosen for good and this address is new, so that only a NAT can have moved the other
            side.  A late check from an address that was not chosen moves nothing.
        """
        chosen = self.consent is not None and generation is self.generation
        if not chosen or not generation.completed:
            return False
        fresh = pair.remote.type is CandidateType.PEER_REFLEXIVE
        fresh = fresh and pair.state is PairState.WAITING
        if fresh or self._followed:
            self.successor = pair
        return pair is self.successor

    def isBetter(self, generation: Generation, pair: Pair, current: bool) -> bool:
        """
        @param current: whether C{generation} is the one that checks are made for.
        @return: whether data had better go on C{pair}, which is proved.
        """
        if self.pair is None or self.consent is None or pair is self.successor:
            return True
        if generation is not self.generation:
            return current
        return not generation.completed and pair.priority > self.pair.priority

    def heardFrom(self, address: HostPort, now: float) -> None:
        """
        Data came from C{address}.
        """
        if self.consent is not None and self.pair is not None and self.pair.address == address:
            self.consent.heard(now)

    def suspend(self) -> None:
        """
        Let data wait: the pair is dead, and another one is being looked for.
        """
        self.consent = None
        if self.pair is not None:
            self.pair.credit = 0

    def clear(self) -> None:
        """
        Forget what waits.
        """
        self._held.clear()
        self._parked.clear()

    def deadline(self) -> float | None:
        """
        @return: when consent is to be renewed, or has run out.
        """
        return None if self.consent is None else self.consent.deadline()

    def hold(self, data: bytes) -> bool:
        """
        Queue one datagram to send.

        @return: whether there was room.
        """
        if len(self._held) >= HELD_LIMIT:
            return False
        self._held.append(data)
        return True

    def takeSendable(self, now: float) -> Transmit | None:
        """
        @return: the next datagram that may leave at C{now}.
        """
        if not self._held or self.pair is None or not self._mayPass(self._held[0], now):
            return None
        return Transmit(self._held.pop(0), self.pair.address)

    def passMany(self, now: float) -> HostPort | None:
        """
        @return: where any number of datagrams may go at C{now}, when nothing waits before them;
            they count as sent.
        """
        if self._held or self.pair is None or self.consent is None:
            return None
        return self.pair.address if self.consent.mayPass(now) else None

    def park(self, data: bytes, address: HostPort) -> bool:
        """
        Keep a datagram that came from an address which may prove itself in a moment.

        @return: whether there was room.
        """
        if len(self._parked) >= PARKED_LIMIT:
            return False
        self._parked.append((data, address))
        return True

    def unpark(self, address: HostPort) -> list[bytes]:
        """
        @return: what was parked from C{address}, which has proved itself.
        """
        released = [data for data, source in self._parked if source == address]
        self._parked = [each for each in self._parked if each[1] != address]
        return released

    def _mayPass(self, data: bytes, now: float) -> bool:
        if self.consent is not None:
            return self.consent.mayPass(now)
        if self.pair is None or self.pair.credit < len(data):
            return False
        self.pair.credit -= len(data)
        return True
