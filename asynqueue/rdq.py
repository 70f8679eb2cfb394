"""
The resizable dispatch queue and what belongs to it, under the name that users of txRDQ know.
"""

from __future__ import annotations

from asynqueue._core.ratelimit import RateLimit
from asynqueue._core.retry import Retry, backoff
from asynqueue._dispatch.job import DeadLetter, DurableJob, Job, JobCancelled, JobDeferred
from asynqueue._dispatch.rdq import ResizableDispatchQueue
from asynqueue._dispatch.sqlitestore import SQLiteJobStore
from asynqueue._dispatch.stores import MemoryJobStore, StoredJob
from asynqueue.errors import JobError, JobNotDispatched, QueueFull, QueueStopped
from asynqueue.tools.priorityqueue import DeferredPriorityQueue
from asynqueue.tools.tracker import DeferredPool

__all__ = [
    "DeadLetter",
    "DeferredPool",
    "DeferredPriorityQueue",
    "DurableJob",
    "Job",
    "JobCancelled",
    "JobDeferred",
    "JobError",
    "JobNotDispatched",
    "MemoryJobStore",
    "QueueFull",
    "QueueStopped",
    "RateLimit",
    "ResizableDispatchQueue",
    "Retry",
    "SQLiteJobStore",
    "StoredJob",
    "backoff",
]
