"""
The resizable dispatch queue: one function, an adjustable width, and a view of every job.
"""

from asynqueue._lazy import lazyNames

__getattr__, __dir__ = lazyNames(
    globals(),
    {
        "DeadLetter": "asynqueue.dispatch.durable",
        "DurableJob": "asynqueue.dispatch.durable",
        "Job": "asynqueue.dispatch.job",
        "JobCancelled": "asynqueue.dispatch.job",
        "JobDeferred": "asynqueue.dispatch.job",
        "MemoryJobStore": "asynqueue.dispatch.store",
        "RateLimit": "asynqueue.tasks.ratelimit",
        "ResizableDispatchQueue": "asynqueue.dispatch.rdq",
        "Retry": "asynqueue.tasks.retry",
        "SQLiteJobStore": "asynqueue.dispatch.sqlite",
        "StoredJob": "asynqueue.dispatch.store",
        "backoff": "asynqueue.tasks.retry",
    },
)
