"""
A usual program: what stands in the memory of a process beside the queue, and what runs there.

The process of a benchmark is barer than any program. A heap of objects makes each full collection
of garbage dearer, and threads compete for the interpreter's lock.
"""

from __future__ import annotations

import threading
import time
from typing import Any, Final

OBJECTS: Final = 300_000
THREADS: Final = 4
REST: Final = 0.01
"""Seconds that a thread sleeps between two bits of work."""

_kept: list[Any] = []


def becomeUsual() -> None:
    """
    Fill the heap with objects that the garbage collector looks at, import NumPy, and start some
    threads, which last as long as the process.
    """
    import numpy as np

    _kept.append(np.zeros(1000))
    _kept.append([{"number": number} for number in range(OBJECTS)])
    for _ in range(THREADS):
        threading.Thread(target=_workAndRest, daemon=True).start()


def _workAndRest() -> None:
    while True:
        sum(range(100))
        time.sleep(REST)
