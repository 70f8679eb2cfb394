"""
Tasks: one call to make, with its scheduling facts, and what tasks and jobs have in common.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from asynqueue._core.heap import Place
from asynqueue._core.options import USUAL, TaskOptions
from asynqueue._core.states import PENDING, TASK, nextState


class Record:
    """
    Something that waits for its turn, is underway, and comes to an end::

                         giveBack
                      +-------------+
                      v             |
        put ---> PENDING --start--> UNDERWAY --finish--> FINISHED
                   |  |               |  |
                   |  +-----fail------+--|-------------> FAILED
                   +-------cancel--------+-------------> CANCELLED

    It knows no reactor, queue or worker: whoever calls its methods says what time it is, in seconds
    of that caller's clock.

    @ivar id: a number that is unique within its queue, in the order of putting.
    @ivar priority: its place among those that wait, lower first.
    @ivar state: one of the words in the picture.
    @ivar attempts: how many times it was begun.
    @ivar queuedTime: when it was put.
    @ivar startTime: when it was begun, the last time, or C{None}.
    @ivar stopTime: when it was done, one way or the other, or C{None}.
    @ivar result: what came of it, once it is FINISHED.
    @ivar failure: why it is FAILED or CANCELLED, or C{None}.
    @ivar place: for the heap in which it waits.
    """

    __slots__ = (
        "attempts",
        "failure",
        "id",
        "place",
        "priority",
        "queuedTime",
        "result",
        "startTime",
        "state",
        "stopTime",
    )

    priority: Any

    def __init__(self, id: int, priority: float | None, now: float) -> None:
        self.id = id
        self.priority = priority
        self.queuedTime = now
        self.state: str = PENDING
        self.place: Place | None = None
        self.attempts = 0
        self.startTime: float | None = None
        self.stopTime: float | None = None
        self.result: Any = None
        self.failure: Any = None

    @property
    def isDone(self) -> bool:
        """
        C{True} once it is FINISHED, FAILED or CANCELLED.
        """
        return not TASK[self.state]

    def begin(self, now: float) -> None:
        """
        It is underway.

        @raise StateError: unless it is PENDING.
        """
        self.state = nextState(TASK, self.state, "start", self)
        self.startTime = now
        self.attempts += 1

    def waitAgain(self) -> None:
        """
        It is not underway any more, and not done either.

        @raise StateError: unless it is UNDERWAY.
        """
        self.state = nextState(TASK, self.state, "giveBack", self)

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

    def giveUp(self, failure: Any, now: float) -> None:
        """
        @raise StateError: if it is done.
        """
        self.state = nextState(TASK, self.state, "cancel", self)
        self.stopTime = now
        self.failure = failure


class Progress(NamedTuple):
    """
    What a task's function said last of how far it has come.

    @ivar done: how much is done, in whatever unit the function counts.
    @ivar total: how much there is to do, in the same unit; C{None} if that is not known.
    @ivar time: when that was heard, in seconds of the queue's clock.
    """

    done: float
    total: float | None
    time: float


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
