"""
What the command says of its own: words for people, or JSON for programs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TextIO

from p2ptwist.core.address import formatAddress
from p2ptwist.core.errors import LocalUsageError
from p2ptwist.core.readable import readable
from p2ptwist.peer.service import PathEvent


class Journal:
    """
    Writes events to standard error, as far as they can be written, and replies to standard output.
    """

    def __init__(self, name: str, output: TextIO, errors: TextIO, *, asJSON: bool) -> None:
        """
        @param name: of the command, as lines for people begin.
        """
        self._name = name
        self._output = output
        self._errors = errors
        self._asJSON = asJSON

    def identity(self, peerID: str) -> None:
        """
        Print the peer ID.
        """
        self._print(json.dumps({"peer": peerID}) if self._asJSON else peerID)

    def ready(self, peerID: str, advice: str) -> None:
        """
        Others can reach this peer.

        @param advice: what people do next.
        """
        self._event(advice, event="ready", peer=peerID)

    def connected(self, peerID: str, service: str, seconds: float | None = None) -> None:
        """
        There is a stream.

        @param seconds: that it took this side.
        """
        details = {} if seconds is None else {"seconds": round(seconds, 6)}
        words = f"connected with {peerID}"
        self._event(words, event="connected", peer=peerID, service=service, **details)

    def path(self, path: PathEvent) -> None:
        """
        A connection goes another way.
        """
        self._event(f"{_words(path)}: {path.peerID}", event="path", peer=path.peerID, **_of(path))

    def lost(self, peerID: str, reason: str) -> None:
        """
        A stream has ended.
        """
        reason = reason.removeprefix(f"session with {peerID}: ")
        self._event(f"ended: {peerID}: {reason}", event="lost", peer=peerID, reason=reason)

    def offline(self, reason: str) -> None:
        """
        No more calls come from a node, for the moment.
        """
        self._event(f"{reason}; trying on", event="offline", reason=reason)

    def failed(self, reason: str) -> None:
        """
        The command cannot do what it was asked to, or go on.
        """
        self._event(reason, event="failed", reason=reason)

    def reply(self, number: int, seconds: float, path: PathEvent) -> None:
        """
        A ping was answered.
        """
        details = {**_of(path), "rtt": round(seconds, 6)}
        if self._asJSON:
            self._print(
                json.dumps({"event": "reply", "peer": path.peerID, "sequence": number, **details})
            )
        else:
            self._print(f"reply {number}: {seconds * 1000:.1f} ms, {_words(path)}")

    def progress(self, words: str) -> None:
        """
        Something was found out on the way: people are told, who wait.
        """
        if not self._asJSON:
            self._say(f"{self._name}: {words}")

    def report(self, words: Iterable[str], found: dict[str, object]) -> None:
        """
        Print all that was found out.

        @param words: lines for people.
        @param found: the same for programs.
        """
        for line in [json.dumps(found)] if self._asJSON else words:
            self._print(line)

    def _event(self, words: str, **details: object) -> None:
        self._say(json.dumps(details) if self._asJSON else f"{self._name}: {words}")

    def _print(self, line: str) -> None:
        try:
            print(readable(line), file=self._output, flush=True)
        except OSError as error:
            why = f"cannot write to standard output: {error.strerror}"
            raise LocalUsageError(why) from None

    def _say(self, line: str) -> None:
        with suppress(OSError):  # a log that is full stops no transfer
            print(readable(line), file=self._errors, flush=True)


def _of(path: PathEvent) -> dict[str, object]:
    remote = None if path.remote is None else formatAddress(path.remote)
    rtt = None if path.roundTrip is None else round(path.roundTrip, 6)
    return {"kind": path.kind, "transport": path.transport, "remote": remote, "rtt": rtt}


def _words(path: PathEvent) -> str:
    if path.remote is None:
        return path.kind
    return f"{path.kind}, {path.transport} {formatAddress(path.remote)}"


class PathWatch:
    """
    Writes the path of each peer with which there is a stream, and every change of it.
    """

    def __init__(self, journal: Journal, pathOf: Callable[[str], PathEvent | None]) -> None:
        """
        @param pathOf: tells the path of a peer at this moment.
        """
        self._journal = journal
        self._pathOf = pathOf
        self._streams: dict[str, int] = {}
        self._last: dict[str, tuple[object, ...]] = {}

    def opened(self, peerID: str) -> None:
        """
        There is one more stream with a peer.
        """
        self._streams[peerID] = self._streams.get(peerID, 0) + 1
        path = self._pathOf(peerID)
        if path is not None:
            self.changed(path)

    def closed(self, peerID: str) -> None:
        """
        There is one stream less.
        """
        self._streams[peerID] -= 1
        if not self._streams[peerID]:
            del self._streams[peerID]
            self._last.pop(peerID, None)

    def changed(self, path: PathEvent) -> None:
        """
        A session goes another way.
        """
        way = (path.kind, path.transport, path.remote)
        if path.peerID in self._streams and self._last.get(path.peerID) != way:
            self._last[path.peerID] = way
            self._journal.path(path)
