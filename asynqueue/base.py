"""
An import path of AsynQueue 0.9: the task queue.
"""

from __future__ import annotations

from asynqueue._queue.taskqueue import TaskQueue

__all__ = [
    "TaskQueue",
]
