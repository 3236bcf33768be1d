"""
A router's program that answers each request for a port mapping with lies: C{HOST COUNT} answers on
that address with so many datagrams, all wrong, each in another way.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from random import Random

_PORT = 5351


def _lies(request: bytes, random: Random) -> bytes:
    """
    @return: the request, turned into an answer that is nearly right.
    """
    answer = bytearray(request)
    if len(answer) < 12 or random.random() < 0.1:
        return random.randbytes(random.randrange(1200))
    answer[1] |= 0x80
    # The nonce or what it is about; the opcode; the version; the length.
    kind = random.randrange(4)
    if kind == 0 and len(answer) == 60:
        answer[random.randrange(24, 36)] ^= 1 + random.randrange(255)
    elif kind == 1:
        answer[1] ^= 1 + random.randrange(2)
    elif kind == 2:
        answer[0] ^= 4 + random.randrange(64)
    else:
        del answer[-1 - random.randrange(3) :]
    return bytes(answer)


def main(host: str, count: str) -> None:
    """
    Lie.
    """
    random = Random(1)
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((host, _PORT))
    other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    other.bind((host, 0))
    print("ready", flush=True)
    while True:
        request, client = server.recvfrom(2000)
        for number in range(int(count)):
            # Another port lies as well, with what would be right.
            with contextlib.suppress(OSError):
                (other if number % 5 == 0 else server).sendto(_lies(request, random), client)


if __name__ == "__main__":
    main(*sys.argv[1:])
