"""
Whether a link that was lost is made anew at once, and how long each step of that may take.

Somebody who waits for an answer asks the node for a sign of life, and gets none: a NAT forgot the
link, as a rule, and will not answer for it.  The way to the node changed, not the node, so there is
no crowd of peers to wait for.  But the way may change again at any moment, also in the middle of
the next handshake, which then hangs without a word: so several connections are tried at a time,
and none is given the patience that a stranger needs.
"""

from __future__ import annotations

from p2ptwist.core.link.client import HANDSHAKE_DELAY

WINDOW = 10.0  # seconds from the doubt: as long as an answer may take at all
# Links that are made at once for one doubt.  With doubled patience for each, the last has 4 s at
# least; what comes to nothing by then is another trouble, for which there is the back-off.
ROUNDS = 4
GAP_LEAST = 0.25  # seconds; TCP repeats the first packet of a connection only after one
GAP_ROUND_TRIPS = 3  # two until the hello, one for what delays it
PROOF_LEAST = 0.5  # seconds; TCP repeats a lost segment after some 0.25
PROOF_ROUND_TRIPS = 4  # TCP repeats a lost segment after three, and then it takes one


class Hurry:
    """
    The haste of one peer.
    """

    def __init__(self) -> None:
        self._until = float("-inf")
        self._left = 0
        self._round = 0
        self._forgives = False

    @property
    def active(self) -> bool:
        """
        Whether the present attempt is made in haste.
        """
        return self._round > 0

    def forgive(self, now: float) -> bool:
        """
        @return: whether a link that was displaced was so by an earlier one of this very peer,
            perhaps, that was given up in haste.  Once for each doubt.
        """
        forgiven = self._forgives and now < self._until
        self._forgives = False
        return forgiven

    def doubted(self, now: float) -> None:
        """
        Somebody waits for a link that was up.
        """
        self._until = now + WINDOW
        self._left = ROUNDS
        self._round = 0
        self._forgives = True

    def refused(self) -> None:
        """
        It is the node, after all.
        """
        self._left = self._round = 0

    def take(self, now: float) -> bool:
        """
        @return: whether the next attempt is to be made at once.
        """
        if now >= self._until or not self._left:
            self._round = 0
            return False
        self._left -= 1
        self._round += 1
        return True

    def gap(self, roundTrip: float) -> float:
        """
        @param roundTrip: seconds to the node and back, as was last measured.
        @return: seconds after which another connection is tried beside the first.
        """
        return max(GAP_LEAST, GAP_ROUND_TRIPS * roundTrip)

    def patience(self, roundTrip: float) -> float:
        """
        @param roundTrip: as for L{gap}.
        @return: seconds that the node may take to answer a proof.
        """
        if not self.active:
            return HANDSHAKE_DELAY
        least = max(PROOF_LEAST, PROOF_ROUND_TRIPS * roundTrip)
        return min(least * 2.0 ** (self._round - 1), HANDSHAKE_DELAY)
