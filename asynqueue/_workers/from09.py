"""
What programs for AsynQueue 0.9 give to a worker, and ask of it, with no queue in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import count
from typing import TYPE_CHECKING, Any, Final, cast

from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger
from twisted.python.failure import Failure

from asynqueue._core.options import USUAL
from asynqueue._core.task import Task
from asynqueue._iteration.deferator import Deferator
from asynqueue._iteration.sources import ItemSource
from asynqueue.tools.info import Info

if TYPE_CHECKING:
    from asynqueue._queue.queuedtask import QueuedTask
    from asynqueue.interfaces import IWorker

_OPTIONS: Final = ("consumer", "doNext", "raw")
"""The keywords of a call that AsynQueue 0.9's workers took out of it."""

_IDs = count(-1, -1)


class OldTask(Task):
    """
    A task of AsynQueue 0.9's shape, as the workers here run it.

    The task is told once what came of it, as AsynQueue 0.9's workers told it: with C{b"r"} and the
    result; with C{b"i"} and a Deferator, or the consumer that got the items; or with C{b"e"} and a
    text about the exception.

    @ivar old: the task, which has a C{callTuple} and a method C{callback}. Its C{priority} means
        nothing here, because a worker runs what it is given in that order.
    """

    __slots__ = ("_seconds", "old")

    log = Logger()

    isUpdate = False

    # The task is an object of the program, which has these two members.
    def __init__(self, old: Any, seconds: Callable[[], float]) -> None:
        """
        @param seconds: gives the time.
        """
        function, args, keywords = old.callTuple
        kw = dict(keywords)
        changes = {name: kw.pop(name) for name in _OPTIONS if name in kw}
        # In AsynQueue 0.9 any value would do where it meant yes or no.
        changes["doNext"] = bool(changes.get("doNext"))
        super().__init__(next(_IDs), function, tuple(args), kw, USUAL.changed(**changes), seconds())
        self.old = old
        self._seconds = seconds

    def callback(self, result: object) -> None:
        """
        Finish the task with its result.
        """
        if not self.isDone:
            self.finish(result, self._seconds())
            isIteration = isinstance(result, Deferator) or self.options.consumer is not None
            self._tell(b"i" if isIteration else b"r", result)

    def errback(self, failure: Failure | BaseException) -> None:
        """
        Fail the task.
        """
        if not self.isDone:
            if not isinstance(failure, Failure):
                failure = Failure(failure)
            self.fail(failure, self._seconds())
            info = Info().setCall(self.function, self.args, dict(self.kwargs))
            self._tell(b"e", info.aboutFailure(failure))

    def reported(self, done: float, total: float | None) -> None:
        """
        Do nothing, because AsynQueue 0.9's tasks hear of no progress.
        """

    def _tell(self, status: bytes, result: object) -> None:
        try:
            self.old.callback((status, result))
        except Exception:
            self.log.failure("the callback of {task} failed", task=self.old)


def asTask(task: Any, worker: IWorker, seconds: Callable[[], float]) -> QueuedTask:
    """
    Make a task out of what a worker is given to run, unless it is one.

    @param seconds: gives the time.
    """
    if hasattr(task, "options"):
        given: QueuedTask = task
        return given
    made = OldTask(task, seconds)
    made.start(worker, seconds())
    # It has all that a worker asks of a task.
    return cast("QueuedTask", made)


def asGiven(tasks: Iterable[QueuedTask]) -> list[Any]:
    """
    @return: the tasks as the program knows them.
    """
    return [task.old if isinstance(task, OldTask) else task for task in tasks]


def nextItem(source: ItemSource | None) -> Deferred[Any]:
    """
    Take the next item from a stream.

    @return: a Deferred that fires with the item. It fails with C{StopIteration} at the end or if
        there is no stream, with what the stream failed with, or with C{NotReadyError} if somebody
        else waits for the next item.
    """
    if source is None:
        return fail(StopIteration())
    source.want()
    done: Deferred[Any] = Deferred(lambda _: source.listen(None))

    def look() -> bool:
        if source.items:
            source.listen(None)
            done.callback(source.take())
        elif source.isOver:
            source.listen(None)
            done.errback(source.failure or Failure(StopIteration()))
        else:
            return False
        return True

    try:
        # Somebody who waits is to have the next item.
        source.listen(look)
    except Exception:
        return fail()
    look()
    return done
