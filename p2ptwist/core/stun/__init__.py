"""
STUN (RFC 8489): messages, attributes, client transactions.
"""
