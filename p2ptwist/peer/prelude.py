"""
What is said and decided before a handshake is over.
"""

from __future__ import annotations

from collections.abc import Callable

from p2ptwist.core.session.early import SIGNAL_COUNT


class Prelude:
    """
    The signals of a caller's carrier until the handshake is over: they go with the early offer, and
    again inside the session, as the early offer may be lost, or not be read.  On the other side,
    whether the caller is admitted: an early offer asks that, and so does the proof after it.
    """

    __slots__ = ("_admits", "_decision", "_signals")

    def __init__(self, calling: bool, admits: Callable[[], bool]) -> None:
        """
        @param calling: whether this side calls; who is called says nothing before it is asked.
        @param admits: asks the application whether the caller is admitted.
        """
        self._admits = admits
        self._signals: list[bytes] | None = [] if calling else None
        self._decision: bool | None = None

    @property
    def signals(self) -> tuple[bytes, ...]:
        """
        What was said so far.
        """
        return tuple(self._signals or ())

    def hold(self, data: bytes) -> bool:
        """
        @return: whether that signal is kept for later, and not to be sent now.
        """
        if self._signals is None:
            return False
        # A later signal says all that an earlier one said of addresses, but for the offer.
        del self._signals[SIGNAL_COUNT - 1 :]
        self._signals.append(data)
        return True

    def end(self) -> tuple[bytes, ...]:
        """
        The other side has proved itself.

        @return: the signals to send now; none are kept from now on.
        """
        signals, self._signals = self.signals, None
        return signals

    def admits(self) -> bool:
        """
        @return: whether the caller is admitted; the application is asked once.
        """
        if self._decision is None:
            self._decision = self._admits()
        return self._decision
