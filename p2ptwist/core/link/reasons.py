"""
Why a node ends a link.
"""

from __future__ import annotations

import enum


class Reason(enum.IntEnum):
    """
    Why a node ends a link.  L{word} is its name in errors and logs.
    """

    FULL = 1
    BAD_SIGNATURE = 2
    TOO_FAST = 3
    DISPLACED = 4
    DRAINING = 5
    VERSION = 6
    TIMEOUT = 7
    PROTOCOL = 8
    TOO_SLOW = 9

    @property
    def word(self) -> str:
        """
        Such as C{"bad-signature"}.
        """
        return self.name.lower().replace("_", "-")

    @property
    def text(self) -> str:
        """
        One sentence for people, which says what to do.
        """
        return _TEXTS[self]


_TEXTS = {
    Reason.FULL: "this node has no room for more links: try again later, or use another node",
    Reason.BAD_SIGNATURE: "the signature does not fit the key: check the identity file",
    Reason.TOO_FAST: "too many connections in a short time: wait a little",
    Reason.DISPLACED: "another program uses the same key: give each program an identity of its own",
    Reason.DRAINING: "this node is shutting down: come back in a moment",
    Reason.VERSION: "this node does not speak that version: bring the older program up to date",
    Reason.TIMEOUT: "nothing was heard in time: check the network",
    Reason.PROTOCOL: "a frame was not as the protocol says: bring the older program up to date",
    Reason.TOO_SLOW: "messages came faster than they were read: read faster",
}


def reasonWord(reason: int) -> str:
    """
    @param reason: as it came, known or not.
    @return: the word for it, such as C{"full"} or C{"unknown-77"}.
    """
    try:
        return Reason(reason).word
    except ValueError:
        return f"unknown-{reason}"
