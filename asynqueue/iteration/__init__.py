"""
Iteration in Twisted's style: items that come from elsewhere, in their own time.

This room is for the near side only: it imports Twisted, and a worker's universe has no need of it.
"""

from __future__ import annotations

from asynqueue.deferreds import Delay
from asynqueue.iteration.consumerator import Consumerator
from asynqueue.iteration.consumers import ListConsumer
from asynqueue.iteration.deferator import Deferator
from asynqueue.iteration.delays import deferToDelay
from asynqueue.iteration.filerator import Filerator
from asynqueue.iteration.iterators import iteratorToProducer
from asynqueue.iteration.ordered import OrderedItemProducer
from asynqueue.iteration.prefetcherator import Prefetcherator
from asynqueue.iteration.producer import IterationProducer
from asynqueue.iteration.source import ItemSource
from asynqueue.universe.iterators import isAsyncIterator, isIterator

__all__ = [
    "Consumerator",
    "Deferator",
    "Delay",
    "Filerator",
    "ItemSource",
    "IterationProducer",
    "ListConsumer",
    "OrderedItemProducer",
    "Prefetcherator",
    "deferToDelay",
    "isAsyncIterator",
    "isIterator",
    "iteratorToProducer",
]
