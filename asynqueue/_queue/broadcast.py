"""
Updates: calls that every worker runs, those of now, those of later, and each runner that takes a
lost one's place.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred, DeferredList, inlineCallbacks
from twisted.logger import Logger
from twisted.python.failure import Failure

from asynqueue._core.description import describeCall
from asynqueue._core.states import UNDERWAY
from asynqueue._queue.queuedtask import QueuedTask
from asynqueue._runner.context import Pairs
from asynqueue._workers.restart import isCrash
from asynqueue.errors import ConnectionLost, WorkerDetached, WorkerDied, WorkerError

if TYPE_CHECKING:
    from asynqueue._queue.pool import WorkerRecord

FAULTS: Final = 5
"""How many runners of a worker may die of one update in a row: end with an exit code, or crash."""

DEATHS: Final = 20
"""The same for deaths of all kinds, because somebody outside may send a signal at a bad time."""


@dataclass(frozen=True, slots=True, eq=False)
class Update:
    """
    A call for every worker.

    @ivar ephemeral: whether it is for the present workers only.
    @ivar context: the context variables that it finds, as pairs of name and value.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    ephemeral: bool = False
    context: Pairs | None = None

    def __str__(self) -> str:
        return describeCall(self.function, self.args, self.kwargs)


@dataclass(slots=True)
class Deaths:
    """
    Counts the runners of one worker that died in a row while they ran one update.

    @ivar faults: how many of them ended with an exit code, or crashed.
    @ivar total: how many there were in all.
    """

    faults: int = 0
    total: int = 0

    def add(self, death: WorkerDied) -> bool:
        """
        Count a death.

        @return: whether the worker is to give up, because another try would end like these.
        """
        self.total += 1
        self.faults += death.exitCode is not None or isCrash(death)
        return self.faults >= FAULTS or self.total >= DEATHS


class Broadcast:
    """
    Remembers a queue's updates, and which worker has yet to run which.
    """

    log = Logger()

    def __init__(
        self,
        makeTask: Callable[[Update], QueuedTask],
        give: Callable[[WorkerRecord, list[QueuedTask]], None],
        giveUp: Callable[[WorkerRecord, WorkerError], None],
    ) -> None:
        """
        @param makeTask: makes a task of an update.
        @param give: gives tasks to a worker.
        @param giveUp: lets a worker go that cannot be brought up to date.
        """
        self._makeTask = makeTask
        self._give = give
        self._giveUp = giveUp
        self._kept: list[Update] = []
        # The tasks that a worker gets when it is ready, and all that are not done.
        self._owed: dict[WorkerRecord, dict[Update, QueuedTask]] = {}
        self._tasks: dict[QueuedTask, tuple[WorkerRecord, Update]] = {}
        # For each update that runs on one worker after the other, the workers that have yet to
        # begin.
        self._turns: dict[Update, list[WorkerRecord]] = {}
        # The updates that the worker's last runner, or several in a row, died of.
        self._deaths: dict[WorkerRecord, dict[Update, Deaths]] = {}

    def add(
        self, update: Update, records: list[WorkerRecord], sequential: bool
    ) -> Deferred[list[Any]]:
        """
        Run an update on some workers: at once on those that are open, on the others when they are
        ready.

        @param sequential: whether each worker waits for the one before.
        @return: a Deferred that fires with the results in the workers' order when all are done, or
            with the first failure.
        """
        if not update.ephemeral:
            self._kept.append(update)
        if sequential:
            return self._oneByOne(update, records)
        runs = [self._assign(update, record) for record in records]
        return DeferredList(runs, consumeErrors=True).addCallback(_resultsOf)

    def replay(self, record: WorkerRecord) -> list[QueuedTask]:
        """
        Make the tasks that bring a worker up to date whose runner is new.
        """
        owed = self._owed.pop(record, {})
        due = [update for update in self._kept if record not in self._turns.get(update, ())]
        due += [update for update in owed if update.ephemeral]
        return [owed.get(update) or self._replayed(update, record) for update in due]

    def takeOwed(self, record: WorkerRecord) -> list[QueuedTask]:
        """
        Take the tasks that were made for a worker since L{replay}.
        """
        return [*self._owed.pop(record, {}).values()]

    def givenBack(self, task: QueuedTask) -> None:
        """
        Run an update again that a worker did not begin. If the worker still has its runner, the
        update was recalled from behind a slow one, and runs after that. If not, the next runner
        runs it.
        """
        record, update = self._tasks[task]
        if task.state is UNDERWAY:
            task.giveBack()
        self._runWhenReady(record, update, task)

    @property
    def isOver(self) -> bool:
        """
        Whether nothing is left to run on the present workers.
        """
        return not self._tasks and not self._turns

    def tasksOf(self, record: WorkerRecord) -> list[QueuedTask]:
        """
        @return: the tasks of a worker that are not done.
        """
        return [task for task, (owner, _) in self._tasks.items() if owner is record]

    def forget(self, record: WorkerRecord) -> None:
        """
        Fail what a worker that leaves has not run.
        """
        self._deaths.pop(record, None)
        for task in self._owed.pop(record, {}).values():
            task.errback(Failure(notRun(record)))

    @inlineCallbacks
    def _oneByOne(
        self, update: Update, records: list[WorkerRecord]
    ) -> Generator[Deferred[Any], Any, list[Any]]:
        outcomes: list[tuple[bool, object]] = []
        turns = self._turns[update] = records[::-1]
        while turns:
            record = turns.pop()
            outcomes += yield DeferredList([self._assign(update, record)], consumeErrors=True)
        del self._turns[update]
        results: list[Any] = _resultsOf(outcomes)
        return results

    def _assign(self, update: Update, record: WorkerRecord) -> Deferred[object]:
        waiter: Deferred[object] = Deferred()
        task = self._make(update, record, waiter.callback)
        self._runWhenReady(record, update, task)
        return waiter

    def _runWhenReady(self, record: WorkerRecord, update: Update, task: QueuedTask) -> None:
        if record.isLeaving:
            task.errback(Failure(notRun(record)))
        elif record.isOpen:
            self._give(record, [task])
        else:
            self._owed.setdefault(record, {})[update] = task

    def _replayed(self, update: Update, record: WorkerRecord) -> QueuedTask:
        """
        Make a task whose failure is only logged.
        """

        def log(result: object) -> None:
            if not isinstance(result, Failure) or result.check(WorkerDetached):
                # A worker that leaves does not lack what it did not run.
                return
            isDeath = _deathIn(result) is not None
            isDeathAgain = isDeath and update in self._deaths.get(record, {})
            if not isDeathAgain:
                self.log.failure("an update failed on {worker}", result, worker=record.worker)

        return self._make(update, record, log)

    def _make(
        self, update: Update, record: WorkerRecord, tell: Callable[[object], object]
    ) -> QueuedTask:
        """
        @param tell: is called with the task's result or failure.
        """
        task = self._makeTask(update)
        self._tasks[task] = record, update

        def done(result: object) -> None:
            del self._tasks[task]
            tell(result)
            if not update.ephemeral and not record.isLeaving:
                self._countDeath(record, update, result)

        task.d.addBoth(done)
        return task

    def _countDeath(self, record: WorkerRecord, update: Update, result: object) -> None:
        """
        Count the runners that die of an update, until one comes to its end.
        """
        death = _deathIn(result)
        if death is None:
            self._deaths.get(record, {}).pop(update, None)
            return
        deaths = self._deaths.setdefault(record, {}).setdefault(update, Deaths())
        if deaths.add(death):
            reason = WorkerError(
                f"{record.worker!r} gives up because its process died {deaths.total} times in a "
                f"row while it ran the update {update}. {death.death()}. Each worker of this queue "
                f"has to run this update, so make a new queue without it"
            )
            reason.__cause__ = death
            self.log.error("{reason}", reason=reason)
            self._giveUp(record, reason)


def notRun(record: WorkerRecord) -> WorkerDetached:
    """
    Make the error of an update that a worker which left has not run.
    """
    return WorkerDetached(f"{record.worker!r} was detached before it could run an update")


def _deathIn(result: object) -> WorkerDied | None:
    """
    @return: what a runner died with while it ran the update that came to this end; C{None} if it
        did not die.
    """
    error = result.value if isinstance(result, Failure) else None
    # A connection is not lost because of what runs at its other end.
    return (
        error if isinstance(error, WorkerDied) and not isinstance(error, ConnectionLost) else None
    )


def _resultsOf(outcomes: list[tuple[bool, object]]) -> Any:
    for succeeded, result in outcomes:
        if not succeeded:
            return result
    return [result for _, result in outcomes]
