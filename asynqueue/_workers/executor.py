"""
A worker that runs its calls in an executor of C{concurrent.futures}, or in a similar object.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import BrokenExecutor, CancelledError, Future
from functools import partial
from pickle import PicklingError
from typing import TYPE_CHECKING, Any, ClassVar, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from asynqueue._core.checks import checkCount
from asynqueue._core.groups import Capacity
from asynqueue._core.states import (
    DRAINING,
    LOST,
    READY,
    STOPPED,
    WORKER,
    Table,
    describeState,
    nextState,
)
from asynqueue._reactor import ReactorInbox, callEach, defaultReactor, startThread
from asynqueue._runner.exceptions import explained
from asynqueue._runner.executorcall import Call, Outcome, execute
from asynqueue._runner.pullstream import PullStream
from asynqueue._waiters import OneShotObserverList
from asynqueue._workers.executorstreams import Streams, failureOf
from asynqueue._workers.procinfo import cores
from asynqueue._workers.protocol import notRebuilt
from asynqueue.errors import (
    CallNotPicklable,
    ExecutorDied,
    IterationStopped,
    StateError,
    WorkerError,
    textOf,
    typeName,
)
from asynqueue.interfaces import IWorker

if TYPE_CHECKING:
    from asynqueue._queue.queuedtask import QueuedTask

UNPICKLABLE: Final = (PicklingError, TypeError, AttributeError, ValueError, RecursionError)
"""The errors that picklers raise."""


KEPT: Final = "KEPT"
OWNED: Final = "OWNED"
ENDING: Final = "ENDING"
ENDED: Final = "ENDED"

EXECUTOR: Final[Table] = {
    # The executor goes on after the worker.
    KEPT: {"end": ENDED, "crash": ENDED},
    # The executor ends with the worker.
    OWNED: {"end": ENDING, "crash": ENDED},
    # A thread waits until the executor has done what others have given to it.
    ENDING: {"end": ENDING, "crash": ENDED, "down": ENDED},
    # The worker waits for nothing any more.
    ENDED: {"end": ENDED, "crash": ENDED, "down": ENDED},
}


def slotsOf(executor: object) -> int:
    """
    @return: how many calls an executor runs at once, if it tells. Otherwise the number of cores.
    """
    workers = getattr(executor, "_max_workers", None)
    if type(workers) is int and workers > 0:
        return workers
    return cores()


def isStandardProcessPool(executor: object) -> bool:
    """
    Tell whether an executor is the standard library's C{ProcessPoolExecutor}.
    """
    # Without importing what only such an executor needs.
    module = sys.modules.get("concurrent.futures.process")
    return module is not None and isinstance(executor, module.ProcessPoolExecutor)


def isRefusal(error: Exception) -> bool:
    """
    Tell whether C{submit} has raised this because the executor takes no more calls. The standard
    library's executors raise a C{RuntimeError} then.
    """
    return isinstance(error, RuntimeError) and not isinstance(
        error, RecursionError | NotImplementedError
    )


class Run:
    """
    A task that the worker has: the near side of its call.

    @ivar done: the Deferred that C{run} returned.
    @ivar future: the executor's future, while the executor has the call.
    @ivar call: that call.
    @ivar hasBegun: whether the call is known to have begun.
    """

    def __init__(self, task: QueuedTask, inbox: ReactorInbox[Callable[[], object]]) -> None:
        self.task = task
        self.done: Deferred[None] = Deferred()
        self.future: Future[Outcome] | None = None
        self.call: Call | None = None
        self.hasBegun = False
        self._inbox = inbox
        self._progress: tuple[float, float | None] | None = None

    @property
    def mayHaveBegun(self) -> bool:
        """
        Whether the call may have had any effect.
        """
        return self.hasBegun or (self.call is not None and self.call.wasPickled)

    def begun(self) -> None:
        """
        The call begins. This is called in the executor's thread.
        """
        self.hasBegun = True

    def report(self, done: float, total: float | None) -> None:
        """
        The call reports its progress. This is called in the executor's thread. Only the last report
        before the reactor's next turn counts.
        """
        isFirst = self._progress is None
        self._progress = done, total
        if isFirst:
            self._inbox.put(self._tell)

    def _tell(self) -> None:
        progress, self._progress = self._progress, None
        reported = getattr(self.task, "reported", None)
        if progress is not None and reported is not None:
            reported(*progress)

    # Ends -----------------------------------------------------------------------------------------

    def finished(self, outcome: Outcome, streams: Streams) -> None:
        """
        End the task with the outcome of its call.
        """
        task, codec = self.task, outcome.codec
        if outcome.error is not None:
            task.errback(failureOf(codec.rebuild(outcome.error)))
        elif isinstance(outcome.result, PullStream):
            streams.deliver(task, outcome.result)
        else:
            try:
                result = codec.unpack(outcome.result)
            except BaseException as error:
                task.errback(Failure(notRebuilt("the result", error)))
            else:
                task.callback(result)

    def failed(self, error: BaseException, executor: str, isSealed: bool) -> None:
        """
        The executor could not run the call.

        @param isSealed: whether pickling the call is all that can fail in the executor.
        """
        why: Exception
        if isSealed or isinstance(error, UNPICKLABLE):
            why = explained(CallNotPicklable, "pickle the call", error)
        else:
            why = explained(WorkerError, f"run the call in the {executor}", error)
        why.__cause__ = error
        self.task.errback(Failure(why))

    def died(self, error: BaseException, executor: str, why: str) -> None:
        """
        The executor broke with the call.
        """
        died = ExecutorDied(executor, why)
        died.__cause__ = error
        self.task.errback(Failure(died))


@implementer(IWorker)
class ExecutorWorker:
    """
    Runs tasks in a C{concurrent.futures.Executor}, or in another object whose C{submit} returns a
    future::

        executor = ThreadPoolExecutor(8)
        queue = TaskQueue(ExecutorWorker(executor))

    The executor gets at most C{slots} tasks at once. The others wait in the queue, where their
    priorities count. You may use the executor for other calls, too.

    If the calls run in this interpreter, as in a thread pool, an iterator that a call returns is
    advanced in the executor: one batch each time that a taker has run out of items. A call that
    runs elsewhere cannot stream; if it returns an iterator, it fails with C{ResultNotPicklable}.

    A task that has begun cannot be interrupted. If it is cancelled, its slot stays taken until it
    is over. C{report} reaches the task only if the call runs in this interpreter. An C{update} of
    the queue runs once, in any one thread or process of the executor. Use the executor's own
    C{initializer} to set up all of them.

    If the executor breaks, or somebody else shuts it down, the worker gives up. Tasks that cannot
    have begun go back to the queue.

    @cvar cQualified: the series that all instances are qualified for: C{'executor'}, but not
        C{'local'}, because an executor does not tell where its calls run.
    @ivar iQualified: the series that this one is qualified for besides.
    @ivar raw: whether iterators are results as they are, where a call does not say.
    @ivar executor: the executor.
    @ivar capacity: what the scheduler may give it.
    @ivar state: C{READY}; C{DRAINING} after C{stop}; C{LOST} when the executor takes no more calls;
        C{STOPPED}.
    """

    cQualified: ClassVar[list[Hashable]] = ["executor"]

    def __init__(
        self,
        # It is any object that has a C{submit} which returns futures.
        executor: Any,
        slots: int | None = None,
        series: Iterable[Hashable] = (),
        raw: bool = False,
        shutdownExecutor: bool = False,
        reactor: IReactorTime | None = None,
    ) -> None:
        """
        @param executor: runs the calls.
        @param slots: how many tasks the executor may have at once. Default: as many as it has
            threads or processes, if it is one of the standard library's; otherwise as many as this
            program may use processor cores.
        @param series: the series that this worker is qualified for, besides C{None} and
            C{'executor'}.
        @param raw: whether an iterator that a task returns is its result as it is, rather than a
            L{Deferator<asynqueue.iteration.Deferator>}, where the call does not say.
        @param shutdownExecutor: whether the executor is shut down when this worker has stopped or
            crashed. Otherwise it is left running.
        @param reactor: the reactor to use. Default: the global reactor.
        @raise TypeError: if the executor has no C{submit}, or no C{shutdown} though it is needed.
        @raise ValueError: if C{slots} is not a positive integer.
        """
        if not callable(getattr(executor, "submit", None)):
            raise TypeError(f"an executor must have a submit() method, unlike {executor!r}")
        if shutdownExecutor and not callable(getattr(executor, "shutdown", None)):
            raise TypeError(f"shutdownExecutor=True needs a shutdown() method, unlike {executor!r}")
        if slots is None:
            slots = slotsOf(executor)
        self.executor = executor
        self.iQualified = list(series)
        self.raw = raw
        self.capacity = Capacity(slots=checkCount("slots", slots))
        self.state: str = READY
        self._fate: str = OWNED if shutdownExecutor else KEPT
        self._reactor: IReactorTime = defaultReactor() if reactor is None else reactor
        self._inbox: ReactorInbox[Callable[[], object]] = ReactorInbox(self._reactor, callEach)
        self._name = typeName(type(executor))
        self._reason: WorkerError | None = None
        self._isSealing = isStandardProcessPool(executor)
        self._runs: dict[QueuedTask, Run] = {}
        self._streams = Streams(executor, self._inbox, self._reactor, self._goOn)
        self._losing: IDelayedCall | None = None
        self._isToStop = False
        self._resign: Callable[[], object] | None = None
        self._whenGone: OneShotObserverList[None] = OneShotObserverList()

    def __repr__(self) -> str:
        why = "" if self._reason is None else f" ({self._reason})"
        state = describeState(self.state, len(self._runs))
        return f"<{type(self).__name__} of {self._name}: {state}{why}>"

    # IWorker --------------------------------------------------------------------------------------

    def setResignator(self, callableObject: Callable[[], object]) -> None:
        """
        See L{IWorker<asynqueue.interfaces.IWorker>}.
        """
        self._resign = callableObject

    def run(self, task: QueuedTask) -> Deferred[None]:
        """
        Give a task to the executor.

        @return: a Deferred that fires when the call is over; if it returns an iterator, when it has
            returned that. If the executor does not take the task, the worker keeps it until
            L{crash} gives it back.
        @raise StateError: if the worker is stopping or has stopped.
        """
        if self.state not in (READY, LOST):
            raise StateError(self, self.state, "run")
        run = self._runs[task] = Run(task, self._inbox)
        if self.state == READY:
            self._submit(run)
        else:
            self._loseSoon(self._reason)
        return run.done

    def cancel(self, task: QueuedTask) -> None:
        """
        A task of this worker is no longer wanted, and has ended. If the executor has not begun it,
        it is taken back; otherwise its slot stays taken until it is over. An iteration that feeds
        the task's consumer is stopped.
        """
        run = self._runs.get(task)
        if run is None:
            self._streams.cancel(task)
        elif run.future is None or self._takeBack(run):
            self._end(run, lambda: None)

    def stop(self) -> Deferred[None]:
        """
        Finish the tasks that the worker has, and the iterations that are being consumed. The other
        iterations end with C{IterationStopped}.

        @return: a Deferred that fires when all is over. With C{shutdownExecutor}, the executor is
            shut down then, too.
        """
        self._isToStop = True
        stopped = self._whenGone.whenFired()
        if self._whenGone.hasFired:
            return stopped
        if self.state == READY:
            self._move("drain")
        self._streams.drain(self._stoppedIterating(), self._goOn)
        self._goOn()
        return stopped

    def crash(self) -> list[QueuedTask]:
        """
        Take back the tasks that the executor has not begun, and wait for nothing. The others go on
        there, and their results are dropped.

        @return: the tasks of this worker that have not ended.
        """
        if self.state == STOPPED and not self._runs:
            return []
        if self.state != STOPPED:
            self._move("crash")
        runs, self._runs = list(self._runs.values()), {}
        for run in runs:
            self._takeBack(run)
        self._streams.end(self._stoppedIterating())
        if self._decide("crash") == OWNED:
            self.executor.shutdown(wait=False)
        self._gone()
        for run in runs:
            run.done.callback(None)
        return [run.task for run in runs if not run.task.isDone]

    # Runs -----------------------------------------------------------------------------------------

    def _submit(self, run: Run) -> None:
        task = run.task
        raw = self.raw if task.options.raw is None else task.options.raw
        body = (*task.callTuple, getattr(task, "context", None))
        call = run.call = Call(body, raw, run, self._isSealing)
        try:
            future = self.executor.submit(execute, call)
        except Exception as error:
            if not isRefusal(error):
                self._inbox.put(partial(self._failed, run, error))
            else:
                self._loseSoon(WorkerError(f"the executor takes no more calls: {textOf(error)}"))
            return
        run.future = future
        future.add_done_callback(lambda future: self._inbox.put(partial(self._ran, run, future)))

    def _takeBack(self, run: Run) -> bool:
        """
        @return: C{True} if the executor has not begun a run, and never will.
        """
        future, run.future = run.future, None
        try:
            if future is None or future.cancel():
                return True
        except NotImplementedError:
            # The futures of Parsl raise this.
            pass
        run.future = future
        return False

    def _ran(self, run: Run, future: Future[Outcome]) -> None:
        """
        The executor is done with a call.
        """
        if self._runs.get(run.task) is not run or run.future is not future:
            self._discard(future)
            return
        run.future = None
        try:
            outcome: Outcome = future.result()
        except CancelledError:
            # Somebody else has cancelled it. If the executor is being shut down, it will say so.
            if self.state != LOST:
                self._submit(run)
            self._goOn()
        except BrokenExecutor as error:
            self._broke(run, error)
        except BaseException as error:
            self._failed(run, error)
        else:
            self._end(run, partial(run.finished, outcome, self._streams))

    def _end(self, run: Run, tell: Callable[[], object]) -> None:
        """
        A run is over.
        """
        if self._runs.get(run.task) is run:
            del self._runs[run.task]
            tell()
            run.done.callback(None)
            self._goOn()

    def _discard(self, future: Future[Outcome]) -> None:
        """
        Drop the result of a call that nobody waits for any more. If it is an iterator, close it.
        """
        try:
            outcome = future.result()
        except BaseException:
            # It never ran, or the task has got its failure already.
            return
        if isinstance(outcome.result, PullStream):
            self._streams.discard(outcome.result)

    def _failed(self, run: Run, error: BaseException) -> None:
        self._end(run, partial(run.failed, error, self._name, self._isSealing))

    # The end --------------------------------------------------------------------------------------

    def _move(self, event: str) -> None:
        self.state = nextState(WORKER, self.state, event, self)

    def _broke(self, run: Run, error: BaseException) -> None:
        """
        The executor broke while it had a run. Its other runs come back in the same way, or finish.
        """
        why = f"{typeName(type(error))}: {textOf(error)}"
        if run.mayHaveBegun:
            self._end(run, partial(run.died, error, self._name, why))
        self._lose(WorkerError(f"the executor broke: {why}"))

    def _loseSoon(self, reason: WorkerError | None) -> None:
        """
        The executor takes no more calls. This has its consequences later, because C{run} must first
        return its Deferred.
        """
        if self._losing is None:
            self._losing = self._reactor.callLater(0, self._lose, reason)

    def _lose(self, reason: WorkerError | None) -> None:
        if self._losing is not None and self._losing.active():
            self._losing.cancel()
        self._losing = None
        if self.state in (READY, DRAINING):
            self._reason = reason
            self._move("lose")
        self._goOn()

    def _stoppedIterating(self) -> Failure:
        return Failure(IterationStopped(f"{self} stopped in mid-iteration"))

    def _goOn(self) -> None:
        """
        Take the next step to the end, if it is due.
        """
        if self.state == READY or any(run.future is not None for run in self._runs.values()):
            return
        if self.state == LOST:
            self._giveUp()
        if self._runs or not self._isToStop:
            return
        if self._streams:
            # What is given up leads back to here when its iterator is closed.
            self._streams.isDrained()
            return
        if self.state == DRAINING:
            self._move("stopped")
        elif self.state == LOST:
            self._move("drain")
        self._stopped()

    def _giveUp(self) -> None:
        """
        The executor is lost and has none of the tasks any more. The queue takes those that are
        left. If the worker has no queue, they fail.
        """
        resign, self._resign = self._resign, None
        if resign is not None and not self._isToStop:
            resign()
            return
        runs, self._runs = list(self._runs.values()), {}
        for run in runs:
            run.task.errback(Failure(self._reason))
            run.done.callback(None)

    def _decide(self, event: str) -> str:
        """
        Move the executor to its next state.

        @return: the state that it was in.
        """
        before = self._fate
        self._fate = nextState(EXECUTOR, before, event, self)
        return before

    def _stopped(self) -> None:
        before = self._decide("end")
        if before == OWNED:
            # This waits for everything that others have given to the executor.
            startThread(self._shutDown, "asynqueue executor shutdown")
        elif before == KEPT:
            self._gone()

    def _shutDown(self) -> None:
        try:
            self.executor.shutdown(wait=True)
        finally:
            self._inbox.put(self._isDown)

    def _isDown(self) -> None:
        self._decide("down")
        self._gone()

    def _gone(self) -> None:
        if self._losing is not None:
            self._losing.cancel()
            self._losing = None
        self._whenGone.fire(None)
