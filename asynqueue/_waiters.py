"""
Deferreds that wait for the same thing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, KeysView
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

from asynqueue._core.task import Progress, T

if TYPE_CHECKING:
    from asynqueue._queue.queuedtask import TaskOwner

_T = TypeVar("_T")


class Waiters(Generic[_T]):
    """
    Deferreds that wait for the same thing, in the order of asking.

    Cancelling one of them ends only that wait. A callback may add a waiter, cancel another one or
    fire them again.
    """

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: OrderedDict[Deferred[_T], Any] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, d: object) -> bool:
        return d in self._waiting

    @property
    def deferreds(self) -> KeysView[Deferred[_T]]:
        """
        A view of the Deferreds that wait, in the order of asking.
        """
        return self._waiting.keys()

    def add(self, condition: object = None) -> Deferred[_T]:
        """
        Make a Deferred that waits.

        @param condition: what L{fireWhere} is to look at.
        """
        d: Deferred[_T] = Deferred(lambda d: self._waiting.pop(d, None))
        self._waiting[d] = condition
        return d

    def take(self) -> Deferred[_T]:
        """
        Take out the Deferred that has waited for the longest time, and do not fire it.

        @raise KeyError: if none waits.
        """
        return self._waiting.popitem(last=False)[0]

    def fire(self, result: _T | Failure) -> int:
        """
        Fire every Deferred that waits now. A Deferred that a callback adds goes on waiting.

        @return: how many were fired.
        """
        return self.fireWhere(lambda _: True, result)

    def fireWhere(self, isMet: Callable[[Any], bool], result: _T | Failure) -> int:
        """
        Fire every Deferred that waits now and whose condition is met when its turn comes.

        @param isMet: is called with the condition that L{add} was given.
        @return: how many were fired.
        """
        return sum(self.fireOne(d, result, isMet) for d in tuple(self._waiting))

    def fireOne(
        self,
        d: Deferred[_T],
        result: _T | Failure,
        isMet: Callable[[Any], bool] = lambda _: True,
    ) -> bool:
        """
        Fire a Deferred, if it still waits and its condition is met.

        @return: whether it was fired.
        """
        if d not in self._waiting or not isMet(self._waiting[d]):
            return False
        del self._waiting[d]
        d.callback(result)
        return True


class OneShotObserverList(Generic[_T]):
    """
    A result that is given once. Everybody who asks for it gets it, before or after.

    A failure that nobody asks for is logged, like any other unhandled failure.
    """

    def __init__(self) -> None:
        self._waiters: Waiters[_T] = Waiters()
        self._result: _T | Failure | None = None
        self._unclaimed: Deferred[_T] | None = None
        self.hasFired = False

    def __len__(self) -> int:
        """
        How many wait now.
        """
        return len(self._waiters)

    def fire(self, result: _T | Failure) -> None:
        """
        Give the result. Only the first call has an effect.
        """
        if self.hasFired:
            return
        self.hasFired = True
        self._result = result
        if isinstance(result, Failure) and not self._waiters:
            self._unclaimed = fail(result)
        self._waiters.fire(result)

    def whenFired(self) -> Deferred[_T]:
        """
        @return: a Deferred that fires with the result, at once if that was given already.
            Cancelling it ends only this wait.
        """
        if not self.hasFired:
            return self._waiters.add()
        if self._unclaimed is not None:
            self._unclaimed.addErrback(lambda _: None)
            self._unclaimed = None
        if isinstance(self._result, Failure):
            return fail(self._result)
        return succeed(self._result)  # type: ignore[arg-type]


class TaskDeferred(Deferred[T], Generic[T]):
    """
    The Deferred of a task.

    @ivar owner: the queue that the task belongs to.
    @ivar whenProgressed: is called with each progress that the task's function reports, or C{None}.
        The queue may be in the middle of something, so this is not to run the program's code.
    """

    # No slot, because Python 3.13 keeps the attributes of an instance with slots in a dictionary,
    # which takes up 304 bytes more.
    owner: TaskOwner

    whenProgressed: Callable[[Progress], object] | None = None


class QuietDeferred(Deferred[Any]):
    """
    A Deferred that can fail without being logged if nobody handles the failure.

    @ivar isQuiet: whether it has failed like that.
    """

    isQuiet = False

    def fail(self, failure: Failure, isQuiet: bool) -> None:
        """
        @param isQuiet: whether the failure is not logged if nobody handles it. Everybody who
            listens, now or later, still gets it.
        """
        self.isQuiet = isQuiet
        self.errback(failure)

    def __del__(self) -> None:
        if self.isQuiet:
            # Nobody can listen any more, so this handles the failure that Twisted would log.
            self.addErrback(_ignore)


def _ignore(failure: Failure) -> None:
    return None
