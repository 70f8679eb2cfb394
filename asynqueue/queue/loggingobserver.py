"""
An observer that writes a log.
"""

from __future__ import annotations

import logging
from typing import Any

from zope.interface import implementer

from asynqueue.interfaces import IObserver
from asynqueue.queue.events import (
    CANCELLED,
    FAILED,
    FINISHED,
    HIRED,
    LEFT,
    LOST,
    REPLACED,
    Event,
)
from asynqueue.queue.queued import QueuedTask
from asynqueue.tasks.description import (
    describeCall,
    describeError,
    describeFunction,
    describeValue,
)


@implementer(IObserver)
class LoggingObserver:
    """
    Logs what becomes of tasks and workers, with the standard C{logging}::

        queue.addObserver(LoggingObserver(verbose=True))

    No handler is installed and no level is set: that is the program's to do.

      - C{ERROR}: a task failed; with its traceback.
      - C{WARNING}: a worker lost its universe, or left because it could work no more.
      - C{INFO}: a worker was ready for the first time, got a new universe, or left; with C{spew},
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
            self._logger.warning("%s lost its universe: %s", event.worker, event.reason)
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


_WORDS = {HIRED: "is ready", REPLACED: "has a new universe", LEFT: "left"}
