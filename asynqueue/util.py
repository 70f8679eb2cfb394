"""
An import path of AsynQueue 0.9: the lock and the tracker of Deferreds.
"""

from __future__ import annotations

from asynqueue.tools.lock import DeferredLock
from asynqueue.tools.tracker import DeferredTracker

__all__ = [
    "DeferredLock",
    "DeferredTracker",
]
