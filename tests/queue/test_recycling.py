"""
Healthy runners that are replaced after many tasks or with much memory.
"""

from __future__ import annotations

from typing import Any

from asynqueue import Event
from asynqueue._observers import REPLACED
from asynqueue._workers.restart import LOOK_SECONDS, Recycling
from asynqueue.errors import WorkerRecycled
from asynqueue.tasks import LOST
from asynqueue.testing import far
from asynqueue.testing.memory import act
from tests.support.cases import QueueCase


class RecyclingCase(QueueCase):
    def begin(self, **limits: Any) -> None:
        """
        Make a queue with one worker that has these limits.
        """
        self.worker = self.makeWorker(recycling=Recycling(**limits))
        self.queue = self.makeQueue(self.worker)
        self.events: list[Event] = []
        self.queue.addObserver(self.events.append)
        self.settle()

    def call(self, number: int = 1) -> None:
        """
        Have some calls made, one after the other, and run.
        """
        for each in range(number):
            self.assertEqual(self.resultOf(self.queue.call(far.echo, each)), each)
            self.settle()


class TasksTests(RecyclingCase):
    def test_afterSoManyTasksThereIsANewRunner(self) -> None:
        self.begin(maxTasks=3)
        self.call(2)
        self.assertEqual(len(self.worker.channels), 1)
        self.call(5)
        self.assertEqual(len(self.worker.channels), 3)

    def test_withoutALimitThereIsNone(self) -> None:
        self.begin()
        self.call(20)
        self.assertEqual(len(self.worker.channels), 1)

    def test_observersHearWhy(self) -> None:
        self.begin(maxTasks=1)
        self.call()
        kinds = [event.kind for event in self.events if event.task is None]
        self.assertEqual(kinds[-2:], [LOST, REPLACED])
        [lost] = [event for event in self.events if event.kind == LOST]
        self.assertIsInstance(lost.reason, WorkerRecycled)
        self.assertIn("has run 1 tasks", str(lost.reason))

    def test_whatWasSentAheadIsRunBefore(self) -> None:
        self.begin(maxTasks=5)
        self.call(3)
        tasks = [self.queue.submit(far.echo, number) for number in range(20)]
        self.settle()
        self.assertEqual([task.result for task in tasks], list(range(20)))
        self.assertEqual([task.attempts for task in tasks], [1] * 20)
        self.assertGreater(len(self.worker.channels), 1)

    def test_updatesAreReplayed(self) -> None:
        self.begin(maxTasks=4)
        ran: list[int] = []
        self.worker.actions["note"] = lambda: ran.append(len(self.worker.channels))
        self.resultOf(self.queue.update(act, "note"))
        self.call(9)
        self.assertEqual(ran, sorted(set(ran)))
        self.assertEqual(ran[-1], len(self.worker.channels))

    def test_aRunnerWithAStreamIsNotReplacedUnderIt(self) -> None:
        self.begin(maxTasks=2)
        deferator = self.resultOf(self.queue.call(far.endless))
        self.call(5)
        self.assertEqual(len(self.worker.channels), 1)
        deferator.stop()
        self.settle()
        self.call(1)
        self.assertEqual(len(self.worker.channels), 2)

    def test_itIsNotTakenForAFailure(self) -> None:
        self.begin(maxTasks=1)
        self.call(30)
        self.assertEqual(len(self.worker.channels), 31)
        self.assertEqual(self.clock.seconds(), 0.0)

    def test_aShutdownMayComeInTheMidst(self) -> None:
        self.begin(maxTasks=1)
        d = self.queue.call(far.echo, 7)
        self.queue.shutdown()
        self.assertEqual(self.resultOf(d), 7)


class MemoryTests(RecyclingCase):
    def test_withTooMuchMemoryThereIsANewRunner(self) -> None:
        self.begin(maxKilobytes=1000)
        self.worker.channel.resident = 1000
        self.call()
        self.worker.channel.resident = 1001
        self.clock.advance(LOOK_SECONDS)
        self.call()
        self.assertEqual(len(self.worker.channels), 2)
        [lost] = [event for event in self.events if event.kind == LOST]
        self.assertIn("1001 kB", str(lost.reason))

    def test_memoryIsNotLookedAtAfterEachTask(self) -> None:
        self.begin(maxKilobytes=1000)
        self.call()
        self.worker.channel.resident = 2000
        self.call()
        self.assertEqual(len(self.worker.channels), 1)

    def test_limitsThatAreNoneAreRefused(self) -> None:
        for wrong in (0, -1, 1.5, True):
            limit: Any = wrong
            self.assertRaises(ValueError, Recycling, maxTasks=limit)
            self.assertRaises(ValueError, Recycling, maxKilobytes=limit)
