"""
The C{twistd natrendezvous} command.
"""

from twisted.application.service import ServiceMaker

natrendezvous = ServiceMaker(
    "p2ptwist rendezvous node",
    "p2ptwist.rendezvous.tap",
    "Run a rendezvous node: peers behind NATs meet here and then talk directly.",
    "natrendezvous",
)
