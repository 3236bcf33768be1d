"""The same cases on a simulated host and on the real reactor."""
