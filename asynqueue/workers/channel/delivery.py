"""
How a stream reaches whoever made the call.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from asynqueue.iteration.deferator import Deferator
from asynqueue.iteration.producer import IterationProducer
from asynqueue.workers.channel.stream import NearStream


def deliver(task: Any, stream: NearStream, reactor: IReactorTime) -> None:
    """
    Feed the stream to the task's consumer, and end the task when that is over; or end the task with
    a L{Deferator<asynqueue.iteration.Deferator>} as soon as there is something to iterate over.
    """
    consumer = task.options.consumer
    if consumer is None:
        _deliverDeferator(task, stream)
        return
    try:
        done = IterationProducer(Deferator(stream), consumer, reactor).run()
    except Exception:
        stream.stop()
        task.errback(Failure())
    else:
        done.addCallbacks(task.callback, task.errback)


def _deliverDeferator(task: Any, stream: NearStream) -> None:
    def changed() -> None:
        if not stream.items and not stream.isOver:
            return
        stream.listen(None)
        # Else the task, its result and the stream would refer to each other in a circle.
        stream.task = None
        if stream.failure is not None and not stream.items:
            task.errback(stream.failure)
        else:
            task.callback(Deferator(stream))

    stream.listen(changed)
    changed()
