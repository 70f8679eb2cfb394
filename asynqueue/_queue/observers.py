"""
What happens to a queue's tasks and workers, and who hears of it.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from twisted.internet.interfaces import IConsumer, IPushProducer
from twisted.logger import Logger
from zope.interface import implementer

from asynqueue._core.description import describeCall, describeError, describeFunction, describeValue
from asynqueue._core.states import CANCELLED, FAILED, FINISHED, LOST
from asynqueue._queue.queuedtask import QueuedTask
from asynqueue.errors import ImplementationError
from asynqueue.interfaces import IObserver

QUEUED: Final = "QUEUED"
STARTED: Final = "STARTED"
GIVEN_BACK: Final = "GIVEN_BACK"
PROGRESSED: Final = "PROGRESSED"

HIRED: Final = "HIRED"
REPLACED: Final = "REPLACED"
LEFT: Final = "LEFT"


@dataclass(frozen=True, slots=True)
class Event:
    """
    One thing that happened. Of each task an observer hears, in this order::

        QUEUED  ( STARTED  PROGRESSED*  GIVEN_BACK )*  STARTED  PROGRESSED*  FINISHED
                                                                             FAILED
                                                                             CANCELLED

    FAILED and CANCELLED may come without a STARTED: then no worker had the task. A worker gives
    back what it never began; the task then waits again. A task of C{update} is told of like any
    other, once for each worker that is to run it; no schedule has it, so its C{priority} is
    C{None}.

    Of each worker::

        HIRED  ( LOST  REPLACED )*  [ LOST ]  LEFT

    HIRED when it is ready for the first time, LOST when it lost its runner, REPLACED when it has
    another one that is ready, LEFT when it is gone. A worker that was never ready is told of with
    LEFT alone.

    @ivar kind: one of the words in the pictures.
    @ivar time: when it happened, in seconds of the queue's clock.
    @ivar task: the task that it happened to, or C{None}. Its state is the present one, which may be
        a later one than that of the event.
    @ivar worker: the worker that it happened to, or that had the task; C{None} if none had it.
    @ivar reason: the exception that is the reason why, for FAILED, CANCELLED and LOST, and for the
        LEFT of a worker that could work no more; C{None} for all others.
    """

    kind: str
    time: float
    task: QueuedTask | None = None
    worker: Any = None
    reason: BaseException | None = None


Observer = Callable[[Event], Any]


class ObserverList:
    """
    Notes events where they happen, and tells of them where it is safe: observers may do to the
    queue whatever they like.

    @ivar observers: those who are told. As long as there are none, nothing is to be noted.
    """

    log = Logger()

    __slots__ = ("_isFlushing", "_recorded", "_seconds", "observers")

    def __init__(self, seconds: Callable[[], float]) -> None:
        """
        @param seconds: gives the time.
        """
        self._seconds = seconds
        self._isFlushing = False
        # Each with those who were observers when it happened.
        self._recorded: deque[tuple[Event, tuple[Observer, ...]]] = deque()
        self.observers: tuple[Observer, ...] = ()

    def add(self, observer: Observer) -> None:
        """
        One more is told from now on.

        @raise TypeError: if it cannot be called.
        """
        if not callable(observer):
            raise TypeError(f"an observer is called with each event, but {observer!r} cannot be")
        if observer not in self.observers:
            self.observers += (observer,)

    def remove(self, observer: Observer) -> None:
        """
        One is told nothing more.

        @raise ValueError: if it was not told before.
        """
        if observer not in self.observers:
            raise ValueError(f"{observer!r} does not observe this queue")
        self.observers = tuple(other for other in self.observers if other != observer)
        if not self.observers:
            self._recorded.clear()

    def record(
        self,
        kind: str,
        task: QueuedTask | None = None,
        worker: Any = None,
        reason: BaseException | None = None,
    ) -> None:
        """
        Something has happened.
        """
        self._recorded.append((Event(kind, self._seconds(), task, worker, reason), self.observers))

    def flush(self) -> None:
        """
        Tell of all that was noted. What an observer causes is told after what it was being told,
        so that all hear everything in the same order.
        """
        if self._isFlushing:
            return
        self._isFlushing = True
        try:
            while self._recorded:
                event, observers = self._recorded.popleft()
                for observer in observers:
                    self._call(observer, event)
        finally:
            self._isFlushing = False

    def _call(self, observer: Observer, event: Event) -> None:
        if observer not in self.observers:
            return
        try:
            observer(event)
        except Exception:
            self.log.failure("{observer} failed to hear of {event}", observer=observer, event=event)


@implementer(IObserver)
class LoggingObserver:
    """
    Logs what becomes of tasks and workers, with the standard C{logging}::

        queue.addObserver(LoggingObserver(verbose=True))

    No handler is installed and no level is set: that is the program's to do.

      - C{ERROR}: a task failed; with its traceback.
      - C{WARNING}: a worker lost its runner, or left because it could work no more.
      - C{INFO}: a worker was ready for the first time, got a new runner, or left; with C{spew},
        a task finished, with its result, or was cancelled.
    """

    def __init__(
        self, verbose: bool = False, spew: bool = False, logger: logging.Logger | None = None
    ) -> None:
        """
        @param verbose: whether to show the arguments of calls, shortened.
        @param spew: whether to log every task, with its arguments and its result.
        @param logger: where to write. Default: the logger C{asynqueue}.
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
        trace: Any = None if reason is None else (type(reason), reason, reason.__traceback__)
        self._logger.error(
            "%s failed: %s", self._describe(task), describeError(reason), exc_info=trace
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
