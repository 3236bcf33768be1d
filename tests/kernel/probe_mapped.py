"""
Both ends of a flow that clashes with the one of a mapped port, with plain sockets.

C{inside GATEWAY HOST:PORT} has its port mapped by PCP to L{EXTERNAL}, sends to HOST:PORT, and
answers whoever comes in; it prints the address that it saw come in.  C{outside HOST:EXTERNAL}
waits on L{OUTSIDE} for somebody from inside, sends to the mapped port from the same socket, and
prints the two addresses that it saw: of what came first, and of the answer.
"""

from __future__ import annotations

import json
import socket
import sys

from p2ptwist.core.portmapping import pcp

INSIDE, EXTERNAL, OUTSIDE = 5000, 7000, 6000
_TRIES, _PATIENCE = 60, 0.5  # half a minute: others use the cores


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


def _await(sock: socket.socket, wanted: bytes, sent: bytes = b"", to: str = "") -> tuple[str, int]:
    """
    Wait for something, and send something meanwhile.

    @return: where it came from.
    """
    for _ in range(_TRIES):
        if to:
            sock.sendto(sent, _split(to))
        try:
            data, source = sock.recvfrom(2048)
        except TimeoutError:
            continue
        if data.startswith(wanted):
            return str(source[0]), int(source[1])
    raise SystemExit(f"no {wanted!r} has come")


def _open(port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("", port))
    sock.settimeout(_PATIENCE)
    return sock


def _map(gateway: str) -> None:
    asking = _open(0)
    asking.connect((gateway, pcp.SERVER_PORT))
    own = asking.getsockname()[0]
    mapping = pcp.Mapping(b"a nonce of 1", pcp.IPProtocol.UDP, INSIDE, EXTERNAL, "0.0.0.0")
    request = pcp.encodeRequest(pcp.Request(pcp.Opcode.MAP, 600, own, mapping))
    for _ in range(_TRIES):
        asking.send(request)
        try:
            response = pcp.decodeResponse(asking.recv(2048))
        except (TimeoutError, ConnectionRefusedError):
            continue
        if response.mapping is not None and response.mapping.externalPort == EXTERNAL:
            return
    raise SystemExit("not mapped")


def main(role: str, *addresses: str) -> None:
    """
    Play one of the roles.
    """
    if role == "inside":
        gateway, stranger = addresses
        sock = _open(INSIDE)
        _map(gateway)
        source = _await(sock, b"in", b"out", stranger)
        for _ in range(3):
            sock.sendto(b"back", source)
        print(json.dumps(source))
    else:
        sock = _open(OUTSIDE)
        flow = _await(sock, b"out")
        print(json.dumps([flow, _await(sock, b"back", b"in", addresses[0])]))


if __name__ == "__main__":
    main(*sys.argv[1:])
