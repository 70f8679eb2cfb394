"""
The roster: the workers of a queue, from hiring to leaving.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from asynqueue.errors import WorkerError
from asynqueue.interfaces import IEmployer, IUniverseWorker
from asynqueue.queue.checks import Checks
from asynqueue.queue.departures import Departures
from asynqueue.queue.employment import Desk, Employment, checkWorker
from asynqueue.queue.events import GIVEN_BACK, HIRED, LOST, REPLACED, STARTED
from asynqueue.queue.news import News
from asynqueue.queue.queued import QueuedTask
from asynqueue.queue.timers import Timers
from asynqueue.queue.updates import Update, Updates
from asynqueue.tasks.scheduler import Scheduler
from asynqueue.tasks.states import PENDING, UNDERWAY


@implementer(IEmployer)
class Roster(Departures):
    """
    Hires workers, hands them the tasks that the scheduler decided on, tells the scheduler what
    became of them, and lets workers go.

    @ivar checks: finds tasks that could be sent to none of them.
    """

    def __init__(
        self,
        desk: Desk,
        scheduler: Scheduler[QueuedTask],
        news: News,
        timers: Timers,
        reactor: IReactorTime,
    ) -> None:
        updates = Updates(desk.updateTask, self._giveUpdate)
        super().__init__(desk, scheduler, updates, news, timers, reactor)
        self._lastID = 0
        self.checks = Checks(self._employments)

    # Hiring ---------------------------------------------------------------------------------------

    def hire(self, worker: Any) -> Deferred[int]:
        """
        @return: a Deferred that fires with the worker's ID when it is ready for tasks.
        @raise ImplementationError: if it is no L{IWorker}.
        """
        checkWorker(worker)
        if worker in self._byWorker:
            raise ValueError(f"{worker!r} is attached to this queue already")
        self._lastID += 1
        hired: Deferred[int] = Deferred()
        isFarSide = IUniverseWorker.providedBy(worker)
        employment = Employment(self._lastID, worker, isFarSide, hired)
        self._employments[employment.ID] = self._byWorker[worker] = employment
        self.checks.forget()
        worker.ID = employment.ID
        qualified = [*worker.cQualified, *worker.iQualified]
        # Of the six members none says how much a worker takes at once; one that takes more says so.
        self._scheduler.hire(worker, qualified, getattr(worker, "capacity", None))
        worker.setResignator(lambda: self.resigned(employment))
        if isFarSide:
            worker.employ(self)
        else:
            self._replay(employment)
        return hired

    def qualify(self, worker: Any, series: Hashable) -> None:
        """
        A worker may run one more series.

        @raise ValueError: if it is not attached.
        """
        if worker not in self._byWorker:
            raise ValueError(f"{worker!r} is not attached to this queue")
        if series not in worker.iQualified:
            worker.iQualified.append(series)
        self._scheduler.qualify(worker, series)
        self.checks.forget()
        self._desk.wake()

    def _forget(self, employment: Employment, reason: WorkerError | None) -> None:
        self.checks.forget()
        super()._forget(employment, reason)

    def update(self, update: Update, sequential: bool) -> Deferred[list[Any]]:
        """
        Run an update on every worker, and on every later one unless it is ephemeral.
        """
        return self._updates.add(update, list(self._employments.values()), sequential)

    def _giveUpdate(self, employment: Employment, task: QueuedTask) -> None:
        """
        Give a worker a task that the scheduler does not know of.
        """
        worker = employment.worker
        if employment.isFarSide:
            self._startUpdate(employment, task)
            worker.runMany([task])
        else:
            self._scheduler.close(worker)
            employment.updates.append(task)
            self._giveUpdates(employment)

    def _giveUpdates(self, employment: Employment) -> None:
        """
        Give a worker of six members its updates, one whenever it is free, and then open it.
        """
        if employment.isGiving:
            return
        employment.isGiving = True
        while employment.updates and not employment.held:
            task = employment.updates.popleft()
            if task.state is PENDING:
                self._startUpdate(employment, task)
                self._runOne(employment, task)
        employment.isGiving = False
        if employment.isOpen and not employment.updates and not employment.held:
            self._scheduler.open(employment.worker)

    def _startUpdate(self, employment: Employment, task: QueuedTask) -> None:
        task.start(employment.worker, self._reactor.seconds())
        if self._news.observers:
            self._news.note(STARTED, task, employment.worker)

    def _replay(self, employment: Employment) -> None:
        """
        Bring a new universe up to date, then open the worker.
        """
        self._updates.replay(employment).addCallback(self._open, employment)

    def _open(self, _: object, employment: Employment) -> None:
        if employment.ID not in self._employments:
            return
        isFirst = not employment.hired.called
        employment.isOpen = employment.hasUniverse = True
        self._giveUpdates(employment)
        if employment.left is None and self._news.observers:
            self._news.note(HIRED if isFirst else REPLACED, worker=employment.worker)
            self._news.tell()
        if not employment.hired.called:
            employment.hired.callback(employment.ID)
        self._desk.wake()

    # Handing out ----------------------------------------------------------------------------------

    def hand(self, worker: Any, tasks: list[QueuedTask]) -> None:
        """
        Give a worker the tasks that were decided on for it, unless somebody has cancelled them or
        let the worker go since: when tasks are handed out, callbacks may run.
        """
        employment = self._byWorker.get(worker)
        if employment is None or not employment.isOpen:
            self._takeBack(worker, tasks)
            return
        now = self._reactor.seconds()
        started = []
        for task in tasks:
            if task.state is PENDING:
                task.start(worker, now)
                started.append(task)
                if task.options.isTimed:
                    self._timers.start(task)
            else:
                self._scheduler.release(worker, [(task, None)])
        self.underway.update(started)
        if self._news.observers:
            for task in started:
                self._news.note(STARTED, task, worker)
        if employment.isFarSide:
            worker.runMany(started)
        else:
            for task in started:
                if task.state is UNDERWAY and employment.isOpen:
                    self._runOne(employment, task)
                else:
                    # The one before was over at once, and whoever heard of it changed things.
                    self._scheduler.release(worker, [(task, None)])
                    self._putBack(task)

    def _takeBack(self, worker: Any, tasks: list[QueuedTask]) -> None:
        """
        What was decided on for a worker is not for it after all.
        """
        self._scheduler.release(worker, [(task, None) for task in tasks])
        for task in tasks:
            if task.state is PENDING:
                self._scheduler.putBack(task)
        self._desk.wake()

    def _runOne(self, employment: Employment, task: QueuedTask) -> None:
        """
        Give a task to a worker of six members.
        """

        def ready(result: Any) -> None:
            if isinstance(result, Failure):
                task.errback(result)
                self.log.failure(
                    "the Deferred of {worker}.run() is to say when it is ready, but it failed",
                    result,
                    worker=employment.worker,
                )
            if task in employment.held:
                employment.held.discard(task)
                self._scheduler.release(employment.worker, [(task, None)])
            self._giveUpdates(employment)
            self._desk.wake()

        employment.held.add(task)
        maybeDeferred(employment.worker.run, task).addBoth(ready)

    # IEmployer ------------------------------------------------------------------------------------

    def begin(self) -> None:
        """
        The worker has heard something.
        """
        self._desk.begin()

    def end(self) -> None:
        """
        That was all.
        """
        self._desk.end()

    def ready(self, worker: Any) -> None:
        """
        The worker has a universe.
        """
        self._replay(self._byWorker[worker])

    def released(self, worker: Any, ended: list[tuple[QueuedTask, float | None]]) -> None:
        """
        The worker no longer has these tasks.
        """
        self._scheduler.release(worker, ended)
        self._desk.wake()

    def givenBack(self, worker: Any, tasks: list[QueuedTask]) -> None:
        """
        These wait again, in their old place. Updates do not: they are replayed.
        """
        for task in tasks:
            if task.expected is not None:
                self._putBack(task)
            elif task.state is UNDERWAY:
                if self._news.observers:
                    self._news.note(GIVEN_BACK, task, worker)
                self._updates.givenBack(task)
        self._desk.wake()

    def stalled(self, worker: Any) -> None:
        """
        Send it nothing ahead.
        """
        if worker in self._byWorker:
            self._scheduler.stall(worker)

    def lost(self, worker: Any, reason: Exception) -> None:
        """
        It gets nothing until it is ready again.
        """
        employment = self._byWorker.get(worker)
        if employment is not None:
            employment.reason = reason
            employment.isOpen = False
            self._scheduler.close(worker)
            if employment.hasUniverse and self._news.observers:
                self._news.note(LOST, worker=worker, reason=reason)
            employment.hasUniverse = False
