"""
A queue with worker processes of its own.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime

from asynqueue.queue.queued import QueuedTask
from asynqueue.queue.taskqueue import KEYWORDS, TaskQueue
from asynqueue.workers.process.worker import ProcessWorker


class ProcessQueue(TaskQueue):
    """
    A L{TaskQueue} with some L{ProcessWorker}s::

        async with ProcessQueue(ProcessQueue.cores()) as queue:
            print(await queue.call(function, argument))
    """

    def __init__(
        self,
        N: int,
        *,
        callStats: bool = False,
        reactor: IReactorTime | None = None,
        **options: Any,
    ) -> None:
        """
        Start the processes.

        @param N: how many.
        @param callStats: whether to keep the times that L{stats} returns.
        @param reactor: the reactor to use. Default: the global reactor.
        @param options: L{TaskQueue}'s other keywords, such as C{timeout}, after how many seconds
            processes that do not stop are killed; and L{ProcessWorker}'s, for every worker.
        @raise ValueError: if N is not a positive integer.
        """
        _checkNumber(N)
        own = {name: options.pop(name) for name in KEYWORDS & options.keys()}
        super().__init__(reactor=reactor, **own)
        self._workerOptions = {**options, "callStats": callStats, "reactor": reactor}
        # Whoever waits for the processes waits for a call, or an update.
        self.resize(N).addErrback(lambda _: None)

    @staticmethod
    def cores() -> int:
        """
        @return: how many processor cores this program may use.
        """
        return ProcessWorker.cores()

    def resize(self, N: int) -> Deferred[None]:
        """
        Change the number of processes. Those that are too many finish the calls that they have.

        @return: a Deferred that fires when the new processes are ready and the superfluous ones are
            gone.
        @raise ValueError: if N is not a positive integer.
        @raise QueueStopped: after C{shutdown}.
        """
        _checkNumber(N)
        self.checkRunning("resize")
        workers = self._processes()
        changes: list[Deferred[Any]] = [self.detachWorker(worker) for worker in workers[N:]]
        for _ in range(N - len(workers)):
            changes.append(self.attachWorker(ProcessWorker(**self._workerOptions)))
        return DeferredList(changes, consumeErrors=True).addCallback(_firstFailure)

    def crashWorkers(self) -> Deferred[list[QueuedTask]]:
        """
        Kill all my processes, busy or not, and detach their workers. Calls that wait go on waiting,
        for workers that are attached later or for L{resize}.

        @return: a Deferred that fires when they are gone, with the tasks that they left unfinished,
            which fail with C{WorkerDetached}.
        """
        gone = [self.detachWorker(worker, crash=True) for worker in self._processes()]
        return DeferredList(gone).addCallback(_allOf)

    def stats(self) -> Deferred[list[tuple[float, float]]]:
        """
        @return: a Deferred that fires with the C{stats} of all my processes in one list. Empty
            unless I was made with C{callStats=True}.
        """
        gathered = DeferredList([worker.stats() for worker in self._processes()])
        return gathered.addCallback(_allOf)

    def _processes(self) -> list[ProcessWorker]:
        """
        My workers, but for those of other kinds that somebody has attached.
        """
        return [worker for worker in self.workers() if isinstance(worker, ProcessWorker)]


def _checkNumber(N: int) -> None:
    if type(N) is not int or N < 1:
        raise ValueError(f"the number of processes must be a positive integer, not {N!r}")


def _firstFailure(outcomes: list[tuple[bool, Any]]) -> Any:
    return next((result for succeeded, result in outcomes if not succeeded), None)


def _allOf(outcomes: list[tuple[bool, list[Any]]]) -> list[Any]:
    """
    Several lists in one.
    """
    return [item for _, items in outcomes for item in items]
