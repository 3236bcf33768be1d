"""
The rendezvous node, the link to it, and the C{twistd natrendezvous} command.
"""
