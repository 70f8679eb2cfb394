"""
The task record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from asynqueue.tasks.options import USUAL, TaskOptions
from asynqueue.tasks.record import Record
from asynqueue.tasks.states import CANCELLED, FAILED, FINISHED, PENDING, UNDERWAY

NO_KEYWORDS: Final[Mapping[str, Any]] = MappingProxyType({})
"""What tasks without keyword arguments share."""


class Task(Record):
    """
    One call to make, with its scheduling facts.

    C{startTime} is when a worker got it; C{attempts} says how many times one did, and did not give
    it back unbegun. C{priority} is C{None} until it was scheduled.

    @ivar function: the callable.
    @ivar args: its positional arguments.
    @ivar kwargs: its keyword arguments.
    @ivar options: its L{TaskOptions}.
    @ivar worker: the worker that has it, or had it last.
    @ivar context: the context variables that its run is to find, as pairs of name and value, or
        C{None}.
    @ivar progress: how far its run has come, if it said so, or C{None}.
    @ivar expected: how many seconds the scheduler expects its run to take, once it was assigned.
    """

    __slots__ = (
        "args",
        "context",
        "expected",
        "function",
        "kwargs",
        "options",
        "progress",
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
        super().__init__(id, None, now)
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self.options = options
        self.worker: Any = None
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

    def start(self, worker: object, now: float) -> None:
        """
        A worker got it.

        @raise StateError: unless it is PENDING.
        """
        self.begin(now)
        self.worker = worker

    def giveBack(self) -> None:
        """
        The worker never began it: it waits again, in its old place.

        @raise StateError: unless it is UNDERWAY.
        """
        self.waitAgain()
        self.worker = self.startTime = None
        self.attempts -= 1

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
