"""
A queue with workers of its own, of one kind, as many as are wanted.
"""

from __future__ import annotations

from typing import Any, ClassVar

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime

from asynqueue.queue.queued import QueuedTask
from asynqueue.queue.taskqueue import KEYWORDS, TaskQueue


class OwnWorkersQueue(TaskQueue):
    """
    The base of queues that make their workers themselves. A subclass says what they are.

    @cvar workerClass: makes a worker of keywords: C{callStats}, C{reactor} and what else its
        constructor takes.
    """

    workerClass: ClassVar[Any]

    def __init__(
        self,
        N: int,
        *,
        callStats: bool = False,
        reactor: IReactorTime | None = None,
        **options: Any,
    ) -> None:
        """
        Start the workers.

        @param N: how many.
        @param callStats: whether to keep the times that L{stats} returns.
        @param reactor: the reactor to use. Default: the global reactor.
        @param options: L{TaskQueue}'s other keywords, and the worker class's, for every worker.
        @raise ValueError: if N is not a positive integer.
        """
        _checkNumber(N)
        own = {name: options.pop(name) for name in KEYWORDS & options.keys()}
        super().__init__(reactor=reactor, **own)
        self._workerOptions = {**options, "callStats": callStats, "reactor": reactor}
        # Whoever waits for the workers waits for a call, or an update.
        self.resize(N).addErrback(lambda _: None)

    def resize(self, N: int) -> Deferred[None]:
        """
        Change the number of workers. Those that are too many finish the calls that they have.

        @return: a Deferred that fires when the new workers are ready and the superfluous ones are
            gone.
        @raise ValueError: if N is not a positive integer.
        @raise QueueStopped: after C{shutdown}.
        """
        _checkNumber(N)
        self.checkRunning("resize")
        workers = self._own()
        changes: list[Deferred[Any]] = [self.detachWorker(worker) for worker in workers[N:]]
        for _ in range(N - len(workers)):
            changes.append(self.attachWorker(self.workerClass(**self._workerOptions)))
        return DeferredList(changes, consumeErrors=True).addCallback(_firstFailure)

    def crashWorkers(self) -> Deferred[list[QueuedTask]]:
        """
        Crash all my workers, busy or not, and detach them. Calls that wait go on waiting, for
        workers that are attached later or for L{resize}.

        @return: a Deferred that fires when they are gone, with the tasks that they left unfinished,
            which fail with C{WorkerDetached}.
        """
        gone = [self.detachWorker(worker, crash=True) for worker in self._own()]
        return DeferredList(gone).addCallback(_allOf)

    def stats(self) -> Deferred[list[tuple[float, float]]]:
        """
        @return: a Deferred that fires with the C{stats} of all my workers in one list. Empty unless
            I was made with C{callStats=True}.
        """
        gathered = DeferredList([worker.stats() for worker in self._own()])
        return gathered.addCallback(_allOf)

    def _own(self) -> list[Any]:
        """
        My workers, but for those of other kinds that somebody has attached.
        """
        return [worker for worker in self.workers() if isinstance(worker, self.workerClass)]


def _checkNumber(N: int) -> None:
    if type(N) is not int or N < 1:
        raise ValueError(f"the number of workers must be a positive integer, not {N!r}")


def _firstFailure(outcomes: list[tuple[bool, Any]]) -> Any:
    return next((result for succeeded, result in outcomes if not succeeded), None)


def _allOf(outcomes: list[tuple[bool, list[Any]]]) -> list[Any]:
    """
    Several lists in one.
    """
    return [item for _, items in outcomes for item in items]
