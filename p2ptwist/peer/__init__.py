"""
What an application holds: its identity, and its datagrams to other peers.
"""
