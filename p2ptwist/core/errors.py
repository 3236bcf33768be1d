"""
The errors that the pure protocol code raises.

L{p2ptwist.errors} re-exports them beside the outcomes that an application sees.
"""


class P2PError(Exception):
    """
    The root of every error that p2ptwist raises or fails a Deferred with.
    """


class LocalUsageError(P2PError, ValueError):
    """
    This program broke the rules of an interface: raised at once, to be mended by its author.
    """


class MalformedDatagram(P2PError, ValueError):
    """
    A datagram, or a part of one, is not what its protocol says.

    Raised by codecs only.  Whoever calls a codec on remote bytes counts it and drops them.
    """


class MalformedFrame(P2PError, ValueError):
    """
    A frame of a rendezvous link is not what L{p2ptwist.core.link} says.

    Raised by codecs only; the connection it came from is closed.
    """
