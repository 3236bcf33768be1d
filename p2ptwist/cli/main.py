"""
The command C{p2ptwist}, as a process.
"""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import Any, NoReturn

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from p2ptwist.cli.options import parseOptions

_STANDARD = 2  # the highest of the three descriptors


def start(reactor: Any, options: Namespace) -> Deferred[None]:
    """
    Run on the real reactor, with the real standard input and output.

    @return: a Deferred that fires, or fails with C{SystemExit}, when it is over.
    """
    from p2ptwist.cli.commands import run
    from p2ptwist.cli.joint import Console
    from p2ptwist.cli.journal import Journal

    name = f"p2ptwist {options.command}"
    journal = Journal(name, sys.stdout, sys.stderr, asJSON=options.json)
    running = Deferred.fromCoroutine(run(reactor, options, journal, Console))

    def interrupted() -> Deferred[None]:
        running.cancel()
        return running  # the reactor goes on until goodbye was said

    reactor.addSystemEventTrigger("before", "shutdown", interrupted)
    return running


def openStandard() -> None:
    """
    Open those of standard input, output and error that whoever started this program has closed.
    Other files would get their numbers, and words for people would go where the data goes.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STANDARD:
        pass
    os.close(descriptor)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """
    Run the command, and exit with its status.

    @param arguments: those of the process when left out.
    """
    openStandard()
    react(start, [parseOptions(arguments)])
