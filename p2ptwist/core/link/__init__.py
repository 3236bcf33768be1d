"""
The rendezvous link: frames, handshake, the node's registry and limits.
"""
