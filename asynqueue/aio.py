"""
The queues for programs of asyncio: the same queues, options, tasks and errors, with asyncio's own
awaitables::

    import asyncio
    from math import factorial
    from asynqueue.aio import ProcessQueue

    async def main():
        async with ProcessQueue() as queue:
            print(await queue.call(factorial, 20))
            async for value in queue.map(factorial, range(5)):
                print(value)

    if __name__ == "__main__":
        asyncio.run(main())

Make a queue in a coroutine. It belongs to the event loop that runs then. Twisted's global reactor
is neither used nor installed. C{docs/asyncio.rst} describes the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Hashable, Iterable
from multiprocessing.context import BaseContext
from os import PathLike
from types import TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    Literal,
    ParamSpec,
    Self,
    TypedDict,
    TypeVar,
    Unpack,
    cast,
    overload,
)

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from asynqueue._core.keywords import spellsOut
from asynqueue._core.retry import Retry
from asynqueue._core.task import Size
from asynqueue._dispatch import rdq
from asynqueue._dispatch.encoding import JobCodec
from asynqueue._dispatch.job import DeadLetter, DurableJob, Job, JobDeferred
from asynqueue._eventloop import queuesOfLoop
from asynqueue._iteration.deferator import Deferator
from asynqueue._observers import Observer
from asynqueue._queue import options, ownqueues, taskqueue
from asynqueue._queue.queuedtask import Later, QueuedTask
from asynqueue._runner.codecs import PicklerName
from asynqueue._waiters import QuietDeferred
from asynqueue.admin.administrable import Administrable, Showing
from asynqueue.errors import WrongEventLoop
from asynqueue.interfaces import IAdministered, IJobStore, IWorker

if TYPE_CHECKING:
    from asynqueue._workers.wire.endpoints import TlsFolder
    from asynqueue.admin.server import Administration

__all__ = [
    "CallFuture",
    "CallOptions",
    "JobFuture",
    "NullQueue",
    "ProcessQueue",
    "RemoteQueue",
    "ResizableDispatchQueue",
    "Stream",
    "SubmittedTask",
    "TaskQueue",
    "ThreadQueue",
    "asFuture",
    "getReactor",
]

_P = ParamSpec("_P")
_T = TypeVar("_T")
_Queue = TypeVar("_Queue", bound=taskqueue.TaskQueue | rdq.ResizableDispatchQueue)

_Later = Later | asyncio.Future[Any]
"""The things that a function may return in place of its result."""


def _checkLoop(subject: object, loop: asyncio.AbstractEventLoop) -> None:
    """
    @raise WrongEventLoop: unless the caller is in the loop.
    """
    try:
        isOwn = asyncio.get_running_loop() is loop
    except RuntimeError:
        isOwn = False
    if not isOwn:
        why = "belongs to an event loop that is not the one that runs here"
        raise WrongEventLoop(subject, why, "use it in coroutines and callbacks of its own loop")


def _runningLoop() -> asyncio.AbstractEventLoop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        why = "needs an event loop of asyncio, and there is no running event loop in this thread"
        raise WrongEventLoop("asynqueue.aio", why, "make queues in a coroutine") from None


def asFuture(deferred: Deferred[_T]) -> asyncio.Future[_T]:
    """
    Make a future of a Deferred of a queue, a task or a job. Do not use the Deferred otherwise.

    @param deferred: the Deferred. If it was cancelled, so is the future.
    @return: a future of the running loop. Cancelling it cancels the Deferred.
    @raise WrongEventLoop: if no loop runs in this thread.
    """
    return CallFuture(deferred, None, _runningLoop())


def getReactor() -> IReactorTime:
    """
    Get the reactor of the running loop, for workers that you make yourself:
    C{TaskQueue(ProcessWorker(reactor=getReactor()))}. It lives until the loop's last queue has shut
    down, so do this for each queue.

    @raise WrongEventLoop: if no loop runs in this thread.
    """
    _runningLoop()
    return cast(IReactorTime, queuesOfLoop().getReactor())


class CallFuture(asyncio.Future[_T]):
    """
    A future of a call, as the methods of queues return it. Cancelling it gives the call up.
    """

    def __init__(
        self, deferred: Deferred[Any], owner: object, loop: asyncio.AbstractEventLoop
    ) -> None:
        """
        @param deferred: settles this. Cancelling this cancels the Deferred at once.
        @param owner: is not to be garbage-collected before the Deferred fires.
        @param loop: the event loop of the queue.
        """
        super().__init__(loop=loop)
        self._deferred = deferred
        self._owner = owner
        deferred.addBoth(self._fired)

    def cancel(self, msg: Any = None) -> bool:
        """
        Give the call up, unless this is done.

        @param msg: the text of the C{CancelledError}.
        @return: whether this was not done before.
        """
        isCancelled = super().cancel(msg)
        if isCancelled:
            self._deferred.cancel()
        return isCancelled

    def _fired(self, result: object) -> None:
        owner, self._owner = self._owner, None
        if self.done():
            # It was cancelled. An iteration is stopped when the garbage collector finds it.
            return
        if not isinstance(result, Failure):
            self.set_result(_withStream(result, owner, self.get_loop()))
            return
        error: Any = result.value
        if isinstance(error, CancelledError | asyncio.CancelledError):
            super().cancel()
        elif isinstance(error, StopIteration | SystemExit | KeyboardInterrupt):
            # A coroutine cannot raise the first one. The others would end the event loop, whatever
            # else runs in it.
            instead = RuntimeError(f"the call raised {error!r}")
            instead.__cause__ = error
            self.set_exception(instead)
        else:
            self.set_exception(error)


class Stream(Generic[_T]):
    """
    The items of a call whose function returned an iterator, or the results of C{map}: an
    asynchronous iterator. Each item comes as soon as it has arrived. If the iteration fails, the
    failure is raised after the items before it.

    Leave it early with C{async with}, or L{stop} it, so that the far iterator is closed. A stream
    that is garbage-collected stops as well.
    """

    def __init__(
        self, deferator: Deferator, owner: object, loop: asyncio.AbstractEventLoop
    ) -> None:
        """
        @param deferator: the items.
        @param owner: the queue, which lives as long as this.
        @param loop: the event loop of the queue.
        """
        self._deferator = deferator
        self._owner = owner
        self._loop = loop

    def __repr__(self) -> str:
        return repr(self._deferator).replace("Deferator", "Stream", 1)

    def __bool__(self) -> bool:
        """
        Whether there may be more items.
        """
        return self._deferator.moreLeft

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> _T:
        """
        @return: the next item.
        @raise StopAsyncIteration: at the end.
        @raise NotReadyError: if an item is being waited for already.
        @raise WrongEventLoop: in another event loop than that of the queue.
        """
        _checkLoop(self, self._loop)
        source = self._deferator.source
        if source.items and source.listener is None:
            return cast(_T, source.take())
        item: _T = await asFuture(Deferred.fromCoroutine(self._deferator.__anext__()))
        return item

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None:
        self.stop()

    def stop(self) -> None:
        """
        End the iteration here. Stopping again has no effect.

        @raise WrongEventLoop: in another event loop than that of the queue.
        """
        _checkLoop(self, self._loop)
        self._deferator.stop()

    async def aclose(self) -> None:
        """
        Do what L{stop} does, for C{contextlib.aclosing}.
        """
        self.stop()


def _withStream(result: Any, owner: object, loop: asyncio.AbstractEventLoop) -> Any:
    """
    @return: the result of a call; a stream if that is an iteration.
    """
    return Stream[Any](result, owner, loop) if isinstance(result, Deferator) else result


class SubmittedTask(Generic[_T]):
    """
    A call of a queue, as C{submit} and C{tasks} return it. Await it for its result, as often as you
    like. Cancelling a coroutine that awaits it does not cancel the call; L{cancel} does.

    It has all the attributes of a L{QueuedTask<asynqueue.QueuedTask>}, such as C{id}, C{state} and
    C{progress}. It is equal to the C{task} of an L{Event<asynqueue.Event>} of the same call, and to
    every other object of this class for that call.
    """

    def __init__(
        self, task: QueuedTask, owner: _Face[Any], future: asyncio.Future[_T] | None = None
    ) -> None:
        """
        @param task: the task of the queue below.
        @param owner: the queue.
        @param future: of the result. A failure that nobody looks at is reported through it, as
            asyncio reports those of its tasks.
        """
        self._task = task
        self._owner = owner
        self._future = future

    def __repr__(self) -> str:
        return repr(self._task)

    def __eq__(self, other: object) -> bool:
        return self._task is (other._task if isinstance(other, SubmittedTask) else other)

    def __hash__(self) -> int:
        return hash(self._task)

    def __getattr__(self, name: str) -> Any:
        return _withStream(getattr(self._task, name), self._owner, self._owner._loop)

    def cancel(self) -> bool:
        """
        Give the call up. See L{QueuedTask.cancel<asynqueue.QueuedTask.cancel>}.

        @return: C{False} if it was done already.
        @raise WrongEventLoop: in another event loop than that of the queue.
        """
        self._owner._use()
        return self._task.cancel()

    def __await__(self) -> Generator[Any, None, _T]:
        return self.whenDone().__await__()

    def whenDone(self) -> asyncio.Future[_T]:
        """
        Return a new future of the result.

        @raise WrongEventLoop: in another event loop than that of the queue.
        """
        self._owner._use()
        if self._future is None:
            return self._owner._await(self._task.whenDone())
        return asyncio.shield(self._future)


class _Face(Administrable, Generic[_Queue]):
    """
    The part that the queues of this module have in common: an event loop.
    """

    _queue: _Queue

    def _wrap(self, queue: _Queue) -> None:
        """
        @param queue: the Twisted queue, which was just made.
        """
        self._queue = queue
        self._loop = asyncio.get_running_loop()
        queuesOfLoop().add(self, queue)

    def __repr__(self) -> str:
        return repr(self._queue)

    def __reduce__(self) -> str | tuple[Any, ...]:
        return self._queue.__reduce__()

    def seconds(self) -> float:
        """
        Return the time by the queue's clock, in seconds.
        """
        return self._queue.seconds()

    def _use(self) -> _Queue:
        """
        @return: the Twisted queue, for a caller in the queue's own loop.
        """
        _checkLoop(self, self._loop)
        return self._queue

    def _await(self, deferred: Deferred[_T]) -> asyncio.Future[_T]:
        return CallFuture(deferred, self, self._loop)

    def _submitted(self, task: QueuedTask) -> SubmittedTask[Any]:
        """
        @return: a task that was just put into the queue.
        """
        return SubmittedTask(task, self, self._await(task.d))

    def _awaitTasks(
        self, deferred: Deferred[list[QueuedTask]]
    ) -> asyncio.Future[list[SubmittedTask[Any]]]:
        return self._await(
            deferred.addCallback(lambda tasks: [SubmittedTask(task, self) for task in tasks])
        )

    async def __aenter__(self) -> Self:
        return self

    @property
    def paused(self) -> bool:
        """
        Whether the queue is paused.
        """
        return self._queue.paused

    def whenReady(self) -> asyncio.Future[None]:
        """
        Wait until the queue has room for a job or a call, if it has a limit. See
        L{whenReady<asynqueue.TaskQueue.whenReady>}.

        @return: a future that is done when there is room.
        @raise QueueStopped: if the queue was shut down or stopped.
        """
        return self._await(self._use().whenReady())

    def addObserver(self, observer: Observer) -> None:
        """
        Call an observer with an L{Event<asynqueue.Event>} for everything that happens from now on.
        """
        self._use().addObserver(observer)

    def removeObserver(self, observer: Observer) -> None:
        """
        Stop calling an observer.
        """
        self._use().removeObserver(observer)

    @property
    def _administrations(self) -> list[Administration]:  # type: ignore[override] # an attribute there
        return self._queue._administrations

    def _checkAdministrable(self) -> None:
        self._use()._checkAdministrable()

    def _inspect(self, showing: Showing) -> tuple[IAdministered, IReactorTime]:
        return self._queue._inspect(showing)


class CallOptions:
    """
    A queue together with the options of the calls that are made through it. See
    L{TaskQueue.options}.
    """

    def __init__(self, queue: TaskQueue, own: options.CallOptions) -> None:
        self._face = queue
        self._own = own

    @overload
    def call(
        self, function: Callable[_P, _Later], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> asyncio.Future[Any]: ...

    @overload
    def call(
        self, function: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> asyncio.Future[_T]: ...

    def call(
        self, function: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> asyncio.Future[Any]:
        """
        Put a call into the queue. All keywords go to the function.

        @return: a future, as L{TaskQueue.call} returns it.
        """
        self._face._use()
        return self._face._await(self._own.call(function, *args, **kwargs))

    @overload
    def submit(
        self, function: Callable[_P, _Later], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> SubmittedTask[Any]: ...

    @overload
    def submit(
        self, function: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> SubmittedTask[_T]: ...

    def submit(
        self, function: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> SubmittedTask[Any]:
        """
        Put a call into the queue. All keywords go to the function.

        @return: the task.
        """
        self._face._use()
        return self._face._submitted(self._own.submit(function, *args, **kwargs))

    @overload
    def map(
        self,
        function: Callable[..., _T],
        /,
        *iterables: Iterable[Any],
        window: int | None = None,
        chunksize: int | None = None,
        ordered: bool = True,
        returnExceptions: Literal[False] = False,
    ) -> Stream[_T]: ...

    @overload
    def map(
        self,
        function: Callable[..., _T],
        /,
        *iterables: Iterable[Any],
        window: int | None = None,
        chunksize: int | None = None,
        ordered: bool = True,
        returnExceptions: bool,
    ) -> Stream[_T | BaseException]: ...

    def map(
        self,
        function: Callable[..., _T],
        /,
        *iterables: Iterable[Any],
        window: int | None = None,
        chunksize: int | None = None,
        ordered: bool = True,
        returnExceptions: bool = False,
    ) -> Stream[Any]:
        """
        Call a function for each item of an iterable, with these options. See L{TaskQueue.map}.
        """
        self._face._use()
        found: Deferator[Any] = self._own.map(
            function,
            *iterables,
            window=window,
            chunksize=chunksize,
            ordered=ordered,
            returnExceptions=returnExceptions,
        )
        return Stream(found, self._face, self._face._loop)

    @property
    def room(self) -> float:
        """
        How many more calls the queue takes now. See L{TaskQueue.room}.
        """
        return self._own.room

    def whenReady(self) -> asyncio.Future[None]:
        """
        Wait until the queue has room for a call. See L{TaskQueue.whenReady}.

        @return: a future that is done when there is room.
        @raise QueueStopped: after the queue's C{shutdown}.
        """
        return self._face.whenReady()


class TaskQueue(_Face[taskqueue.TaskQueue]):
    """
    A L{TaskQueue<asynqueue.TaskQueue>} whose methods return futures and streams of asyncio. Its
    arguments, effects and errors are described there.

    Use it in the thread and the event loop in which it was made.
    """

    @spellsOut(taskqueue.TaskQueue.__init__, taskqueue.QueueKeywords.__annotations__)
    def __init__(self, *workers: IWorker, **keywords: Unpack[taskqueue.QueueKeywords]) -> None:
        """
        @param workers: providers of C{IWorker} to attach at once. Workers that take a reactor need
            that of L{getReactor}.
        @param keywords: the keywords of L{TaskQueue<asynqueue.TaskQueue>}.
        @raise WrongEventLoop: if no event loop runs in this thread.
        """
        self._wrap(taskqueue.TaskQueue(*workers, reactor=getReactor(), **keywords))

    def __len__(self) -> int:
        """
        Return the number of attached workers.
        """
        return len(self._queue)

    def __bool__(self) -> bool:
        """
        Return whether the queue is running and has a worker.
        """
        return bool(self._queue)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.shutdown()

    @property
    def timeout(self) -> float | None:
        """
        How many seconds workers may take to stop before they are crashed; C{None} for no limit.
        """
        return self._queue.timeout

    @timeout.setter
    def timeout(self, seconds: float | None) -> None:
        """
        Change it for stops that begin later.
        """
        self._queue.timeout = seconds

    def isRunning(self) -> bool:
        """
        Return C{True} until L{shutdown} is called.
        """
        return self._queue.isRunning()

    @overload
    def call(
        self, function: Callable[..., _Later], /, *args: Any, **kw: Any
    ) -> asyncio.Future[Any]: ...

    @overload
    def call(self, function: Callable[..., _T], /, *args: Any, **kw: Any) -> asyncio.Future[_T]: ...

    def call(self, function: Callable[..., Any], /, *args: Any, **kw: Any) -> asyncio.Future[Any]:
        """
        Put a call into the queue. It takes the same keywords as
        L{call<asynqueue.TaskQueue.call>} of the Twisted face.

        @return: a future of the result; of a L{Stream}, if that is an iterator. Cancelling the
            future, or the task that awaits it, gives the call up. If the call is cancelled
            otherwise, the future is. If the call raises C{StopIteration}, C{SystemExit} or
            C{KeyboardInterrupt}, the future fails with C{RuntimeError}, of which that is the cause.
        @raise QueueStopped: after L{shutdown}.
        """
        return self._await(self._use().call(function, *args, **kw))

    @overload
    def submit(
        self, function: Callable[..., _Later], /, *args: Any, **kw: Any
    ) -> SubmittedTask[Any]: ...

    @overload
    def submit(
        self, function: Callable[..., _T], /, *args: Any, **kw: Any
    ) -> SubmittedTask[_T]: ...

    def submit(self, function: Callable[..., Any], /, *args: Any, **kw: Any) -> SubmittedTask[Any]:
        """
        Put a call into the queue, as L{call} does, and return the task.

        @raise QueueStopped: after L{shutdown}.
        """
        return self._submitted(self._use().submit(function, *args, **kw))

    def options(self, **keywords: Any) -> CallOptions:
        """
        Name the options first, so that all keywords of the calls go to the function. See
        L{options<asynqueue.TaskQueue.options>} of the Twisted face.
        """
        return CallOptions(self, self._use().options(**keywords))

    @overload
    def map(
        self,
        function: Callable[..., _T],
        /,
        *iterables: Iterable[Any],
        window: int | None = None,
        chunksize: int | None = None,
        ordered: bool = True,
        returnExceptions: Literal[False] = False,
        **keywords: Any,
    ) -> Stream[_T]: ...

    @overload
    def map(
        self,
        function: Callable[..., _T],
        /,
        *iterables: Iterable[Any],
        window: int | None = None,
        chunksize: int | None = None,
        ordered: bool = True,
        returnExceptions: bool,
        **keywords: Any,
    ) -> Stream[_T | BaseException]: ...

    def map(
        self,
        function: Callable[..., _T],
        /,
        *iterables: Iterable[Any],
        window: int | None = None,
        chunksize: int | None = None,
        ordered: bool = True,
        returnExceptions: bool = False,
        **keywords: Any,
    ) -> Stream[Any]:
        """
        Call a function for each item of an iterable, many at a time. See
        L{map<asynqueue.TaskQueue.map>} of the Twisted face.

        @return: a L{Stream} of the results.
        """
        queue = self._use()
        found = queue.map(
            function,
            *iterables,
            window=window,
            chunksize=chunksize,
            ordered=ordered,
            returnExceptions=returnExceptions,
            **keywords,
        )
        return Stream(found, self, self._loop)

    def update(
        self, function: Callable[..., Any], /, *args: Any, **kw: Any
    ) -> asyncio.Future[list[Any]]:
        """
        Run a call on every worker, and on those that come later. See
        L{update<asynqueue.TaskQueue.update>} of the Twisted face.

        @return: a future of the list of the results.
        """
        return self._await(self._use().update(function, *args, **kw))

    @property
    def load(self) -> int:
        """
        The number of calls that are pending or underway.
        """
        return self._queue.load

    def tasks(self) -> list[SubmittedTask[Any]]:
        """
        List the calls that are pending or underway. See L{tasks<asynqueue.TaskQueue.tasks>}.

        @return: the tasks, those that are underway first.
        """
        return [SubmittedTask(task, self) for task in self._use().tasks()]

    @property
    def room(self) -> float:
        """
        How many more calls the queue takes now, apart from those that somebody waits to make. See
        L{room<asynqueue.TaskQueue.room>}.
        """
        return self._queue.room

    def size(self) -> Size:
        """
        Return how many calls are underway, and how many are pending.
        """
        return self._queue.size()

    def cancelSeries(self, series: Hashable, underway: bool = False) -> int:
        """
        Cancel the calls of a series. See L{cancelSeries<asynqueue.TaskQueue.cancelSeries>}.
        """
        return self._use().cancelSeries(series, underway)

    def cancelAll(self, underway: bool = False) -> int:
        """
        Cancel all calls. See L{cancelAll<asynqueue.TaskQueue.cancelAll>}.
        """
        return self._use().cancelAll(underway)

    def pause(self) -> None:
        """
        Begin no more calls. See L{pause<asynqueue.TaskQueue.pause>}.
        """
        self._use().pause()

    def resume(self) -> None:
        """
        Begin calls again. See L{resume<asynqueue.TaskQueue.resume>}.
        """
        self._use().resume()

    def attachWorker(self, worker: IWorker) -> asyncio.Future[int]:
        """
        Attach a worker.

        @return: a future of its ID, done when the worker is ready for tasks.
        """
        return self._await(self._use().attachWorker(worker))

    def detachWorker(
        self, workerOrID: IWorker | int | None, reassign: bool = False, crash: bool = False
    ) -> asyncio.Future[list[SubmittedTask[Any]]]:
        """
        Detach a worker. See L{detachWorker<asynqueue.TaskQueue.detachWorker>}.

        @return: a future of the tasks that it left unfinished, done when the worker is gone.
        """
        return self._awaitTasks(self._use().detachWorker(workerOrID, reassign, crash))

    def qualifyWorker(self, worker: IWorker, series: Hashable) -> None:
        """
        Qualify a worker for one more series.
        """
        self._use().qualifyWorker(worker, series)

    @overload
    def workers(self, ID: None = None) -> list[Any]: ...

    @overload
    def workers(self, ID: int) -> Any: ...

    def workers(self, ID: int | None = None) -> Any:
        """
        Return the worker with this ID, or C{None}. Without an ID, a list of all workers.
        """
        return self._queue.workers(ID)

    def subscribe(self, consumer: Any) -> None:
        """
        Write the L{load} to a consumer whenever it changes. See
        L{subscribe<asynqueue.TaskQueue.subscribe>}.

        @param consumer: a provider of C{IConsumer}.
        """
        self._use().subscribe(consumer)

    def shutdown(self) -> asyncio.Future[None]:
        """
        Take no more calls, run the calls that the queue has, then stop the workers.

        @return: a future that is done when all workers are gone. Cancelling it ends only this wait.
        """
        return self._await(self._use().shutdown())

    def drain(self) -> asyncio.Future[None]:
        """
        Shut down as at a SIGTERM. See L{drain<asynqueue.TaskQueue.drain>}.

        @return: a future that is done when all workers are gone. Cancelling it ends only this wait.
        """
        return self._await(self._use().drain())


class _OwnWorkersQueue(TaskQueue):
    """
    A queue that makes its workers itself.
    """

    _queue: ownqueues.OwnWorkersQueue

    def resize(self, N: int) -> asyncio.Future[None]:
        """
        Change the number of workers. See C{resize} of the Twisted face.

        @return: a future that is done when the new workers are ready and the others are gone.
        """
        self._use()
        return self._await(self._queue.resize(N))

    def crashWorkers(self) -> asyncio.Future[list[SubmittedTask[Any]]]:
        """
        Crash all workers, busy or not, and detach them.

        @return: a future of the tasks that they left unfinished.
        """
        self._use()
        return self._awaitTasks(self._queue.crashWorkers())

    def stats(self) -> asyncio.Future[list[tuple[float, float]]]:
        """
        @return: a future of the times of the calls that the workers have run: pairs of seconds, of
            which there are none unless the queue was made with C{callStats=True}.
        """
        self._use()
        return self._await(self._queue.stats())


class ThreadKeywords(taskqueue.QueueKeywords, total=False):
    """
    The keywords of L{ThreadQueue}. The Twisted face describes them.
    """

    series: Iterable[Hashable]
    raw: bool
    callStats: bool
    debug: bool | None


class ProcessKeywords(taskqueue.QueueKeywords, total=False):
    """
    The keywords of L{ProcessQueue}. The Twisted face describes them.
    """

    series: Iterable[Hashable]
    raw: bool
    callStats: bool
    useReactor: bool
    context: BaseContext | None
    forwardLogs: bool
    maxTasks: int | None
    maxKilobytes: int | None
    preload: Iterable[str]
    startTimeout: float
    pickler: PicklerName


class NullKeywords(taskqueue.QueueKeywords, total=False):
    """
    The keywords of L{NullQueue}. The Twisted face describes them.
    """

    series: Iterable[Hashable]
    raw: bool


class RemoteKeywords(taskqueue.QueueKeywords, total=False):
    """
    The keywords of L{RemoteQueue}. The Twisted face describes them.
    """

    series: Iterable[Hashable]
    raw: bool
    callStats: bool
    forwardLogs: bool
    pickler: PicklerName
    tls: TlsFolder


class DispatchKeywords(TypedDict, total=False):
    """
    The keywords of L{ResizableDispatchQueue}. The Twisted face describes them.
    """

    rate: int | None
    per: float
    burst: int | None
    rateKey: Callable[[Any], Hashable] | None
    retry: Retry | None
    store: str | PathLike[str] | IJobStore | Any
    codec: JobCodec | None
    storedAs: str | None
    drainTimeout: float | None
    observers: Iterable[Observer]


class ProcessQueue(_OwnWorkersQueue):
    """
    A L{ProcessQueue<asynqueue.ProcessQueue>} for asyncio.
    """

    @spellsOut(ownqueues.ProcessQueue.__init__, ProcessKeywords.__annotations__)
    def __init__(self, N: int | None = None, **keywords: Unpack[ProcessKeywords]) -> None:
        """
        Start the processes.

        @param N: the number of processes. Default: as many as the cores that this program may use.
        @param keywords: the keywords of L{ProcessQueue<asynqueue.ProcessQueue>}.
        @raise WrongEventLoop: if no event loop runs in this thread.
        """
        count = self.cores() if N is None else N
        self._wrap(ownqueues.ProcessQueue(count, reactor=getReactor(), **keywords))

    @staticmethod
    def cores() -> int:
        """
        Return how many processor cores this program may use.
        """
        return ownqueues.ProcessQueue.cores()


class ThreadQueue(_OwnWorkersQueue):
    """
    A L{ThreadQueue<asynqueue.ThreadQueue>} for asyncio.
    """

    @spellsOut(ownqueues.ThreadQueue.__init__, ThreadKeywords.__annotations__)
    def __init__(self, N: int = 1, **keywords: Unpack[ThreadKeywords]) -> None:
        """
        Start the threads.

        @param N: the number of threads. Default: 1.
        @param keywords: the keywords of L{ThreadQueue<asynqueue.ThreadQueue>}.
        @raise WrongEventLoop: if no event loop runs in this thread.
        """
        self._wrap(ownqueues.ThreadQueue(N, reactor=getReactor(), **keywords))


class NullQueue(TaskQueue):
    """
    A L{NullQueue<asynqueue.NullQueue>} for asyncio: it calls functions in the event loop. They may
    be coroutine functions and asynchronous generators of asyncio.
    """

    @spellsOut(ownqueues.NullQueue.__init__, NullKeywords.__annotations__)
    def __init__(self, *, slots: int = 1, **keywords: Unpack[NullKeywords]) -> None:
        """
        @param slots: how many calls may be underway at once. Default: 1.
        @param keywords: the keywords of L{NullQueue<asynqueue.NullQueue>}.
        @raise WrongEventLoop: if no event loop runs in this thread.
        """
        self._wrap(ownqueues.NullQueue(slots=slots, reactor=getReactor(), **keywords))


class RemoteQueue(TaskQueue):
    """
    A L{RemoteQueue<asynqueue.wire.RemoteQueue>} for asyncio: it calls functions on servers.
    """

    def __init__(
        self,
        addresses: Iterable[str],
        key: str | bytes | PathLike[str],
        **keywords: Unpack[RemoteKeywords],
    ) -> None:
        """
        Begin to connect to the servers. Calls wait until the first one is there.

        @param addresses: the servers' addresses.
        @param key: the key that all the servers have, or the path of its file.
        @param keywords: the keywords of L{RemoteQueue<asynqueue.wire.RemoteQueue>}.
        @raise WrongEventLoop: if no event loop runs in this thread.
        """
        # A program without servers need not import what talks to them.
        from asynqueue._queue import remotequeue

        self._wrap(remotequeue.RemoteQueue(addresses, key, reactor=getReactor(), **keywords))


class JobFuture(CallFuture[Job]):
    """
    A future of a job. A failure that nobody looks at is reported to the event loop, unless the job
    was cancelled, a store keeps it or the queue was stopped.

    @ivar job: the job.
    """

    def __init__(
        self, deferred: JobDeferred, owner: object, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.job = deferred.job
        super().__init__(deferred, owner, loop)

    def _fired(self, result: object) -> None:
        super()._fired(result)
        isQuiet = cast(QuietDeferred, self._deferred).isQuiet
        if isQuiet and self.done() and not self.cancelled():
            # The failure counts as looked at.
            self.exception()


class ResizableDispatchQueue(_Face[rdq.ResizableDispatchQueue]):
    """
    A L{ResizableDispatchQueue<asynqueue.ResizableDispatchQueue>} for asyncio. Its function may be a
    coroutine function of asyncio, unless a C{queue} calls it.

    Leaving C{async with} stops it: jobs that are underway go on to their end, and pending ones are
    left, as L{stop} leaves them.
    """

    @spellsOut(rdq.ResizableDispatchQueue.__init__, DispatchKeywords.__annotations__)
    def __init__(
        self,
        func: Callable[[Any], Any],
        width: int = 0,
        size: int | None = None,
        *,
        queue: TaskQueue | CallOptions | None = None,
        **keywords: Unpack[DispatchKeywords],
    ) -> None:
        """
        @param func: takes a job's argument.
        @param width: how many jobs may be underway at once. With 0, jobs only wait.
        @param size: how many jobs may be pending at once; C{None} for no limit.
        @param queue: calls the function: a queue of this module, or what its C{options} returns.
            Default: the event loop.
        @param keywords: those of L{ResizableDispatchQueue<asynqueue.ResizableDispatchQueue>}.
        @raise TypeError: if C{queue} is something else, or there is an unknown keyword.
        @raise WrongEventLoop: if no event loop runs in this thread.
        """
        caller: rdq.Caller | None = None
        if isinstance(queue, CallOptions):
            caller = queue._own
        elif isinstance(queue, TaskQueue):
            caller = queue._queue
        elif queue is not None:
            raise TypeError(
                f"queue must be a queue of asynqueue.aio that makes calls, or what its options() "
                f"returns, not {queue!r}"
            )
        inner = rdq.ResizableDispatchQueue(
            func,
            width,
            size,
            queue=caller,
            reactor=getReactor(),
            **keywords,
        )
        self._wrap(inner)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    def put(
        self,
        jobarg: Any,
        priority: float | None = None,
        *,
        delay: float | None = None,
        at: float | None = None,
        unique: str | None = None,
        mayStand: bool = True,
    ) -> JobFuture:
        """
        Add a job. See L{put<asynqueue.ResizableDispatchQueue.put>} of the Twisted face.

        @return: a future of the job. Cancelling it cancels the job.
        """
        deferred = self._use().put(
            jobarg, priority, delay=delay, at=at, unique=unique, mayStand=mayStand
        )
        return JobFuture(deferred, self, self._loop)

    def saved(self, job: DurableJob) -> asyncio.Future[DurableJob]:
        """
        Return a future of a job, done when the store has it.
        """
        waiter: Deferred[DurableJob] = Deferred(lambda _: None)

        def tell(result: DurableJob | Failure) -> DurableJob | None:
            if not waiter.called:
                waiter.callback(result)
            return None if isinstance(result, Failure) else result

        job.saved.addBoth(tell)
        return self._await(waiter)

    def pending(self) -> list[Job]:
        """
        Return the jobs that wait, in their order.
        """
        return self._queue.pending()

    def underway(self) -> set[Job]:
        """
        Return the jobs that were begun.
        """
        return self._queue.underway()

    def size(self) -> Size:
        """
        Return how many jobs are underway, and how many are pending.
        """
        return self._queue.size()

    def clearQueue(self, cancelPending: bool = True) -> list[Job]:
        """
        Take all jobs that wait out of the queue. See the Twisted face.
        """
        return self._use().clearQueue(cancelPending)

    def cancelJob(self, job: Job) -> None:
        """
        Cancel a job.
        """
        self._use().cancelJob(job)

    def reprioritize(self, job: Job, priority: float) -> None:
        """
        Give a job that waits another priority.
        """
        self._use().reprioritize(job, priority)

    @property
    def width(self) -> int:
        """
        How many jobs may be underway at once.
        """
        return cast(int, self._queue.width)

    @width.setter
    def width(self, width: int) -> None:
        """
        Change it. Jobs that are underway beyond a smaller width go on.
        """
        self._use().width = width

    @property
    def stopped(self) -> bool:
        """
        Whether the queue was stopped.
        """
        return self._queue.stopped

    @property
    def drainTimeout(self) -> float | None:
        """
        For how many seconds jobs that are underway may go on after a signal; C{None} if signals are
        left to others.
        """
        return self._queue.drainTimeout

    @drainTimeout.setter
    def drainTimeout(self, seconds: float | None) -> None:
        """
        Change it for signals that come later.
        """
        self._queue.drainTimeout = seconds

    @property
    def rate(self) -> tuple[int, float, int | None] | None:
        """
        How many jobs may begin in how many seconds, and in one burst; C{None} for no limit.
        """
        return self._queue.rate

    def setRate(self, rate: int | None, per: float = 1.0, burst: int | None = None) -> None:
        """
        Change the rate.
        """
        self._use().setRate(rate, per, burst)

    def pause(self) -> asyncio.Future[None]:
        """
        Begin no more jobs.

        @return: a future that is done when no job is underway.
        """
        return self._await(self._use().pause())

    def resume(self, width: int | None = None) -> None:
        """
        Begin jobs again, perhaps with another width.
        """
        self._use().resume(width)

    def deadLetters(self) -> asyncio.Future[list[DeadLetter]]:
        """
        Return a future of the jobs that the store keeps because they have failed for good.
        """
        return self._await(self._use().deadLetters())

    def retryDeadLetter(self, letter: DeadLetter) -> asyncio.Future[DurableJob]:
        """
        Put a dead letter into the queue again.

        @return: a future of the job, done when the store has it.
        """
        return self._await(self._use().retryDeadLetter(letter))

    def dropDeadLetter(self, letter: DeadLetter) -> asyncio.Future[None]:
        """
        Remove a dead letter.

        @return: a future that is done when that is on disk.
        """
        return self._await(self._use().dropDeadLetter(letter))

    def stop(self, cancelUnderway: bool = False) -> asyncio.Future[list[Job]]:
        """
        Stop for good. See L{stop<asynqueue.ResizableDispatchQueue.stop>} of the Twisted face.

        @return: a future of the jobs that were left.
        """
        return self._await(self._use().stop(cancelUnderway))

    def drain(self) -> asyncio.Future[None]:
        """
        Stop as at a SIGTERM. See L{drain<asynqueue.ResizableDispatchQueue.drain>} of the Twisted
        face.

        @return: a future that is done when no job is underway any more.
        """
        return self._await(self._use().drain())
