"""
An import path of AsynQueue 0.9: iteration over items that arrive one by one.
"""

from __future__ import annotations

from asynqueue._iteration.deferator import Deferator
from asynqueue._iteration.prefetcherator import Prefetcherator
from asynqueue._iteration.producer import IterationProducer, iteratorToProducer
from asynqueue._iteration.sources import ItemSource
from asynqueue._runner.streams import isAsyncIterator, isIterator
from asynqueue.tools.blocking import Consumerator, Filerator
from asynqueue.tools.consumers import ListConsumer
from asynqueue.tools.delay import Delay, deferToDelay
from asynqueue.tools.ordered import OrderedItemProducer

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
