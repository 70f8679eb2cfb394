"""
A module that knows which process has loaded it.
"""

from __future__ import annotations

import os

LOADER = os.getpid()


def loader() -> int:
    return LOADER


def random() -> float:
    import numpy as np

    return float(np.random.random())  # the global generator is what is asked about
