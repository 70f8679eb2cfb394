"""
The import path that AsynQueue 0.9's users type. The homes are L{asynqueue.workers.threads},
L{asynqueue.queue.threadqueue} and L{asynqueue.iteration}.
"""

from __future__ import annotations

from asynqueue.iteration import Consumerator, Filerator, OrderedItemProducer
from asynqueue.queue.threadqueue import ThreadLooper, ThreadQueue, deferToThread
from asynqueue.workers.threads import ThreadWorker

__all__ = [
    "Consumerator",
    "Filerator",
    "OrderedItemProducer",
    "ThreadLooper",
    "ThreadQueue",
    "ThreadWorker",
    "deferToThread",
]
