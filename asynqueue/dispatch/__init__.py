"""
The resizable dispatch queue: one function, an adjustable width, and a view of every job.
"""

from asynqueue._lazy import lazyNames

__getattr__, __dir__ = lazyNames(
    globals(),
    {
        "Job": "asynqueue.dispatch.job",
        "JobCancelled": "asynqueue.dispatch.job",
        "JobDeferred": "asynqueue.dispatch.job",
        "RateLimit": "asynqueue.tasks.ratelimit",
        "ResizableDispatchQueue": "asynqueue.dispatch.rdq",
        "Retry": "asynqueue.tasks.retry",
        "backoff": "asynqueue.tasks.retry",
    },
)
