"""
Events of a queue's tasks and workers, and the observers that are told of them.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.interfaces import IConsumer, IPushProducer
from twisted.logger import Logger
from zope.interface import implementer

from asynqueue._core.description import describeCall, describeError, describeFunction, describeValue
from asynqueue._core.states import CANCELLED, FAILED, FINISHED, LOST, Table, nextState
from asynqueue._queue.queuedtask import QueuedTask
from asynqueue.errors import ImplementationError
from asynqueue.interfaces import IObserver, IWorker

if TYPE_CHECKING:
    from asynqueue._queue.engine import Engine

QUEUED: Final = "QUEUED"
STARTED: Final = "STARTED"
GIVEN_BACK: Final = "GIVEN_BACK"
RETRYING: Final = "RETRYING"
PROGRESSED: Final = "PROGRESSED"

HIRED: Final = "HIRED"
REPLACED: Final = "REPLACED"
LEFT: Final = "LEFT"


@dataclass(frozen=True, slots=True)
class Event:
    """
    One thing that happened to a task or a worker.

    The events of each task come in this order::

        QUEUED  ( STARTED  PROGRESSED*  GIVEN_BACK )*  STARTED  PROGRESSED*  FINISHED
                                        RETRYING                             FAILED
                                                                             CANCELLED

    FAILED and CANCELLED come without a STARTED if no worker had the task. A worker gives back a
    task that it never began, and the task then waits again. RETRYING means that the run failed, and
    that the task waits for another one because of its option C{retryOn}. C{update} makes one task
    for each worker, which has the same events. The scheduler does not know such a task, so its
    C{priority} is C{None}.

    The events of each worker come in this order::

        HIRED  ( LOST  REPLACED )*  [ LOST ]  LEFT

    HIRED means that the worker is ready for the first time, LOST that it lost its runner, REPLACED
    that another runner is ready, and LEFT that the worker is gone. A worker that was never ready
    has the event LEFT only.

    @ivar kind: one of the words in the pictures.
    @ivar time: when it happened, in seconds of the queue's clock.
    @ivar task: the task that it happened to, or C{None}. The state of the task is the present one,
        which may be later than that of the event.
    @ivar worker: the worker that it happened to, or that had the task; C{None} if no worker had it.
    @ivar reason: the exception that explains a FAILED, CANCELLED, RETRYING or LOST, or the LEFT of
        a worker that could not go on. C{None} for all other events.
    """

    kind: str
    time: float
    task: QueuedTask | None = None
    worker: Any = None
    reason: BaseException | None = None


Observer = Callable[[Event], object]


class ObserverList:
    """
    Records events when they happen, and calls the observers later, when the queue's own state is up
    to date. An observer may therefore call any method of the queue.

    @ivar observers: the observers. While there are none, no events need to be recorded.
    """

    log = Logger()

    __slots__ = ("_isFlushing", "_recorded", "_seconds", "observers")

    def __init__(self, seconds: Callable[[], float]) -> None:
        """
        @param seconds: returns the time, in seconds.
        """
        self._seconds = seconds
        self._isFlushing = False
        # Each event comes with the observers of the moment when it happened.
        self._recorded: deque[tuple[Event, tuple[Observer, ...]]] = deque()
        self.observers: tuple[Observer, ...] = ()

    def add(self, observer: Observer) -> None:
        """
        Add an observer. It is called with the events that happen from now on.

        @raise TypeError: if it is not callable.
        """
        if not callable(observer):
            raise TypeError(f"an observer must be callable, but {observer!r} is not")
        if observer not in self.observers:
            self.observers += (observer,)

    def remove(self, observer: Observer) -> None:
        """
        Remove an observer. It is not called again, not even with events recorded already.

        @raise ValueError: if it is not one of the observers.
        """
        if observer not in self.observers:
            raise ValueError(f"{observer!r} is not an observer of this queue")
        self.observers = tuple(other for other in self.observers if other != observer)
        if not self.observers:
            self._recorded.clear()

    def record(
        self,
        kind: str,
        task: QueuedTask | None = None,
        worker: IWorker | None = None,
        reason: BaseException | None = None,
    ) -> None:
        """
        Record an event.
        """
        self._recorded.append((Event(kind, self._seconds(), task, worker, reason), self.observers))

    def flush(self) -> None:
        """
        Call the observers with all recorded events. An event that an observer causes comes after
        the present one, so that all observers get the events in the same order.
        """
        if self._isFlushing:
            return
        self._isFlushing = True
        try:
            while self._recorded:
                event, observers = self._recorded.popleft()
                for observer in observers:
                    # One may have been removed meanwhile.
                    if observers is self.observers or any(o is observer for o in self.observers):
                        self._call(observer, event)
        finally:
            self._isFlushing = False

    def _call(self, observer: Observer, event: Event) -> None:
        try:
            observer(event)
        except BaseException:
            self.log.failure(
                "observer {observer} raised on {event}", observer=observer, event=event
            )


@implementer(IObserver)
class LoggingObserver:
    """
    Logs the events of tasks and workers with the standard C{logging}::

        queue.addObserver(LoggingObserver(verbose=True))

    It installs no handler and sets no level. The program does that.

      - C{ERROR}: a task failed. The record has the traceback.
      - C{WARNING}: a worker lost its runner, or left because it could not go on.
      - C{INFO}: a worker was ready for the first time, got a new runner, or left. With C{spew} also
        a task that finished, with its result, or that was cancelled.
    """

    def __init__(
        self, verbose: bool = False, spew: bool = False, logger: logging.Logger | None = None
    ) -> None:
        """
        @param verbose: whether to show the arguments of calls, shortened. Default: C{False}.
        @param spew: whether to log every task, with its arguments and its result. Default:
            C{False}.
        @param logger: the logger to write to. Default: the logger C{asynqueue}.
        """
        self._verbose = verbose or spew
        self._spew = spew
        self._logger = logging.getLogger("asynqueue") if logger is None else logger

    def __call__(self, event: Event) -> None:
        """
        See L{IObserver}.
        """
        if event.task is None:
            self._logWorker(event)
        elif event.kind == FAILED:
            self._logFailure(event.task, event.reason)
        elif self._spew and event.kind == FINISHED and self._logger.isEnabledFor(logging.INFO):
            result = describeValue(event.task.result)
            self._logger.info("%s -> %s", self._describe(event.task), result)
        elif self._spew and event.kind == CANCELLED:
            self._logger.info("%s was cancelled", self._describe(event.task))

    def _logFailure(self, task: QueuedTask, reason: BaseException | None) -> None:
        self._logger.error(
            "%s failed: %s", self._describe(task), describeError(reason), exc_info=reason
        )

    def _logWorker(self, event: Event) -> None:
        if event.kind == LOST:
            self._logger.warning("%s lost its runner: %s", event.worker, event.reason)
        elif event.kind == LEFT and event.reason is not None:
            self._logger.warning("%s left: %s", event.worker, event.reason)
        elif event.kind in _WORDS:
            self._logger.info("%s %s", event.worker, _WORDS[event.kind])

    def _describe(self, task: QueuedTask) -> str:
        if self._verbose:
            call = describeCall(task.function, task.args, task.kwargs)
        else:
            call = describeFunction(task.function)
        return f"task {task.id}, {call}"


_WORDS = {HIRED: "is ready", REPLACED: "has a new runner", LEFT: "left"}


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
