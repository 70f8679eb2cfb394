"""
The workers: one backend a module or package. Names are imported when they are first asked for.
"""

from asynqueue._lazy import lazyNames

__getattr__, __dir__ = lazyNames(
    globals(),
    {"ProcessWorker": "asynqueue.workers.process.worker"},
)
