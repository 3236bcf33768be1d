"""
A data channel of C{aiortc}, ordered and reliable, measured as C{benchmarks/bulkpeers.py} does.

It runs on asyncio, as it is meant to.  The two sides exchange their descriptions over TCP.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Coroutine
from typing import Any

import aioice.ice
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from benchmarks.bulkpeers import ECHO, HOST, Meter, say

_QUEUED = 256 * 1024  # bytes of bulk that wait in the library
_PATIENCE = 300.0  # seconds


def take() -> None:
    """
    Be the side that takes.
    """
    _run(_take())


def give(address: str, octets: int, echoes: int, message: int) -> None:
    """
    Be the side that gives.

    @param message: bytes of each message of the bulk.
    """
    _run(_give(int(address), octets, echoes, message))


def _run(coroutine: Coroutine[Any, Any, None]) -> None:
    # The library leaves out loopback, which is all that is used here.
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: [HOST]
    asyncio.run(coroutine)


def _connection() -> Any:
    return RTCPeerConnection(RTCConfiguration(iceServers=[]))


def _described(connection: Any) -> bytes:
    description = connection.localDescription
    return json.dumps({"sdp": description.sdp, "type": description.type}).encode() + b"\n"


async def _take() -> None:
    async def called(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await connection.setRemoteDescription(
            RTCSessionDescription(**json.loads(await reader.readline()))
        )
        await connection.setLocalDescription(await connection.createAnswer())
        writer.write(_described(connection))

    connection = _connection()
    connection.on("datachannel", _serve)
    server = await asyncio.start_server(called, HOST, 0, limit=1 << 20)
    say(address=str(server.sockets[0].getsockname()[1]))
    await asyncio.sleep(_PATIENCE)


def _serve(channel: Any) -> None:
    """
    Echo, or count: the first message of the bulk says how much it will be.
    """
    meter: Meter | None = None
    came = expected = 0

    def counted(data: bytes) -> None:
        nonlocal meter, came, expected
        if meter is None:
            meter, expected = Meter(), int.from_bytes(data, "big")
        came += len(data)
        if came == expected:
            meter.tell(came)
            channel.send(b".")

    channel.on("message", channel.send if channel.label == "echo" else counted)


async def _give(port: int, octets: int, echoes: int, message: int) -> None:
    connection = _connection()
    echo, bulk = (connection.createDataChannel(name) for name in ("echo", "bulk"))
    opened = asyncio.Event()
    bulk.on("open", opened.set)
    await connection.setLocalDescription(await connection.createOffer())
    reader, writer = await asyncio.open_connection(HOST, port, limit=1 << 20)
    writer.write(_described(connection))
    await connection.setRemoteDescription(
        RTCSessionDescription(**json.loads(await reader.readline()))
    )
    await opened.wait()
    await _echo(echo, echoes)
    await _bulk(bulk, octets, bytes(message))
    await connection.close()


async def _echo(channel: Any, count: int) -> None:
    times: list[float] = []
    returned = asyncio.Queue[bytes]()
    channel.on("message", returned.put_nowait)
    say(begin=True)
    for _ in range(count):
        began = time.perf_counter()
        channel.send(ECHO)
        await returned.get()
        times.append(time.perf_counter() - began)
    say(echo=statistics.median(times))


async def _bulk(channel: Any, octets: int, message: bytes) -> None:
    done, low = asyncio.Event(), asyncio.Event()
    channel.on("message", lambda data: done.set())
    channel.on("bufferedamountlow", low.set)
    channel.bufferedAmountLowThreshold = _QUEUED // 2
    meter = Meter()
    channel.send(octets.to_bytes(8, "big"))
    left = octets - 8
    while left:
        piece = message[:left]
        left -= len(piece)
        channel.send(piece)
        if channel.bufferedAmount > _QUEUED:
            low.clear()
            await low.wait()
    await done.wait()
    meter.tell(octets)
