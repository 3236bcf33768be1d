"""The test suites of p2ptwist: unit, sim, contract, kernel and interop."""
