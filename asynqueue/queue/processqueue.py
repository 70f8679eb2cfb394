"""
A queue with worker processes of its own.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime

from asynqueue.queue.taskqueue import TaskQueue
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
        timeout: float | None = None,
        callStats: bool = False,
        reactor: IReactorTime | None = None,
        **workerOptions: Any,
    ) -> None:
        """
        Start the processes.

        @param N: how many.
        @param timeout: how long they may take to stop, in seconds, before they are killed; C{None}
            for ever.
        @param callStats: whether to keep the times that L{stats} returns.
        @param reactor: the reactor to use. Default: the global reactor.
        @param workerOptions: L{ProcessWorker}'s other keywords, for every worker.
        @raise ValueError: if N is not a positive integer.
        """
        _checkNumber(N)
        super().__init__(timeout=timeout, reactor=reactor)
        self._workerOptions = {**workerOptions, "callStats": callStats, "reactor": reactor}
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

    def stats(self) -> Deferred[list[tuple[float, float]]]:
        """
        @return: a Deferred that fires with the C{stats} of all my processes in one list. Empty
            unless I was made with C{callStats=True}.
        """
        gathered = DeferredList([worker.stats() for worker in self._processes()])
        return gathered.addCallback(
            lambda outcomes: [times for _, stats in outcomes for times in stats]
        )

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
