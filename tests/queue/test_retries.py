"""
Tasks that are run again because their worker died, and tasks that stall.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from asynqueue import Event, TaskQueue
from asynqueue._observers import GIVEN_BACK, STARTED
from asynqueue.errors import PoisonTask, TaskStalled, WorkerDied
from asynqueue.testing import far
from asynqueue.testing.memory import MemoryWorker, act
from tests.support.cases import QueueCase


class DyingCase(QueueCase):
    """
    A queue with one worker, whose runner dies in the first so many calls of C{act}.
    """

    def setUp(self) -> None:
        super().setUp()
        self.deaths = 0
        self.runs = 0
        self.worker = self.makeWorker()
        self.worker.actions["try"] = self.attempt
        self.queue = self.makeQueue(self.worker)

    def attempt(self) -> str:
        """
        A run of the task.
        """
        self.runs += 1
        if self.runs <= self.deaths:
            self.worker.die()
        return "survived"

    def live(self) -> None:
        """
        Let as much time pass as new runners take.
        """
        for _ in range(100):
            self.clock.advance(0.1)


class AgainTests(DyingCase):
    def outcomeOf(self, deaths: int, **options: Any) -> Deferred[Any]:
        """
        @return: the Deferred of a call whose worker dies so many times, when all is over.
        """
        self.deaths = deaths
        d = self.queue.options(**options).call(act, "try")
        self.live()
        return d

    def test_byDefaultATaskThatBeganIsNotRunAgain(self) -> None:
        self.failureResultOf(self.outcomeOf(1), WorkerDied)
        self.assertEqual(self.runs, 1)

    def test_oneThatIsIdempotentIsRunAgain(self) -> None:
        self.assertEqual(self.successResultOf(self.outcomeOf(2, idempotent=True)), "survived")
        self.assertEqual(self.runs, 3)

    def test_butNotForEver(self) -> None:
        failure = self.failureResultOf(self.outcomeOf(99, idempotent=True), PoisonTask)
        self.assertEqual(self.runs, 3)
        self.assertIn("begun 3 times", str(failure.value))
        self.assertIsInstance(failure.value.__cause__, WorkerDied)

    def test_retriesAreCounted(self) -> None:
        self.assertEqual(self.successResultOf(self.outcomeOf(4, retries=4)), "survived")
        self.assertEqual(self.runs, 5)

    def test_afterTheLastOneItIsPoison(self) -> None:
        self.failureResultOf(self.outcomeOf(99, retries=1), PoisonTask)
        self.assertEqual(self.runs, 2)

    def test_attemptsTellHowOftenItWasBegun(self) -> None:
        self.deaths = 2
        task = self.queue.options(retries=2).submit(act, "try")
        self.live()
        self.assertEqual((task.result, task.attempts), ("survived", 3))

    def test_itWaitsAgainInItsOldPlace(self) -> None:
        self.deaths = 1
        ended: list[str] = []
        first = self.queue.options(idempotent=True).call(act, "try")
        second = self.queue.call(far.echo, "later")
        first.addCallback(ended.append)
        second.addCallback(ended.append)
        self.live()
        self.assertEqual(ended, ["survived", "later"])

    def test_observersHearOfIt(self) -> None:
        events: list[Event] = []
        self.queue.addObserver(events.append)
        self.successResultOf(self.outcomeOf(1, idempotent=True))
        kinds = [event.kind for event in events if event.task is not None]
        self.assertEqual(kinds.count(STARTED), 2)
        self.assertEqual(kinds.count(GIVEN_BACK), 1)

    def test_oneThatWasCancelledIsNotRunAgain(self) -> None:
        def cancelAndDie() -> None:
            task.cancel()
            self.worker.die()

        self.worker.actions["try"] = cancelAndDie
        task = self.queue.options(idempotent=True).submit(act, "try")
        task.d.addErrback(lambda _: None)
        self.live()
        self.assertEqual(task.attempts, 1)

    def test_aWorkerWithoutAQueueRunsItAgainToo(self) -> None:
        worker = MemoryWorker(reactor=self.clock, stepSeconds=0.0)
        self.workers.append(worker)
        queue = TaskQueue(reactor=self.clock)
        task = queue.options(idempotent=True).submit(act, "die")
        task.d.addErrback(lambda _: None)
        worker.actions["die"] = worker.die
        task.start(worker, 0.0)
        worker.run(task)
        self.live()
        self.assertIsInstance(task.failure.value, PoisonTask)
        worker.stop()
        self.live()

    def test_numbersThatAreNoneAreRefused(self) -> None:
        for wrong in (-1, 1.5, True, None):
            self.assertRaises(ValueError, self.queue.options, retries=wrong)

    def test_aFunctionsOwnKeywordsAreLeftToIt(self) -> None:
        d = self.queue.call(far.keywords, retries=1, idempotent=2, stallTimeout=3)
        expected = {"retries": 1, "idempotent": 2, "stallTimeout": 3}
        self.assertEqual(self.resultOf(d), ((), expected))


class StallTests(DyingCase):
    def test_aTaskThatReportsNothingStalls(self) -> None:
        self.worker.actions["dawdle"] = lambda: self.clock.advance(2)
        d = self.queue.options(stallTimeout=1.0).call(act, "dawdle")
        self.live()
        failure = self.failureResultOf(d, TaskStalled)
        self.assertIn("no progress for 1.0 seconds", str(failure.value))

    def test_itsTimeCountsFromTheLastReport(self) -> None:
        worker = self.makeWorker(stepSeconds=None)
        queue = self.makeQueue(worker)
        worker.step()
        task = queue.options(stallTimeout=1.0).submit(far.echo)
        task.d.addErrback(lambda _: None)
        for _ in range(5):
            self.clock.advance(0.9)
            task.reported(1, None)
        self.assertFalse(task.isDone)
        self.clock.advance(1.1)
        self.assertIsInstance(task.failure.value, TaskStalled)
        worker.stepAll()

    def test_oneThatEndsInTimeLeavesNothingToDo(self) -> None:
        d = self.queue.options(stallTimeout=1.0, timeout=5.0).call(far.echo, 3)
        self.assertEqual(self.resultOf(d), 3)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_bothTimeoutsHold(self) -> None:
        worker = self.makeWorker(stepSeconds=None)
        queue = self.makeQueue(worker)
        worker.step()
        task = queue.options(stallTimeout=1.0, timeout=2.0).submit(far.echo)
        task.d.addErrback(lambda _: None)
        for _ in range(3):
            self.clock.advance(0.8)
            task.reported(1, None)
        self.assertNotIsInstance(task.failure.value, TaskStalled)
        worker.stepAll()

    def test_aStallTimeoutMustBePositive(self) -> None:
        self.assertRaises(ValueError, self.queue.options, stallTimeout=0)
