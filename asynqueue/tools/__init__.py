"""
Tools on Deferreds and iterations for programs: to wait for a while or for an event, to keep track
of Deferreds, to take turns, to wait for objects by priority or by key, and to bridge threads.
"""

from __future__ import annotations

from asynqueue._iteration.prefetcherator import Prefetcherator
from asynqueue._iteration.producer import IterationProducer, iteratorToProducer
from asynqueue._runner.streams import isAsyncIterator, isIterator
from asynqueue.tools.blocking import Consumerator, Filerator
from asynqueue.tools.consumers import ListConsumer
from asynqueue.tools.delay import Delay, deferToDelay
from asynqueue.tools.dictionary import DeferredDict
from asynqueue.tools.info import Info, showResult, whichThread
from asynqueue.tools.lock import DeferredLock
from asynqueue.tools.ordered import OrderedItemProducer
from asynqueue.tools.priorityqueue import DeferredPriorityQueue
from asynqueue.tools.tracker import DeferredPool, DeferredTracker

__all__ = [
    "Consumerator",
    "DeferredDict",
    "DeferredLock",
    "DeferredPool",
    "DeferredPriorityQueue",
    "DeferredTracker",
    "Delay",
    "Filerator",
    "Info",
    "IterationProducer",
    "ListConsumer",
    "OrderedItemProducer",
    "Prefetcherator",
    "deferToDelay",
    "isAsyncIterator",
    "isIterator",
    "iteratorToProducer",
    "showResult",
    "whichThread",
]
