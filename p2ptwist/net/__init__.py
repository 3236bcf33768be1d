"""
Sockets, timers, threads: the only room that touches the reactor's I/O.

Its heart is L{p2ptwist.net.pump.Pump}, which turns a machine of L{p2ptwist.core} into a part of a
Twisted program.
"""
