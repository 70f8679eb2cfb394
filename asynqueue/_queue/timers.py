"""
The timeouts of tasks that are underway.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from asynqueue._queue.queuedtask import QueuedTask
from asynqueue._workers.procinfo import Sight
from asynqueue.errors import TaskStalled, TaskTimeout


class Timers:
    """
    Fails each task whose run takes longer than its C{timeout}, or reports no progress for longer
    than its C{stallTimeout}. Before that, its worker is asked what it is doing. If the task ends
    meanwhile, it has not failed.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        stopRun: Callable[[QueuedTask], None],
        waitsForTaker: Callable[[QueuedTask], bool],
        lookAt: Callable[[QueuedTask], Deferred[Sight] | None],
    ) -> None:
        """
        @param stopRun: stops the run of a task that has failed because it took too long.
        @param waitsForTaker: says whether a task has yielded items that were not taken yet.
        @param lookAt: looks at the run of a task, as
            L{IPoolWorker<asynqueue.interfaces.IPoolWorker>} does.
        """
        self._waitsForTaker = waitsForTaker
        self._lookAt = lookAt
        self._reactor = reactor
        self._stopRun = stopRun
        self._runs: dict[QueuedTask, IDelayedCall] = {}
        self._stalls: dict[QueuedTask, IDelayedCall] = {}
        # The tasks that are out of time and are being looked at, and why.
        self._late: dict[QueuedTask, TaskTimeout] = {}

    def start(self, task: QueuedTask) -> None:
        """
        Start the timers of a task that is given to a worker.
        """
        seconds = task.options.timeout
        if seconds is not None:
            self._runs[task] = self._reactor.callLater(seconds, self._timedOut, task)
        self.progressed(task)

    def progressed(self, task: QueuedTask) -> None:
        """
        Start the stall timer of a task anew, because the task has made progress.
        """
        seconds = task.options.stallTimeout
        if seconds is not None:
            self._cancel(self._stalls, task)
            self._stalls[task] = self._reactor.callLater(seconds, self._stalled, task)

    def handOver(self, task: QueuedTask, successor: QueuedTask) -> None:
        """
        Let the timers of a task count for its successor.
        """
        call = self._runs.pop(task, None)
        if call is not None:
            seconds = max(0.0, call.getTime() - self._reactor.seconds())
            if call.active():
                call.cancel()
            self._runs[successor] = self._reactor.callLater(seconds, self._timedOut, successor)
        self._cancel(self._stalls, task)
        self._late.pop(task, None)
        self.progressed(successor)

    def stop(self, task: QueuedTask) -> None:
        """
        Stop the timers of a task that is done, or that its worker has given back.
        """
        self._cancel(self._runs, task)
        self._cancel(self._stalls, task)
        self._late.pop(task, None)

    def _cancel(self, calls: dict[QueuedTask, IDelayedCall], task: QueuedTask) -> None:
        call = calls.pop(task, None)
        if call is not None and call.active():
            call.cancel()

    def _timedOut(self, task: QueuedTask) -> None:
        seconds = task.options.timeout
        self._fail(task, TaskTimeout(f"{task} ran for longer than {seconds} seconds"))

    def _stalled(self, task: QueuedTask) -> None:
        if self._waitsForTaker(task):
            self.progressed(task)
            return
        seconds = task.options.stallTimeout
        self._fail(task, TaskStalled(f"{task} reported no progress for {seconds} seconds"))

    def _fail(self, task: QueuedTask, error: TaskTimeout) -> None:
        if task in self._late:
            return
        self._late[task] = error
        seen = self._lookAt(task)
        if seen is None:
            self._giveUp(Sight(), task, error)
        else:
            seen.addCallback(self._giveUp, task, error)

    def _giveUp(self, seen: Sight, task: QueuedTask, error: TaskTimeout) -> None:
        # It may have ended, or may wait for another run.
        if self._late.get(task) is not error:
            return
        error.lastSeen(*seen)
        task.errback(Failure(error))
        self._stopRun(task)
