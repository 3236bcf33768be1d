"""
What PCP (RFC 6887) and NAT-PMP (RFC 6886) say, and what a router grants.
"""
