"""
Paths over TCP that both sides open at once (RFC 6544, candidates of type I{so}).

    - L{p2ptwist.core.tcppath.framing}: datagrams on a stream of bytes (RFC 4571);
    - L{p2ptwist.core.tcppath.signal}: what the two sides tell each other over a channel;
    - L{p2ptwist.core.tcppath.dialing}: which addresses are dialed, and when;
    - L{p2ptwist.core.tcppath.verification}: whether the other side is at the end of a connection;
    - L{p2ptwist.core.tcppath.opening}: the machine that is all of it for one attempt;
    - L{p2ptwist.core.tcppath.upkeep}: whether an open path still carries.

C{docs/tcp.md} has the wire.
"""
