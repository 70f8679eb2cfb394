"""
The workers: one backend a module or package. Names are imported when they are first asked for.

This is also the import path that AsynQueue 0.9's users type for C{AsyncWorker} and C{IWorker}.
"""

from typing import TYPE_CHECKING

from asynqueue._lazy import lazyNames

if TYPE_CHECKING:
    from asynqueue.interfaces import IWorker
    from asynqueue.workers.executor import ExecutorWorker
    from asynqueue.workers.local import AsyncWorker
    from asynqueue.workers.process.worker import ProcessWorker
    from asynqueue.workers.threads import ThreadWorker

__all__ = ["AsyncWorker", "ExecutorWorker", "IWorker", "ProcessWorker", "ThreadWorker"]

__getattr__, __dir__ = lazyNames(
    globals(),
    {
        "AsyncWorker": "asynqueue.workers.local",
        "ExecutorWorker": "asynqueue.workers.executor",
        "IWorker": "asynqueue.interfaces",
        "ProcessWorker": "asynqueue.workers.process.worker",
        "ThreadWorker": "asynqueue.workers.threads",
    },
)
