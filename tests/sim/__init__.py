"""Whole stacks on the simulated Internet, in virtual time."""
