"""
A peer made with aioice, the nearest other library, with nothing but STUN.

C{aioicepeer.py NODE NAME [PEER COUNT]} signals through C{forwarder.py} on port 9000 of the node and
asks the STUN server on its port 3478.  Without PEER it answers calls and echoes; with it, it calls
COUNT times, one after the other, and prints for each the seconds from the decision to call to the
first echoed datagram, as a JSON list.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import aioice

_FORWARDER, _STUN = 9000, 3478
_PAUSE = 0.5  # seconds between two calls, so that the last one is over


class Signaling:
    """
    A client of the forwarder.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, to: str, connection: aioice.Connection, sender: str) -> None:
        """
        Send what the other side must know.
        """
        description = {
            "from": sender,
            "user": connection.local_username,
            "password": connection.local_password,
            "candidates": [candidate.to_sdp() for candidate in connection.local_candidates],
        }
        self._writer.write(f"{to} {json.dumps(description)}\n".encode())

    async def receive(self) -> dict[str, Any]:
        """
        Wait for the other side's.
        """
        description: dict[str, Any] = json.loads(await self._reader.readline())
        return description


async def apply(connection: aioice.Connection, description: dict[str, Any]) -> None:
    """
    Tell a connection about the other side.
    """
    connection.remote_username = description["user"]
    connection.remote_password = description["password"]
    for line in description["candidates"]:
        await connection.add_remote_candidate(aioice.Candidate.from_sdp(line))
    await connection.add_remote_candidate(None)


async def prepared(node: str, *, caller: bool) -> aioice.Connection:
    """
    @return: a connection that knows its candidates.  Both sides make theirs before the call, so
        that what is measured is the meeting alone.
    """
    connection = aioice.Connection(ice_controlling=caller, stun_server=(node, _STUN))
    await connection.gather_candidates()
    return connection


async def call(node: str, name: str, peer: str, signaling: Signaling) -> float:
    """
    @return: the seconds from the decision to call to the first echo.
    """
    connection = await prepared(node, caller=True)
    started = time.monotonic()
    signaling.send(peer, connection, name)
    await apply(connection, await signaling.receive())
    await connection.connect()
    await connection.send(b"hello")
    await connection.recv()
    seconds = time.monotonic() - started
    await connection.close()
    return seconds


async def answer(
    connection: aioice.Connection, name: str, signaling: Signaling, offer: dict[str, Any]
) -> None:
    """
    Answer one call, and echo until it ends.
    """
    signaling.send(offer["from"], connection, name)
    await apply(connection, offer)
    try:
        await connection.connect()
        while True:
            await connection.send(await connection.recv())
    except ConnectionError:
        await connection.close()


async def main(node: str, name: str, peer: str = "", count: str = "1") -> None:
    """
    Call, or wait for calls.
    """
    reader, writer = await asyncio.open_connection(node, _FORWARDER)
    writer.write(name.encode() + b"\n")
    signaling = Signaling(reader, writer)
    print("ready", flush=True)
    if peer:
        seconds = []
        for _ in range(int(count)):
            seconds.append(await call(node, name, peer, signaling))
            await asyncio.sleep(_PAUSE)
        print(json.dumps(seconds), flush=True)
        return
    tasks = set()
    while True:
        connection = await prepared(node, caller=False)
        offer = await signaling.receive()
        task = asyncio.ensure_future(answer(connection, name, signaling, offer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
