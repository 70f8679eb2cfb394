"""
Events: what one batch of messages from a runner, or one fact about it, means for the near side.

An event is data. A worker returns events, or reports them to the one listener that it has, and
calls nobody back otherwise. A queue's engine listens, or L{Standalone} where there is no queue.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from asynqueue._iteration.delivery import deliver
from asynqueue._iteration.sources import ItemSource
from asynqueue._workers.logs import logHere
from asynqueue.errors import PoisonTask

if TYPE_CHECKING:
    from asynqueue._queue.queuedtask import QueuedTask
    from asynqueue._runner.logs import Record
    from asynqueue._runner.packing import Packed
    from asynqueue._workers.protocol import NearStream
    from asynqueue.interfaces import IPoolWorker


class Ready(NamedTuple):
    """
    The worker can be given tasks: it has a runner, its first one or a new one.
    """


class Offered(NamedTuple):
    """
    A worker reached the place where it works, which offers more than was known before.

    @ivar series: series that the worker is qualified for.
    @ivar workers: more workers at that place. They are to be attached, and detached with this one.
    """

    series: list[Hashable]
    workers: Sequence[IPoolWorker]


class Lost(NamedTuple):
    """
    The worker can be given no tasks until it is L{Ready} again: its runner is gone or retires.
    """

    reason: Exception


class GaveUp(NamedTuple):
    """
    The worker can never work again. It still has the tasks that its C{crash} returns.
    """

    reason: Exception


class Ended(NamedTuple):
    """
    The worker has stopped, and nothing of it is left.

    @ivar reason: what its last runner ended with.
    """

    reason: Exception


class Stalled(NamedTuple):
    """
    The task that is running takes far longer than was expected of it. Nothing is to be sent ahead.
    """


class Blocked(NamedTuple):
    """
    A stream holds up the runner, so that it comes to no call. It is to be given none.
    """


class Unblocked(NamedTuple):
    """
    A runner that was L{Blocked} has said something, so that it may come to calls again.
    """


class Began(NamedTuple):
    """
    The worker begins an update that had to wait until the worker had nothing else.
    """

    task: QueuedTask


class Returned(NamedTuple):
    """
    A task returned a value.

    @ivar seconds: how long it ran, in seconds, or C{None} if that was not measured.
    """

    task: QueuedTask
    seconds: float | None
    value: object


class Raised(NamedTuple):
    """
    A task failed.

    @ivar seconds: how long it ran, in seconds, or C{None} if it did not run to its end.
    """

    task: QueuedTask
    seconds: float | None
    failure: Failure


class Yielded(NamedTuple):
    """
    A task returned an iterator. The worker is free for other tasks while the items come.

    @ivar seconds: how long the call ran, in seconds.
    """

    task: QueuedTask
    seconds: float | None
    stream: ItemSource


class Freed(NamedTuple):
    """
    The worker does not have a task any more. Another event tells how the task ended.
    """

    task: QueuedTask


class GivenBack(NamedTuple):
    """
    The worker does not have these tasks any more, and they are to be run again.

    @ivar hadBegun: whether they had begun, so that this attempt counts.
    """

    tasks: list[QueuedTask]
    hadBegun: bool = False


class Progressed(NamedTuple):
    """
    A task's function reported how far it has come. The task is C{None} if it is over.
    """

    task: QueuedTask | None
    done: float
    total: float | None


class Logged(NamedTuple):
    """
    Something was logged in the runner.

    @ivar taskID: the ID of the task that was running, or C{None}.
    """

    taskID: int | None
    record: Record


class StacksTold(NamedTuple):
    """
    A runner told what it is doing. Only its supervisor hears of this.

    @ivar question: the number of the question.
    @ivar task: the task whose code was running, or C{None}.
    @ivar text: the stacks of the runner's threads.
    """

    question: int
    task: QueuedTask | None
    text: str


class Items(NamedTuple):
    """
    A batch of a stream's items arrived, packed.

    @ivar size: how many bytes of credit it used.
    """

    stream: NearStream
    batch: list[Packed]
    size: int


class StreamEnded(NamedTuple):
    """
    A stream has no more items.

    @ivar failure: what its iterator raised, or C{None} if it came to its end.
    """

    stream: ItemSource
    failure: Failure | None = None


class StreamLost(NamedTuple):
    """
    A stream has no more items because its runner is gone, or its worker ends.

    @ivar failure: why.
    """

    stream: ItemSource
    failure: Failure


WorkerEvent = (
    Ready
    | Offered
    | Lost
    | GaveUp
    | Ended
    | Stalled
    | Blocked
    | Unblocked
    | Began
    | Returned
    | Raised
    | Yielded
    | Freed
    | GivenBack
    | Progressed
    | Logged
    | StacksTold
    | Items
    | StreamEnded
    | StreamLost
)


def released(events: Sequence[WorkerEvent]) -> list[QueuedTask]:
    """
    @return: the tasks that a worker no longer has, or whose items are all that is left of them.
    """
    tasks: list[QueuedTask] = []
    for event in events:
        if isinstance(event, (Returned, Raised, Yielded, Freed)):
            tasks.append(event.task)
        elif isinstance(event, GivenBack):
            tasks += event.tasks
    return tasks


def diedWith(task: QueuedTask, reason: Exception) -> Raised:
    """
    @param reason: how the runner of a task died that was begun for the last time.
    @return: the end of the task. It is poison if several runs of it have died.
    """
    error = reason
    if task.options.runs > 1:
        times = task.attempts
        error = PoisonTask(f"{task} was begun {times} times, and each time its worker died")
        error.__cause__ = reason
    return Raised(task, None, Failure(error))


def perform(event: WorkerEvent, worker: object, reactor: IReactorTime) -> None:
    """
    Do what an event of a stream, of progress or of a log means. This may run code of the program:
    a consumer, an observer, a log's handler.
    """
    if isinstance(event, Items):
        event.stream.arrived(event.batch, event.size)
    elif isinstance(event, StreamEnded):
        if event.failure is None:
            event.stream.end()
        else:
            event.stream.fail(event.failure)
    elif isinstance(event, StreamLost):
        event.stream.lose(event.failure)
    elif isinstance(event, Yielded):
        if event.task.isDone:
            event.stream.stop()
        else:
            deliver(event.task, event.stream, reactor)
    elif isinstance(event, Progressed):
        if event.task is not None:
            event.task.reported(event.done, event.total)
    elif isinstance(event, Logged):
        logHere(worker, event.taskID, event.record)
