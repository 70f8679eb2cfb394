"""
The worker whose tasks run in a C{concurrent.futures} executor.
"""

from __future__ import annotations

from asynqueue.workers.executor.worker import ExecutorWorker

__all__ = ["ExecutorWorker"]
