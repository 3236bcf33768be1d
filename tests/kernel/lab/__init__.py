"""
A laboratory of network namespaces: real NATs, real latency, real processes.

See C{docs/laboratory.md}.
"""
