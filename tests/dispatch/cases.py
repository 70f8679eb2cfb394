"""
Test cases with a clock and functions that are held.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from asynqueue.rdq import Job, JobDeferred, ResizableDispatchQueue


class CountingClock(Clock):
    """
    A clock that counts how many calls were asked of it.
    """

    asked = 0

    def callLater(self, *args: Any, **kw: Any) -> Any:
        self.asked += 1
        return super().callLater(*args, **kw)


class Held:
    """
    A function whose calls end when the test says so.

    @ivar begun: the arguments of all calls, in their order.
    @ivar cancelled: the arguments of those that were cancelled.
    """

    def __init__(self) -> None:
        self.begun: list[Any] = []
        self.cancelled: list[Any] = []
        self._calls: dict[Any, Deferred[Any]] = {}

    def __call__(self, jobarg: Any) -> Deferred[Any]:
        self.begun.append(jobarg)
        d: Deferred[Any] = Deferred(lambda _: self._cancel(jobarg))
        self._calls[jobarg] = d
        return d

    def finish(self, *jobargs: Any) -> None:
        for jobarg in jobargs:
            self._calls.pop(jobarg).callback(f"{jobarg}!")

    def fail(self, jobarg: Any, error: Exception) -> None:
        self._calls.pop(jobarg).errback(error)

    def _cancel(self, jobarg: Any) -> None:
        del self._calls[jobarg]
        self.cancelled.append(jobarg)


class DispatchCase(SynchronousTestCase):
    """
    Tests of dispatch queues with a clock. After each test the queues are stopped, what they left is
    handled, and the clock must have nothing left to do.
    """

    def setUp(self) -> None:
        self.clock = CountingClock()
        self.held = Held()
        self.queues: list[ResizableDispatchQueue] = []
        self.addCleanup(self._leaveNothing)

    def makeQueue(
        self, func: Callable[[Any], Any] | None = None, width: int = 0, **keywords: Any
    ) -> ResizableDispatchQueue:
        """
        @param func: by default C{self.held}.
        """
        function = self.held if func is None else func
        queue = ResizableDispatchQueue(function, width, reactor=self.clock, **keywords)
        self.queues.append(queue)
        return queue

    def putAll(self, queue: ResizableDispatchQueue, jobargs: Any, **keywords: Any) -> list[Job]:
        """
        Put jobs whose Deferreds nobody listens to.
        """
        return [self.silenced(queue.put(jobarg, **keywords)).job for jobarg in jobargs]

    def silenced(self, d: JobDeferred) -> JobDeferred:
        d.addErrback(lambda failure: None)
        return d

    def settle(self) -> None:
        """
        Have everything done that can be done without time passing.
        """
        self.clock.advance(0)

    def errorOf(self, d: Deferred[Any], *kinds: type[BaseException]) -> Any:
        return self.failureResultOf(d, *kinds).value

    def argsOf(self, jobs: Any) -> list[Any]:
        return [job.jobarg for job in jobs]

    def assertStates(self, jobs: list[Job], *states: str) -> None:
        assert [job.state for job in jobs] == list(states)

    def _leaveNothing(self) -> None:
        for queue in self.queues:
            for job in [*queue.pending(), *queue.underway()]:
                self.silenced(job.watch())
            queue.stop(cancelUnderway=True)
        self.settle()
        self.assertEqual(self.clock.getDelayedCalls(), [])


def firings(d: Deferred[Any]) -> list[Any]:
    """
    @return: a list that gets what the Deferred fires with, each time that it does; the exception
        instead of a Failure.
    """
    fired: list[Any] = []

    def note(result: Any) -> None:
        fired.append(result.value if isinstance(result, Failure) else result)

    d.addBoth(note)
    return fired
