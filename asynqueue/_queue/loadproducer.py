"""
Writes a queue's load to consumers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from twisted.internet.interfaces import IConsumer, IPushProducer
from zope.interface import implementer

from asynqueue._core.states import CANCELLED, FAILED, FINISHED, Table, nextState
from asynqueue._observers import QUEUED, Event
from asynqueue.errors import ImplementationError

if TYPE_CHECKING:
    from asynqueue._queue.engine import Engine

LOAD_CHANGES: Final = {QUEUED: 1, FINISHED: -1, FAILED: -1, CANCELLED: -1}

REGISTERING: Final = "REGISTERING"
OBSERVING: Final = "OBSERVING"
STOPPED: Final = "STOPPED"

PRODUCER: Final[Table] = {
    # The consumer is being told of the producer. It may stop the producer at once.
    REGISTERING: {"observe": OBSERVING, "stop": STOPPED},
    # The producer observes the queue. It writes unless it is paused.
    OBSERVING: {"stop": STOPPED},
    STOPPED: {},
}


@implementer(IPushProducer)
class LoadProducer:
    """
    Writes the load to one consumer whenever it changes, as an observer of the queue.

    @ivar consumer: the consumer.
    @ivar state: a state of L{PRODUCER}. Until it is STOPPED the consumer has this producer.
    """

    def __init__(self, engine: Engine, consumer: Any) -> None:
        """
        @param engine: the engine of the queue.
        @param consumer: a provider of C{IConsumer}. Its C{write} gets integers, where the interface
            of Twisted speaks of C{bytes}.
        @raise ImplementationError: if the consumer does not provide C{IConsumer}.
        """
        if not IConsumer.providedBy(consumer):
            raise ImplementationError(f"{consumer!r} does not provide IConsumer")
        self.consumer: Any = consumer
        self.state: str = REGISTERING
        self._engine = engine
        self._isPaused = False
        self._load = self._written = engine.toldLoad
        consumer.registerProducer(self, True)
        if self.state == REGISTERING:
            engine.observers.add(self._observe)
            self._move("observe")
            # The consumer may have called the queue when it was given the producer.
            self._load = self._written = engine.toldLoad

    def _move(self, event: str) -> None:
        self.state = nextState(PRODUCER, self.state, event, self)

    def _observe(self, event: Event) -> None:
        task = event.task
        if event.kind in LOAD_CHANGES and task is not None and not task.isUpdate:
            self._load += LOAD_CHANGES[event.kind]
            self._write()

    def _write(self) -> None:
        if self.state != STOPPED and not self._isPaused and self._load != self._written:
            self._written = self._load
            self.consumer.write(self._load)

    # IPushProducer --------------------------------------------------------------------------------

    def pauseProducing(self) -> None:
        """
        Write nothing until L{resumeProducing} is called.
        """
        self._isPaused = True

    def resumeProducing(self) -> None:
        """
        Go on. If the load has changed since the last write, write it now.
        """
        self._isPaused = False
        self._write()

    def stopProducing(self) -> None:
        """
        Write nothing more, and unregister from the consumer.
        """
        if self.state == STOPPED:
            return
        if self.state == OBSERVING:
            self._engine.observers.remove(self._observe)
        self._move("stop")
        self.consumer.unregisterProducer()
