from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from asynqueue import TaskQueue
from asynqueue.errors import QueueFull, QueueStopped
from asynqueue.rdq import Job, JobCancelled, ResizableDispatchQueue, Retry
from asynqueue.testing import StepWorker, far
from tests.dispatch.cases import DispatchCase, firings
from tests.dispatch.stored import FrailStore, SteppedAside
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


class BoundedTests(DispatchCase):
    """
    The task queue takes one call besides the one that its worker has.
    """

    def setUp(self) -> None:
        super().setUp()
        self.worker = StepWorker()
        self.tasks = TaskQueue(self.worker, maxPending=1, reactor=self.clock)

    def _leaveNothing(self) -> None:
        super()._leaveNothing()
        done = self.tasks.shutdown()
        while self.worker.step():
            pass
        self.successResultOf(done)

    def dispatch(self, width: int = 10, **keywords: Any) -> ResizableDispatchQueue:
        return self.makeQueue(far.square, width, queue=self.tasks, **keywords)

    def results(self, ds: list[Any]) -> list[Any]:
        """
        Have everything run.
        """
        while self.worker.step():
            self.settle()
        return [self.successResultOf(d).result for d in ds]

    def test_jobsWaitForRoomRatherThanFail(self) -> None:
        queue = self.dispatch()
        ds = [queue.put(number) for number in range(5)]
        self.settle()
        # They are not underway, so the width does not count them.
        assert queue.size() == (2, 3)
        assert self.tasks.load == 2
        assert self.results(ds) == [0, 1, 4, 9, 16]
        assert [d.job.attempts for d in ds] == [1] * 5
        assert self.clock.getDelayedCalls() == []

    def test_meanwhileTheyCanBeMovedAndCancelled(self) -> None:
        queue = self.dispatch()
        ds = [queue.put(number) for number in range(6)]
        self.settle()
        ended: list[int] = []
        for d in ds:
            d.addCallbacks(lambda job: ended.append(job.jobarg), lambda failure: None)
        ds[5].job.reprioritize(-1)
        ds[2].cancel()
        queue.put(9, priority=-2).addCallback(lambda job: ended.append(job.jobarg))
        while self.worker.step():
            self.settle()
        assert ended == [0, 1, 9, 5, 3, 4]

    def test_othersMayFillTheTaskQueue(self) -> None:
        calls = [self.tasks.call(far.echo, number) for number in range(2)]
        queue = self.dispatch()
        d = queue.put(3)
        self.settle()
        assert queue.size() == (0, 1)
        assert self.results([d]) == [9]
        assert [self.successResultOf(call) for call in calls] == [0, 1]

    def test_queuesThatShareItTakeTurns(self) -> None:
        queues = [self.dispatch() for _ in range(3)]
        ended: list[int] = []
        for number, queue in enumerate(queues):
            for _ in range(3):
                queue.put(0).addCallback(lambda _, number: ended.append(number), number)
        self.settle()
        while self.worker.step():
            self.settle()
        assert sorted(ended) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
        assert {*ended[2:5]} == {0, 1, 2}

    def test_aNarrowerOrPausedQueueLeavesTheRoomToOthers(self) -> None:
        changes: list[Callable[[ResizableDispatchQueue], object]] = [
            lambda queue: queue.pause().addErrback(lambda _: None),
            lambda queue: queue.setWidth(0),
            lambda queue: queue.clearQueue(),
            lambda queue: queue.stop(),
        ]
        for change in changes:
            queue = self.dispatch()
            self.putAll(queue, range(5))
            self.settle()
            ready = self.tasks.whenReady()
            change(queue)
            self.worker.step()
            self.successResultOf(ready)
            while self.worker.step():
                self.settle()

    def test_aCancelledJobWaitsForRoomNoLonger(self) -> None:
        queue = self.dispatch()
        ds = [queue.put(number) for number in range(3)]
        self.settle()
        fired = firings(ds[2])
        ds[2].cancel()
        self.settle()
        assert [type(each) for each in fired] == [JobCancelled]
        assert self.results(ds[:2]) == [0, 1]
        assert queue.size() == (0, 0)

    def test_shutdownOfTheTaskQueueFailsTheJobsThatWaitForRoom(self) -> None:
        queue = self.dispatch()
        ds = [queue.put(number) for number in range(4)]
        self.settle()
        self.tasks.shutdown()
        self.settle()
        for d in ds[2:]:
            self.failureResultOf(d, QueueStopped)
        assert self.results(ds[:2]) == [0, 1]

    def test_optionsOfABoundedQueueAreBoundedToo(self) -> None:
        queue = self.makeQueue(far.square, 10, queue=self.tasks.options(niceness=3))
        ds = [queue.put(number) for number in range(4)]
        self.settle()
        assert queue.size() == (2, 2)
        assert self.results(ds) == [0, 1, 4, 9]

    def test_rateIsNotUsedUpByJobsThatWaitForRoom(self) -> None:
        queue = self.dispatch(rate=3, per=10.0)
        ds = [queue.put(number) for number in range(5)]
        self.settle()
        assert self.results(ds[:3]) == [0, 1, 4]
        assert queue.size() == (0, 2)
        self.clock.advance(10)
        self.settle()
        assert self.results(ds[3:]) == [9, 16]

    def test_aFunctionsOwnQueueFullIsItsFailure(self) -> None:
        def full(_: object) -> None:
            raise QueueFull("mine")

        queue = self.makeQueue(full, 1)
        d = queue.put(1)
        self.settle()
        assert str(self.errorOf(d, QueueFull)) == "mine"


class StoredAside(ResizableDispatchQueue):
    """
    Writes when the test says so.
    """

    def _makeExecutor(self) -> Any:
        self.aside = SteppedAside()
        return self.aside


class BoundedStoreTests(BoundedTests):
    """
    It takes time to write that a job begins. The room may be gone by then.
    """

    def dispatch(self, width: int = 10, **keywords: Any) -> ResizableDispatchQueue:
        store = FrailStore()
        queue = StoredAside(
            far.square, width, queue=self.tasks, store=store, reactor=self.clock, **keywords
        )
        self.queues.append(queue)
        return queue

    def settle(self) -> None:
        for _ in range(5):
            for queue in self.queues:
                if isinstance(queue, StoredAside):
                    queue.aside.stepAll()
            super().settle()

    def test_roomThatOthersTookWhileAJobWasWrittenIsWaitedFor(self) -> None:
        queue = self.dispatch()
        ds: list[Deferred[Any]] = [queue.put(number) for number in range(3)]
        DispatchCase.settle(self)
        calls = [self.tasks.call(far.echo, number) for number in range(2)]
        self.settle()
        assert (queue.size(), self.tasks.load) == ((1, 2), 2)
        assert self.results(ds) == [0, 1, 4]
        assert [self.successResultOf(call) for call in calls] == [0, 1]

    def test_aJobThatWaitsForSuchRoomCanBeCancelled(self) -> None:
        queue = self.dispatch(width=1)
        d = queue.put(3)
        DispatchCase.settle(self)
        calls = [self.tasks.call(far.echo, number) for number in range(2)]
        self.settle()
        assert queue.size() == (1, 0)
        fired = firings(d)
        d.cancel()
        self.settle()
        assert [type(each) for each in fired] == [JobCancelled]
        assert queue.size() == (0, 0)
        while self.worker.step():
            self.settle()
        assert [self.successResultOf(call) for call in calls] == [0, 1]
