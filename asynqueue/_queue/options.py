"""
Calls whose options are named first, so that all keywords of the call go to the function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, ParamSpec, overload

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer

from asynqueue._core.keywords import unknownKeyword
from asynqueue._core.options import ALL_OPTION_NAMES, OPTION_NAMES, USUAL, TaskOptions
from asynqueue._core.task import T
from asynqueue._iteration.deferator import Deferator
from asynqueue._queue.engine import Engine
from asynqueue._queue.map import startMap
from asynqueue._queue.queuedtask import Later, QueuedTask
from asynqueue.errors import ImplementationError

P = ParamSpec("P")


class CallOptions:
    """
    A queue together with the options of the calls that are made through it::

        urgent = queue.options(niceness=-10, timeout=5.0)
        d = urgent.call(fetch, url, timeout=30)  # fetch's own timeout

    @ivar options: the L{TaskOptions<asynqueue.tasks.TaskOptions>}.
    """

    def __init__(self, queue: object, engine: Engine, options: TaskOptions) -> None:
        # The program refers to the queue as long as it refers to this.
        self._queue = queue
        self._engine = engine
        self.options = options

    @overload
    def call(
        self, function: Callable[P, Later], /, *args: P.args, **kwargs: P.kwargs
    ) -> Deferred[Any]: ...

    @overload
    def call(
        self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> Deferred[T]: ...

    def call(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Deferred[Any]:
        """
        Put a call into the queue. All keywords go to the function.

        @return: a Deferred, as C{TaskQueue.call} returns it.
        @raise QueueStopped: after the queue's C{shutdown}.
        """
        return self._engine.submit(function, args, kwargs, self.options).d

    @overload
    def submit(
        self, function: Callable[P, Later], /, *args: P.args, **kwargs: P.kwargs
    ) -> QueuedTask[Any]: ...

    @overload
    def submit(
        self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> QueuedTask[T]: ...

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> QueuedTask:
        """
        Put a call into the queue. All keywords go to the function.

        @return: the task.
        @raise QueueStopped: after the queue's C{shutdown}.
        """
        return self._engine.submit(function, args, kwargs, self.options)

    @overload
    def map(
        self,
        function: Callable[..., T],
        /,
        *iterables: Iterable[Any],
        window: int | None = None,
        chunksize: int | None = None,
        ordered: bool = True,
        returnExceptions: Literal[False] = False,
    ) -> Deferator[T]: ...

    @overload
    def map(
        self,
        function: Callable[..., T],
        /,
        *iterables: Iterable[Any],
        window: int | None = None,
        chunksize: int | None = None,
        ordered: bool = True,
        returnExceptions: bool,
    ) -> Deferator[T | BaseException]: ...

    def map(
        self,
        function: Callable[..., T],
        /,
        *iterables: Iterable[Any],
        window: int | None = None,
        chunksize: int | None = None,
        ordered: bool = True,
        returnExceptions: bool = False,
    ) -> Deferator[Any]:
        """
        Call a function for each item of an iterable, with these options. See C{TaskQueue.map}.
        """
        return startMap(
            self._queue,
            self._engine,
            function,
            iterables,
            window,
            chunksize,
            self.options,
            ordered,
            returnExceptions,
        )

    @property
    def room(self) -> float:
        """
        How many more calls the queue takes now. See C{TaskQueue.room}.
        """
        return self._engine.room

    def whenReady(self) -> Deferred[None]:
        """
        Wait until the queue has room for a call. See C{TaskQueue.whenReady}.
        """
        return self._engine.whenReady()


def takeOptions(kw: dict[str, Any]) -> TaskOptions:
    """
    Take the queue's own keywords out of the keywords of a call, and make options of them. The
    keywords of the function stay in the dictionary.
    """
    own = OPTION_NAMES & kw.keys()
    if not own:
        return USUAL
    return makeOptions({name: kw.pop(name) for name in own})


def makeOptions(keywords: dict[str, Any]) -> TaskOptions:
    """
    Make options of keywords.

    @raise TypeError: if a keyword is not an option.
    @raise ValueError: if an option has a value that it cannot have.
    @raise ImplementationError: if C{consumer} does not provide C{IConsumer}.
    """
    for name in keywords:
        if name not in ALL_OPTION_NAMES:
            raise unknownKeyword("a call", name, ALL_OPTION_NAMES)
    options = TaskOptions(**keywords)
    consumer = options.consumer
    if consumer is not None and not IConsumer.providedBy(consumer):
        raise ImplementationError(f"{consumer!r} does not provide IConsumer")
    return options
