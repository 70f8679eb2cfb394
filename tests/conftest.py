"""
What holds for every test.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# pytest has its own process show its stacks on a fatal signal; this asks worker processes for it.
os.environ.setdefault("PYTHONFAULTHANDLER", "1")

# No clock decides a test: neither a deadline nor a measure of how fast examples are drawn.
settings.register_profile(
    "ci",
    deadline=None,
    derandomize=False,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("ci")
