"""
Stores that are stepped by hand, or break; and queues with a clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogEvent, LogLevel, eventAsText, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import provider

from asynqueue import DeadLetter, DurableJob, ResizableDispatchQueue
from asynqueue._dispatch.stores import Change
from asynqueue._reactor import Done, ImmediateExecutor, SerialExecutor
from asynqueue.errors import StoreError
from asynqueue.rdq import JobDeferred, MemoryJobStore, StoredJob
from tests.dispatch.cases import DispatchCase


class SteppedAside:
    """
    Calls a function when the test says so.
    """

    def __init__(self) -> None:
        self.calls: deque[tuple[Done, Callable[..., Any], Any]] = deque()
        self.isClosed = self.isHurried = False

    def call(self, done: Done, function: Callable[..., Any], *args: Any) -> None:
        self.calls.append((done, function, args))
        if self.isHurried:
            self.step()

    def wait(self, function: Callable[..., Any], *args: Any) -> Any:
        return function(*args)

    def hurry(self) -> None:
        self.isHurried = True
        self.stepAll()

    def close(self) -> None:
        self.isClosed = True

    def step(self) -> None:
        done, function, args = self.calls.popleft()
        try:
            result = function(*args)
        except Exception:
            result = Failure()
        done(result)

    def stepAll(self) -> None:
        while self.calls:
            self.step()


class FrailStore(MemoryJobStore):
    """
    @ivar groups: the changes of each commit that was made.
    @ivar isBroken: whether commits fail.
    """

    def __init__(self) -> None:
        super().__init__()
        self.groups: list[list[Change]] = []
        self.isBroken = False

    def apply(self, changes: list[Change]) -> None:
        if self.isBroken:
            raise StoreError("the disk is full")
        super().apply(changes)
        self.groups.append(changes)

    def content(self) -> list[StoredJob]:
        return self._inOrder()


@contextmanager
def capturedLogs() -> Iterator[list[str]]:
    """
    Gather the texts of errors that are logged.
    """
    texts: list[str] = []

    @provider(ILogObserver)
    def note(event: LogEvent) -> None:
        if event["log_level"] >= LogLevel.error:
            texts.append(eventAsText(event))

    globalLogPublisher.addObserver(note)
    try:
        yield texts
    finally:
        globalLogPublisher.removeObserver(note)


class WallClock:
    """
    Seconds since the epoch, as a test sets them.
    """

    now = 1_000_000.0


class DurableCase(DispatchCase):
    """
    Tests of queues with a store. C{self.aside} is C{None} for one that writes at once.
    """

    def setUp(self) -> None:
        super().setUp()
        self.store = FrailStore()
        self.wall = WallClock()
        self.aside: SteppedAside | None = None

    def makeDurable(
        self, func: Callable[[Any], Any] | None = None, width: int = 0, **keywords: Any
    ) -> ResizableDispatchQueue:
        case = self

        class Queue(ResizableDispatchQueue):
            def _makeExecutor(self) -> SerialExecutor:
                return ImmediateExecutor() if case.aside is None else case.aside

            def _wallClock(self) -> float:
                return case.wall.now

        function = self.held if func is None else func
        keywords = {"store": self.store, "storedAs": "held", **keywords}
        queue = Queue(function, width, reactor=self.clock, **keywords)
        self.queues.append(queue)
        return queue

    def crash(self) -> None:
        """
        The program is gone: nothing more of it is written.
        """
        old, self.store = self.store, FrailStore()
        self.store._jobs, self.store._highest = dict(old._jobs), old._highest
        old.isBroken = True
        for call in self.clock.getDelayedCalls():
            call.cancel()
        self.clock = type(self.clock)()
        self.held = type(self.held)()
        self.queues.clear()

    def rows(self) -> list[tuple[Any, ...]]:
        return [(row.arg, row.state, row.attempts) for row in self.store.content()]

    def lettersOf(self, queue: ResizableDispatchQueue) -> list[DeadLetter]:
        return self.successResultOf(queue.deadLetters())

    def _leaveNothing(self) -> None:
        self.store.isBroken = False
        super()._leaveNothing()
        if self.aside is not None:
            self.aside.stepAll()
            self.settle()


def saved(d: JobDeferred) -> Deferred[DurableJob]:
    job = d.job
    assert isinstance(job, DurableJob)
    return job.saved
