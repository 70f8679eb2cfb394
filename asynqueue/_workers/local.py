"""
A worker that runs its calls in the main loop.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from contextvars import Context, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from asynqueue._core.checks import checkCount
from asynqueue._core.groups import Capacity
from asynqueue._core.states import DRAINING, READY, STOPPED, WORKER, describeState, nextState
from asynqueue._iteration.deferator import Deferator
from asynqueue._iteration.delivery import Deliveries
from asynqueue._iteration.sources import AsyncIteratorSource, ItemSource, IteratorSource
from asynqueue._reactor import asDeferred, defaultReactor, startCoroutine, takeReports
from asynqueue._runner.context import applyContext
from asynqueue._runner.streams import isAsyncIterator, isIterator
from asynqueue._waiters import OneShotObserverList
from asynqueue._workers.from09 import asGiven, asTask
from asynqueue.errors import IterationStopped, StateError
from asynqueue.interfaces import IWorker

if TYPE_CHECKING:
    from asynqueue._queue.queuedtask import QueuedTask


def isIteration(result: object) -> bool:
    """
    Tell whether a task's result is an iterator of either kind.
    """
    return isIterator(result) or isAsyncIterator(result)


def _makeSource(iterator: Any, context: Context, reactor: object) -> ItemSource:
    """
    @param iterator: an iterator, or an asynchronous one.
    @param context: the context in which its code runs.
    @param reactor: runs the coroutines of an asynchronous one.
    """
    # A Deferator is both.
    if isAsyncIterator(iterator):
        # Each step runs in a copy, as with Deferreds: what a step sets, the next one does not see.
        return AsyncIteratorSource(
            iterator,
            lambda function: context.copy().run(function),
            partial(startCoroutine, reactor),
        )
    return IteratorSource(iterator, context.run)


TURN_SECONDS = 0.01
"""For how long tasks are begun before the reactor gets its turn."""


class _Run:
    """
    A task that the worker has.

    @ivar done: the Deferred that C{run} returned.
    @ivar context: the context in which the task's code runs.
    @ivar wait: the Deferred that its function returned, if there is one.
    @ivar source: where its items come from, once it yields.
    """

    __slots__ = ("context", "done", "source", "task", "wait")

    def __init__(self, task: QueuedTask) -> None:
        self.task: QueuedTask | None = task
        self.done: Deferred[None] = Deferred()
        self.context: Context = copy_context()
        self.wait: Deferred[Any] | None = None
        self.source: ItemSource | None = None

    def reported(self, done: float, total: float | None) -> None:
        """
        Note the progress of the task, or of the one that goes on for it while its items come.
        """
        task = self.task if self.source is None else self.source.task
        reported = getattr(task, "reported", None)
        if reported is not None:
            reported(done, total)


@implementer(IWorker)
class AsyncWorker:
    """
    Runs tasks in the main loop, in the order in which they come. Their functions must not block.

    A function may return a value, a Deferred or a coroutine. A task that waits for a Deferred or a
    coroutine holds its slot until that is done. L{run} calls no function itself. The function is
    called soon afterwards, because a callback that makes the next call would pile up on the stack.

    Each function runs in a copy of the context in which L{run} was called, so that the context
    variables that it sets are its own. An iterator that it returns is advanced in that context too,
    whenever somebody wants its next item.

    @cvar cQualified: the series that all instances are qualified for.
    @ivar iQualified: the series that this one is qualified for besides.
    @ivar raw: whether iterators are results as they are, where a call does not say.
    @ivar capacity: what the scheduler may give it.
    @ivar state: C{READY}, C{DRAINING} after L{stop}, then C{STOPPED}.
    """

    log = Logger()

    cQualified: ClassVar[list[Hashable]] = ["async", "local"]

    needsNoStop = True
    """An idle one is nothing but an object."""

    def __init__(
        self,
        series: Iterable[Hashable] = (),
        raw: bool = False,
        slots: int = 1,
        reactor: IReactorTime | None = None,
    ) -> None:
        """
        @param series: the series that this worker is qualified for, besides C{None}, C{'async'}
            and C{'local'}.
        @param raw: whether an iterator that a task returns is its result as it is, rather than a
            L{Deferator<asynqueue.iteration.Deferator>}, where the call does not say.
        @param slots: how many tasks may wait for their Deferreds at once.
        @param reactor: the reactor. Default: the global reactor.
        @raise ValueError: if C{slots} is not a positive integer.
        """
        self.iQualified = list(series)
        self.raw = raw
        self.capacity = Capacity(slots=checkCount("slots", slots))
        self.state: str = READY
        self._reactor: IReactorTime = defaultReactor() if reactor is None else reactor
        self._due: OrderedDict[QueuedTask, _Run] = OrderedDict()
        self._underway: dict[QueuedTask, _Run] = {}
        self._deliveries = Deliveries(self._reactor)
        self._turn: IDelayedCall | None = None
        self._isTaking = False
        self._whenStopped: OneShotObserverList[None] = OneShotObserverList()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {describeState(self.state, len(self._underway))}>"

    # IWorker --------------------------------------------------------------------------------------

    def setResignator(self, callableObject: Callable[[], object]) -> None:
        """
        See L{IWorker<asynqueue.interfaces.IWorker>}. It is never called here.
        """

    def run(self, task: object) -> Deferred[None]:
        """
        Run a task when those before it have begun.

        @param task: a task of a queue; or an object with a C{callTuple} and a method C{callback},
            as AsynQueue 0.9's tasks have. C{callback} is then called with C{(b"r", result)}, with
            C{(b"i", deferator)} if the call returned an iterator, or with C{(b"e", text)} if it
            failed.
        @return: a Deferred that fires when the call is over; if it returns an iterator, when it has
            returned that.
        @raise StateError: if the worker is stopping or has stopped.
        """
        if self.state != READY:
            raise StateError(self, self.state, "run")
        task = asTask(task, self, self._reactor.seconds)
        run = self._due[task] = _Run(task)
        self._takeSoon()
        return run.done

    def cancel(self, task: QueuedTask) -> None:
        """
        A task of this worker is no longer wanted, and has ended. Cancel the Deferred that it waits
        for, or stop the iteration that feeds its consumer. If cancelling has no effect, the task
        keeps its slot until it is through.
        """
        run = self._due.pop(task, None)
        if run is not None:
            run.done.callback(None)
            self._stopIfIdle()
            return
        run = self._underway.get(task)
        if run is not None:
            self._cancelWait(run)
        else:
            self._deliveries.cancel(task)

    def stop(self) -> Deferred[None]:
        """
        Finish the tasks that the worker has, and the iterations that are being consumed. The other
        iterations end with C{IterationStopped}.

        @return: a Deferred that fires when all is over.
        """
        stopped = self._whenStopped.whenFired()
        if self.state == READY:
            self.state = nextState(WORKER, self.state, "drain", self)
            self._deliveries.drain(self._stoppedIterating(), self._stopIfIdle)
            self._stopIfIdle()
        return stopped

    def crash(self) -> list[QueuedTask]:
        """
        Forget the tasks that have not begun, and cancel the Deferreds that the others wait for.

        @return: the tasks of this worker that have not ended.
        """
        if self.state == STOPPED:
            return []
        self.state = nextState(WORKER, self.state, "crash", self)
        given = {**self._underway, **self._due}
        self._underway.clear()
        self._due.clear()
        left = [task for task in given if not task.isDone]
        for run in given.values():
            self._cancelWait(run)
        self._deliveries.end(self._stoppedIterating())
        self._stopped()
        for run in given.values():
            run.done.callback(None)
        return asGiven(task for task in left if not task.isDone)

    # Running --------------------------------------------------------------------------------------

    def _takeSoon(self) -> None:
        if self._turn is None and not self._isTaking:
            self._turn = self._reactor.callLater(0, self._take)

    def _take(self) -> None:
        """
        Begin tasks for a while, also those that come meanwhile.
        """
        self._turn = None
        self._isTaking = True
        deadline = self._reactor.seconds() + TURN_SECONDS
        try:
            while self._canBegin():
                self._begin(*self._due.popitem(last=False))
                if self._reactor.seconds() >= deadline:
                    break
        finally:
            self._isTaking = False
        if self._canBegin():
            self._takeSoon()
        self._stopIfIdle()

    def _canBegin(self) -> bool:
        return bool(self._due) and len(self._underway) < self.capacity.slots

    def _begin(self, task: QueuedTask, run: _Run) -> None:
        if task.isDone:
            run.done.callback(None)
            return
        self._underway[task] = run
        try:
            result = run.context.run(self._call, task)
        except BaseException:
            result = Failure()
        if isinstance(result, Deferred):
            run.wait = result
            result.addBoth(self._waited, task, run)
            if task.isDone or self._underway.get(task) is not run:
                # The task's own function has cancelled it, or has crashed this worker.
                self._cancelWait(run)
        else:
            self._waited(result, task, run)

    def _call(self, task: QueuedTask) -> Any:
        """
        Make the call, in the task's own context.
        """
        takeReports(self._reactor, self._underway[task].reported)
        context = getattr(task, "context", None)
        if context:
            applyContext(context)
        function, args, kw = task.callTuple
        return asDeferred(self._reactor, function(*args, **kw))

    def _cancelWait(self, run: _Run) -> None:
        if run.wait is None:
            return
        try:
            run.wait.cancel()
        except BaseException:
            self.log.failure("cancelling what {task} waits for failed", task=run.task)

    def _waited(self, result: object, task: QueuedTask, run: _Run) -> None:
        """
        A task has its result.
        """
        # After a crash nobody wants it.
        if self._underway.get(task) is not run:
            return
        del self._underway[task]
        self._end(task, run, result)
        run.done.callback(None)
        if self._due:
            self._takeSoon()
        self._stopIfIdle()

    def _end(self, task: QueuedTask, run: _Run, result: object) -> None:
        raw = self.raw if task.options.raw is None else task.options.raw
        if isinstance(result, Failure):
            task.errback(result)
        elif (
            raw
            or not isIteration(result)
            or (isinstance(result, Deferator) and task.options.consumer is None)
        ):
            task.callback(result)
        else:
            # The run's context must not refer to the task, whose result refers to the source.
            run.source = _makeSource(result, run.context, self._reactor)
            run.source.task, run.task = task, None
            self._deliveries.deliver(task, run.source)

    # The end --------------------------------------------------------------------------------------

    def _stoppedIterating(self) -> Failure:
        return Failure(IterationStopped(f"{self} stopped in mid-iteration"))

    def _stopIfIdle(self) -> None:
        if self.state != DRAINING or self._due or self._underway or self._isTaking:
            return
        if self._deliveries.isDrained():
            self.state = nextState(WORKER, self.state, "stopped", self)
            self._stopped()

    def _stopped(self) -> None:
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        self._whenStopped.fire(None)
