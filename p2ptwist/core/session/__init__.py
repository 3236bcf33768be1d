"""
Sessions: the one encrypted association of two peers, without its encryption.

    - L{p2ptwist.core.session.envelope}: QUIC datagrams in relayed datagrams of the link;
    - L{p2ptwist.core.session.control}: what the two sides tell each other on the control stream;
    - L{p2ptwist.core.session.admission}: who is who, and when anything else may be said;
    - L{p2ptwist.core.session.credit}: how much may be sent on a stream;
    - L{p2ptwist.core.session.selector}: which path a datagram goes on.

C{docs/session.md} is the whole wire format.
"""
