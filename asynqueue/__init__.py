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
    from asynqueue.deferreds import (
        DeferredDict,
        DeferredLock,
        DeferredPool,
        DeferredPriorityQueue,
        DeferredTracker,
        Delay,
    )
    from asynqueue.deferreds.info import Info
    from asynqueue.deferreds.showresult import showResult
    from asynqueue.dispatch.durable import DeadLetter, DurableJob
    from asynqueue.dispatch.job import Job
    from asynqueue.dispatch.rdq import ResizableDispatchQueue
    from asynqueue.interfaces import IObserver, IWorker
    from asynqueue.iteration import (
        Consumerator,
        Deferator,
        Filerator,
        IterationProducer,
        ListConsumer,
        OrderedItemProducer,
        Prefetcherator,
        deferToDelay,
        isAsyncIterator,
        isIterator,
        iteratorToProducer,
    )
    from asynqueue.queue.events import Event
    from asynqueue.queue.loggingobserver import LoggingObserver
    from asynqueue.queue.nullqueue import NullQueue
    from asynqueue.queue.processqueue import ProcessQueue
    from asynqueue.queue.queued import QueuedTask
    from asynqueue.queue.taskqueue import TaskQueue
    from asynqueue.queue.threadqueue import ThreadLooper, ThreadQueue, deferToThread
    from asynqueue.tasks.retry import Retry, backoff
    from asynqueue.universe.reporting import report
    from asynqueue.workers.executor import ExecutorWorker
    from asynqueue.workers.local import AsyncWorker
    from asynqueue.workers.process.base import ProcessBase
    from asynqueue.workers.process.worker import ProcessWorker
    from asynqueue.workers.threads import ThreadWorker

_HOMES = {
    "AsyncWorker": "asynqueue.workers.local",
    "Consumerator": "asynqueue.iteration",
    "DeadLetter": "asynqueue.dispatch.durable",
    "Deferator": "asynqueue.iteration",
    "DeferredDict": "asynqueue.deferreds",
    "DeferredLock": "asynqueue.deferreds",
    "DeferredPool": "asynqueue.deferreds",
    "DeferredPriorityQueue": "asynqueue.deferreds",
    "DeferredTracker": "asynqueue.deferreds",
    "Delay": "asynqueue.deferreds",
    "DurableJob": "asynqueue.dispatch.durable",
    "Event": "asynqueue.queue.events",
    "ExecutorWorker": "asynqueue.workers.executor",
    "Filerator": "asynqueue.iteration",
    "IObserver": "asynqueue.interfaces",
    "IWorker": "asynqueue.interfaces",
    "Info": "asynqueue.deferreds.info",
    "IterationProducer": "asynqueue.iteration",
    "Job": "asynqueue.dispatch.job",
    "ListConsumer": "asynqueue.iteration",
    "LoggingObserver": "asynqueue.queue.loggingobserver",
    "NullQueue": "asynqueue.queue.nullqueue",
    "OrderedItemProducer": "asynqueue.iteration",
    "Prefetcherator": "asynqueue.iteration",
    "ProcessBase": "asynqueue.workers.process.base",
    "ProcessQueue": "asynqueue.queue.processqueue",
    "ProcessWorker": "asynqueue.workers.process.worker",
    "QueuedTask": "asynqueue.queue.queued",
    "ResizableDispatchQueue": "asynqueue.dispatch.rdq",
    "Retry": "asynqueue.tasks.retry",
    "TaskQueue": "asynqueue.queue.taskqueue",
    "ThreadLooper": "asynqueue.queue.threadqueue",
    "ThreadQueue": "asynqueue.queue.threadqueue",
    "ThreadWorker": "asynqueue.workers.threads",
    "backoff": "asynqueue.tasks.retry",
    "deferToDelay": "asynqueue.iteration",
    "deferToThread": "asynqueue.queue.threadqueue",
    "isAsyncIterator": "asynqueue.iteration",
    "isIterator": "asynqueue.iteration",
    "iteratorToProducer": "asynqueue.iteration",
    "report": "asynqueue.universe.reporting",
    "showResult": "asynqueue.deferreds.showresult",
}

__all__ = [
    "AsyncWorker",
    "Consumerator",
    "DeadLetter",
    "Deferator",
    "DeferredDict",
    "DeferredLock",
    "DeferredPool",
    "DeferredPriorityQueue",
    "DeferredTracker",
    "Delay",
    "DurableJob",
    "Event",
    "ExecutorWorker",
    "Filerator",
    "IObserver",
    "IWorker",
    "Info",
    "IterationProducer",
    "Job",
    "ListConsumer",
    "LoggingObserver",
    "NullQueue",
    "OrderedItemProducer",
    "Prefetcherator",
    "ProcessBase",
    "ProcessQueue",
    "ProcessWorker",
    "QueuedTask",
    "ResizableDispatchQueue",
    "Retry",
    "TaskQueue",
    "ThreadLooper",
    "ThreadQueue",
    "ThreadWorker",
    "__version__",
    "backoff",
    "deferToDelay",
    "deferToThread",
    "isAsyncIterator",
    "isIterator",
    "iteratorToProducer",
    "report",
    "showResult",
]

__getattr__, __dir__ = lazyNames(globals(), _HOMES)
