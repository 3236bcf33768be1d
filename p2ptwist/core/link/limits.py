"""
What a rendezvous node allows, and what it has counted.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from p2ptwist.core.tokenbucket import Rate


@dataclass(frozen=True, slots=True)
class Limits:
    """
    Every bound of a node.  The defaults serve an open public node of 20,000 peers; a I{site} is
    one IPv4 address or one IPv6 /64, a I{region} one /24 or one /48.

    @ivar acceptRate: connections accepted in all.
    @ivar siteAcceptRate: connections accepted from one site; burst 20 lets a carrier NAT come back.
    @ivar regionAcceptRate: connections accepted from one region.
    @ivar refusalRate: connections that are told why they are refused; others are just closed.
    @ivar maxUnproven: connections without a proven key; with 10 s each, 50 a second.
    @ivar maxSiteUnproven: the same, from one site.
    @ivar maxRegionUnproven: the same, from one region.
    @ivar proofDelay: seconds from the accept to the proof; covers a slow TLS handshake.
    @ivar frameDelay: seconds from a frame's first byte to its last: 16 KiB at 26 kbit/s.
    @ivar closeDelay: seconds that a goodbye may take to be read; what stalls is gone after 12 s.
    @ivar idleDelay: seconds of silence after which a link is dead; a ping and its answer fit in.
    @ivar pingInterval: seconds of silence after which a peer is told to ping.
    @ivar messageRate: messages that one key may send: a connect needs under 20.
    @ivar lookupRate: messages to absent peers that one key may send.
    @ivar relayRate: bytes that one key may have relayed, a short frame counted as 256.
    @ivar relayCapacity: bytes that are relayed in all.
    @ivar registrationRate: proofs that one key may make: a command that runs every second.
    @ivar displaceInterval: seconds between two displacements of one key by different programs.
    @ivar maxLinks: links in all; at 4 KiB each, 80 MiB.
    @ivar maxHeldMessages: messages of one key that wait for its allowance.
    @ivar maxHeldBytes: bytes of such messages; the decoder holds as many again at most.
    @ivar maxQueuedMessages: messages that wait for one slow reader.
    @ivar maxQueuedBytes: bytes that wait for one slow reader, relayed ones included.  The
        transport below holds as many again at most, so that a reader costs 256 KiB.
    @ivar drainSpread: seconds over which peers come back after a drain.
    """

    acceptRate: Rate = field(default=Rate(200, 400))
    siteAcceptRate: Rate = field(default=Rate(5, 20))
    regionAcceptRate: Rate = field(default=Rate(20, 80))
    refusalRate: Rate = field(default=Rate(50, 100))
    maxUnproven: int = 512
    maxSiteUnproven: int = 16
    maxRegionUnproven: int = 64
    proofDelay: float = 10.0
    frameDelay: float = 5.0
    closeDelay: float = 2.0
    idleDelay: float = 120.0
    pingInterval: int = 90
    messageRate: Rate = field(default=Rate(10, 50))
    lookupRate: Rate = field(default=Rate(2, 20))
    relayRate: Rate = field(default=Rate(1_000_000, 256 * 1024))
    relayCapacity: Rate = field(default=Rate(50_000_000, 5_000_000))
    registrationRate: Rate = field(default=Rate(1, 20))
    displaceInterval: float = 60.0
    maxLinks: int = 20_000
    maxHeldMessages: int = 64
    maxHeldBytes: int = 64 * 1024
    maxQueuedMessages: int = 64
    maxQueuedBytes: int = 128 * 1024
    drainSpread: int = 10


@dataclass(slots=True)
class Counters:
    """
    What a node has done since it started.

    @ivar accepted: connections taken on.
    @ivar ignored: connections closed without a word, over every rate.
    @ivar refused: connections refused by word before their proof, and proofs refused.
    @ivar evicted: unproven connections that made room for others.
    @ivar proven: links that came up.
    @ivar displaced: links ended because their key was proved again.
    @ivar forwarded: messages passed on.
    @ivar unreachable: messages and relayed datagrams to peers without a link.
    @ivar throttled: times that a peer was over its allowance of messages or look-ups.
    @ivar relayed: relayed datagrams taken on for a peer that has a link.
    @ivar relayedBytes: their payloads.
    @ivar relayLimited: relayed datagrams dropped: over their sender's allowance.
    @ivar relayCapped: relayed datagrams dropped: over the node's capacity.
    @ivar relayLost: of those taken on, how many were dropped after all: their reader was slow.
    @ivar malformed: connections ended because of a bad frame.
    @ivar tooSlow: links ended because their reader fell behind.
    @ivar timedOut: connections ended by a deadline.
    """

    accepted: int = 0
    ignored: int = 0
    refused: int = 0
    evicted: int = 0
    proven: int = 0
    displaced: int = 0
    forwarded: int = 0
    unreachable: int = 0
    throttled: int = 0
    relayed: int = 0
    relayedBytes: int = 0
    relayLimited: int = 0
    relayCapped: int = 0
    relayLost: int = 0
    malformed: int = 0
    tooSlow: int = 0
    timedOut: int = 0

    def __str__(self) -> str:
        """
        Such as C{"accepted=3 proven=2"}: what is not zero.
        """
        return " ".join(f"{name}={value}" for name, value in asdict(self).items() if value)
