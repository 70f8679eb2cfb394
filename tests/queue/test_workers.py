"""
Workers are attached, detached and lost.
"""

from __future__ import annotations

import gc
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed

from asynqueue.errors import (
    IterationStopped,
    TaskTimeout,
    WorkerDetached,
    WorkerError,
    WorkerStartError,
)
from asynqueue.tasks import FAILED, FINISHED, PENDING, READY, STOPPED, UNDERWAY, Capacity
from asynqueue.testing import far
from asynqueue.testing.memory import MemoryChannel, MemoryWorker
from asynqueue.testing.stepworker import StepWorker
from tests.support.cases import QueueCase


class AttachTests(QueueCase):
    def test_itFiresWithTheIDWhenTheWorkerIsReady(self) -> None:
        queue = self.makeQueue()
        worker = self.makeWorker(stepSeconds=None)
        d = queue.attachWorker(worker)
        self.settle()
        self.assertNoResult(d)
        worker.step()
        self.assertEqual(self.successResultOf(d), worker.ID)  # type: ignore[attr-defined]

    def test_idsAreNotUsedAgain(self) -> None:
        queue = self.makeQueue()
        first, second = StepWorker(), StepWorker()
        IDs = [self.resultOf(queue.attachWorker(first))]
        self.resultOf(queue.detachWorker(first))
        IDs.append(self.resultOf(queue.attachWorker(second)))
        self.assertEqual(IDs, [1, 2])

    def test_aReadyWorkerIsUsedAtOnce(self) -> None:
        worker = self.makeWorker()
        self.settle()
        queue = self.makeQueue()
        self.assertEqual(self.successResultOf(queue.attachWorker(worker)), 1)

    def test_workersCanBeFoundByTheirIDs(self) -> None:
        queue = self.makeQueue()
        workers = [StepWorker() for _ in range(3)]
        IDs = [self.resultOf(queue.attachWorker(worker)) for worker in workers]
        self.assertEqual(queue.workers(), workers)
        self.assertEqual([queue.workers(ID) for ID in IDs], workers)
        self.assertIsNone(queue.workers(99))
        self.resultOf(queue.detachWorker(IDs[1]))
        self.assertEqual(queue.workers(), [workers[0], workers[2]])
        self.assertIsNone(queue.workers(IDs[1]))

    def test_detachingAWorkerThatIsNotReadyFailsItsAttachment(self) -> None:
        queue = self.makeQueue()
        worker = self.makeWorker(stepSeconds=None)
        d = queue.attachWorker(worker)
        left = queue.detachWorker(worker)
        worker.stepAll()
        self.assertEqual(self.resultOf(left), [])
        self.errorOf(d, WorkerDetached)

    def test_soDoesAShutdown(self) -> None:
        queue = self.makeQueue()
        d = queue.attachWorker(self.makeWorker())
        self.assertIsNone(self.resultOf(queue.shutdown()))
        self.errorOf(d, WorkerDetached)

    def test_aWorkerGivenToTheConstructorMayFailToBecomeReady(self) -> None:
        def prepare(channel: MemoryChannel) -> None:
            channel.isStillborn = True

        queue = self.makeQueue(self.makeWorker(prepare=prepare))
        self.clock.pump([0.1] * 50)
        self.assertEqual(len(queue), 0)
        self.assertEqual(self.flushLoggedErrors(), [])


class DetachTests(QueueCase):
    def test_anIdleWorkerLeaves(self) -> None:
        for worker in (self.makeWorker(), StepWorker()):
            queue = self.makeQueue(worker)
            self.settle()
            d = queue.detachWorker(worker)
            self.assertEqual((len(queue), queue.workers()), (0, []))
            self.assertEqual(self.resultOf(d), [])
            self.assertEqual(worker.state, STOPPED)

    def test_itFinishesWhatItHasAndGetsNothingElse(self) -> None:
        worker = StepWorker()
        queue = self.makeQueue(worker)
        running, waiting = queue.submit(far.echo, 1), queue.submit(far.echo, 2)
        d = queue.detachWorker(worker)
        self.assertNoResult(d)
        worker.step()
        self.assertEqual(self.resultOf(d), [])
        self.assertEqual((running.state, waiting.state), (FINISHED, PENDING))
        queue.attachWorker(self.makeWorker())
        self.assertEqual(self.resultOf(waiting.d), 2)

    def test_byItsIDItIsTheSame(self) -> None:
        worker = StepWorker()
        queue = self.makeQueue()
        ID = self.resultOf(queue.attachWorker(worker))
        self.assertEqual(self.resultOf(queue.detachWorker(ID)), [])
        self.assertEqual(worker.state, STOPPED)

    def test_whatIsNotAttachedLeavesNothing(self) -> None:
        worker = StepWorker()
        queue = self.makeQueue(worker)
        self.assertEqual(self.resultOf(queue.detachWorker(StepWorker())), [])
        self.assertEqual(self.resultOf(queue.detachWorker(99)), [])
        self.resultOf(queue.detachWorker(worker))
        self.assertEqual(self.resultOf(queue.detachWorker(worker)), [])

    def test_itCanBeAttachedToAnotherQueueAfterwards(self) -> None:
        worker = self.makeWorker(stepSeconds=None)
        queue, other = self.makeQueue(worker), self.makeQueue()
        worker.stepAll()
        queue.detachWorker(worker)
        self.assertRaises(ValueError, queue.attachWorker, worker)
        del other

    def test_aCrashFailsWhatItHas(self) -> None:
        for worker in (self.makeWorker(stepSeconds=None), StepWorker()):
            queue = self.makeQueue(worker)
            worker.step()
            running, waiting = queue.submit(far.echo), queue.submit(far.echo)
            self.settle()
            d = queue.detachWorker(worker, crash=True)
            error = self.errorOf(running.d, WorkerDetached)
            self.assertIn("was crashed with <task", str(error))
            worker.step()
            self.assertEqual(self.resultOf(d), [running])
            self.assertEqual((running.state, waiting.state), (FAILED, PENDING))
            queue.attachWorker(self.makeWorker())
            self.resultOf(waiting.d)

    def test_aCrashGivesItToOthersIfAsked(self) -> None:
        for worker in (self.makeWorker(stepSeconds=None), StepWorker()):
            other = StepWorker()
            queue = self.makeQueue(worker)
            worker.step()
            running, waiting = queue.submit(far.echo, 1), queue.submit(far.echo, 2)
            queue.attachWorker(other)
            other.step()
            d = queue.detachWorker(worker, reassign=True, crash=True)
            worker.step()
            self.assertEqual(self.resultOf(d), [])
            self.assertEqual(running.state, UNDERWAY)
            self.assertIs(running.worker, other)
            other.step()
            self.assertEqual((running.result, waiting.result), (1, 2))

    def test_theTimeoutCrashesWhatWillNotLeave(self) -> None:
        for worker in (self.makeWorker(stepSeconds=None), StepWorker()):
            queue = self.makeQueue(worker, timeout=3)
            worker.step()
            task = queue.submit(far.echo)
            d = queue.detachWorker(worker)
            self.clock.advance(2.9)
            self.assertEqual(task.state, UNDERWAY)
            self.clock.advance(0.2)
            self.errorOf(task.d, WorkerDetached)
            worker.step()
            self.assertEqual(self.resultOf(d), [task])

    def test_theTimeoutIsForgottenOnceItHasLeft(self) -> None:
        worker = StepWorker()
        queue = self.makeQueue(worker, timeout=3)
        self.resultOf(queue.detachWorker(worker))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_aWorkerThatFailsToStopIsGoneAllTheSame(self) -> None:
        class Failing(StepWorker):
            def stop(self) -> Deferred[None]:
                raise ValueError("not stopping")

        worker = Failing()
        queue = self.makeQueue(worker)
        self.assertEqual(self.resultOf(queue.detachWorker(worker)), [])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertIsNone(self.resultOf(queue.shutdown()))

    def test_itsIterationsAreStopped(self) -> None:
        worker = self.makeWorker()
        queue = self.makeQueue(worker)
        deferator = self.resultOf(queue.call(far.endless))
        self.assertEqual(self.resultOf(queue.detachWorker(worker)), [])
        self.assertIsInstance(deferator.source.failure.value, IterationStopped)

    def test_whatItLeavesUnbegunWhenItDiesIsRunByOthers(self) -> None:
        worker = self.makeWorker(stepSeconds=None)
        queue = self.makeQueue(worker)
        worker.stepAll()
        task = queue.submit(far.echo, 1)
        left = queue.detachWorker(worker)
        worker.die()
        worker.step()
        self.assertEqual(self.resultOf(left), [])
        self.assertEqual(task.state, PENDING)
        queue.attachWorker(self.makeWorker())
        self.assertEqual(self.resultOf(task.d), 1)


class OddWorkerTests(QueueCase):
    def test_aRunThatRaisesIsTheTasksFailure(self) -> None:
        class Raising(StepWorker):
            def run(self, task: Any) -> Deferred[None]:
                raise KeyError("never ran")

        queue = self.makeQueue(Raising())
        self.errorOf(queue.call(far.echo), KeyError)
        self.errorOf(queue.call(far.echo), KeyError)
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 2)

    def test_aTaskMayEndAfterItsWorkerIsFree(self) -> None:
        class Eager(StepWorker):
            def run(self, task: Any) -> Deferred[None]:
                self.past.append(task)
                return succeed(None)

        worker = Eager()
        queue = self.makeQueue(worker)
        ds = [queue.call(far.echo) for _ in range(3)]
        for number, task in enumerate(worker.past):
            task.callback(number)
        self.assertEqual([self.resultOf(d) for d in ds], [0, 1, 2])

    def test_endingATaskTwiceDoesNothingMore(self) -> None:
        worker = StepWorker()
        queue = self.makeQueue(worker)
        d = queue.call(far.echo)
        task = worker.task
        worker.finish(1)
        task.callback(2)
        task.errback(ValueError())
        self.assertEqual(self.resultOf(d), 1)


class WideWorker(StepWorker):
    """
    Runs two tasks at once, ends some before C{run} returns, and can be told to stop others.
    """

    def __init__(self) -> None:
        super().__init__()
        self.capacity = Capacity(slots=2)
        self.cancelled: list[Any] = []

    def run(self, task: Any) -> Deferred[None]:
        """
        See L{IWorker}.
        """
        self.past.append(task)
        if task.args == ("at once",):
            task.callback("done")
        return succeed(None) if task.isDone else Deferred()

    def cancel(self, task: Any) -> None:
        """
        Note it.
        """
        self.cancelled.append(task)

    def crash(self) -> list[Any]:
        """
        See L{IWorker}.
        """
        return [task for task in self.past if not task.isDone]


class WideWorkerTests(QueueCase):
    """
    Workers that have more than the six members.
    """

    def test_itIsToldWhichTasksAreNotWanted(self) -> None:
        worker = WideWorker()
        queue = self.makeQueue(worker)
        tasks = [queue.submit(far.echo), queue.submit(far.echo, timeout=3)]
        self.assertEqual(worker.past, tasks)
        tasks[0].cancel()
        self.errorOf(tasks[0].d, CancelledError)
        self.assertEqual(worker.cancelled, tasks[:1])
        self.clock.advance(4)
        self.errorOf(tasks[1].d, TaskTimeout)
        self.assertEqual(worker.cancelled, tasks)
        queue.detachWorker(worker, crash=True)

    def test_whenAllWorkersHaveGivenUpCallsFailAtOnceWithTheReason(self) -> None:
        worker = StepWorker()
        queue = self.makeQueue(worker)
        waiting = queue.call(far.echo), queue.call(far.echo)
        worker.resign()
        for d in (*waiting, queue.call(far.echo, series="anybody's"), queue.call(far.echo)):
            self.assertIn("resigned", str(self.errorOf(d, WorkerError)))
        self.assertEqual(queue.load, 0)

    def test_aWorkerThatIsAttachedThenStartsAnew(self) -> None:
        worker = StepWorker()
        queue = self.makeQueue(worker)
        worker.resign()
        self.errorOf(queue.call(far.echo), WorkerError)
        queue.attachWorker(self.makeWorker())
        self.assertEqual(self.resultOf(queue.call(far.echo, 1)), 1)

    def test_aQueueWhoseWorkersWereDetachedWaitsForAnother(self) -> None:
        worker = StepWorker()
        queue = self.makeQueue(worker)
        queue.detachWorker(worker)
        d = queue.call(far.echo, 1)
        self.assertNoResult(d)
        queue.attachWorker(self.makeWorker())
        self.assertEqual(self.resultOf(d), 1)

    def test_anAttachmentThatNobodyWaitsForLogsNothingWhenItFails(self) -> None:
        queue = self.makeQueue()
        queue.attachWorker(self.makeWorker(stepSeconds=None))
        self.stopQueue(queue)
        gc.collect()
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_whatIsCancelledOnItsWayIsNotRun(self) -> None:
        worker = WideWorker()
        queue = self.makeQueue(worker)
        with self.together(queue):
            first, second = queue.submit(far.echo, "at once"), queue.submit(far.echo, "later")
            first.d.addCallback(lambda _: second.cancel())
        self.errorOf(second.d, CancelledError)
        self.assertEqual(worker.past, [first])
        self.assertEqual(queue._engine.scheduler.held, 0)

    def test_whatItIsCrashedBeforeWaitsAgain(self) -> None:
        worker = WideWorker()
        queue = self.makeQueue(worker)
        with self.together(queue):
            first, second = queue.submit(far.echo, "at once"), queue.submit(far.echo, "later")
            first.d.addCallback(lambda _: queue.detachWorker(worker, crash=True))
        self.assertEqual(worker.past, [first])
        self.assertEqual(second.state, PENDING)
        queue.attachWorker(self.makeWorker())
        self.assertEqual(self.resultOf(second.d), "later")

    def test_detachingTwiceIsOnce(self) -> None:
        worker = StepWorker()
        queue = self.makeQueue(worker)
        queue.call(far.echo)
        left = queue.detachWorker(worker)
        self.assertEqual(self.successResultOf(queue.detachWorker(worker)), [])
        self.assertNoResult(left)
        worker.step()
        self.assertEqual(self.successResultOf(left), [])


class ResignTests(QueueCase):
    def test_whatItHadIsRunByOthers(self) -> None:
        worker = StepWorker()
        queue = self.makeQueue(worker)
        task = queue.submit(far.echo, 1)
        other = StepWorker()
        queue.attachWorker(other)
        worker.resign()
        self.assertEqual(queue.workers(), [other])
        self.assertIs(task.worker, other)
        other.step()
        self.assertEqual(self.resultOf(task.d), 1)

    def test_whatOnlyItCouldRunFails(self) -> None:
        worker = StepWorker(["only"])
        queue = self.makeQueue(worker, StepWorker())
        had, waiting = (queue.call(far.echo, series="only") for _ in range(2))
        other = queue.submit(far.echo)
        worker.resign()
        for d in (had, waiting):
            error = self.errorOf(d, WorkerError)
            self.assertIn("resigned", str(error))
        self.assertEqual(other.state, UNDERWAY)

    def test_withTheLastWorkerGoneNothingIsLeftWaiting(self) -> None:
        worker = StepWorker()
        queue = self.makeQueue(worker)
        ds = [queue.call(far.echo) for _ in range(3)]
        ds.append(queue.call(far.echo, series="for later"))
        worker.resign()
        for d in ds:
            self.errorOf(d, WorkerError)
        # Calls from now on fail at once, until there is a new worker.
        self.errorOf(queue.call(far.echo, 1), WorkerError)
        queue.attachWorker(self.makeWorker())
        self.assertEqual(self.resultOf(queue.call(far.echo, 1)), 1)

    def test_whatItWasNeverQualifiedForWaitsOn(self) -> None:
        worker = StepWorker()
        queue = self.makeQueue(worker, StepWorker())
        task = queue.submit(far.echo, 1, series="for later")
        worker.resign()
        self.assertEqual(task.state, PENDING)
        queue.attachWorker(self.makeWorker("for later"))
        self.assertEqual(self.resultOf(task.d), 1)

    def test_aWorkerAttachedOnHearingOfItRunsTheRest(self) -> None:
        worker, other = StepWorker(), StepWorker()
        queue = self.makeQueue(worker)
        first, second = queue.submit(far.echo, 1), queue.submit(far.echo, 2)
        first.d.addErrback(lambda _: queue.attachWorker(other))
        worker.resign()
        self.assertIs(second.worker, other)
        other.step()
        self.assertEqual(self.resultOf(second.d), 2)

    def test_resigningTwiceIsOnce(self) -> None:
        worker = StepWorker()
        queue = self.makeQueue(worker)
        worker.resign()
        worker.resign()
        self.assertEqual(len(queue), 0)

    def makeHopeless(self) -> MemoryWorker:
        """
        @return: a worker that gets no runner after its first.
        """

        def prepare(channel: MemoryChannel) -> None:
            channel.isStillborn = bool(self.workers)

        return self.makeWorker(prepare=prepare)

    def test_aRunnerThatCannotBeStartedIsTheReason(self) -> None:
        worker = self.makeHopeless()
        queue = self.makeQueue(worker)
        self.settle()
        self.assertEqual(worker.state, READY)
        worker.die()
        ds = [queue.call(far.echo) for _ in range(3)]
        self.clock.pump([0.1] * 50)
        for d in ds:
            self.errorOf(d, WorkerStartError)
        self.assertEqual((len(queue), worker.state), (0, STOPPED))

    def test_aWorkerThatWasNeverReadyFailsItsAttachment(self) -> None:
        self.workers.append(self.makeWorker())
        queue = self.makeQueue()
        d = queue.attachWorker(self.makeHopeless())
        self.clock.pump([0.1] * 50)
        self.errorOf(d, WorkerStartError)
