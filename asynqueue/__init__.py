"""
One prioritised, cancellable, observable queue for the slow work of a Twisted program.

A call goes in; it runs in another process; its value, failure or stream of items comes back as a
Deferred::

    from asynqueue import ProcessQueue

    async with ProcessQueue(4) as queue:
        print(await queue.call(function, argument))

Names are imported when they are first asked for, so that a worker process does not pay for what it
does not use.
"""

from typing import TYPE_CHECKING

from asynqueue._lazy import lazyNames
from asynqueue._version import __version__

if TYPE_CHECKING:
    from asynqueue.deferreds import DeferredLock, DeferredTracker, Delay
    from asynqueue.interfaces import IWorker
    from asynqueue.iteration import (
        Deferator,
        IterationProducer,
        ListConsumer,
        Prefetcherator,
        deferToDelay,
        isIterator,
        iteratorToProducer,
    )
    from asynqueue.queue.processqueue import ProcessQueue
    from asynqueue.queue.queued import QueuedTask
    from asynqueue.queue.taskqueue import TaskQueue
    from asynqueue.workers.process.worker import ProcessWorker

_HOMES = {
    "Deferator": "asynqueue.iteration",
    "DeferredLock": "asynqueue.deferreds",
    "DeferredTracker": "asynqueue.deferreds",
    "Delay": "asynqueue.deferreds",
    "IWorker": "asynqueue.interfaces",
    "IterationProducer": "asynqueue.iteration",
    "ListConsumer": "asynqueue.iteration",
    "Prefetcherator": "asynqueue.iteration",
    "ProcessQueue": "asynqueue.queue.processqueue",
    "ProcessWorker": "asynqueue.workers.process.worker",
    "QueuedTask": "asynqueue.queue.queued",
    "TaskQueue": "asynqueue.queue.taskqueue",
    "deferToDelay": "asynqueue.iteration",
    "isIterator": "asynqueue.iteration",
    "iteratorToProducer": "asynqueue.iteration",
}

__all__ = [
    "Deferator",
    "DeferredLock",
    "DeferredTracker",
    "Delay",
    "IWorker",
    "IterationProducer",
    "ListConsumer",
    "Prefetcherator",
    "ProcessQueue",
    "ProcessWorker",
    "QueuedTask",
    "TaskQueue",
    "__version__",
    "deferToDelay",
    "isIterator",
    "iteratorToProducer",
]

__getattr__, __dir__ = lazyNames(globals(), _HOMES)
