"""
An import path of AsynQueue 0.9: the queue for the main loop.
"""

from __future__ import annotations

from asynqueue._queue.ownqueues import NullQueue

__all__ = [
    "NullQueue",
]
