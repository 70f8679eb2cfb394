"""
Updates: calls that every worker is to have run, present, future and replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.defer import Deferred, DeferredList, inlineCallbacks, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from asynqueue.errors import WorkerDetached
from asynqueue.queue.queued import QueuedTask


@dataclass(frozen=True, slots=True, eq=False)
class Update:
    """
    A call for every worker.

    @ivar ephemeral: whether it is for the present workers only.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    ephemeral: bool = False


class Employed(Protocol):
    """
    What updates need to know of a worker.
    """

    worker: Any
    isFarSide: bool
    isOpen: bool
    left: Deferred[list[QueuedTask]] | None


Waiter = Deferred[Any] | None
"""Who waits for an update's result on one worker: nobody, when it is replayed."""


class Updates:
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
        self._owed: dict[Any, list[tuple[Update, Waiter]]] = {}
        self._running: dict[QueuedTask, tuple[Any, Update, Waiter]] = {}

    def add(self, update: Update, employments: list[Any], sequential: bool) -> Deferred[list[Any]]:
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
            return self._oneByOne(update, employments)
        runs = [self._assign(update, employment) for employment in employments]
        return DeferredList(runs, consumeErrors=True).addCallback(_resultsOf)

    def replay(self, employment: Employed) -> Deferred[None]:
        """
        Run on a worker with a new universe all that it is to have run.

        @return: a Deferred that fires when the worker may get tasks: at once if it runs them after
            its updates anyway.
        """
        owed = self._owed.pop(employment, [])
        waiters = dict(owed)
        due = [*self._kept, *(update for update, _ in owed if update.ephemeral)]
        return self._runAll(employment, [(update, waiters.get(update)) for update in due])

    def givenBack(self, task: QueuedTask) -> None:
        """
        A worker did not begin an update. If it still has its universe, the update was recalled
        from behind a slow one, and is run after that; if not, it is run by the next one.
        """
        employment, update, waiter = self._running.pop(task)
        if employment.isOpen:
            self._run(employment, update, waiter)
        else:
            self._owed.setdefault(employment, []).append((update, waiter))

    def forget(self, employment: Employed) -> None:
        """
        A worker is gone.
        """
        for _, waiter in self._owed.pop(employment, []):
            if waiter is not None:
                waiter.errback(Failure(notRun(employment)))

    @inlineCallbacks
    def _oneByOne(
        self, update: Update, employments: list[Any]
    ) -> Generator[Deferred[Any], Any, list[Any]]:
        outcomes: list[tuple[bool, Any]] = []
        for employment in employments:
            outcomes += yield DeferredList([self._assign(update, employment)], consumeErrors=True)
        results: list[Any] = _resultsOf(outcomes)
        return results

    @inlineCallbacks
    def _runAll(
        self, employment: Employed, due: list[tuple[Update, Waiter]]
    ) -> Generator[Deferred[Any], Any, None]:
        while due:
            for update, waiter in due:
                done = self._run(employment, update, waiter)
                if not employment.isFarSide:
                    yield done
            # What came meanwhile.
            due = self._owed.pop(employment, [])

    def _assign(self, update: Update, employment: Employed) -> Deferred[Any]:
        waiter: Deferred[Any] = Deferred()
        if employment.isOpen or employment.left is not None:
            self._run(employment, update, waiter)
        else:
            self._owed.setdefault(employment, []).append((update, waiter))
        return waiter

    def _run(self, employment: Employed, update: Update, waiter: Waiter) -> Deferred[Any]:
        if employment.left is not None:
            if waiter is not None:
                waiter.errback(Failure(notRun(employment)))
            return succeed(None)
        task = self._makeTask(update)
        self._running[task] = (employment, update, waiter)

        def done(result: Any) -> None:
            del self._running[task]
            if waiter is not None:
                waiter.callback(result)
            elif isinstance(result, Failure):
                self.log.failure("an update failed on {worker}", result, worker=employment.worker)

        task.d.addBoth(done)
        self._give(employment, task)
        return task.d


def notRun(employment: Employed) -> WorkerDetached:
    """
    @return: the error of an update that a worker which was let go has not run.
    """
    return WorkerDetached(f"{employment.worker!r} was detached before it could run an update")


def _resultsOf(outcomes: list[tuple[bool, Any]]) -> Any:
    for succeeded, result in outcomes:
        if not succeeded:
            return result
    return [result for _, result in outcomes]
