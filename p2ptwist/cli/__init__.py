"""
The command C{p2ptwist}: an identity, a netcat between peers, and a ping.
"""
