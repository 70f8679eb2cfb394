"""
Test cases with a clock and workers in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from asynqueue import QueuedTask, TaskQueue
from asynqueue._queue.engine import BUSY, IDLE
from asynqueue.testing.memory import MemoryChannel, MemoryWorker
from asynqueue.testing.owner import RecordingListener, TaskOwner


class WorkerCase(SynchronousTestCase):
    """
    Tests of a L{MemoryWorker} that is stepped by hand.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.owner = TaskOwner(self.clock)
        self.listener = RecordingListener(self.clock)

    def makeWorker(
        self,
        prepare: Callable[[MemoryChannel], object] | None = None,
        isEmployed: bool = True,
        isReady: bool = True,
        **keywords: Any,
    ) -> MemoryWorker:
        """
        @param prepare: sets up its channels.
        @param isEmployed: whether C{self.listener} employs it.
        @param isReady: whether its runner has said hello.
        """
        worker = MemoryWorker(reactor=self.clock, prepare=prepare, **keywords)
        if isEmployed:
            worker.setListener(self.listener)
        if isReady:
            worker.stepAll()
        return worker

    def give(
        self, worker: MemoryWorker, function: Callable[..., Any], *args: Any, **options: Any
    ) -> QueuedTask:
        """
        Make a task and give it to a worker.
        """
        [task] = self.giveMany(worker, (function, *args), **options)
        return task

    def giveMany(
        self, worker: MemoryWorker, *calls: tuple[Any, ...], **options: Any
    ) -> list[QueuedTask]:
        """
        Make tasks, of a function and its arguments each, and give them to a worker.
        """
        tasks = [self.owner.make(*call, **options) for call in calls]
        for task in tasks:
            task.start(worker, self.clock.seconds())
        worker._report(worker.runMany(tasks))
        return tasks

    def dropTask(self, worker: MemoryWorker, task: QueuedTask) -> None:
        """
        Cancel a task, as a queue does it.
        """
        assert task.cancel()
        worker.cancel(task)

    def assertAtRest(self) -> None:
        """
        Nothing is left for the clock to do.
        """
        self.assertEqual(self.clock.getDelayedCalls(), [])


class QueueCase(SynchronousTestCase):
    """
    Tests of a queue with workers in memory, whose far side moves with the clock.

    After each test the queues are shut down, and the clock must have nothing left to do.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.queues: list[TaskQueue] = []
        self.workers: list[MemoryWorker] = []
        self.addCleanup(self._leaveNothing)

    def makeWorker(
        self, *series: Hashable, stepSeconds: float | None = 0.0, **keywords: Any
    ) -> MemoryWorker:
        """
        @param series: what it is qualified for, besides.
        @param stepSeconds: how long a far step takes; C{None} to step it by hand.
        """
        worker = MemoryWorker(series, reactor=self.clock, stepSeconds=stepSeconds, **keywords)
        self.workers.append(worker)
        return worker

    def makeQueue(self, *workers: Any, timeout: float | None = None) -> TaskQueue:
        """
        @param workers: its workers; by default, there are none.
        """
        queue = TaskQueue(*workers, timeout=timeout, reactor=self.clock)
        self.queues.append(queue)
        return queue

    @contextmanager
    def together(self, queue: TaskQueue) -> Iterator[None]:
        """
        Have all that is asked of a queue in here lead to one decision, as if it was asked by the
        callbacks of one batch of results.
        """
        engine = queue._engine
        engine._phase = BUSY
        yield
        engine._phase = IDLE
        engine.wake()

    def settle(self) -> None:
        """
        Have everything done that can be done without time passing.
        """
        self.clock.advance(0)

    def resultOf(self, d: Deferred[Any]) -> Any:
        """
        @return: what the Deferred fires with, without time passing.
        """
        self.settle()
        return self.successResultOf(d)

    def errorOf(self, d: Deferred[Any], *kinds: type[BaseException]) -> Any:
        """
        @return: the exception that the Deferred fails with, without time passing.
        """
        self.settle()
        return self.failureResultOf(d, *kinds).value

    def stopQueue(self, queue: TaskQueue) -> None:
        """
        Shut a queue down, and step its workers until it is done.
        """
        workers = {*queue.workers(), *self.workers}
        done = queue.shutdown()
        for _ in range(1000):
            if done.called:
                break
            for worker in workers:
                worker.step()
            self.clock.advance(0.1)
        self.assertIsNone(self.successResultOf(done))

    def _leaveNothing(self) -> None:
        for queue in self.queues:
            self.stopQueue(queue)
        self.assertEqual(self.clock.getDelayedCalls(), [])
