"""
The resizable dispatch queue and what belongs to it, for those who come from txRDQ. The homes are
L{asynqueue.dispatch}, L{asynqueue.deferreds} and L{asynqueue.errors}.
"""

from __future__ import annotations

from asynqueue.deferreds import DeferredPool, DeferredPriorityQueue
from asynqueue.dispatch.job import Job, JobCancelled, JobDeferred
from asynqueue.dispatch.rdq import ResizableDispatchQueue
from asynqueue.errors import JobError, JobNotDispatched, QueueFull, QueueStopped
from asynqueue.tasks.ratelimit import RateLimit
from asynqueue.tasks.retry import Retry, backoff

__all__ = [
    "DeferredPool",
    "DeferredPriorityQueue",
    "Job",
    "JobCancelled",
    "JobDeferred",
    "JobError",
    "JobNotDispatched",
    "QueueFull",
    "QueueStopped",
    "RateLimit",
    "ResizableDispatchQueue",
    "Retry",
    "backoff",
]
