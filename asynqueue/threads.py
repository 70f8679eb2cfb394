"""
An import path of AsynQueue 0.9: queues and workers of threads, and iterators
that threads may block on.
"""

from __future__ import annotations

from asynqueue._queue.ownqueues import ThreadLooper, ThreadQueue, deferToThread
from asynqueue._workers.threads import ThreadWorker
from asynqueue.tools.blocking import Consumerator, Filerator
from asynqueue.tools.ordered import OrderedItemProducer

__all__ = [
    "Consumerator",
    "Filerator",
    "OrderedItemProducer",
    "ThreadLooper",
    "ThreadQueue",
    "ThreadWorker",
    "deferToThread",
]
