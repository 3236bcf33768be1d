"""
How many connections the operating system lets one process have.
"""

from __future__ import annotations

import sys

from twisted.logger import Logger

_log = Logger()


def raiseDescriptorLimit() -> int | None:
    """
    Raise the soft limit of file descriptors to the hard one.

    @return: the limit now, or C{None} where there is no such thing.
    """
    if sys.platform == "win32":
        return None
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        _log.info("p2ptwist: up to {limit} file descriptors (was {soft})", limit=hard, soft=soft)
    return hard
