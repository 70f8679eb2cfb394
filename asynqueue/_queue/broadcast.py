"""
Updates: calls that every worker is to have run, present, future and replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.defer import Deferred, DeferredList, inlineCallbacks
from twisted.logger import Logger
from twisted.python.failure import Failure

from asynqueue._queue.queuedtask import QueuedTask
from asynqueue.errors import WorkerDetached


@dataclass(frozen=True, slots=True, eq=False)
class Update:
    """
    A call for every worker.

    @ivar ephemeral: whether it is for the present workers only.
    @ivar context: the context variables that it is to find, as pairs of name and value.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    ephemeral: bool = False
    context: tuple[tuple[str, Any], ...] | None = None


class Employed(Protocol):
    """
    What updates need to know of a worker.
    """

    worker: Any
    isFarSide: bool
    isOpen: bool
    left: Deferred[list[QueuedTask]] | None


class Broadcast:
    """
    Remembers a queue's updates, and which worker is still to run which.
    """

    log = Logger()

    def __init__(
        self, makeTask: Callable[[Update], QueuedTask], give: Callable[[Any, QueuedTask], None]
    ) -> None:
        """
        @param makeTask: makes a task of an update.
        @param give: gives a task to a worker.
        """
        self._makeTask = makeTask
        self._give = give
        self._kept: list[Update] = []
        # The tasks that a worker is still to get, and all that are not done.
        self._owed: dict[Any, dict[Update, QueuedTask]] = {}
        self._tasks: dict[QueuedTask, tuple[Any, Update]] = {}
        # For each update that one worker after the other runs, those whose turn is to come.
        self._turns: dict[Update, list[Any]] = {}

    def add(self, update: Update, records: list[Any], sequential: bool) -> Deferred[list[Any]]:
        """
        Run an update on each of some workers: on those that are open now, on the others as soon as
        they are.

        @param sequential: whether each worker waits for the one before.
        @return: a Deferred that fires when all are done, with their results in order, or with the
            first failure.
        """
        if not update.ephemeral:
            self._kept.append(update)
        if sequential:
            return self._oneByOne(update, records)
        runs = [self._assign(update, record) for record in records]
        return DeferredList(runs, consumeErrors=True).addCallback(_resultsOf)

    def replay(self, record: Employed) -> Deferred[None]:
        """
        Run on a worker with a new runner all that it is to have run.

        @return: a Deferred that fires when the worker may get tasks: at once if it runs them after
            its updates anyway.
        """
        owed = self._owed.pop(record, {})
        due = [update for update in self._kept if record not in self._turns.get(update, ())]
        due += [update for update in owed if update.ephemeral]
        return self._runAll(record, [(update, owed.get(update)) for update in due])

    def givenBack(self, task: QueuedTask) -> None:
        """
        A worker did not begin an update. If it still has its runner, the update was recalled
        from behind a slow one, and is run after that; if not, it is run by the next one.
        """
        record, update = self._tasks[task]
        task.giveBack()
        if record.isOpen or record.left is not None:
            self._run(record, task)
        else:
            self._owed.setdefault(record, {})[update] = task

    def forget(self, record: Employed) -> None:
        """
        A worker is let go.
        """
        for task in self._owed.pop(record, {}).values():
            task.errback(Failure(notRun(record)))

    @inlineCallbacks
    def _oneByOne(
        self, update: Update, records: list[Any]
    ) -> Generator[Deferred[Any], Any, list[Any]]:
        outcomes: list[tuple[bool, Any]] = []
        turns = self._turns[update] = records[::-1]
        while turns:
            record = turns.pop()
            outcomes += yield DeferredList([self._assign(update, record)], consumeErrors=True)
        del self._turns[update]
        results: list[Any] = _resultsOf(outcomes)
        return results

    @inlineCallbacks
    def _runAll(
        self, record: Employed, due: list[tuple[Update, QueuedTask | None]]
    ) -> Generator[Deferred[Any], Any, None]:
        while due:
            for update, owed in due:
                task = self._replayed(update, record) if owed is None else owed
                self._run(record, task)
                if not record.isFarSide:
                    yield task.d
            # What came meanwhile.
            due = [*self._owed.pop(record, {}).items()]

    def _assign(self, update: Update, record: Employed) -> Deferred[Any]:
        task = self._make(update, record)
        waiter: Deferred[Any] = Deferred()
        task.d.addBoth(waiter.callback)
        if record.isOpen or record.left is not None:
            self._run(record, task)
        else:
            self._owed.setdefault(record, {})[update] = task
        return waiter

    def _replayed(self, update: Update, record: Employed) -> QueuedTask:
        """
        Make a task that nobody waits for.
        """

        def failed(failure: Failure) -> None:
            # A worker that was let go does not lack what it did not run.
            if not failure.check(WorkerDetached):
                self.log.failure("an update failed on {worker}", failure, worker=record.worker)

        task = self._make(update, record)
        task.d.addErrback(failed)
        return task

    def _make(self, update: Update, record: Employed) -> QueuedTask:
        task = self._makeTask(update)
        self._tasks[task] = record, update

        def done(result: Any) -> Any:
            del self._tasks[task]
            return result

        task.d.addBoth(done)
        return task

    def _run(self, record: Employed, task: QueuedTask) -> None:
        if record.left is not None:
            task.errback(Failure(notRun(record)))
        elif not task.isDone:
            self._give(record, task)


def notRun(record: Employed) -> WorkerDetached:
    """
    @return: the error of an update that a worker which was let go has not run.
    """
    return WorkerDetached(f"{record.worker!r} was detached before it could run an update")


def _resultsOf(outcomes: list[tuple[bool, Any]]) -> Any:
    for succeeded, result in outcomes:
        if not succeeded:
            return result
    return [result for _, result in outcomes]
