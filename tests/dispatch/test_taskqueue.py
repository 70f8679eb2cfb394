from __future__ import annotations

from typing import Any

from asynqueue.errors import QueueStopped
from asynqueue.rdq import Job, JobCancelled, ResizableDispatchQueue, Retry
from asynqueue.testing import far
from tests.dispatch.cases import firings
from tests.support.cases import QueueCase


class TaskQueueTests(QueueCase):
    def makeDispatcher(self, function: Any, width: int, **keywords: Any) -> None:
        """
        Make C{self.dispatcher}, on a task queue with two workers that are stepped by hand.
        """
        self.hands = [self.makeWorker(stepSeconds=None) for _ in range(2)]
        self.tasks = self.makeQueue(*self.hands)
        keywords.setdefault("queue", self.tasks)
        self.dispatcher = ResizableDispatchQueue(
            function,
            width,
            reactor=self.clock,
            **keywords,
        )

    def work(self) -> None:
        """
        Have the workers do all that they can.
        """
        for _ in range(20):
            self.settle()
            for worker in self.hands:
                worker.stepAll()
        self.settle()

    def test_workersCallTheFunction(self) -> None:
        self.makeDispatcher(far.square, 3)
        ds = [self.dispatcher.put(number) for number in range(10)]
        self.settle()
        assert self.dispatcher.size() == (3, 7)
        self.work()
        assert [self.successResultOf(d).result for d in ds] == [n * n for n in range(10)]
        assert self.dispatcher.size() == (0, 0)

    def test_failuresComeBackWithTheirJob(self) -> None:
        self.makeDispatcher(far.reciprocal, 3)
        d = self.dispatcher.put(0)
        self.work()
        assert self.failureResultOf(d, ZeroDivisionError).value.job is d.job

    def test_failedJobIsTriedAgain(self) -> None:
        self.makeDispatcher(far.reciprocal, 3, retry=Retry(3, delays=float))
        d = self.dispatcher.put(0)
        for _ in range(3):
            self.work()
            self.clock.advance(5)
        self.failureResultOf(d, ZeroDivisionError)
        assert d.job.attempts == 3

    def test_cancellingAJobCancelsItsTask(self) -> None:
        self.makeDispatcher(far.square, 10)
        ds = [self.dispatcher.put(number) for number in range(5)]
        fired = firings(ds[4])
        self.settle()
        assert self.dispatcher.size() == (5, 0)
        ds[4].cancel()
        assert [type(each) for each in fired] == [JobCancelled]
        self.work()
        assert [self.successResultOf(d).result for d in ds[:4]] == [0, 1, 4, 9]
        assert self.dispatcher.size() == (0, 0)

    def test_optionsOfTheTaskQueueMayBeNamed(self) -> None:
        self.makeDispatcher(far.square, 1)
        urgent = ResizableDispatchQueue(
            far.square, 1, queue=self.tasks.options(niceness=-5), reactor=self.clock
        )
        d = urgent.put(3)
        self.work()
        assert self.successResultOf(d).result == 9

    def test_stopLeavesTheTaskQueueRunning(self) -> None:
        self.makeDispatcher(far.square, 1)
        d, waiting = self.dispatcher.put(3), self.dispatcher.put(4)
        self.settle()
        stopped = self.dispatcher.stop()
        self.failureResultOf(waiting, QueueStopped)
        self.assertNoResult(stopped)
        self.work()
        assert self.successResultOf(d).result == 9
        assert self.successResultOf(stopped) == [waiting.job]
        other = self.tasks.call(far.square, 5)
        self.work()
        assert self.successResultOf(other) == 25

    def test_taskQueueThatRefusesFailsTheJobs(self) -> None:
        self.makeDispatcher(far.square, 1)
        self.stopQueue(self.tasks)
        ds = [self.dispatcher.put(number) for number in range(3)]
        self.settle()
        for d in ds:
            assert self.failureResultOf(d, QueueStopped).value.job is d.job
            assert d.job.state == Job.FAILED
