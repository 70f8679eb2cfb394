"""
Tools on Deferreds: to wait for a while or for an event, to keep track of Deferreds, and to take
turns.

This room is for the near side only: it imports Twisted, and a worker's universe has no need of it.
"""

from __future__ import annotations

from asynqueue.deferreds.clock import IReactorTime, defaultReactor
from asynqueue.deferreds.delay import Delay
from asynqueue.deferreds.lock import DeferredLock
from asynqueue.deferreds.tracker import DeferredTracker

__all__ = [
    "DeferredLock",
    "DeferredTracker",
    "Delay",
    "IReactorTime",
    "defaultReactor",
]
