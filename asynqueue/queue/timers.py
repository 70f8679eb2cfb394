"""
The timeouts of tasks that are underway.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from asynqueue.errors import TaskTimeout
from asynqueue.queue.queued import QueuedTask


class Timers:
    """
    Fails each task whose run takes longer than its C{timeout}.
    """

    def __init__(self, reactor: IReactorTime, stopRun: Callable[[QueuedTask], None]) -> None:
        """
        @param stopRun: stops the run of a task that has failed for that reason.
        """
        self._reactor = reactor
        self._stopRun = stopRun
        self._calls: dict[QueuedTask, IDelayedCall] = {}

    def start(self, task: QueuedTask) -> None:
        """
        A task that has a timeout is given to a worker.
        """
        assert task.options.timeout is not None
        self._calls[task] = self._reactor.callLater(task.options.timeout, self._timedOut, task)

    def stop(self, task: QueuedTask) -> None:
        """
        A task is done, or not with a worker any more.
        """
        if task.options.timeout is not None:
            call = self._calls.pop(task, None)
            if call is not None and call.active():
                call.cancel()

    def _timedOut(self, task: QueuedTask) -> None:
        seconds = task.options.timeout
        task.errback(Failure(TaskTimeout(f"{task} ran for longer than {seconds} seconds")))
        self._stopRun(task)
