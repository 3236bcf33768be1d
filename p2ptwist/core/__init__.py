"""
What the protocols say: bytes and C{now} in; datagrams, events and one deadline out.

Nothing here imports anything but the standard library and this package: no Twisted, no socket,
no clock, no global random.  L{p2ptwist.core.machine} has the verbs every machine shares.
"""
