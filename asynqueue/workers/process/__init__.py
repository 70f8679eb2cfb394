"""
Workers in child processes. Names are imported when they are first asked for, so that a child, which
needs only the far half, does not import the near one.
"""

from asynqueue._lazy import lazyNames

__getattr__, __dir__ = lazyNames(
    globals(),
    {"ProcessWorker": "asynqueue.workers.process.worker"},
)
