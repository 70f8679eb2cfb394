"""
A queue's load, for a consumer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from twisted.internet.interfaces import IConsumer, IPushProducer
from zope.interface import implementer

from asynqueue.errors import ImplementationError
from asynqueue.queue.events import CANCELLED, FAILED, FINISHED, QUEUED, Event

CHANGES: Final = {QUEUED: 1, FINISHED: -1, FAILED: -1, CANCELLED: -1}


class Loaded(Protocol):
    """
    What a producer needs of its queue.
    """

    @property
    def load(self) -> int:
        """How many calls are pending or underway."""

    def addObserver(self, observer: Callable[[Event], Any]) -> None:
        """Tell of events."""

    def removeObserver(self, observer: Callable[[Event], Any]) -> None:
        """Tell no more."""


@implementer(IPushProducer)
class LoadProducer:
    """
    Writes the load to one consumer whenever it changes, as an observer of the queue.

    @ivar consumer: the consumer.
    @ivar isProducing: whether it is registered still.
    """

    def __init__(self, queue: Loaded, consumer: Any) -> None:
        """
        @raise ImplementationError: if the consumer does not provide C{IConsumer}.
        """
        if not IConsumer.providedBy(consumer):
            raise ImplementationError(f"{consumer!r} does not provide IConsumer")
        self.consumer: Any = consumer
        self.isProducing = True
        self._queue = queue
        self._isPaused = False
        self._isHearing = False
        self._load = self._written = queue.load
        consumer.registerProducer(self, True)
        if self.isProducing:
            queue.addObserver(self._hear)
            self._isHearing = True
            # Registering may have called the queue.
            self._load = self._written = queue.load

    def _hear(self, event: Event) -> None:
        # Updates are no calls.
        if event.kind in CHANGES and event.task is not None and event.task.priority is not None:
            self._load += CHANGES[event.kind]
            self._write()

    def _write(self) -> None:
        if self.isProducing and not self._isPaused and self._load != self._written:
            self._written = self._load
            self.consumer.write(self._load)

    # IPushProducer --------------------------------------------------------------------------------

    def pauseProducing(self) -> None:
        """
        Write nothing for now.
        """
        self._isPaused = True

    def resumeProducing(self) -> None:
        """
        Write the latest figure, if it is another one than was written last, and go on.
        """
        self._isPaused = False
        self._write()

    def stopProducing(self) -> None:
        """
        Write nothing more, and unregister.
        """
        if not self.isProducing:
            return
        self.isProducing = False
        if self._isHearing:
            self._queue.removeObserver(self._hear)
        self.consumer.unregisterProducer()
