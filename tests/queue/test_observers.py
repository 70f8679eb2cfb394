"""
Observers get every event once and in order, and may call any method of the queue.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError
from zope.interface.verify import verifyObject

from asynqueue import Event, IObserver, LoggingObserver, TaskQueue
from asynqueue._observers import GIVEN_BACK, HIRED, LEFT, PROGRESSED, QUEUED, REPLACED, STARTED
from asynqueue._workers.picklability import EACH
from asynqueue.errors import WorkerDetached, WorkerDied, WorkerError
from asynqueue.tasks import CANCELLED, FAILED, FINISHED, LOST, PENDING, UNDERWAY
from asynqueue.testing import far
from asynqueue.testing.stepworker import InlineWorker, StepWorker
from tests.support.cases import QueueCase


class ObserverCase(QueueCase):
    def setUp(self) -> None:
        super().setUp()
        self.events: list[Event] = []

    def observed(self, *workers: Any, **keywords: Any) -> TaskQueue:
        """
        @return: a queue whose events are noted from its beginning.
        """
        queue = TaskQueue(*workers, observers=[self.events.append], reactor=self.clock, **keywords)
        self.queues.append(queue)
        return queue

    def kinds(self, subject: Any = None) -> list[str]:
        """
        @return: what kinds of events there were, of a task or worker if one is given.
        """
        return [
            event.kind
            for event in self.events
            if subject is None
            or event.task is subject
            or (event.task is None and event.worker is subject)
        ]


class TaskEventTests(ObserverCase):
    def test_aTaskThatFinishes(self) -> None:
        worker = StepWorker()
        queue = self.observed(worker)
        self.events.clear()
        task = queue.submit(far.echo, 1)
        self.assertEqual(self.kinds(), [QUEUED, STARTED])
        self.clock.advance(2.5)
        worker.step()
        self.assertEqual(
            self.events,
            [
                Event(QUEUED, 0.0, task),
                Event(STARTED, 0.0, task, worker),
                Event(FINISHED, 2.5, task, worker),
            ],
        )

    def test_aTaskThatFailsHasItsReason(self) -> None:
        queue = self.observed(InlineWorker())
        task = queue.submit(far.refuse)
        error = self.errorOf(task.d, ValueError)
        self.assertEqual(self.kinds(task), [QUEUED, STARTED, FAILED])
        self.assertIs(self.events[-1].reason, error)

    def test_aTaskThatIsCancelledWhilePending(self) -> None:
        queue = self.observed()
        task = queue.submit(far.echo)
        task.cancel()
        self.errorOf(task.d, CancelledError)
        self.assertEqual(self.kinds(task), [QUEUED, CANCELLED])
        self.assertIsInstance(self.events[-1].reason, CancelledError)
        self.assertIsNone(self.events[-1].worker)

    def test_aTaskThatIsCancelledUnderway(self) -> None:
        worker = StepWorker()
        queue = self.observed(worker)
        task = queue.submit(far.echo)
        task.cancel()
        self.errorOf(task.d, CancelledError)
        worker.step()
        self.assertEqual(self.kinds(task), [QUEUED, STARTED, CANCELLED])
        self.assertIs(self.events[-1].worker, worker)

    def test_aTaskThatIsRefusedAtShutdownWasNeverStarted(self) -> None:
        queue = self.observed()
        task = queue.submit(far.echo)
        queue.shutdown()
        self.failureResultOf(task.d)
        self.assertEqual(self.kinds(task), [QUEUED, FAILED])

    def test_aTaskThatCannotBeSentFailsBeforeItsStart(self) -> None:
        queue = self.observed(self.makeWorker())
        task = queue.submit(far.echo, lambda: None)
        self.failureResultOf(task.d)
        self.assertEqual(self.kinds(task), [QUEUED, FAILED])

    def test_ifThatIsFoundAtItsTurnItFailsAfterItsStart(self) -> None:
        queue = self.observed(self.makeWorker())
        task = queue.submit(far.echo, [b"x" * EACH, lambda: None])
        self.settle()
        self.failureResultOf(task.d)
        self.assertEqual(self.kinds(task), [QUEUED, STARTED, FAILED])

    def test_whatAWorkerGivesBackIsStartedAgain(self) -> None:
        worker = self.makeWorker(stepSeconds=None)
        queue = self.observed(worker)
        worker.stepAll()
        task = queue.submit(far.echo, 1)
        worker.die()
        worker.step()
        self.assertEqual(self.kinds(task), [QUEUED, STARTED, GIVEN_BACK])
        self.assertEqual(self.events[-1].worker, worker)
        self.settle()
        worker.stepAll()
        self.assertEqual(self.kinds(task), [QUEUED, STARTED, GIVEN_BACK, STARTED, FINISHED])

    def test_progressIsToldAndKept(self) -> None:
        worker = StepWorker()
        queue = self.observed(worker)
        task = queue.submit(far.echo)
        self.assertIsNone(task.progress)
        self.clock.advance(1)
        task.reported(2, 5)
        self.assertEqual(task.progress, (2, 5, 1.0))
        self.assertEqual((task.progress.done, task.progress.total, task.progress.time), (2, 5, 1))
        self.assertEqual(self.events[-1], Event(PROGRESSED, 1.0, task, worker))
        worker.step()
        task.reported(5, 5)
        self.assertEqual(task.progress.done, 2)
        self.assertEqual(self.kinds(task), [QUEUED, STARTED, PROGRESSED, FINISHED])

    def test_progressIsKeptWithoutAnObserver(self) -> None:
        worker = StepWorker()
        task = self.makeQueue(worker).submit(far.echo)
        task.reported(1, None)
        self.assertEqual(task.progress, (1, None, 0.0))
        worker.step()

    def test_progressBeforeTheStartIsDropped(self) -> None:
        task = self.observed().submit(far.echo)
        task.d.addErrback(lambda _: None)
        task.reported(1, 2)
        self.assertIsNone(task.progress)
        self.assertEqual(self.kinds(task), [QUEUED])

    def test_theDeferredFiresAfterwards(self) -> None:
        worker = StepWorker()
        queue = self.observed(worker)
        heard: list[str] = []
        tasks = [queue.submit(far.echo), queue.submit(far.refuse), queue.submit(far.echo)]
        for task in tasks:
            task.d.addBoth(lambda _: heard.append(self.events[-1].kind))
        tasks[2].cancel()
        worker.step()
        worker.step()
        self.assertEqual(heard, [CANCELLED, FINISHED, FAILED])

    def test_theStateIsUpToDateByThen(self) -> None:
        queue = self.makeQueue(InlineWorker())
        seen: list[tuple[str, str, int, int]] = []

        def look(event: Event) -> None:
            if event.task is not None:
                seen.append(
                    (event.kind, event.task.state, queue.load, len(queue._engine.scheduler))
                )

        queue.addObserver(look)
        task = queue.submit(far.echo, series="nobody's")
        task.cancel()
        self.errorOf(task.d, CancelledError)
        self.assertEqual(seen, [(QUEUED, PENDING, 1, 1), (CANCELLED, CANCELLED, 0, 0)])


class UpdateEventTests(ObserverCase):
    def test_anUpdateIsToldForEachWorker(self) -> None:
        queue = self.observed(InlineWorker(), InlineWorker())
        self.events.clear()
        self.resultOf(queue.update(far.echo, 1))
        tasks = {event.task for event in self.events}
        self.assertEqual(len(tasks), 2)
        for task in tasks:
            assert task is not None
            self.assertEqual(self.kinds(task), [QUEUED, STARTED, FINISHED])
            self.assertIsNone(task.priority)

    def test_whatIsGivenBackIsTheSameTask(self) -> None:
        worker = self.makeWorker(stepSeconds=None)
        queue = self.observed(worker)
        worker.stepAll()
        d = queue.update(far.echo, 1, ephemeral=True)
        worker.die()
        worker.step()
        self.settle()
        worker.stepAll()
        self.assertEqual(self.resultOf(d), [1])
        [task] = {event.task for event in self.events if event.task is not None}
        self.assertEqual(self.kinds(task), [QUEUED, STARTED, GIVEN_BACK, STARTED, FINISHED])

    def test_oneThatIsCancelledIsNotRun(self) -> None:
        worker = StepWorker()
        queue = self.observed(worker)
        queue.call(far.echo)
        d = queue.update(far.echo, 1)
        update = self.events[-1].task
        assert update is not None
        self.assertTrue(update.cancel())
        self.errorOf(d, CancelledError)
        worker.step()
        self.assertIsNone(worker.task)
        self.assertEqual(self.kinds(update), [QUEUED, CANCELLED])


class WorkerEventTests(ObserverCase):
    def test_aWorkersLife(self) -> None:
        worker = self.makeWorker()
        queue = self.observed()
        attached = queue.attachWorker(worker)
        attached.addCallback(lambda _: self.assertEqual(self.kinds(), [HIRED]))
        self.resultOf(attached)
        worker.die()
        self.clock.pump([0.1] * 20)
        self.assertEqual(self.kinds(), [HIRED, LOST, REPLACED])
        self.assertIsInstance(self.events[1].reason, WorkerDied)
        left = queue.detachWorker(worker)
        left.addCallback(lambda _: self.assertEqual(self.kinds()[-1], LEFT))
        self.resultOf(left)
        self.assertIsNone(self.events[-1].reason)

    def test_oneOfSixMembers(self) -> None:
        worker = StepWorker()
        queue = self.observed(worker)
        self.resultOf(queue.detachWorker(worker))
        self.assertEqual(self.kinds(worker), [HIRED, LEFT])

    def test_aWorkerThatResignsLeavesWithAReason(self) -> None:
        worker = StepWorker()
        self.observed(worker)
        worker.resign()
        self.assertEqual(self.kinds(worker), [HIRED, LEFT])
        self.assertIsInstance(self.events[-1].reason, WorkerError)

    def test_aWorkerThatWasNeverReadyOnlyLeaves(self) -> None:
        worker = self.makeWorker(prepare=lambda channel: setattr(channel, "isStillborn", True))
        self.observed(worker)
        self.clock.pump([0.1] * 50)
        self.assertEqual(self.kinds(worker), [LEFT])
        self.assertIsInstance(self.events[-1].reason, WorkerError)


class ListTests(ObserverCase):
    def test_onlyWhatHappensFromThenOnIsHeard(self) -> None:
        queue = self.makeQueue(InlineWorker())
        self.resultOf(queue.call(far.echo))
        queue.addObserver(self.events.append)
        self.assertEqual(self.kinds(), [])
        self.resultOf(queue.call(far.echo))
        self.assertEqual(self.kinds(), [QUEUED, STARTED, FINISHED])
        queue.removeObserver(self.events.append)
        self.resultOf(queue.call(far.echo))
        self.assertEqual(len(self.events), 3)

    def test_addingTwiceIsOnce(self) -> None:
        queue = self.observed()
        queue.addObserver(self.events.append)
        queue.call(far.echo).addErrback(lambda _: None).cancel()
        self.assertEqual(self.kinds(), [QUEUED, CANCELLED])

    def test_whatCannotBeCalledIsRefused(self) -> None:
        self.assertRaises(TypeError, self.observed().addObserver, "observer")

    def test_whatIsNoObserverCannotBeRemoved(self) -> None:
        self.assertRaises(ValueError, self.observed().removeObserver, print)

    def test_theInterfaceIsThatOfOurOwn(self) -> None:
        verifyObject(IObserver, LoggingObserver())

    def test_oneThatRaisesIsLoggedAndTheOthersHear(self) -> None:
        queue = self.makeQueue()

        def fail(event: Event) -> None:
            raise KeyError("deaf")

        queue.addObserver(fail)
        queue.addObserver(self.events.append)
        queue.call(far.echo).addErrback(lambda _: None).cancel()
        self.assertEqual(self.kinds(), [QUEUED, CANCELLED])
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 2)


class ReentrancyTests(ObserverCase):
    def react(self, kind: str, action: Callable[[Event], Any]) -> Callable[[Event], None]:
        """
        @return: an observer that does something, once, on hearing of an event of a kind.
        """
        done: list[Event] = []

        def observe(event: Event) -> None:
            if event.kind == kind and not done:
                done.append(event)
                action(event)

        return observe

    def test_allHearEverythingInTheSameOrder(self) -> None:
        queue = self.makeQueue(InlineWorker())
        queue.addObserver(self.react(FINISHED, lambda _: queue.call(far.echo)))
        queue.addObserver(self.events.append)
        queue.call(far.echo)
        self.assertEqual(self.kinds(), [QUEUED, STARTED, FINISHED] * 2)

    def test_itMayCancelTheTaskThatItHearsOf(self) -> None:
        def cancel(event: Event) -> None:
            assert event.task is not None
            event.task.cancel()

        for kind in (QUEUED, STARTED):
            queue = self.makeQueue(self.makeWorker())
            self.settle()
            queue.addObserver(self.react(kind, cancel))
            self.errorOf(queue.call(far.echo), CancelledError)
            self.assertEqual(self.resultOf(queue.call(far.echo, 1)), 1)

    def test_itMayCancelWhatIsBeingGivenBack(self) -> None:
        worker = self.makeWorker(stepSeconds=None)
        queue = self.makeQueue(worker)
        worker.stepAll()
        self.settle()
        queue.call(far.echo)
        worker.stepAll()
        tasks = [queue.submit(far.echo, n) for n in range(5)]
        self.settle()
        self.assertGreater(sum(task.state == UNDERWAY for task in tasks), 1)
        queue.addObserver(self.react(GIVEN_BACK, lambda _: [task.cancel() for task in tasks]))
        worker.die()
        worker.step()
        for task in tasks:
            self.errorOf(task.d, CancelledError)

    def test_itMayShutTheQueueDown(self) -> None:
        for kind in (QUEUED, STARTED, FINISHED, HIRED):
            self.checkShutdownOn(kind)

    def checkShutdownOn(self, kind: str) -> None:
        queue = self.makeQueue()
        stopped: list[Any] = []
        queue.addObserver(self.react(kind, lambda _: stopped.append(queue.shutdown())))
        queue.attachWorker(self.makeWorker()).addErrback(lambda _: None)
        queue.call(far.echo).addErrback(lambda _: None)
        self.clock.pump([0.01] * 50)
        self.assertIsNone(self.successResultOf(stopped[0]), kind)

    def test_itMayShutAQueueWithoutWorkersDown(self) -> None:
        queue = self.makeQueue()
        queue.addObserver(self.react(QUEUED, lambda _: queue.shutdown()))
        self.failureResultOf(queue.call(far.echo))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_itMayCrashTheWorker(self) -> None:
        def crash(event: Event) -> None:
            queue.detachWorker(event.worker, crash=True)

        for worker in (self.makeWorker(), StepWorker()):
            queue = self.makeQueue(worker)
            self.settle()
            queue.addObserver(self.react(STARTED, crash))
            self.errorOf(queue.call(far.echo), WorkerDetached)

    def test_aWorkerLetGoOnBeingHiredIsNotReady(self) -> None:
        queue = self.makeQueue()
        queue.addObserver(self.react(HIRED, lambda event: queue.detachWorker(event.worker)))
        self.errorOf(queue.attachWorker(self.makeWorker()), WorkerDetached)

    def test_itMayRemoveAnotherThatThenDoesNotHear(self) -> None:
        queue = self.makeQueue()
        queue.addObserver(self.react(QUEUED, lambda _: queue.removeObserver(self.events.append)))
        queue.addObserver(self.events.append)
        queue.call(far.echo).addErrback(lambda _: None).cancel()
        self.assertEqual(self.events, [])

    def test_oneAddedMeanwhileDoesNotHearWhatHappenedBefore(self) -> None:
        queue = self.makeQueue(InlineWorker())
        queue.addObserver(self.react(QUEUED, lambda _: queue.addObserver(self.events.append)))
        self.resultOf(queue.call(far.echo))
        self.assertNotIn(QUEUED, self.kinds())
        self.resultOf(queue.call(far.echo))
        self.assertEqual(self.kinds()[-3:], [QUEUED, STARTED, FINISHED])
