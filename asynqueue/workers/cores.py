"""
How much a machine can do at once.
"""

from __future__ import annotations

import os


def cores() -> int:
    """
    @return: how many processor cores this program may use.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
