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
    from asynqueue._core.retry import Retry, backoff
    from asynqueue._dispatch.job import DeadLetter, DurableJob, Job
    from asynqueue._dispatch.rdq import ResizableDispatchQueue
    from asynqueue._iteration.deferator import Deferator
    from asynqueue._iteration.prefetcherator import Prefetcherator
    from asynqueue._iteration.producer import IterationProducer, iteratorToProducer
    from asynqueue._queue.observers import Event, LoggingObserver
    from asynqueue._queue.ownqueues import (
        NullQueue,
        ProcessQueue,
        ThreadLooper,
        ThreadQueue,
        deferToThread,
    )
    from asynqueue._queue.queuedtask import QueuedTask
    from asynqueue._queue.taskqueue import TaskQueue
    from asynqueue._runner.progress import report
    from asynqueue._runner.streams import isAsyncIterator, isIterator
    from asynqueue._workers.executor import ExecutorWorker
    from asynqueue._workers.local import AsyncWorker
    from asynqueue._workers.process import ProcessBase, ProcessWorker
    from asynqueue._workers.threads import ThreadWorker
    from asynqueue.interfaces import IObserver, IWorker
    from asynqueue.tools.blocking import Consumerator, Filerator
    from asynqueue.tools.consumers import ListConsumer
    from asynqueue.tools.delay import Delay, deferToDelay
    from asynqueue.tools.dictionary import DeferredDict
    from asynqueue.tools.info import Info, showResult
    from asynqueue.tools.lock import DeferredLock
    from asynqueue.tools.ordered import OrderedItemProducer
    from asynqueue.tools.priorityqueue import DeferredPriorityQueue
    from asynqueue.tools.tracker import DeferredPool, DeferredTracker

_HOMES = {
    "AsyncWorker": "asynqueue._workers.local",
    "Consumerator": "asynqueue.tools.blocking",
    "DeadLetter": "asynqueue._dispatch.job",
    "Deferator": "asynqueue._iteration.deferator",
    "DeferredDict": "asynqueue.tools.dictionary",
    "DeferredLock": "asynqueue.tools.lock",
    "DeferredPool": "asynqueue.tools.tracker",
    "DeferredPriorityQueue": "asynqueue.tools.priorityqueue",
    "DeferredTracker": "asynqueue.tools.tracker",
    "Delay": "asynqueue.tools.delay",
    "DurableJob": "asynqueue._dispatch.job",
    "Event": "asynqueue._queue.observers",
    "ExecutorWorker": "asynqueue._workers.executor",
    "Filerator": "asynqueue.tools.blocking",
    "IObserver": "asynqueue.interfaces",
    "IWorker": "asynqueue.interfaces",
    "Info": "asynqueue.tools.info",
    "IterationProducer": "asynqueue._iteration.producer",
    "Job": "asynqueue._dispatch.job",
    "ListConsumer": "asynqueue.tools.consumers",
    "LoggingObserver": "asynqueue._queue.observers",
    "NullQueue": "asynqueue._queue.ownqueues",
    "OrderedItemProducer": "asynqueue.tools.ordered",
    "Prefetcherator": "asynqueue._iteration.prefetcherator",
    "ProcessBase": "asynqueue._workers.process",
    "ProcessQueue": "asynqueue._queue.ownqueues",
    "ProcessWorker": "asynqueue._workers.process",
    "QueuedTask": "asynqueue._queue.queuedtask",
    "ResizableDispatchQueue": "asynqueue._dispatch.rdq",
    "Retry": "asynqueue._core.retry",
    "TaskQueue": "asynqueue._queue.taskqueue",
    "ThreadLooper": "asynqueue._queue.ownqueues",
    "ThreadQueue": "asynqueue._queue.ownqueues",
    "ThreadWorker": "asynqueue._workers.threads",
    "backoff": "asynqueue._core.retry",
    "deferToDelay": "asynqueue.tools.delay",
    "deferToThread": "asynqueue._queue.ownqueues",
    "isAsyncIterator": "asynqueue._runner.streams",
    "isIterator": "asynqueue._runner.streams",
    "iteratorToProducer": "asynqueue._iteration.producer",
    "report": "asynqueue._runner.progress",
    "showResult": "asynqueue.tools.info",
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
