"""
The records of tasks and jobs. A task is one call to make, with its scheduling facts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple

from asynqueue._core.heap import Place
from asynqueue._core.options import USUAL, TaskOptions
from asynqueue._core.states import FINISHED, PENDING, TASK, nextState
from asynqueue.errors import StateError

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from asynqueue.interfaces import IWorker

    T = TypeVar("T", default=Any)
else:
    from typing import TypeVar

    T = TypeVar("T")


class Record:
    """
    Something that waits for its turn, is underway, and ends::

                         giveBack
                      +-------------+
                      v             |
        put ---> PENDING --start--> UNDERWAY --finish--> FINISHED
                   |  |               |  |
                   |  +-----fail------+--|-------------> FAILED
                   +-------cancel--------+-------------> CANCELLED

    A record knows no reactor, queue or worker. The caller of a method says what time it is, in
    seconds of the caller's clock.

    @ivar id: a number that is unique within the queue, in the order of putting.
    @ivar priority: the record's place among those that wait, lower first.
    @ivar state: one of the words in the picture.
    @ivar attempts: how many times it was begun.
    @ivar queuedTime: when it was put.
    @ivar startTime: when it was last begun, or C{None}.
    @ivar stopTime: when it ended, or C{None}.
    @ivar outcome: the result once it is FINISHED; the reason once it is FAILED or CANCELLED. After
        an attempt that failed, this is why it failed. Otherwise C{None}.
    @ivar progress: the latest C{Progress} that its function reported, or C{None}.
    @ivar place: belongs to the heap in which the record waits.
    """

    # A million records may wait, and each slot costs 8 bytes.
    __slots__ = (
        "attempts",
        "id",
        "outcome",
        "place",
        "priority",
        "progress",
        "queuedTime",
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
        self.outcome: Any = None
        self.progress: Progress | Any = None

    @property
    def result(self) -> Any:
        """
        Its result, once it is FINISHED; C{None} before.
        """
        return self.outcome if self.state == FINISHED else None

    @property
    def failure(self) -> Any:
        """
        Why it is FAILED or CANCELLED, or why the last attempt failed; C{None} otherwise.
        """
        return None if self.state == FINISHED else self.outcome

    @property
    def isDone(self) -> bool:
        """
        Whether it is FINISHED, FAILED or CANCELLED.
        """
        return not TASK[self.state]

    def begin(self, now: float) -> None:
        """
        Go from PENDING to UNDERWAY.

        @raise StateError: unless it is PENDING.
        """
        # Looked up here, because a function that did it would take longer than all the rest.
        if "start" not in TASK[self.state]:
            raise StateError(self, self.state, "start")
        self.state = TASK[self.state]["start"]
        self.startTime = now
        self.attempts += 1

    def waitAgain(self) -> None:
        """
        Go from UNDERWAY back to PENDING.

        @raise StateError: unless it is UNDERWAY.
        """
        self.state = nextState(TASK, self.state, "giveBack", self)

    def retry(self, failure: object) -> None:
        """
        Go from UNDERWAY back to PENDING, because an attempt has failed.

        @raise StateError: unless it is UNDERWAY.
        """
        self.waitAgain()
        self.outcome = failure

    def finish(self, result: object, now: float) -> None:
        """
        @raise StateError: unless it is UNDERWAY.
        """
        if "finish" not in TASK[self.state]:
            raise StateError(self, self.state, "finish")
        self.state = TASK[self.state]["finish"]
        self.stopTime = now
        self.outcome = result

    def fail(self, failure: object, now: float) -> None:
        """
        @raise StateError: if it is done.
        """
        self.state = nextState(TASK, self.state, "fail", self)
        self.stopTime = now
        self.outcome = failure

    def giveUp(self, failure: object, now: float) -> None:
        """
        Go to CANCELLED.

        @raise StateError: if it is done.
        """
        self.state = nextState(TASK, self.state, "cancel", self)
        self.stopTime = now
        self.outcome = failure


def giveUpAll(records: Iterable[Record], now: float) -> int:
    """
    Have all those that are PENDING go to CANCELLED, without an outcome yet. A call for each would
    take longer than all the rest.

    @return: how many these were.
    """
    number = 0
    cancelled = TASK[PENDING]["cancel"]
    for record in records:
        if record.state is PENDING:
            record.state = cancelled
            record.stopTime = now
            # A task that waited to be tried again had one.
            record.outcome = None
            number += 1
    return number


class Progress(NamedTuple):
    """
    How far a task has come, as its function last reported.

    @ivar done: how much is done, in the function's own unit.
    @ivar total: how much there is to do, in the same unit; C{None} if that is unknown.
    @ivar time: when the report was heard, in seconds of the queue's clock.
    """

    done: float
    total: float | None
    time: float


class Size(NamedTuple):
    """
    How many tasks or jobs a queue has that are not done.
    """

    underway: int
    pending: int


NO_KEYWORDS: Final[Mapping[str, Any]] = MappingProxyType({})
"""The keyword arguments of all tasks that have none."""


class Task(Record, Generic[T]):
    """
    One call to make, with its scheduling facts. C{Task[int]} is one whose result is an integer.

    C{startTime} is when a worker got the task. C{attempts} counts the workers that got it and did
    not give it back unbegun. C{priority} is C{None} until the task is scheduled.

    @ivar function: the callable.
    @ivar args: its positional arguments.
    @ivar kwargs: its keyword arguments.
    @ivar options: its L{TaskOptions}.
    @ivar worker: the worker that has it, or had it last.
    @ivar context: the context variables for its run, as pairs of name and value, or C{None}.
    @ivar expected: how many seconds the scheduler expects its run to take. C{None} until the
        scheduler has assigned it.
    """

    __slots__ = (
        "args",
        "context",
        "expected",
        "function",
        "kwargs",
        "options",
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
        # What Record.__init__ does, written again because a call of it takes a third of all this.
        self.id = id
        self.priority = None
        self.queuedTime = now
        self.state = PENDING
        self.place = None
        self.attempts = 0
        self.startTime = None
        self.stopTime = None
        self.outcome = None
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self.options = options
        self.worker: IWorker | None = None
        self.expected: float | None = None
        self.context: tuple[tuple[str, Any], ...] | None = None
        self.progress = None

    @property
    def series(self) -> Any:
        """
        The series that this task belongs to.
        """
        return self.options.series

    @property
    def callTuple(self) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
        """
        The call as AsynQueue 0.9's workers read it: function, args, kwargs.
        """
        return self.function, self.args, dict(self.kwargs)

    def start(self, worker: IWorker, now: float) -> None:
        """
        Note that a worker got it.

        @raise StateError: unless it is PENDING.
        """
        self.begin(now)
        self.worker = worker

    def giveBack(self) -> None:
        """
        Note that the worker did not begin it, so that it waits again in its old place.

        @raise StateError: unless it is UNDERWAY.
        """
        self.waitAgain()
        self.worker = self.startTime = None
        self.attempts -= 1

    def __repr__(self) -> str:
        return f"<task {self.id} {functionName(self.function)}: {self.state}>"


def functionName(function: object) -> str:
    """
    @return: a short name of a callable, for people to read.
    """
    for attribute in ("__qualname__", "__name__"):
        try:
            name = getattr(function, attribute, None)
        except Exception:
            # The callable has a __getattr__ of its own.
            name = None
        if isinstance(name, str) and name:
            return name
    try:
        return repr(function)
    except Exception:
        return object.__repr__(function)
