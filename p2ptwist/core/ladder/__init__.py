"""
The strategy ladder: what is tried when ordinary candidates cannot meet, cheapest first.

Ordinary checks (L{p2ptwist.core.ice}) need one address on each side that the other can foretell.  A
NAT whose mapping depends on the destination denies that.  Where the other side is steady, or both
NATs count their ports up, there is a way nevertheless, which C{docs/ladder.md} explains: the ports
are foretold, or so many are opened that a guess hits one.

Nothing here is sent before both sides agree, over a channel that authenticates them.
"""
