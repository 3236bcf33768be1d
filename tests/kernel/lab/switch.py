"""
The transit network: C{switch.c}, compiled, running in a namespace and told what to do.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.kernel.lab.namespace import LaboratoryError, Namespace

# The transit's end of every link has this Ethernet address; no one ever asks for it.
GATEWAY_MAC = "02:00:00:00:00:01"
_MILLION = 1_000_000
_BUILD = Path(__file__).parents[3] / "build" / "kernel"


@dataclass(frozen=True, slots=True)
class Link:
    """
    What one link to the transit network does to a packet, in either direction.

    @ivar delay: seconds; a packet that crosses two links waits for both.
    @ivar loss: the chance that a packet is lost.
    @ivar duplicate: the chance that it arrives twice.
    @ivar reorder: the chance that it is held back.
    @ivar hold: how long it is held back then, in seconds.
    @ivar up: whether the link carries anything.
    """

    delay: float = 0.0
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    hold: float = 0.01
    up: bool = True

    def command(self, port: int) -> str:
        """
        @return: the command that sets this on a port of the switch.
        """
        chances = (round(x * _MILLION) for x in (self.loss, self.duplicate, self.reorder))
        times = (round(x * _MILLION) for x in (self.delay, self.hold))
        delay, hold = times
        return " ".join(map(str, ("link", port, int(self.up), delay, *chances, hold)))


@dataclass(frozen=True, slots=True)
class Counts:
    """
    What crossed the transit network since it started, by port numbers.

    @ivar packets: C{packets[a][b]} from port a to port b.
    @ivar octets: the same in bytes, Ethernet headers included.
    @ivar unrouted: by source port, packets to nowhere.
    @ivar lost: by port, packets lost on purpose.
    @ivar expired: by source port, packets whose time to live was over.
    """

    packets: list[list[int]]
    octets: list[list[int]]
    unrouted: list[int]
    lost: list[int]
    expired: list[int]


@functools.cache
def compiled() -> Path:
    """
    Compile the switch, unless that was done before.

    @return: the program.
    """
    source = Path(__file__).with_name("switch.c")
    _BUILD.mkdir(parents=True, exist_ok=True)
    program = _BUILD / f"switch-{hashlib.sha256(source.read_bytes()).hexdigest()[:16]}"
    if not program.exists():
        mine = program.with_suffix(f".{os.getpid()}")
        done = subprocess.run(
            ["gcc", "-O2", "-Wall", "-Wextra", "-o", mine, source],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode != 0:
            raise LaboratoryError(f"gcc cannot compile {source.name}: {done.stderr}")
        mine.rename(program)
    return program


class Switch:
    """
    The running switch.
    """

    def __init__(self, namespace: Namespace, seed: int) -> None:
        """
        Start it.

        @param namespace: where the inner ends of the links are.
        @param seed: of losses, duplicates and reordering.
        """
        self._namespace = namespace
        self._ports = 0
        self._process = subprocess.Popen(
            namespace.command([str(compiled())]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self._command(f"seed {seed}")

    def attach(self, outside: Namespace, interface: str) -> int:
        """
        Join a namespace to the transit network by a new veth pair.

        @param interface: the name of the new interface in it.
        @return: the number of the port.
        """
        port = self._ports
        self._ports += 1
        inner, mac = f"port{port}", f"02:00:00:00:01:{port:02x}"
        self._namespace.ip(
            f"link add {inner} address {GATEWAY_MAC} type veth"
            f" peer name {interface} address {mac} netns {outside.name}",
            f"link set {inner} arp off up",
        )
        self._namespace.plainFrames(inner)
        outside.plainFrames(interface)
        got = self._command(f"port {inner} {mac}")
        assert got == str(port), got
        return port

    def setLink(self, port: int, link: Link) -> None:
        """
        Set what a port's link does to packets.
        """
        self._command(link.command(port))

    def route(self, prefix: str, port: int) -> None:
        """
        Send a prefix (C{ADDRESS/BITS}) to a port, from now on.
        """
        address, _, bits = prefix.partition("/")
        self._command(f"route {6 if ':' in address else 4} {address} {bits} {port}")

    def counts(self) -> Counts:
        """
        @return: what crossed the network so far.
        """
        got = json.loads(self._command("counts"))
        return Counts(got["packets"], got["bytes"], got["unrouted"], got["lost"], got["expired"])

    def stop(self) -> None:
        """
        Stop the switch.
        """
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()

    def _command(self, line: str) -> str:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline().strip()
        if not answer or answer.startswith("error"):
            raise LaboratoryError(f"switch: {line}: {answer or 'it is gone'}")
        return answer
