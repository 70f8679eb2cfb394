"""
The task record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from asynqueue.tasks.heap import Place
from asynqueue.tasks.options import USUAL, TaskOptions
from asynqueue.tasks.states import (
    CANCELLED,
    FAILED,
    FINISHED,
    PENDING,
    TASK,
    UNDERWAY,
    nextState,
)

NO_KEYWORDS: Final[Mapping[str, Any]] = MappingProxyType({})
"""What tasks without keyword arguments share."""


class Task:
    """
    One call to make, with its scheduling facts::

                         giveBack
                      +-------------+
                      v             |
        put ---> PENDING --start--> UNDERWAY --finish--> FINISHED
                   |  |               |  |
                   |  +-----fail------+--|-------------> FAILED
                   +-------cancel--------+-------------> CANCELLED

    The record knows no reactor, queue or worker: whoever calls its methods says what time it is, in
    seconds of that caller's clock.

    @ivar id: a number that is unique within its queue, in the order of putting.
    @ivar function: the callable.
    @ivar args: its positional arguments.
    @ivar kwargs: its keyword arguments.
    @ivar options: its L{TaskOptions}.
    @ivar priority: its place in its heap, lower first; C{None} until it was scheduled.
    @ivar state: one of the words in the picture.
    @ivar worker: the worker that has it, or had it last.
    @ivar attempts: how many times a worker got it and did not give it back unbegun.
    @ivar queuedTime: when it was put.
    @ivar startTime: when a worker got it, or C{None}.
    @ivar stopTime: when it was done, one way or the other, or C{None}.
    @ivar result: what the call returned, once the task is FINISHED.
    @ivar failure: why it is FAILED or CANCELLED.
    @ivar context: the context variables that its run is to find, as pairs of name and value, or
        C{None}.
    @ivar progress: how far its run has come, if it said so, or C{None}.
    @ivar expected: how many seconds the scheduler expects its run to take, once it was assigned.
    """

    __slots__ = (
        "args",
        "attempts",
        "context",
        "expected",
        "failure",
        "function",
        "id",
        "kwargs",
        "options",
        "place",
        "priority",
        "progress",
        "queuedTime",
        "result",
        "startTime",
        "state",
        "stopTime",
        "worker",
    )

    def __init__(
        self,
        id: int,
        function: Callable[..., Any],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] = NO_KEYWORDS,
        options: TaskOptions = USUAL,
        now: float = 0.0,
    ) -> None:
        self.id = id
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self.options = options
        self.queuedTime = now
        self.state: str = PENDING
        self.priority: float | None = None
        self.place: Place | None = None
        self.worker: Any = None
        self.attempts = 0
        self.startTime: float | None = None
        self.stopTime: float | None = None
        self.result: Any = None
        self.failure: Any = None
        self.expected: float | None = None
        self.context: tuple[tuple[str, Any], ...] | None = None
        self.progress: Any = None

    @property
    def series(self) -> Any:
        """
        The series of which this task is a part.
        """
        return self.options.series

    @property
    def callTuple(self) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
        """
        The call as AsynQueue 0.9's workers read it: function, args, kwargs.
        """
        return self.function, self.args, dict(self.kwargs)

    @property
    def isDone(self) -> bool:
        """
        C{True} once the task is FINISHED, FAILED or CANCELLED.
        """
        return not TASK[self.state]

    def start(self, worker: object, now: float) -> None:
        """
        A worker got it.

        @raise StateError: unless it is PENDING.
        """
        self.state = nextState(TASK, self.state, "start", self)
        self.worker = worker
        self.startTime = now
        self.attempts += 1

    def giveBack(self) -> None:
        """
        The worker never began it: it waits again, in its old place.

        @raise StateError: unless it is UNDERWAY.
        """
        self.state = nextState(TASK, self.state, "giveBack", self)
        self.worker = self.startTime = None
        self.attempts -= 1

    def finish(self, result: Any, now: float) -> None:
        """
        @raise StateError: unless it is UNDERWAY.
        """
        self.state = nextState(TASK, self.state, "finish", self)
        self.stopTime = now
        self.result = result

    def fail(self, failure: Any, now: float) -> None:
        """
        @raise StateError: if it is done.
        """
        self.state = nextState(TASK, self.state, "fail", self)
        self.stopTime = now
        self.failure = failure

    def cancelled(self, failure: Any, now: float) -> None:
        """
        @raise StateError: if it is done.
        """
        self.state = nextState(TASK, self.state, "cancel", self)
        self.stopTime = now
        self.failure = failure

    def __repr__(self) -> str:
        return f"<task {self.id} {functionName(self.function)}: {self.state}>"


def functionName(function: object) -> str:
    """
    @return: a short name of a callable, for people.
    """
    name = getattr(function, "__qualname__", None) or getattr(function, "__name__", None)
    if isinstance(name, str) and name:
        return name
    try:
        return repr(function)
    except Exception:
        return object.__repr__(function)


__all__ = [
    "CANCELLED",
    "FAILED",
    "FINISHED",
    "NO_KEYWORDS",
    "PENDING",
    "UNDERWAY",
    "Task",
    "functionName",
]
