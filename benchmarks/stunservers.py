"""
The servers that the STUN benchmarks measure, each a process of its own on loopback, and the load
that they are given.
"""

from __future__ import annotations

import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from types import TracebackType

from p2ptwist.core.stun.server import PLAIN_REQUEST
from p2ptwist.net.batch import BATCH, DatagramBatch

HOST = "127.0.0.1"
REQUEST = PLAIN_REQUEST + bytes(12)
STARTING = 10.0  # seconds until a server must answer
_STALL = 0.02  # seconds without an answer after which a lost window is sent again


def freePort() -> int:
    """
    @return: a UDP port that was free a moment ago.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind((HOST, 0))
        port: int = one.getsockname()[1]
        return port


class Server:
    """
    A STUN server's process, from C{with} to its end.

    @ivar port: where it answers.
    """

    def __init__(self, name: str, command: list[str], port: int) -> None:
        self.name = name
        self.port = port
        self._command = command

    def __enter__(self) -> Server:
        self._directory = tempfile.TemporaryDirectory()
        self._process = subprocess.Popen(
            self._command,
            cwd=self._directory.name,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._awaitAnswer()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.wait()
        self._directory.cleanup()

    def _awaitAnswer(self) -> None:
        """
        Ask until it answers.
        """
        end = time.monotonic() + STARTING
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(0.1)
            while time.monotonic() < end and self._process.poll() is None:
                client.sendto(REQUEST, (HOST, self.port))
                try:
                    client.recv(1000)
                except TimeoutError:
                    continue
                return
        raise SystemExit(f"{self.name} does not answer: {' '.join(self._command)}")

    def cpu(self) -> float:
        """
        @return: CPU seconds that its threads have spent so far, as the kernel counts them.
        """
        with open(f"/proc/{self._process.pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def node(*options: str) -> Server:
    """
    @return: C{twistd -n natrendezvous}, with its limits in force but out of reach.
    """
    port = freePort()
    run = "import sys; from twisted.scripts.twistd import run; sys.argv[0] = 'twistd'; run()"
    limits = ["--stun-rate", "1000000000/1000000000", "--stun-network-rate", "1e9/1e9"]
    command = [sys.executable, "-c", run, "-n", "--pidfile=", "natrendezvous"]
    command += ["--listen", f"tcp:0:interface={HOST}", "--stun", f"{HOST}:{port}"]
    return Server("p2ptwist", [*command, *limits, *options], port)


def coturn() -> Server:
    """
    @return: coturn, with everything off that a Binding does not need.
    """
    program = shutil.which("turnserver")
    if program is None:
        raise SystemExit("turnserver is not installed: apt-get install coturn")
    port = freePort()
    command = f"{program} -n -L {HOST} -p {port} -S --relay-threads 1 --no-tls --no-dtls --no-tcp "
    command += "--no-tcp-relay --no-cli --no-software-attribute --no-stun-backward-compatibility "
    command += "--response-origin-only-with-rfc5780 --simple-log --log-file turn.log "
    command += "--no-stdout-log --pidfile turn.pid --userdb turn.db"
    return Server("coturn", command.split(), port)


class Load:
    """
    A closed loop of Binding requests: as many are on their way at any time as the window says.
    """

    def __init__(self, port: int, sockets: int, window: int) -> None:
        """
        @param window: requests on their way for each socket, at most one batch.
        """
        self._batches = {}
        self._window = min(window, BATCH)
        self._poll = select.epoll()
        self._sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(sockets)]
        for sock in self._sockets:
            sock.bind((HOST, 0))
            sock.connect((HOST, port))
            batch = DatagramBatch(sock, 256, len(REQUEST))
            batch.outgoing[:] = REQUEST * BATCH  # type: ignore[call-overload]
            self._batches[sock.fileno()] = sock, batch
            self._poll.register(sock, select.EPOLLIN)

    def run(self, seconds: float) -> int:
        """
        Ask for that long.

        @return: how many answers came.
        """
        answered = 0
        end = time.monotonic() + seconds
        self._fill()
        while time.monotonic() < end:
            ready = self._poll.poll(_STALL)
            if not ready:
                self._fill()
            for descriptor, _ in ready:
                batch = self._batches[descriptor][1]
                count = len(batch.receive())
                answered += count
                batch.send(range(count))
        return answered

    def close(self) -> None:
        """
        Close the sockets.
        """
        self._poll.close()
        for sock in self._sockets:
            sock.close()

    def _fill(self) -> None:
        for sock, _ in self._batches.values():
            for _ in range(self._window):
                sock.send(REQUEST)
