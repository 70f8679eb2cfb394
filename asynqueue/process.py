"""
An import path of AsynQueue 0.9: queues and workers of processes.
"""

from __future__ import annotations

from asynqueue._queue.ownqueues import ProcessQueue
from asynqueue._runner.processbase import ProcessBase
from asynqueue._workers.process import ProcessWorker
from asynqueue.tools.universe import ProcessUniverse

__all__ = [
    "ProcessBase",
    "ProcessQueue",
    "ProcessUniverse",
    "ProcessWorker",
]
