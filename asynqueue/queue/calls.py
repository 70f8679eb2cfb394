"""
The face of a task queue, as far as calls are concerned.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any

from twisted.internet.defer import Deferred

from asynqueue.iteration.deferator import Deferator
from asynqueue.queue.machinery import Machinery
from asynqueue.queue.mapping import Mapping
from asynqueue.queue.options import CallOptions, makeOptions, takeOptions
from asynqueue.queue.queued import QueuedTask
from asynqueue.queue.updates import Update
from asynqueue.tasks.options import USUAL, TaskOptions
from asynqueue.tasks.states import PENDING
from asynqueue.tasks.task import NO_KEYWORDS, functionName


class Calls(Machinery):
    """
    Makes calls, and gives many of them up at once.
    """

    def call(self, function: Callable[..., Any], /, *args: Any, **kw: Any) -> Deferred[Any]:
        """
        Put a call into the queue.

        These keywords are mine; all others go to the function. To pass a function a keyword of the
        same name, use L{options}.

        @param function: what to call. For a worker in another process it must be picklable, and so
            must its arguments and its result.
        @param args: positional arguments for the function.
        @keyword niceness: an integer in -20...20, lower is more urgent, as in UNIX; 0 by default.
        @keyword series: the hashable name of a series; only workers that are qualified for it run
            the call.
        @keyword doNext: C{True} to go before everything that waits.
        @keyword doLast: C{True} to go after everything else.
        @keyword timeout: seconds that the run may take, before the call fails with C{TaskTimeout}.
        @keyword consumer: an C{IConsumer} for the items, if the function returns an iterator.
        @keyword raw: C{True} to get an iterator back as it is, where it can be pickled.
        @keyword returnFailure: accepted for AsynQueue 0.9's callers. Failures come back always.
        @return: a Deferred. It fires with what the function returned; if that is an iterator, with
            a L{Deferator<asynqueue.iteration.Deferator>} over its items as soon as the first is
            there, or, after the last item, with the consumer. It fails with what the function
            raised, with C{WorkerDied} if the worker's process died with it, with
            C{CallNotPicklable} and its like, or with C{QueueStopped}. Cancelling it gives the call
            up.
        @raise QueueStopped: after L{shutdown}.
        @raise ValueError: if an option has a value that it cannot have.
        @raise ImplementationError: if C{consumer} does not provide C{IConsumer}.
        """
        if not kw:
            return self._submit(function, args, NO_KEYWORDS, USUAL).d
        return self._submit(function, args, kw, takeOptions(kw)).d

    def submit(self, function: Callable[..., Any], /, *args: Any, **kw: Any) -> QueuedTask:
        """
        Put a call into the queue, as L{call} does, and get the task itself: its C{id}, C{state},
        times and worker, C{cancel()}, its Deferred C{d}; it can be awaited.
        """
        return self._submit(function, args, kw, takeOptions(kw))

    def options(self, **options: Any) -> CallOptions:
        """
        Name the options first, in order to make calls from which no keyword is taken.

        @param options: any of L{call}'s keywords, and those that C{call} leaves to the function:
            C{retries}, how many times the call is run again if its worker dies with it;
            C{idempotent}, C{True} for one that may be done twice, and is then run up to three
            times; C{stallTimeout}, after how many seconds without a L{report} it fails with
            C{TaskStalled}. A call that may be run again, and whose worker dies each time, fails
            with C{PoisonTask}.
        @return: an object with C{call}, C{submit} and C{map}.
        @raise TypeError: if one of them is no option.
        """
        return CallOptions(self, makeOptions(options))

    def map(
        self,
        function: Callable[[Any], Any],
        iterable: Iterable[Any],
        window: int | None = None,
        chunksize: int | None = None,
        **options: Any,
    ) -> Deferator:
        """
        Call a function for each item of an iterable, many at a time.

        The iterable is advanced only as results are taken. The first call that raises ends the
        iteration: results before it come first; later items may have been worked on and are lost.

        @param function: takes an item.
        @param iterable: the items. It is advanced in the reactor's thread, so it should not block.
        @param window: how many items may be on their way, from being taken out of the iterable to
            their results being taken. By default three chunks a worker.
        @param chunksize: how many items make one task. By default this is fitted to the run times,
            so that a task takes about 20 ms.
        @param options: L{call}'s keywords C{niceness}, C{series}, C{timeout} (which is a chunk's)
            and so on.
        @return: a L{Deferator<asynqueue.iteration.Deferator>} over the results, in the order of the
            items.
        """
        return self._map(function, iterable, window, chunksize, makeOptions(options))

    def update(self, function: Callable[..., Any], /, *args: Any, **kw: Any) -> Deferred[list[Any]]:
        """
        Have every worker run a call: those attached now, those attached later, and each new process
        that takes a dead one's place, before it gets any task.

        @keyword ephemeral: C{True} to leave out the workers and processes to come.
        @keyword sequential: C{True} to have one worker after the other run it.
        @return: a Deferred that fires with the results of the present workers, in the order in
            which they were attached, or with the first failure when all are done. Failures on later
            workers are logged.
        @raise QueueStopped: after L{shutdown}.
        """
        self.checkRunning(functionName(function))
        if "consumer" in kw:
            raise ValueError("an update takes no consumer, for it may have many results")
        ephemeral = kw.pop("ephemeral", False)
        sequential = kw.pop("sequential", False)
        context = None if self._declared is None else self._declared.capture()
        done = self._roster.update(Update(function, args, kw, ephemeral, context), sequential)
        self._news.tell()
        return done

    # Many at once ---------------------------------------------------------------------------------

    @property
    def load(self) -> int:
        """
        How many calls are pending or underway. Updates do not count, nor does an iteration whose
        L{Deferator<asynqueue.iteration.Deferator>} is there.
        """
        return self._scheduler.alive

    def cancelSeries(self, series: Hashable, underway: bool = False) -> int:
        """
        Give up the calls of a series, as if each one's Deferred were cancelled: they fail with
        C{CancelledError}.

        What callbacks put into the queue on hearing of it is not touched.

        @param series: its name; C{None} for the calls that name no series.
        @param underway: whether to give up those too that workers have, as C{task.cancel()} does,
            at its cost. By default only those that wait.
        @return: how many calls were cancelled.
        """
        return self._cancelMany(lambda task: bool(task.options.series == series), underway)

    def cancelAll(self, underway: bool = False) -> int:
        """
        Give up all calls, as L{cancelSeries} does those of one series. Updates and iterations are
        not calls.

        @param underway: whether to give up those too that workers have.
        @return: how many calls were cancelled.
        """
        return self._cancelMany(lambda task: True, underway)

    def _cancelMany(self, isMeant: Callable[[QueuedTask], bool], underway: bool) -> int:
        # When this is called by a callback, some tasks may be on their way from here to a worker.
        onTheWay = (task for _, tasks in self._decided for task in tasks if task.state is PENDING)
        tasks = [task for task in (*self._scheduler, *onTheWay) if isMeant(task)]
        if underway:
            tasks += sorted((task for task in self._underway if isMeant(task)), key=_idOf)
        cancelled = 0
        self.begin()
        try:
            for task in tasks:
                # A callback may have shut the queue down meanwhile, or crashed a worker.
                if underway or task.state is PENDING:
                    cancelled += task.cancel()
        finally:
            self.end()
        return cancelled

    def _map(
        self,
        function: Callable[[Any], Any],
        iterable: Iterable[Any],
        window: int | None,
        chunksize: int | None,
        options: TaskOptions,
    ) -> Deferator:
        self.checkRunning(functionName(function))
        if options.consumer is not None:
            raise ValueError("map takes no consumer: its results are those of many calls")
        context = None if self._declared is None else self._declared.capture() or ()
        return Deferator(Mapping(self, function, iterable, window, chunksize, options, context))


def _idOf(task: QueuedTask) -> int:
    return task.id
