"""
Bytes of a stream that wait to be sent.
"""

from __future__ import annotations

from typing import Any


class Outgoing:
    """
    A queue of bytes, taken in other pieces than they were put in.

    @ivar size: how many there are.
    """

    __slots__ = ("_pieces", "size")

    def __init__(self) -> None:
        self.size = 0
        self._pieces: list[bytes | memoryview] = []

    def append(self, data: bytes) -> None:
        """
        Add bytes to the end.
        """
        self._pieces.append(data)
        self.size += len(data)

    def take(self, room: int) -> bytes | memoryview:
        """
        @param room: at least 1.
        @return: the first bytes, at most C{room}.  There is at least one.
        """
        pieces = self._pieces
        if len(pieces) > 1 and len(pieces[0]) < room:
            # No byte more than twice, as what is joined now is used up before more is.
            pieces[:] = [b"".join(pieces)]
        piece = pieces[0]
        if len(piece) > room:
            view = memoryview(piece)
            piece, rest = view[:room], view[room:]
            whole: Any = rest.obj  # bytes, all of which a view keeps
            # Copied is at most half of it, then half of that: never more than there was.
            pieces[0] = bytes(rest) if 2 * len(rest) < len(whole) else rest
        else:
            del pieces[0]
        self.size -= len(piece)
        return piece

    def clear(self) -> None:
        """
        Forget them.
        """
        self._pieces.clear()
        self.size = 0
