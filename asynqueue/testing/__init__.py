"""
What to test workers of one's own with, and code that uses a queue. It needs Twisted's trial, and
nothing that Twisted does not bring along.

Names are imported when they are first asked for.
"""

from asynqueue._lazy import lazyNames

__getattr__, __dir__ = lazyNames(
    globals(),
    {
        "FarWorkerContract": "asynqueue.testing.farcontract",
        "InlineWorker": "asynqueue.testing.stepworker",
        "Keeper": "asynqueue.testing.keeper",
        "MemoryChannel": "asynqueue.testing.memory",
        "MemoryWorker": "asynqueue.testing.memory",
        "NotingEmployer": "asynqueue.testing.keeper",
        "StepWorker": "asynqueue.testing.stepworker",
        "WorkerContract": "asynqueue.testing.contract",
        "act": "asynqueue.testing.memory",
        "actStubbornly": "asynqueue.testing.memory",
    },
)
