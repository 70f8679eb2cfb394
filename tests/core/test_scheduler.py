from __future__ import annotations

import random
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from asynqueue.tasks import Capacity, RunTimes, Scheduler, Task
from tests.core.scheduling import SchedulerTestCase, unmeasured


class WaitingTests(SchedulerTestCase):
    def test_withoutWorkersEverythingWaits(self) -> None:
        tasks = self.put(3)
        assert self.scheduler.decide() == []
        assert (len(self.scheduler), list(self.scheduler)) == (3, tasks)

    def test_givesThePriorityOfTheFormula(self) -> None:
        (a,), (b,) = self.put(niceness=0), self.put(niceness=10)
        assert (a.priority, b.priority) == (5.0, 20.0)

    def test_eachSeriesCountsForItself(self) -> None:
        a, b = self.put(3, series="a")[-1], self.put(2, series="b")[-1]
        assert (a.priority, b.priority) == (15.0, 25.0)

    def test_seriesIsForgottenWhenItsLastTaskIsDone(self) -> None:
        for task in self.put(3, series="a"):
            self.scheduler.cancel(task)
            self.scheduler.done(task)
        assert self.put(series="a")[0].priority == 5.0

    def test_cancelledTaskIsGivenToNobody(self) -> None:
        tasks = self.put(5)
        assert self.scheduler.cancel(tasks[2])
        self.attach("Anna")
        assert self.runAll("Anna") == [*tasks[:2], *tasks[3:]]

    def test_whatDoesNotWaitCannotBeCancelled(self) -> None:
        (task,) = self.put()
        stranger = self.task(series="never seen")
        self.attach("Anna")
        self.scheduler.decide()
        assert (self.scheduler.cancel(task), self.scheduler.cancel(stranger)) == (False, False)

    def test_whatDoesNotWaitCannotBeReprioritised(self) -> None:
        (task, _) = self.put(2)
        self.attach("Anna")
        self.scheduler.decide()
        with self.assertRaisesRegex(ValueError, f"{task!r} is in no heap"):
            self.scheduler.reprioritise(task, 1.0)
        stranger = self.task(series="never seen")
        with self.assertRaisesRegex(ValueError, f"{stranger!r} does not wait here"):
            self.scheduler.reprioritise(stranger, 1.0)

    def test_seriesThatNobodyIsQualifiedForIsUnrunnable(self) -> None:
        (a,), (b,), (c,) = self.put(series="a"), self.put(series="b"), self.put()
        assert set(self.scheduler.unrunnable()) == {a, b, c}
        self.scheduler.attach("Anna", ["a"])
        assert list(self.scheduler.unrunnable()) == [b]
        self.scheduler.qualify("Anna", "b")
        assert list(self.scheduler.unrunnable()) == []
        self.scheduler.detach("Anna")
        assert set(self.scheduler.unrunnable()) == {a, b, c}


class OrderTests(SchedulerTestCase):
    def test_equalPrioritiesRunInTheOrderOfPutting(self) -> None:
        self.attach("Anna")
        tasks = self.put(20, doNext=True)
        assert self.runAll("Anna") == tasks

    def test_seriesRunsInItsOrder(self) -> None:
        self.attach("Anna", series=("a",))
        tasks = self.put(20, series="a")
        assert self.runAll("Anna") == tasks

    def test_doNextGoesBeforeEverythingAndDoLastAfter(self) -> None:
        self.attach("Anna", series=("a",))
        last, nice = self.put(2, doLast=True), self.put(2, niceness=-20, series="a")
        first, usual = self.put(2, doNext=True), self.put(2)
        assert self.runAll("Anna") == [*first, *nice, *usual, *last]

    def test_theLowestPriorityOfAllSeriesGoesFirst(self) -> None:
        self.attach("Anna", series=("a", "b"))
        (a,), (b,) = self.put(niceness=20, series="a"), self.put(niceness=-20, series="b")
        (c,) = self.put()
        assert self.runAll("Anna") == [b, c, a]

    def test_equalPrioritiesOfDifferentSeriesRunInTheOrderOfPutting(self) -> None:
        self.attach("Anna", series=("a", "b"))
        tasks = [self.put(series=s, doLast=True)[0] for s in ("b", "a", None, "a", "b")]
        assert self.runAll("Anna") == tasks

    def test_reprioritisedTaskRunsWhereItsNewPriorityPutsIt(self) -> None:
        self.attach("Anna")
        a, b, c = self.put(3)
        self.scheduler.reprioritise(c, 0.0)
        assert c.priority == 0.0
        assert self.runAll("Anna") == [c, a, b]

    def test_whatIsPutBackWaitsInItsOldPlace(self) -> None:
        ways: list[dict[str, Any]] = [{}, {"doNext": True}, {"doLast": True}]
        for options in ways:
            self.setUp()
            self.attach("Anna")
            a, b, c = self.put(3, **options)
            for task in (a, b):
                assert self.scheduler.decide() == [("Anna", [task])]
                self.scheduler.release("Anna", [(task, None)])
            self.scheduler.putBack(b)
            self.scheduler.putBack(a)
            assert (len(self.scheduler), self.runAll("Anna")) == (3, [a, b, c])

    def test_reprioritisedTaskThatIsPutBackKeepsItsNewPlace(self) -> None:
        self.attach("Anna")
        a, b, c = self.put(3)
        self.scheduler.reprioritise(c, 0.0)
        self.scheduler.decide()
        self.scheduler.release("Anna", [(c, None)])
        self.scheduler.putBack(c)
        assert self.runAll("Anna") == [c, a, b]


class WorkerTests(SchedulerTestCase):
    def test_workerThatIsNotOpenGetsNothing(self) -> None:
        (task,) = self.put()
        self.scheduler.attach("Anna")
        assert (self.scheduler.decide(), self.scheduler.hasFreeWorker) == ([], False)
        self.scheduler.open("Anna")
        assert self.scheduler.hasFreeWorker
        assert self.scheduler.decide() == [("Anna", [task])]
        assert not self.scheduler.hasFreeWorker

    def test_closedWorkerGetsNothingButKeepsWhatItHas(self) -> None:
        first, _ = self.put(2)
        self.attach("Anna")
        self.scheduler.decide()
        self.scheduler.close("Anna")
        assert self.scheduler.held == 1
        self.scheduler.release("Anna", [(first, 0.1)])
        assert (self.scheduler.decide(), self.scheduler.hasFreeWorker) == ([], False)

    def test_openingTwiceAndClosingTwiceCountOnce(self) -> None:
        self.attach("Anna")
        self.scheduler.open("Anna")
        self.scheduler.close("Anna")
        self.scheduler.close("Anna")
        assert not self.scheduler.hasFreeWorker
        self.scheduler.open("Anna")
        assert self.scheduler.hasFreeWorker

    def test_busyWorkerGetsNothing(self) -> None:
        self.attach("Anna")
        self.put(2)
        assert len(self.scheduler.decide()) == 1
        assert (self.scheduler.decide(), self.scheduler.held, len(self.scheduler)) == ([], 1, 1)

    def test_workerRunsAsManyAtOnceAsItHasSlots(self) -> None:
        self.attach("Anna", capacity=Capacity(slots=3))
        tasks = self.put(5)
        assert self.scheduler.decide() == [("Anna", tasks[:3])]
        self.scheduler.release("Anna", [(tasks[1], None)])
        assert self.scheduler.decide() == [("Anna", tasks[3:4])]

    def test_theWorkerThatHasBeenFreeForLongestIsServedFirst(self) -> None:
        self.attach("Anna", "Bert", "Carl")
        a, b, c = self.put(3)
        assert self.scheduler.decide() == [("Anna", [a]), ("Bert", [b]), ("Carl", [c])]
        for name, task in (("Carl", c), ("Anna", a), ("Bert", b)):
            self.scheduler.release(name, [(task, None)])
        d, e = self.put(2)
        assert self.scheduler.decide() == [("Carl", [d]), ("Anna", [e])]

    def test_workerThatWasClosedIsFreeOnlySinceItWasOpenedAgain(self) -> None:
        self.attach("Anna", "Bert")
        self.scheduler.close("Anna")
        self.scheduler.open("Anna")
        (task,) = self.put()
        assert self.scheduler.decide() == [("Bert", [task])]

    def test_aStallThatIsToldAgainChangesNothing(self) -> None:
        self.attach("Anna", "Bert", capacity=Capacity(slots=2))
        self.put(2)
        assert [name for name, _ in self.scheduler.decide()] == ["Anna", "Bert"]
        for name in ("Anna", "Anna", "Bert"):
            self.scheduler.stall(name)
        (task,) = self.put()
        # Both have as much to do, and Anna has waited for longer.
        assert self.scheduler.decide() == [("Anna", [task])]

    def test_ofFreeWorkersWithMoreSlotsTheOneWithLeastToDoIsServedFirst(self) -> None:
        self.attach("Anna", "Bert", capacity=Capacity(slots=2))
        a, b, c, d = self.put(4)
        assert self.scheduler.decide() == [("Anna", [a, c]), ("Bert", [b, d])]

    def test_workerGetsOnlyWhatItIsQualifiedFor(self) -> None:
        self.attach("Anna", series=("a",))
        self.attach("Bert", series=("b",))
        (b,), (a,), (c,) = self.put(series="b"), self.put(series="a"), self.put(series="c")
        assert dict(self.scheduler.decide()) == {"Anna": [a], "Bert": [b]}
        assert list(self.scheduler) == [c]

    def test_workerIsAttachedOnce(self) -> None:
        self.attach("Anna")
        with self.assertRaisesRegex(ValueError, "'Anna' is attached already"):
            self.scheduler.attach("Anna")
        self.scheduler.detach("Anna")
        assert not self.scheduler.hasFreeWorker
        self.attach("Anna")

    def test_everyWorkerIsQualifiedForNone(self) -> None:
        self.attach("Anna")
        (task,) = self.put(series=None)
        assert self.scheduler.decide() == [("Anna", [task])]

    def test_workerMayBeQualifiedLater(self) -> None:
        self.attach("Anna")
        (task,) = self.put(series="a")
        assert self.scheduler.decide() == []
        self.scheduler.qualify("Anna", "a")
        assert self.scheduler.decide() == [("Anna", [task])]

    def test_detachedWorkerGetsNothingAndWhatItHeldIsNotHeldAnyMore(self) -> None:
        self.attach("Anna")
        first, second = self.put(2)
        self.scheduler.decide()
        self.scheduler.detach("Anna")
        self.scheduler.detach("Anna")
        assert (self.scheduler.held, self.scheduler.hasFreeWorker) == (0, False)
        self.scheduler.release("Anna", [(first, 0.25)])
        assert self.scheduler.runTimes.expect(unmeasured) == 0.25
        self.scheduler.putBack(first)
        self.attach("Bert")
        assert self.runAll("Bert") == [first, second]

    def test_releasingWhatWasNeverAssignedChangesNothing(self) -> None:
        self.attach("Anna")
        self.put(2)
        self.scheduler.decide()
        self.scheduler.release("Anna", [(self.task(), None)])
        assert (self.scheduler.held, self.scheduler.hasFreeWorker) == (1, False)
        assert self.scheduler.decide() == []

    def test_estimatesMayBeShared(self) -> None:
        runTimes = RunTimes()
        assert Scheduler[Task](runTimes).runTimes is runTimes


class SubmitTests(SchedulerTestCase):
    def submit(self, **options: Any) -> tuple[Task, Any]:
        task = self.task(**options)
        return task, self.scheduler.submit(task)

    def test_taskIsAssignedAtOnceToTheWorkerThatDecideWouldChoose(self) -> None:
        self.attach("Anna", "Bert")
        first, second = self.submit()[1], self.submit()[1]
        assert (first, second, self.scheduler.held) == ("Anna", "Bert", 2)
        assert (self.scheduler.decide(), len(self.scheduler)) == ([], 0)

    def test_taskThatNoFreeWorkerIsQualifiedForWaits(self) -> None:
        self.attach("Anna")
        task, worker = self.submit(series="a")
        assert (worker, list(self.scheduler), self.scheduler.held) == (None, [task], 0)

    def test_taskForWhichNoSlotIsFreeWaits(self) -> None:
        self.attach("Anna")
        first, second = self.submit()[0], self.submit()
        assert second[1] is None
        self.scheduler.ended("Anna", first, 0.1)
        assert self.scheduler.decide() == [("Anna", [second[0]])]

    def test_newTaskDoesNotOvertakeOneThatWaits(self) -> None:
        (waiting,) = self.put()
        self.attach("Anna")
        assert self.submit()[1] is None
        assert self.scheduler.decide() == [("Anna", [waiting])]

    def test_newTaskThatGoesFirstIsAssigned(self) -> None:
        self.put()
        self.attach("Anna")
        assert self.submit(doNext=True)[1] == "Anna"

    def test_taskThatTheWorkerCannotTakeHoldsUpNobody(self) -> None:
        self.put(series="a")
        self.attach("Anna")
        assert self.submit()[1] == "Anna"

    def test_submittedTaskThatIsPutBackWaitsInItsOldPlace(self) -> None:
        self.attach("Anna")
        task, _ = self.submit()
        other, _ = self.submit()
        self.scheduler.ended("Anna", task, None, isOver=False)
        self.scheduler.putBack(task)
        assert self.runAll("Anna") == [task, other]

    def test_endedForgetsTheTaskAndNotesItsRunTime(self) -> None:
        self.attach("Anna")
        task, _ = self.submit()
        self.scheduler.ended("Anna", task, 0.25)
        assert (self.scheduler.held, self.scheduler.alive) == (0, 0)
        assert self.scheduler.hasFreeWorker
        assert self.scheduler.runTimes.expect(unmeasured) == 0.25

    def test_endOfATaskThatWasNeverPutChangesNothing(self) -> None:
        self.attach("Anna")
        self.submit()
        self.scheduler.ended("Anna", self.task(), None)
        assert (self.scheduler.held, self.scheduler.alive) == (1, 1)

    def test_taskThatIsDoneDoesNotWait(self) -> None:
        a, b = self.put(2)
        self.scheduler.done(a)
        assert (list(self.scheduler), self.scheduler.cancel(a)) == ([b], False)


class ManySeriesTests(SchedulerTestCase):
    """
    What happens costs the same number of calls, however many other series wait.
    """

    FEW = 10
    MANY = 1000

    def callsOf(self, series: int, act: Callable[[], object], qualified: bool) -> int:
        self.setUp()
        names = range(series)
        for name in names:
            self.put(series=name)
        self.attach("Anna", series=("a", *names) if qualified else ("a",))
        calls = 0

        def count(frame: FrameType, event: str, argument: object) -> None:
            nonlocal calls
            calls += event == "call"

        former = sys.getprofile()
        sys.setprofile(count)
        try:
            act()
        finally:
            sys.setprofile(former)
        return calls

    def check(self, act: Callable[[], object]) -> None:
        for qualified in (False, True):
            few = self.callsOf(self.FEW, act, qualified)
            many = self.callsOf(self.MANY, act, qualified)
            assert many <= few + 5, (qualified, few, many)

    def test_decisionAndEnd(self) -> None:
        def act() -> None:
            self.put(series="a")
            for name, (task,) in self.scheduler.decide():
                self.scheduler.ended(name, task, 0.1)

        self.check(act)

    def test_submission(self) -> None:
        self.check(lambda: [self.scheduler.submit(self.task(series="a")) for _ in range(3)])

    def test_seriesThatComesAndGoes(self) -> None:
        def act() -> None:
            for name in ("new", "newer"):
                (task,) = self.put(series=name)
                self.scheduler.done(task)

        self.check(act)

    def test_seriesThatIsCancelled(self) -> None:
        def act() -> None:
            self.put(3, series="a")
            for task in self.scheduler.waitingIn("a"):
                self.scheduler.cancel(task)

        self.check(act)

    def test_workerThatLearnsASeries(self) -> None:
        self.check(lambda: self.scheduler.qualify("Anna", "b"))

    def test_questions(self) -> None:
        self.check(
            lambda: (len(self.scheduler), self.scheduler.alive, self.scheduler.serves("nobody's"))
        )


class WalkTests(SchedulerTestCase):
    def test_walkingGivesWhatWaitsByPriorityAcrossSeriesAndGroups(self) -> None:
        order = random.Random(5)
        self.attach("a", series=("x", "y"))
        self.attach("b", series=("y", "z"))
        self.scheduler.close("a")
        self.scheduler.close("b")
        tasks = []
        for _ in range(200):
            series, niceness = order.choice(["x", "y", "z", "nobody's", None]), order.randrange(9)
            doNext = order.random() < 0.1
            tasks += self.put(series=series, niceness=niceness, doNext=doNext)
        for task in order.sample(tasks, 60):
            self.scheduler.cancel(task)
            tasks.remove(task)
        for task in order.sample(tasks, 30):
            self.scheduler.reprioritise(task, order.randrange(50))
        expected = sorted(tasks, key=lambda task: (task.priority, task.id))
        self.assertEqual(list(self.scheduler.walk()), expected)
        self.assertEqual(self.scheduler.waiting, len(expected))

    def test_aPausedSchedulerAssignsNothing(self) -> None:
        self.attach("a")
        self.scheduler.pause()
        self.assertIsNone(self.scheduler.submit(self.task()))
        self.assertEqual(self.scheduler.decide(), [])
        self.scheduler.resume()
        self.assertEqual(len(self.scheduler.decide()), 1)
