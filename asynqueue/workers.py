"""
An import path of AsynQueue 0.9: the workers and their interface.
"""

from __future__ import annotations

from asynqueue._workers.executor import ExecutorWorker
from asynqueue._workers.local import AsyncWorker
from asynqueue._workers.process import ProcessWorker
from asynqueue._workers.threads import ThreadWorker
from asynqueue._workers.wire.worker import RemoteWorker
from asynqueue.interfaces import IWorker

__all__ = [
    "AsyncWorker",
    "ExecutorWorker",
    "IWorker",
    "ProcessWorker",
    "RemoteWorker",
    "ThreadWorker",
]
