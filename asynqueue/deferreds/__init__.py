"""
Tools on Deferreds: to wait for a while or for an event, to keep track of Deferreds, to take turns,
and to wait for objects by priority or by key.

This room is for the near side only: it imports Twisted, and a worker's universe has no need of it.
"""

from __future__ import annotations

from asynqueue.deferreds.clock import IReactorTime, defaultReactor
from asynqueue.deferreds.delay import Delay
from asynqueue.deferreds.dictionary import DeferredDict
from asynqueue.deferreds.lock import DeferredLock
from asynqueue.deferreds.pool import DeferredPool
from asynqueue.deferreds.priorityqueue import DeferredPriorityQueue
from asynqueue.deferreds.tracker import DeferredTracker

__all__ = [
    "DeferredDict",
    "DeferredLock",
    "DeferredPool",
    "DeferredPriorityQueue",
    "DeferredTracker",
    "Delay",
    "IReactorTime",
    "defaultReactor",
]
