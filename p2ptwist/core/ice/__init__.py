"""
Connectivity checks (RFC 8445), consent (RFC 7675) and the signals that carry candidates.
"""
