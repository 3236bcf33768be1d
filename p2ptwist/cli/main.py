"""
The command C{p2ptwist}, as a process.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import Any, NoReturn

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from p2ptwist.cli.options import parseOptions


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


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """
    Run the command, and exit with its status.

    @param arguments: those of the process when left out.
    """
    react(start, [parseOptions(arguments)])
