from __future__ import annotations

from typing import Any


class TCPStack:
    def __init__(self, stack: Any, random: Any) -> None:
        self.stack = stack

    def receive(self, packet: Any) -> None:
        self.stack.drop(packet, "no TCP yet")

    def receiveError(self, error: Any) -> None:
        pass
