"""
Connectivity checks (RFC 8445), trickled candidates (RFC 8838) and consent (RFC 7675).

    - L{p2ptwist.core.ice.candidate}: where a peer may be reached, and how good that is;
    - L{p2ptwist.core.ice.signal}: what two agents tell each other over a signaling channel;
    - L{p2ptwist.core.ice.checklist}: which remote addresses are checked, when, and how often;
    - L{p2ptwist.core.ice.check}: the bytes of one check and of its answer;
    - L{p2ptwist.core.ice.consent}: whether the other side still wants what is sent;
    - L{p2ptwist.core.ice.conversation}: the checks of both sides, and who controls;
    - L{p2ptwist.core.ice.lineage}: what restarts leave behind;
    - L{p2ptwist.core.ice.agent}: the machine that is all of it for one peer.

An agent has one component on one UDP socket, which is bound to every interface or to a chosen one.
Local candidates of one socket send the very same datagrams, so a pair is known by its remote
address alone (RFC 8445 section 6.1.2.4 prunes the rest).
"""
