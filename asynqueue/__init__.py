"""
One prioritised, cancellable, observable queue for the slow work of a Twisted program.

A call goes in; it runs in another process; its value, failure or stream of items comes back as a
Deferred::

    from asynqueue import ProcessQueue

    async with ProcessQueue(4) as queue:
        print(await queue.call(function, argument))

A name is imported when you first ask for it, so that a worker process does not pay for what it does
not use. The names of L{asynqueue.tools} can be imported from here, too.
"""

from typing import TYPE_CHECKING

from asynqueue._lazy import lazyNames
from asynqueue._version import __version__

if TYPE_CHECKING:
    from asynqueue._core.retry import Retry, backoff
    from asynqueue._dispatch.job import DeadLetter, DurableJob, Job
    from asynqueue._dispatch.rdq import ResizableDispatchQueue
    from asynqueue._iteration.deferator import Deferator
    from asynqueue._observers import Event, LoggingObserver
    from asynqueue._queue.ownqueues import NullQueue, ProcessQueue, ThreadQueue
    from asynqueue._queue.ownqueues import ThreadLooper as ThreadLooper
    from asynqueue._queue.ownqueues import deferToThread as deferToThread
    from asynqueue._queue.queuedtask import QueuedTask
    from asynqueue._queue.remotequeue import RemoteQueue as RemoteQueue
    from asynqueue._queue.taskqueue import TaskQueue
    from asynqueue._runner.processbase import ProcessBase as ProcessBase
    from asynqueue._runner.progress import report
    from asynqueue._workers.dask.worker import DaskWorker
    from asynqueue._workers.executor import ExecutorWorker
    from asynqueue._workers.local import AsyncWorker
    from asynqueue._workers.process import ProcessWorker
    from asynqueue._workers.threads import ThreadWorker
    from asynqueue._workers.wire.worker import RemoteWorker
    from asynqueue.interfaces import IObserver, IWorker
    from asynqueue.tools import *  # noqa: F403

__all__ = [
    "AsyncWorker",
    "DaskWorker",
    "DeadLetter",
    "Deferator",
    "DurableJob",
    "Event",
    "ExecutorWorker",
    "IObserver",
    "IWorker",
    "Job",
    "LoggingObserver",
    "NullQueue",
    "ProcessQueue",
    "ProcessWorker",
    "QueuedTask",
    "RemoteWorker",
    "ResizableDispatchQueue",
    "Retry",
    "TaskQueue",
    "ThreadQueue",
    "ThreadWorker",
    "__version__",
    "backoff",
    "deferToThread",
    "report",
]

_HOMES = {
    "_core.retry": "Retry backoff",
    "_dispatch.job": "DeadLetter DurableJob Job",
    "_dispatch.rdq": "ResizableDispatchQueue",
    "_iteration.deferator": "Deferator",
    "_observers": "Event LoggingObserver",
    "_queue.ownqueues": "NullQueue ProcessQueue ThreadLooper ThreadQueue deferToThread",
    "_queue.queuedtask": "QueuedTask",
    "_queue.remotequeue": "RemoteQueue",
    "_queue.taskqueue": "TaskQueue",
    "_runner.processbase": "ProcessBase",
    "_runner.progress": "report",
    "_workers.dask.worker": "DaskWorker",
    "_workers.executor": "ExecutorWorker",
    "_workers.local": "AsyncWorker",
    "_workers.process": "ProcessWorker",
    "_workers.threads": "ThreadWorker",
    "_workers.wire.worker": "RemoteWorker",
    "interfaces": "IObserver IWorker",
    "tools": (
        "Consumerator DeferredDict DeferredLock DeferredPool DeferredPriorityQueue DeferredTracker "
        "Delay Filerator Info IterationProducer ListConsumer OrderedItemProducer Prefetcherator "
        "deferToDelay isAsyncIterator isIterator iteratorToProducer showResult whichThread"
    ),
}

__getattr__, __dir__ = lazyNames(globals(), _HOMES)
