"""
Network namespaces with names that say which process made them, so that none outlives its maker.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

# What the laboratory runs, and the Debian package that has it.
TOOLS = {
    "ip": "iproute2",
    "nft": "nftables",
    "conntrack": "conntrack",
    "ethtool": "ethtool",
    "gcc": "gcc libc6-dev",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "sysctl": "procps",
}
# Where iproute2 keeps its named namespaces.
_NAMED = Path("/run/netns")
# The names of namespaces and of directories, by the process that made them.
_NAME = re.compile(r"p2pt-(?P<pid>\d+)-(?P<started>\d+)-.+")
_serial = itertools.count()


class LaboratoryError(Exception):
    """
    The laboratory cannot be built here; the message says what is missing.
    """


def checkMachine() -> None:
    """
    @raise LaboratoryError: when this process may not make namespaces, or a tool is missing.
    """
    if os.geteuid() != 0:
        raise LaboratoryError("the kernel laboratory makes network namespaces: run it as root")
    missing = sorted({package for tool, package in TOOLS.items() if shutil.which(tool) is None})
    if missing:
        raise LaboratoryError(f"the kernel laboratory needs: apt-get install {' '.join(missing)}")


def _stat(pid: int) -> list[str] | None:
    """
    @return: what the kernel says about a process, from its state on, or L{None} when there is none.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # proc(5): the state is the third field; the second is in parentheses and may hold spaces.
    return stat.rpartition(")")[2].split()


def state(pid: int) -> str | None:
    """
    @return: one letter, C{Z} for a process that has ended and was not buried, or L{None} when there
        is none.
    """
    stat = _stat(pid)
    return stat[0] if stat else None


def _startTime(pid: int) -> str | None:
    """
    @return: when a process started, in clock ticks since boot, or L{None} when there is none: with
        its number it names a process for ever, which the number alone does not.
    """
    stat = _stat(pid)
    # The 22nd field.
    return stat[19] if stat else None


def _mine() -> str:
    """
    @return: how the names of everything begin that this process makes.
    """
    me = os.getpid()
    return f"p2pt-{me}-{_startTime(me)}-"


def makeDirectory() -> Path:
    """
    @return: a new temporary directory.
    """
    return Path(tempfile.mkdtemp(prefix=_mine()))


def _call(argv: Iterable[str], text: str | None = None) -> str:
    """
    Run a command to its end.

    @return: its standard output.
    @raise LaboratoryError: when it fails, with what it said.
    """
    arguments = list(argv)
    done = subprocess.run(
        arguments, input=text, capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode != 0:
        raise LaboratoryError(f"{' '.join(arguments)}: {done.stderr.strip()[:1000]}")
    return done.stdout


class Namespace:
    """
    One network namespace.

    @ivar name: what iproute2 calls it.
    """

    def __init__(self, label: str) -> None:
        """
        Make the namespace.

        @param label: what it stands for; part of its name.
        """
        self.name = f"{_mine()}{next(_serial)}-{label}"
        _call(["ip", "netns", "add", self.name])

    def command(self, argv: Iterable[str]) -> list[str]:
        """
        @return: a command line that runs C{argv} in here, as the same process, and lets it live no
            longer than the process that starts it.
        """
        enter = ["nsenter", f"--net={_NAMED / self.name}", "setpriv", "--pdeathsig", "KILL"]
        return [*enter, *argv]

    def run(self, *argv: str, text: str | None = None) -> str:
        """
        Run a command in here, to its end.

        @param text: its standard input.
        @return: its standard output.
        """
        return _call(self.command(argv), text)

    def ip(self, *lines: str) -> None:
        """
        Give iproute2 a batch of commands, without the leading C{ip}.
        """
        _call(["ip", "-n", self.name, "-batch", "-"], "\n".join(lines) + "\n")

    def sysctl(self, **settings: int) -> None:
        """
        Set kernel parameters under C{net}, those that this kernel has; a double underscore stands
        for the dot.
        """
        pairs = [f"net.{key.replace('__', '.')}={value}" for key, value in settings.items()]
        self.run("sysctl", "-q", "-e", "-w", *pairs)

    def plainFrames(self, interface: str) -> None:
        """
        Switch off whatever a veth pair leaves for the hardware that it has not: a frame must be
        finished when the switch reads it.
        """
        self.run("ethtool", "-K", interface, "tx", "off", "gso", "off", "tso", "off", "gro", "off")

    def remove(self) -> None:
        """
        Remove the namespace; what it holds goes with it.
        """
        _call(["ip", "netns", "del", self.name])


def existing(maker: int | None = None) -> list[str]:
    """
    @param maker: the number of a process; any when left out.
    @return: the names of the namespaces that its laboratories made, dead or alive.
    """
    return [path.name for path, made in _made(_NAMED) if maker in (None, int(made["pid"]))]


def removeStale() -> None:
    """
    Remove the namespaces and directories of laboratories whose process is gone, and end what still
    runs in them.
    """
    for path, made in _made(_NAMED):
        if _isStale(made):
            # Another laboratory may be at it as well.
            with contextlib.suppress(LaboratoryError, ProcessLookupError):
                _removeStale(path.name)
    for path, made in _made(Path(tempfile.gettempdir())):
        if _isStale(made):
            shutil.rmtree(path, ignore_errors=True)


def _removeStale(name: str) -> None:
    for pid in _call(["ip", "netns", "pids", name]).split():
        os.kill(int(pid), signal.SIGKILL)
    _call(["ip", "netns", "del", name])


def _made(directory: Path) -> list[tuple[Path, re.Match[str]]]:
    """
    @return: what laboratories made in there.
    """
    if not directory.is_dir():
        return []
    found = [(path, _NAME.fullmatch(path.name)) for path in sorted(directory.iterdir())]
    return [(path, made) for path, made in found if made is not None]


def _isStale(made: re.Match[str]) -> bool:
    return _startTime(int(made["pid"])) != made["started"]
