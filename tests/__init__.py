"""
The suites: C{unit}, C{sim}, C{contract}, C{kernel}, C{interop}.
"""

import os

from hypothesis import HealthCheck, settings

# How long an example takes depends on what else the machine does, and fails no test.  Where nobody
# watches, every run tries the same examples.
settings.register_profile(
    "p2ptwist",
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("p2ptwist")
