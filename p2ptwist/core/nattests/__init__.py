"""
The tests of NAT behaviour (RFC 5780), one module for each question: what is evidence, and what
follows from it.

Nothing is guessed: what the evidence does not tell is C{None}.
"""
