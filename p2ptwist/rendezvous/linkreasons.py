"""
Why a link did not come up, or has ended, as the program is told.
"""

from __future__ import annotations

from twisted.internet.error import DNSLookupError
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.python.failure import Failure

from p2ptwist.core.link.client import Ended
from p2ptwist.core.readable import readable
from p2ptwist.errors import (
    LinkDown,
    NameNotResolved,
    RendezvousRefused,
    RendezvousUnreachable,
)


def outOfTime(result: object, seconds: float) -> Failure:
    """
    @return: why an attempt was given up that took too long.
    """
    return Failure(ConnectTimeout(string=f"no answer within {seconds:.0f} s"))


def reasonOfAttempt(description: str, failure: Failure) -> Exception:
    """
    @param description: the node's endpoint.
    @return: what an attempt that failed means to the program.
    """
    if failure.check(DNSLookupError):
        return NameNotResolved(
            f"the host name in {description} has no address: check its spelling and this machine's "
            "name server"
        )
    return RendezvousUnreachable(
        f"no connection to the rendezvous node at {description} ({failure.getErrorMessage()}): "
        "check the address, and that the node runs"
    )


def reasonOfEnd(description: str, ended: Ended | None, wasUp: bool, failure: Failure) -> Exception:
    """
    @param description: the node's endpoint.
    @param ended: what the link said, if it ended before its connection.
    @param wasUp: whether the link had come up.
    @param failure: why the connection is gone.
    @return: what that means to the program.
    """
    if ended is None and not wasUp:
        return RendezvousUnreachable(
            f"{description} closed the connection before the link was up "
            f"({failure.getErrorMessage()}): check that it is a rendezvous node"
        )
    if ended is None:
        return LinkDown(f"the link to {description} was lost ({failure.getErrorMessage()})")
    message = f"the rendezvous node at {description}: {readable(ended.text)}"
    if ended.byNode or (not wasUp and ended.word != "silent"):
        return RendezvousRefused(message, ended.word)
    if not wasUp:
        return RendezvousUnreachable(f"{message}: check that it is a rendezvous node")
    return LinkDown(message)
