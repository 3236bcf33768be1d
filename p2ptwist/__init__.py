"""
p2ptwist: two Twisted programs behind NATs, connected directly.

The rooms: L{p2ptwist.core} says what the protocols say, L{p2ptwist.net} gives it sockets and
timers, L{p2ptwist.rendezvous} is the public node and the link to it, L{p2ptwist.peer} is what an
application holds, and L{p2ptwist.testing} is a simulated Internet to test it all on.
"""

__version__ = "0.1.0"
