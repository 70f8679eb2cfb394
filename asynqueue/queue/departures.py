"""
How workers leave a queue.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from asynqueue.errors import WorkerDetached, WorkerError
from asynqueue.queue.employment import Desk, Employment
from asynqueue.queue.events import GIVEN_BACK, LEFT
from asynqueue.queue.news import News
from asynqueue.queue.queued import QueuedTask
from asynqueue.queue.timers import Timers
from asynqueue.queue.updates import Updates, notRun
from asynqueue.tasks.scheduler import Scheduler
from asynqueue.tasks.states import UNDERWAY


class Departures:
    """
    The workers of a queue, as far as they are listed, and let go.
    """

    log = Logger()

    def __init__(
        self,
        desk: Desk,
        scheduler: Scheduler[QueuedTask],
        updates: Updates,
        news: News,
        timers: Timers,
        reactor: IReactorTime,
    ) -> None:
        # The tasks of the schedule that workers have.
        self.underway: set[QueuedTask] = set()
        self._timers = timers
        self._desk = desk
        self._scheduler = scheduler
        self._updates = updates
        self._news = news
        self._reactor = reactor
        # By ID those who may get tasks; by worker those too that are on their way out.
        self._employments: dict[int, Employment] = {}
        self._byWorker: dict[Any, Employment] = {}
        self._whyCrashed: str | None = None

    def __len__(self) -> int:
        return len(self._employments)

    @property
    def isEmpty(self) -> bool:
        """
        Whether all workers are gone, even those that were let go.
        """
        return not self._byWorker

    @property
    def workers(self) -> list[Any]:
        """
        The workers, in the order in which they were hired.
        """
        return [employment.worker for employment in self._employments.values()]

    def get(self, ID: int) -> Any:
        """
        @return: the worker with this ID, or C{None}.
        """
        employment = self._employments.get(ID)
        return None if employment is None else employment.worker

    def find(self, workerOrID: Any) -> int | None:
        """
        @return: the ID of a worker given as itself or by its ID, or C{None} if it is not attached.
        """
        if isinstance(workerOrID, int):
            return workerOrID if workerOrID in self._employments else None
        employment = self._byWorker.get(workerOrID)
        if employment is None or employment.ID not in self._employments:
            return None
        return employment.ID

    # Letting go -----------------------------------------------------------------------------------

    def resigned(self, employment: Employment) -> None:
        """
        A worker can work no more.
        """
        if employment.ID not in self._employments:
            return
        reason = employment.reason
        if not isinstance(reason, WorkerError):
            reason = WorkerError(f"{employment.worker!r} resigned")
        employment.gaveUp = reason
        self._desk.begin()
        try:
            self.detach(employment.ID, reassign=True, crash=True, reason=reason)
            self._desk.workerGaveUp(employment.worker, reason)
        finally:
            self._desk.end()

    def detach(
        self,
        ID: int,
        reassign: bool = False,
        crash: bool = False,
        timeout: float | None = None,
        reason: WorkerError | None = None,
    ) -> Deferred[list[QueuedTask]]:
        """
        Let a worker go.

        @param timeout: after how many seconds it is crashed if it has not stopped; C{None} for
            never.
        @param reason: why, if it did not wait to be let go.
        @return: a Deferred that fires when it is gone, with the tasks that it left unfinished and
            that were not reassigned.
        """
        employment = self._employments.pop(ID)
        employment.isOpen = False
        self._scheduler.close(employment.worker)
        left: Deferred[list[QueuedTask]] = Deferred()
        employment.left = left
        employment.reassign = reassign
        self._forget(employment, reason)
        if crash:
            self._crash(employment)
        elif timeout is not None:
            employment.timer = self._reactor.callLater(timeout, self._crash, employment)
        if employment.worker in self._byWorker:
            maybeDeferred(employment.worker.stop).addBoth(self._gone, employment)
        return left

    def _forget(self, employment: Employment, reason: WorkerError | None) -> None:
        """
        Tell those who wait for what a worker that is let go will not do any more.
        """
        gone = WorkerDetached(f"{employment.worker!r} was detached before it was ready")
        if not employment.hired.called:
            employment.hired.errback(Failure(reason or gone))
        while employment.updates:
            employment.updates.popleft().errback(Failure(notRun(employment)))
        self._updates.forget(employment)

    def stopAll(self) -> None:
        """
        Let all workers go that are not going yet.
        """
        for ID in list(self._employments):
            self.detach(ID)

    def crashAll(self, why: str | None = None) -> None:
        """
        Crash all workers, those that are going already too.

        @param why: for the errors of the tasks that they leave, if the program ends.
        """
        self._whyCrashed = why
        self.stopAll()
        for employment in list(self._byWorker.values()):
            self._crash(employment)

    def killAll(self) -> None:
        """
        Crash all workers, without telling anybody: the interpreter ends.
        """
        for worker in list(self._byWorker):
            worker.crash()

    def _crash(self, employment: Employment) -> None:
        worker = employment.worker
        tasks = worker.crash()
        employment.unfinished += self._abandon(tasks, worker, employment.reassign)
        self._scheduler.dismiss(worker)
        self._desk.wake()
        if not employment.isFarSide:
            # A worker of one's own may not know how to stop once it has crashed.
            self._gone(None, employment)

    def _gone(self, result: Any, employment: Employment) -> None:
        worker = employment.worker
        if isinstance(result, Failure):
            self.log.failure("{worker} failed to stop", result, worker=worker)
        if self._byWorker.pop(worker, None) is None:
            return
        if employment.timer is not None and employment.timer.active():
            employment.timer.cancel()
        self._scheduler.dismiss(worker)
        if self._news.observers:
            self._news.note(LEFT, worker=worker, reason=employment.gaveUp)
        self._desk.wake()
        self._news.tell()
        if employment.left is not None:
            employment.left.callback(employment.unfinished)

    def _putBack(self, task: QueuedTask) -> None:
        """
        A task of the schedule waits again, in its old place, unless it is done meanwhile.
        """
        if task.state is not UNDERWAY:
            return
        if self._news.observers:
            self._news.note(GIVEN_BACK, task, task.worker)
        task.giveBack()
        self.underway.discard(task)
        self._timers.stop(task)
        self._scheduler.putBack(task)

    def _abandon(self, tasks: list[QueuedTask], worker: Any, reassign: bool) -> list[QueuedTask]:
        """
        Decide what becomes of the tasks that a crashed worker leaves.
        """
        failed = []
        for task in tasks:
            if task.isDone:
                continue
            if reassign and task.expected is not None:
                self._putBack(task)
            else:
                failed.append(task)
                task.errback(Failure(self._asCrash(task, worker)))
        return failed

    def _asCrash(self, task: QueuedTask, worker: Any) -> WorkerError:
        if self._whyCrashed is None:
            return WorkerDetached(f"{worker} was crashed with {task}")
        return WorkerError(f"{worker} was crashed with {task}, for {self._whyCrashed}")
