"""
Calls that end before their function does: timeouts and cancellation.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError

from asynqueue import TaskQueue
from asynqueue.errors import TaskTimeout, WorkerDied
from asynqueue.iteration import ListConsumer
from asynqueue.tasks import CANCELLED, FAILED, FINISHED, PENDING, UNDERWAY
from asynqueue.testing import far
from asynqueue.testing.memory import MemoryChannel, act, actStubbornly
from asynqueue.testing.stepworker import StepWorker
from tests.support.cases import QueueCase


class TimeoutTests(QueueCase):
    def test_aRunThatTakesTooLongFails(self) -> None:
        worker = StepWorker()
        queue = self.makeQueue(worker)
        task = queue.submit(far.echo, timeout=2)
        self.clock.advance(1.99)
        self.assertEqual(task.state, UNDERWAY)
        self.clock.advance(0.01)
        self.assertEqual((task.state, task.stopTime), (FAILED, 2))
        error = self.errorOf(task.d, TaskTimeout)
        self.assertIsInstance(error, TimeoutError)
        self.assertIn("task 1 echo", str(error))
        self.assertIn("ran for longer than 2 seconds", str(error))

    def test_aRunThatEndsInTimeDoesNot(self) -> None:
        worker = StepWorker()
        queue = self.makeQueue(worker)
        d = queue.call(far.echo, 1, timeout=2)
        self.clock.advance(1.99)
        worker.step()
        self.assertEqual(self.resultOf(d), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_onlyTheRunCounts(self) -> None:
        worker = StepWorker()
        queue = self.makeQueue(worker)
        queue.call(far.echo)
        task = queue.submit(far.echo, timeout=2)
        self.clock.advance(100)
        self.assertEqual(task.state, PENDING)
        worker.finish()
        self.clock.advance(1.9)
        self.assertEqual(task.state, UNDERWAY)
        worker.finish("in time")
        self.assertEqual(task.result, "in time")

    def test_aLateResultIsDropped(self) -> None:
        worker = StepWorker()
        queue = self.makeQueue(worker)
        task = queue.submit(far.echo, timeout=2)
        self.clock.advance(2)
        worker.finish("late")
        self.assertEqual((task.state, task.result), (FAILED, None))
        self.errorOf(task.d, TaskTimeout)

    def test_aWorkerThatIsStillAtItGetsNothingElse(self) -> None:
        worker = StepWorker()
        queue = self.makeQueue(worker)
        late = queue.call(far.echo, timeout=2)
        waiting = queue.submit(far.echo)
        self.clock.advance(2)
        self.errorOf(late, TaskTimeout)
        self.assertEqual(waiting.state, PENDING)
        worker.finish()
        self.assertEqual(waiting.state, UNDERWAY)

    def test_itIsEndedAsGentlyAsItLets(self) -> None:
        worker = self.makeWorker()
        queue = self.makeQueue(worker)
        worker.actions["hang"] = lambda: self.clock.pump([0.125] * 100)
        d = queue.call(actStubbornly, "hang", timeout=1)
        other = queue.call(far.echo, 1)
        self.settle()
        self.errorOf(d, TaskTimeout)
        self.assertEqual(
            worker.channels[0].signals,
            # Before that it is asked what it is doing.
            [
                *[("nudge", 1.0), ("dump", 1.125)],
                *[("nudge", 1.25), ("terminate", 1.5), ("kill", 2.5)],
            ],
        )
        self.assertEqual(self.resultOf(other), 1)
        self.assertEqual(len(worker.channels), 2)

    def test_askingIsEnoughForMost(self) -> None:
        worker = self.makeWorker()
        queue = self.makeQueue(worker)
        worker.actions["hang"] = lambda: self.clock.advance(1)
        self.errorOf(queue.call(act, "hang", timeout=1), TaskTimeout)
        self.assertEqual(self.resultOf(queue.call(far.echo, 1)), 1)
        self.assertEqual(len(worker.channels), 1)

    def test_aTaskWithATimeoutIsNotSentAhead(self) -> None:
        worker = self.makeWorker(stepSeconds=None)
        queue = self.makeQueue(worker)
        queue.call(far.echo)
        worker.stepAll()
        tasks = [queue.submit(far.echo, timeout=9) for _ in range(2)]
        self.settle()
        self.assertEqual([task.state for task in tasks], [UNDERWAY, PENDING])
        worker.stepAll()

    def test_theTimeBeginsAnewWithTheNextRun(self) -> None:
        worker = self.makeWorker(stepSeconds=None)
        queue = self.makeQueue(worker)
        worker.stepAll()
        task = queue.submit(far.echo, 1, timeout=2)
        self.clock.advance(1.5)
        # It was not begun, and waits again.
        worker.die()
        worker.step()
        self.assertEqual(task.state, PENDING)
        self.clock.advance(1.5)
        self.assertEqual(task.state, PENDING)
        worker.step()
        self.assertEqual(task.state, UNDERWAY)
        self.clock.advance(1.5)
        worker.stepAll()
        self.assertEqual(task.result, 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_theTimeBeginsAnewWithTheNextWorker(self) -> None:
        first, second = StepWorker(), StepWorker()
        queue = self.makeQueue(first)
        task = queue.submit(far.echo, 1, timeout=2)
        self.clock.advance(1.5)
        queue.detachWorker(first, reassign=True, crash=True)
        self.clock.advance(1.5)
        self.assertEqual(task.state, PENDING)
        queue.attachWorker(second)
        self.clock.advance(1.5)
        second.step()
        self.assertEqual(task.result, 1)

    def test_itBoundsAConsumersIteration(self) -> None:
        worker = self.makeWorker()
        queue = self.makeQueue(worker)
        consumer = ListConsumer()
        d = queue.call(stream, consumer=consumer, timeout=1)
        worker.actions["wait"] = lambda: self.clock.advance(0.3)
        self.settle()
        self.errorOf(d, TaskTimeout)
        self.assertIsNone(consumer.producer)
        self.assertEqual(self.resultOf(consumer()), [0, 1, 2])

    def test_timeoutsRaceResults(self) -> None:
        for isLate in (False, True):
            worker = StepWorker()
            queue = self.makeQueue(worker)
            outcomes: list[Any] = []
            queue.call(far.echo, timeout=2).addBoth(outcomes.append)
            if isLate:
                self.clock.advance(2)
            worker.finish("result")
            self.clock.advance(2)
            self.assertEqual(len(outcomes), 1)
            self.assertEqual(outcomes[0] == "result", not isLate)


def stream() -> Any:
    number = 0
    while True:
        act("wait")
        yield number
        number += 1


class CancelTests(QueueCase):
    def makeBusy(self) -> tuple[TaskQueue, StepWorker]:
        worker = StepWorker()
        queue = self.makeQueue(worker)
        queue.call(far.echo, "busy")
        return queue, worker

    def test_aPendingTaskThatIsCancelledIsNeverRun(self) -> None:
        queue, worker = self.makeBusy()
        d = queue.call(far.echo, 1)
        other = queue.call(far.echo, 2)
        d.cancel()
        self.errorOf(d, CancelledError)
        worker.finish()
        worker.step()
        self.assertEqual(self.resultOf(other), 2)
        self.assertEqual([task.args[0] for task in worker.past], ["busy", 2])

    def test_theTaskAndItsDeferredAreCancelledAlike(self) -> None:
        queue, _ = self.makeBusy()
        tasks = [queue.submit(far.echo) for _ in range(2)]
        self.assertIs(tasks[0].cancel(), True)
        tasks[1].d.cancel()
        for task in tasks:
            self.assertEqual(task.state, CANCELLED)
            self.assertIsInstance(task.failure.value, CancelledError)
            self.errorOf(task.d, CancelledError)
        self.assertEqual(queue.submit(far.echo).id, 4)

    def test_cancellingWhatIsDoneDoesNothing(self) -> None:
        queue, worker = self.makeBusy()
        task = queue.submit(far.echo, 1)
        worker.finish()
        worker.step()
        self.assertIs(task.cancel(), False)
        task.d.cancel()
        self.assertEqual((task.state, self.resultOf(task.d)), (FINISHED, 1))
        cancelled = queue.submit(far.echo)
        self.assertIs(cancelled.cancel(), True)
        self.assertIs(cancelled.cancel(), False)
        self.errorOf(cancelled.d, CancelledError)

    def test_anUnderwayTasksLateResultIsDropped(self) -> None:
        queue, worker = self.makeBusy()
        worker.finish()
        task = queue.submit(far.echo)
        task.cancel()
        worker.finish("late")
        self.errorOf(task.d, CancelledError)
        self.assertEqual((task.state, task.result), (CANCELLED, None))

    def test_anUnderwayTasksLateFailureIsDropped(self) -> None:
        queue, worker = self.makeBusy()
        worker.finish()
        task = queue.submit(far.echo)
        task.cancel()
        worker.fail(ValueError())
        self.errorOf(task.d, CancelledError)

    def test_aWorkerThatIsStillAtItGetsNothingElse(self) -> None:
        queue, worker = self.makeBusy()
        worker.finish()
        task, waiting = queue.submit(far.echo), queue.submit(far.echo)
        task.cancel()
        self.errorOf(task.d, CancelledError)
        self.assertEqual(waiting.state, PENDING)
        worker.finish()
        self.assertEqual(waiting.state, UNDERWAY)

    def test_whatRunsInARunnerIsInterrupted(self) -> None:
        worker = self.makeWorker()
        queue = self.makeQueue(worker)
        task = queue.submit(act, "cancel")
        worker.actions["cancel"] = task.cancel
        self.errorOf(task.d, CancelledError)
        self.assertEqual([name for name, _ in worker.channel.signals], ["nudge"])
        self.assertEqual(self.resultOf(queue.call(far.echo, 1)), 1)

    def test_whatWillNotHearCostsTheRunnerAndNoOtherTask(self) -> None:
        worker = self.makeWorker()
        queue = self.makeQueue(worker)

        def hang() -> None:
            tasks[0].cancel()
            self.clock.pump([0.125] * 20)

        worker.actions["hang"] = hang
        tasks = [queue.submit(actStubbornly, "hang")]
        others = [queue.call(far.echo, number) for number in range(3)]
        self.errorOf(tasks[0].d, CancelledError)
        self.assertEqual([self.resultOf(d) for d in others], [0, 1, 2])
        self.assertEqual(len(worker.channels), 2)

    def test_whatWasSentAheadIsNeverRun(self) -> None:
        worker = self.makeWorker(stepSeconds=None)
        queue = self.makeQueue(worker)
        ran: list[int] = []
        worker.actions["run"] = ran.append
        queue.call(act, "run", 0)
        worker.stepAll()
        tasks = [queue.submit(act, "run", number) for number in (1, 2, 3)]
        self.settle()
        self.assertEqual([task.state for task in tasks], [UNDERWAY] * 3)
        tasks[1].cancel()
        worker.stepAll()
        self.errorOf(tasks[1].d, CancelledError)
        self.assertEqual(ran, [0, 1, 3])

    def test_aCancelledTaskIsNotRunAfterADeath(self) -> None:
        worker = self.makeWorker(stepSeconds=None)
        queue = self.makeQueue(worker)
        ran: list[int] = []
        worker.actions["run"] = ran.append
        worker.stepAll()
        task = queue.submit(act, "run", 1)
        task.cancel()
        worker.die()
        worker.step()
        self.settle()
        worker.stepAll()
        self.errorOf(task.d, CancelledError)
        self.assertEqual(ran, [])
        self.assertEqual(repr(queue), "<TaskQueue: RUNNING, 1 workers, 0 tasks pending>")

    def test_cancellingAnAwaitedTaskCancelsIt(self) -> None:
        queue, _ = self.makeBusy()
        task = queue.submit(far.echo)
        waiter = task.whenDone()
        task.cancel()
        self.errorOf(waiter, CancelledError)

    def test_cancellingAWaiterCancelsOnlyThat(self) -> None:
        queue, worker = self.makeBusy()
        worker.finish()
        task = queue.submit(far.echo, 1)
        waiter = task.whenDone()
        waiter.cancel()
        self.errorOf(waiter, CancelledError)
        worker.step()
        self.assertEqual(self.resultOf(task.d), 1)

    def test_aDeathThatTheCancelledTaskCausedIsNobodysFailure(self) -> None:
        def prepare(channel: MemoryChannel) -> None:
            channel.hearsNudges = False

        worker = self.makeWorker(prepare=prepare)
        queue = self.makeQueue(worker)

        def hang() -> None:
            tasks[0].cancel()
            self.clock.advance(0.25)

        worker.actions["hang"] = hang
        outcomes: list[Any] = []
        tasks = [queue.submit(act, "hang")]
        tasks[0].d.addErrback(lambda failure: outcomes.append(failure.type))
        self.settle()
        self.assertEqual(outcomes, [CancelledError])
        self.assertNotIsInstance(tasks[0].failure.value, WorkerDied)
