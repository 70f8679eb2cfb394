"""
The order in which calls run, and the workers that get them.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from asynqueue import QueuedTask, TaskQueue
from asynqueue.errors import WorkerDied
from asynqueue.tasks import FINISHED, PENDING, UNDERWAY, priorityOf
from asynqueue.testing import far
from asynqueue.testing.memory import MemoryWorker, act
from asynqueue.testing.stepworker import StepWorker
from tests.support.cases import QueueCase


def finishAll(*workers: StepWorker) -> list[Any]:
    """
    Have workers in turn end what they have, until they have nothing more.

    @return: the first arguments of their tasks, in the order in which they came.
    """
    while any(worker.step() for worker in workers):
        pass
    tasks = sorted(
        (task for worker in workers for task in worker.past), key=lambda t: t.startTime or 0.0
    )
    return [task.args[0] for task in tasks]


class PriorityTests(QueueCase):
    def ran(self, **calls: dict[str, Any]) -> list[str]:
        """
        Put some calls of these options, by their names.

        @return: the names in the order in which one worker ran them.
        """
        queue = self.makeQueue()
        for name, options in calls.items():
            queue.call(far.echo, name, **options)
        worker = StepWorker()
        queue.attachWorker(worker)
        while worker.step():
            self.clock.advance(1)
        return [task.args[0] for task in worker.past]

    def test_niceCallsLetOthersPass(self) -> None:
        order = self.ran(nice={"niceness": 10}, usual={}, urgent={"niceness": -20})
        self.assertEqual(order, ["urgent", "nice", "usual"])
        # As 3 x 1, 1 x 10 and 2 x 5: equal priorities run in the order of putting.

    def test_doNextGoesBeforeAllOthers(self) -> None:
        order = self.ran(
            a={"niceness": -20}, b={"doNext": True}, c={}, d={"doNext": True}, e={"niceness": -20}
        )
        self.assertEqual(order[:2], ["b", "d"])

    def test_doLastGoesAfterAllOthers(self) -> None:
        order = self.ran(
            a={"doLast": True}, b={"niceness": 20}, c={"doLast": True}, d={"niceness": 20}
        )
        self.assertEqual(order, ["b", "d", "a", "c"])

    def test_callsWithDoLastWaitForCallsThatComeLater(self) -> None:
        worker = StepWorker()
        queue = self.makeQueue(worker)
        for name in ("running", "last"):
            queue.call(far.echo, name, doLast=True)
        queue.call(far.echo, "late")
        finishAll(worker)
        self.assertEqual([task.args[0] for task in worker.past], ["running", "late", "last"])

    def test_aSeriesOfTwiceTheCostGetsHalfTheTurns(self) -> None:
        worker = StepWorker(["cheap", "dear"])
        queue = self.makeQueue()
        for _ in range(300):
            queue.call(far.echo, "dear", series="dear", niceness=10)
            queue.call(far.echo, "cheap", series="cheap", niceness=0)
        queue.attachWorker(worker)
        for _ in range(300):
            worker.step()
        names = [task.args[0] for task in worker.past[:300]]
        self.assertEqual((names.count("dear"), names.count("cheap")), (100, 200))

    @given(
        niceness=st.lists(st.integers(-20, 20), max_size=30),
        steps=st.lists(st.integers(0, 2), max_size=100),
    )
    def test_prioritiesHoldAcrossWorkers(self, niceness: list[int], steps: list[int]) -> None:
        self.setUp()
        queue = self.makeQueue()
        priorities = []
        started: list[int] = []
        for number, nice in enumerate(niceness):
            priorities.append((priorityOf(number + 1, nice), number))
            queue.call(far.echo, number, niceness=nice)

        class NotingWorker(StepWorker):
            def run(self, task: QueuedTask) -> Any:
                started.append(task.args[0])
                return super().run(task)

        workers = [NotingWorker() for _ in range(3)]
        for worker in workers:
            queue.attachWorker(worker)
        for step in steps:
            workers[step].step()
        finishAll(*workers)
        self.assertEqual(started, [number for _, number in sorted(priorities)])
        self.doCleanups()


class PlaceTests(QueueCase):
    """
    Tasks that are given back unbegun keep their places.
    """

    def setUp(self) -> None:
        super().setUp()
        self.worker = self.makeWorker(stepSeconds=None)
        self.queue = self.makeQueue(self.worker)
        # The run of this call is measured, so that more calls of its function are sent ahead.
        self.queue.call(far.echo)
        self.worker.stepAll()
        self.assertEqual(self.worker.state, "READY")

    def put(self, *values: Any, **options: Any) -> list[QueuedTask]:
        tasks = [self.queue.submit(far.echo, value, **options) for value in values]
        self.settle()
        return tasks

    def recover(self) -> None:
        """
        Let the worker have another runner, which runs everything.
        """
        self.worker.step()
        self.settle()
        self.worker.stepAll()

    def test_measuredTasksAreSentAhead(self) -> None:
        tasks = self.put(1, 2, 3)
        self.assertEqual([task.state for task in tasks], [UNDERWAY] * 3)

    def test_afterADeathTheyRunInTheirOldOrder(self) -> None:
        ended: list[int] = []
        tasks = self.put(1, 2, 3)
        self.worker.die()
        self.worker.step()
        self.assertEqual([task.state for task in tasks], [PENDING] * 3)
        self.assertEqual([task.attempts for task in tasks], [0] * 3)
        for task in [*tasks, *self.put(4), *self.put(5, doNext=True)]:
            task.d.addCallback(ended.append)
        self.recover()
        self.assertEqual(ended, [5, 1, 2, 3, 4])
        self.assertEqual([task.attempts for task in tasks], [1] * 3)

    def test_anotherWorkerMayRunThem(self) -> None:
        tasks = self.put(1, 2, 3)
        other = self.makeWorker()
        self.queue.attachWorker(other)
        self.worker.die()
        self.worker.step()
        self.settle()
        self.assertEqual([task.result for task in tasks], [1, 2, 3])
        self.assertEqual([task.worker for task in tasks], [other] * 3)

    def test_afterADetachmentTheyRunInTheirOldOrder(self) -> None:
        ended: list[int] = []
        tasks = self.put(1, 2, 3)
        later = self.queue.submit(far.echo, 4)
        self.queue.detachWorker(self.worker, reassign=True, crash=True)
        for task in [*tasks, later]:
            task.d.addCallback(ended.append)
        self.queue.attachWorker(self.makeWorker())
        self.settle()
        self.assertEqual(ended, [1, 2, 3, 4])

    def test_whatWaitsBehindAStalledTaskGoesToOthers(self) -> None:
        other = StepWorker()
        seen: list[Any] = []

        def dawdle() -> None:
            self.queue.attachWorker(other)
            self.clock.advance(0.05)
            self.worker.channel.deliver()
            seen.extend([slow.state, quick[0].worker, quick[1].state])

        self.worker.actions["run"] = lambda: None
        self.queue.call(act, "run")
        self.worker.stepAll()
        self.worker.actions["run"] = dawdle
        slow = self.queue.submit(act, "run")
        quick = self.put(1, 2)
        self.assertEqual([task.worker for task in quick], [self.worker] * 2)
        self.worker.stepAll()
        self.assertEqual(seen, [UNDERWAY, other, PENDING])
        finishAll(other)
        self.worker.stepAll()
        self.assertEqual([task.result for task in quick], [1, 2])

    def test_aDeathInTheMiddleCostsOneTask(self) -> None:
        self.worker.actions["die"] = self.worker.die
        before, after = self.put(1, 2), []
        fatal = self.queue.submit(act, "die")
        after = self.put(3, 4)
        self.worker.stepAll()
        self.assertIsInstance(fatal.failure.value, WorkerDied)
        fatal.d.addErrback(lambda _: None)
        self.recover()
        self.assertEqual([task.result for task in before + after], [1, 2, 3, 4])
        self.assertEqual(len(self.worker.channels), 2)


class SeriesTests(QueueCase):
    def test_aTaskOfASeriesGoesToAWorkerQualifiedForIt(self) -> None:
        mine, others = StepWorker(["mine"]), StepWorker(["other"])
        queue = self.makeQueue(others, mine)
        tasks = [queue.submit(far.echo, n, series="mine") for n in range(2)]
        self.assertIs(tasks[0].worker, mine)
        self.assertEqual((tasks[1].state, others.task), (PENDING, None))

    def test_theClassesSeriesCountToo(self) -> None:
        queue = self.makeQueue(StepWorker(), self.makeWorker())
        task = queue.submit(far.echo, series="memory")
        self.settle()
        self.assertEqual(task.state, FINISHED)

    def test_everyWorkerTakesWhatIsOfNoSeries(self) -> None:
        workers = StepWorker(["a"]), StepWorker(["b"]), StepWorker()
        queue = self.makeQueue(*workers)
        for _ in range(3):
            queue.call(far.echo)
        self.assertNotIn(None, [worker.task for worker in workers])

    def waiting(self) -> tuple[TaskQueue, StepWorker, QueuedTask]:
        worker = StepWorker()
        queue = self.makeQueue(worker)
        task = queue.submit(far.echo, 1, series="new")
        self.clock.advance(1000)
        self.assertEqual((task.state, task.startTime), (PENDING, None))
        return queue, worker, task

    def test_itWaitsUntilAWorkerIsQualified(self) -> None:
        queue, worker, task = self.waiting()
        queue.qualifyWorker(worker, "new")
        self.assertEqual((task.state, worker.iQualified), (UNDERWAY, ["new"]))
        worker.step()
        self.assertEqual(task.result, 1)

    def test_orUntilAQualifiedOneIsAttached(self) -> None:
        queue, _, task = self.waiting()
        queue.attachWorker(StepWorker(["new"]))
        self.assertEqual(task.state, UNDERWAY)

    def test_itHoldsUpNobodyMeanwhile(self) -> None:
        queue, worker, task = self.waiting()
        other = queue.submit(far.echo, 2)
        worker.step()
        self.assertEqual((task.state, other.state), (PENDING, FINISHED))
        task.d.addErrback(lambda _: None)

    def test_qualifyingTwiceIsOnce(self) -> None:
        queue, worker, _ = self.waiting()
        queue.qualifyWorker(worker, "new")
        queue.qualifyWorker(worker, "new")
        self.assertEqual(worker.iQualified, ["new"])

    def test_onlyAttachedWorkersCanBeQualified(self) -> None:
        queue = self.makeQueue()
        self.assertRaises(ValueError, queue.qualifyWorker, StepWorker(), "new")

    def test_aWorkerThatHealsStaysQualified(self) -> None:
        worker: MemoryWorker = self.makeWorker()
        queue = self.makeQueue(worker)
        self.settle()
        queue.qualifyWorker(worker, "new")
        worker.die()
        self.assertEqual(self.resultOf(queue.call(far.echo, 1, series="new")), 1)
        self.assertEqual(len(worker.channels), 2)
