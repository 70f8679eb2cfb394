"""
Events of a queue's tasks, workers and jobs, and the observers that are told of them.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from twisted.logger import Logger
from zope.interface import implementer

from asynqueue._core.description import (
    describeCall,
    describeError,
    describeFunction,
    describeValue,
    shortly,
)
from asynqueue._core.states import CANCELLED, FAILED, FINISHED, LOST
from asynqueue._core.task import Task
from asynqueue._runner.context import Pairs
from asynqueue.interfaces import IObserver, ITracer, IWorker

if TYPE_CHECKING:
    from asynqueue._dispatch.job import Job
    from asynqueue._queue.queuedtask import QueuedTask

QUEUED: Final = "QUEUED"
STARTED: Final = "STARTED"
GIVEN_BACK: Final = "GIVEN_BACK"
RETRYING: Final = "RETRYING"
PROGRESSED: Final = "PROGRESSED"
DEAD_LETTERED: Final = "DEAD_LETTERED"

HIRED: Final = "HIRED"
REPLACED: Final = "REPLACED"
LEFT: Final = "LEFT"


class Event(NamedTuple):
    """
    One thing that happened to a task, a worker or a job.

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

    The events of each job of a dispatch queue come in the order of a task's. RETRYING then means
    that the job's attempt failed, and that the job waits for another one. GIVEN_BACK means that the
    job's function was not called. If the queue has a store, DEAD_LETTERED follows FAILED. A job
    that the queue's C{stop} leaves behind, or that C{clearQueue} takes out without cancelling it,
    has no event of that.

    @ivar kind: one of the words in the pictures.
    @ivar time: when it happened, in seconds of the queue's clock.
    @ivar task: the task that it happened to, or C{None}. The state of the task is the present one,
        which may be later than that of the event.
    @ivar worker: the worker that it happened to, or that had the task; C{None} if no worker had it.
    @ivar reason: the exception that explains a FAILED, CANCELLED, RETRYING or LOST, or the LEFT of
        a worker that could not go on, or a DEAD_LETTERED. C{None} for all other events.
    @ivar job: the job that it happened to, or C{None}. An event of a job has neither task nor
        worker.
    """

    kind: str
    time: float
    task: QueuedTask | None = None
    worker: IWorker | None = None
    reason: BaseException | None = None
    job: Job | None = None


Observer = Callable[[Event], object]

_BEGINNINGS: Final = frozenset((QUEUED, STARTED))


class ObserverList:
    """
    Records events when they happen, and calls the observers later, when the queue's own state is up
    to date. An observer may therefore call any method of the queue.

    @ivar observers: the observers. While there are none, no events need to be recorded.
    @ivar tracers: those of the observers that provide L{ITracer<asynqueue.interfaces.ITracer>}.
    """

    log = Logger()

    __slots__ = ("_isFlushing", "_recorded", "_seconds", "observers", "tracers")

    def __init__(self, seconds: Callable[[], float]) -> None:
        """
        @param seconds: returns the time, in seconds.
        """
        self._seconds = seconds
        self._isFlushing = False
        # Each event comes with the observers of the moment when it happened.
        self._recorded: deque[tuple[Event, tuple[Observer, ...]]] = deque()
        self.observers: tuple[Observer, ...] = ()
        self.tracers: tuple[ITracer, ...] = ()

    def add(self, observer: Observer) -> None:
        """
        Add an observer. It is called with the events that happen from now on.

        @raise TypeError: if it is not callable.
        """
        if not callable(observer):
            raise TypeError(f"an observer must be callable, but {observer!r} is not")
        if observer not in self.observers:
            self.observers += (observer,)
            if ITracer.providedBy(observer):
                self.tracers += (observer,)

    def remove(self, observer: Observer) -> None:
        """
        Remove an observer. It is not called again, not even with events recorded already.

        @raise ValueError: if it is not one of the observers.
        """
        if observer not in self.observers:
            raise ValueError(f"{observer!r} is not an observer of this queue")
        self.observers = tuple(other for other in self.observers if other != observer)
        self.tracers = tuple(other for other in self.tracers if other != observer)
        if not self.observers:
            self._recorded.clear()

    def record(
        self,
        kind: str,
        task: QueuedTask | None = None,
        worker: IWorker | None = None,
        reason: BaseException | None = None,
        job: Job | None = None,
    ) -> None:
        """
        Record an event.
        """
        event = Event(kind, self._seconds(), task, worker, reason, job)
        self._recorded.append((event, self.observers))
        if self.tracers and kind in _BEGINNINGS:
            for tracer in self.tracers:
                self._call(tracer.begins, event)

    def capture(self) -> Pairs:
        """
        @return: what the tracers want to travel with calls that are made here, but put into the
            queue later.
        """
        return tuple(pair for tracer in self.tracers for pair in tracer.capture())

    def flush(self) -> None:
        """
        Call the observers with all recorded events. An event that an observer causes comes after
        the present one, so that all observers get the events in the same order.
        """
        if self._isFlushing or not self._recorded:
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
    Logs the events of tasks, workers and jobs with the standard C{logging}::

        queue.addObserver(LoggingObserver(verbose=True))

    It installs no handler and sets no level. The program does that.

      - C{ERROR}: a task or a job failed. The record has the traceback.
      - C{WARNING}: a worker lost its runner, or left because it could not go on.
      - C{INFO}: a worker was ready for the first time, got a new runner, or left. With C{spew} also
        a task or a job that finished, with its result, or that was cancelled.
    """

    def __init__(
        self, verbose: bool = False, spew: bool = False, logger: logging.Logger | None = None
    ) -> None:
        """
        @param verbose: whether to show the arguments of calls and jobs, shortened. Default:
            C{False}.
        @param spew: whether to log every task and job, with its arguments and its result. Default:
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
        record = event.task or event.job
        if record is None:
            self._logWorker(event)
        elif event.kind == FAILED:
            self._logFailure(record, event.reason)
        elif self._spew and event.kind == FINISHED and self._logger.isEnabledFor(logging.INFO):
            result = describeValue(record.result)
            self._logger.info("%s -> %s", self._describe(record), result)
        elif self._spew and event.kind == CANCELLED:
            self._logger.info("%s was cancelled", self._describe(record))

    def _logFailure(self, record: QueuedTask | Job, reason: BaseException | None) -> None:
        self._logger.error(
            "%s failed: %s", self._describe(record), describeError(reason), exc_info=reason
        )

    def _logWorker(self, event: Event) -> None:
        if event.kind == LOST:
            self._logger.warning("%s lost its runner: %s", event.worker, event.reason)
        elif event.kind == LEFT and event.reason is not None:
            self._logger.warning("%s left: %s", event.worker, event.reason)
        elif event.kind in _WORDS:
            self._logger.info("%s %s", event.worker, _WORDS[event.kind])

    def _describe(self, record: QueuedTask | Job) -> str:
        if not isinstance(record, Task):
            argument = f", {shortly(record.jobarg)}" if self._verbose else ""
            return f"job {record.id}{argument}"
        if self._verbose:
            call = describeCall(record.function, record.args, record.kwargs)
        else:
            call = describeFunction(record.shownFunction)
        return f"task {record.id}, {call}"


_WORDS = {HIRED: "is ready", REPLACED: "has a new runner", LEFT: "left"}
