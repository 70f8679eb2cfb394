"""
The queue that DOES what the scheduler decides: its tasks, its roster of workers, and the ways to
call through it.
"""

from asynqueue._lazy import lazyNames

__getattr__, __dir__ = lazyNames(
    globals(),
    {
        "CallOptions": "asynqueue.queue.options",
        "Event": "asynqueue.queue.events",
        "LoggingObserver": "asynqueue.queue.loggingobserver",
        "NullQueue": "asynqueue.queue.nullqueue",
        "ProcessQueue": "asynqueue.queue.processqueue",
        "QueuedTask": "asynqueue.queue.queued",
        "TaskQueue": "asynqueue.queue.taskqueue",
        "ThreadLooper": "asynqueue.queue.threadqueue",
        "ThreadQueue": "asynqueue.queue.threadqueue",
        "deferToThread": "asynqueue.queue.threadqueue",
    },
)
