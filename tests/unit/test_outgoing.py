"""
L{p2ptwist.peer.outgoing}.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2ptwist.peer.outgoing import Outgoing


class OutgoingTests(SynchronousTestCase):
    """
    A queue of bytes.
    """

    @given(st.lists(st.binary(min_size=1, max_size=50) | st.integers(1, 60), max_size=60))
    def test_order(self, steps: list[bytes | int]) -> None:
        """
        What is taken is what was put in, in whatever pieces; and never more than there is room for.
        """
        outgoing, put, taken = Outgoing(), b"", b""
        for step in steps:
            if isinstance(step, bytes):
                outgoing.append(step)
                put += step
            elif outgoing.size:
                expected = min(outgoing.size, step)
                piece = bytes(outgoing.take(step))
                self.assertTrue(0 < len(piece) <= expected)
                taken += piece
            self.assertEqual(outgoing.size, len(put) - len(taken))
        while outgoing.size:
            taken += outgoing.take(1000)
        self.assertEqual(taken, put)

    def test_joined(self) -> None:
        """
        Many small pieces leave together, and a large one is not copied.
        """
        outgoing = Outgoing()
        for _ in range(1000):
            outgoing.append(b"x")
        self.assertEqual(outgoing.take(5000), b"x" * 1000)
        large = bytes(1000)
        outgoing.append(large)
        self.assertIs(outgoing.take(1000), large)
        outgoing.append(large)
        piece = outgoing.take(600)
        assert isinstance(piece, memoryview)
        self.assertIs(piece.obj, large)

    def test_rest(self) -> None:
        """
        What is left of a large piece does not keep the whole for long.
        """
        outgoing, kept = Outgoing(), 1000
        outgoing.append(bytes(1000))
        for _ in range(9):
            outgoing.take(100)
            piece = outgoing._pieces[0]
            kept = len(piece.obj if isinstance(piece, memoryview) else piece)  # type: ignore[arg-type]
            self.assertLessEqual(kept, 2 * outgoing.size)
        self.assertEqual((kept, outgoing.size), (100, 100))

    def test_clear(self) -> None:
        """
        What is forgotten is gone.
        """
        outgoing = Outgoing()
        outgoing.append(b"gone")
        outgoing.clear()
        outgoing.append(b"here")
        self.assertEqual((outgoing.size, outgoing.take(10)), (4, b"here"))
