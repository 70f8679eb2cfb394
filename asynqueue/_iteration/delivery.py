"""
The ends of tasks whose results are streams of items.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from weakref import WeakSet, WeakValueDictionary

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from asynqueue._iteration.deferator import Deferator
from asynqueue._iteration.patience import StreamPatience
from asynqueue._iteration.producer import IterationProducer
from asynqueue._iteration.sources import ItemSource

if TYPE_CHECKING:
    from asynqueue._queue.queuedtask import QueuedTask

_log = Logger()


def deliver(task: QueuedTask, source: ItemSource, reactor: IReactorTime) -> None:
    """
    Feed the items to the task's consumer, and end the task when that is over. If the task has no
    consumer, end it with a L{Deferator<asynqueue.iteration.Deferator>} as soon as there is an item,
    or the end.
    """
    # Only a task of a queue has an owner who keeps an eye on the stream.
    yields = getattr(task, "yields", None)
    if yields is not None:
        yields(source)
    consumer = task.options.consumer
    if consumer is None:
        _deliverDeferator(task, source)
        return
    try:
        done = IterationProducer(Deferator(source), consumer, reactor).run()
    except BaseException:
        failure = Failure()
        try:
            source.stop()
        except BaseException:
            _log.failure("an iterator raised when it was closed")
        task.errback(failure)
    else:
        done.addCallbacks(task.callback, task.errback)


def _deliverDeferator(task: QueuedTask, source: ItemSource) -> None:
    def changed() -> None:
        if not source.items and not source.isOver:
            return
        source.listen(None)
        # Otherwise the task, its result and the source would refer to each other in a circle.
        source.task = None
        if source.failure is not None and not source.items:
            task.errback(source.failure)
        else:
            task.callback(Deferator(source))

    source.listen(changed)
    changed()


class Deliveries:
    """
    The streams of one worker that runs its calls in this interpreter.
    """

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor
        self._patience: StreamPatience | None = None
        # A Deferator that nobody else refers to is to be collected, and its source with it.
        self._sources: WeakSet[ItemSource] = WeakSet()
        # The sources, by the ID of the task. A reference to the task would be one to its Deferator.
        self._fed: WeakValueDictionary[int, ItemSource] = WeakValueDictionary()
        self._reason: Failure | None = None

    def deliver(self, task: QueuedTask, source: ItemSource) -> None:
        """
        See L{deliver}. If the task is done already, the source is stopped.
        """
        self._sources.add(source)
        if task.isDone:
            self._close(source.stop)
            return
        self._fed[task.id] = source
        if self._patience is not None:
            source.observers += (self._patience.lookSoon,)
        if self._reason is not None:
            self._shut(source, self._reason)
        if not source.items:
            source.want()
        deliver(task, source, self._reactor)

    def cancel(self, task: QueuedTask) -> None:
        """
        A task is not wanted any more. If its stream has not ended with it, stop that.
        """
        source = self._fed.get(task.id)
        if source is not None:
            self._close(source.stop)

    def drain(self, reason: Failure, lookAgain: Callable[[], object]) -> None:
        """
        Let the streams that are being consumed go on to their ends from now on.

        @param reason: what every other stream fails with.
        @param lookAgain: is called when it is time to look at L{isDrained} again.
        """
        if self._patience is not None:
            return
        self._patience = StreamPatience(
            self._reactor, lambda source: self._shut(source, reason), lookAgain
        )
        for source in self._sources:
            source.observers += (self._patience.lookSoon,)

    def isDrained(self) -> bool:
        """
        Give up the streams that are not being consumed. Call this after L{drain}, when nothing else
        is left to wait for.

        @return: whether nothing is left to wait for.
        """
        if self._patience is None:
            return True
        return not self._patience.look(source for source in self._sources if not source.isOver)

    def end(self, reason: Failure) -> None:
        """
        End all streams, and every later one, with a failure. The failure comes after the items that
        are there already.
        """
        self._reason = reason
        for source in list(self._sources):
            self._shut(source, reason)
        if self._patience is not None:
            self._patience.end()
            self._patience = None

    def _shut(self, source: ItemSource, reason: Failure) -> None:
        self._close(lambda: source.shut(reason))

    def _close(self, close: Callable[[], object]) -> None:
        try:
            close()
        except BaseException:
            _log.failure("an iterator raised when it was closed")
