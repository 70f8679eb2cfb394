from __future__ import annotations

from functools import partial

from asynqueue._core.scheduler import OVERHEAD, QUANTUM
from asynqueue.tasks import Capacity, RunTimes
from tests.core.scheduling import SchedulerTestCase, short, slow

AHEAD = Capacity(slots=1, aheadSeconds=0.01, aheadTasks=8)
"""Up to ten milliseconds' worth of tasks."""


class AheadTests(SchedulerTestCase):
    def test_tasksNeverMeasuredAreNotSentAhead(self) -> None:
        self.attach("Anna", capacity=AHEAD)
        tasks = self.put(3)
        assert self.scheduler.decide() == [("Anna", tasks[:1])]

    def test_callablesThatCannotBeMeasuredAreNotSentAhead(self) -> None:
        self.attach("Anna", capacity=AHEAD)
        tasks = [self.put(function=partial(short))[0] for _ in range(2)]
        for _ in range(3):
            assert self.scheduler.decide() == [("Anna", tasks[:1])]
            self.scheduler.release("Anna", [(tasks[0], 0.0001)])
            self.scheduler.putBack(tasks[0])

    def test_shortTasksAreSentAheadUpToSoManySeconds(self) -> None:
        self.attach("Anna", capacity=Capacity(1, aheadSeconds=0.0055))
        tasks = self.put(20, short)
        assert self.scheduler.decide() == [("Anna", tasks[:5])]
        assert (self.scheduler.held, len(self.scheduler)) == (5, 15)

    def test_shortTasksAreSentAheadUpToSoMany(self) -> None:
        self.attach("Anna", capacity=Capacity(1, aheadSeconds=60.0, aheadTasks=7))
        tasks = self.put(20, short)
        assert self.scheduler.decide() == [("Anna", tasks[:7])]

    def test_eachTaskIsTakenToCostAtLeastItsMessages(self) -> None:
        self.scheduler.runTimes = RunTimes()
        self.scheduler.runTimes.note(short, 0.0)
        self.attach("Anna", capacity=Capacity(1, aheadSeconds=10.5 * OVERHEAD))
        tasks = self.put(20, short)
        assert self.scheduler.decide() == [("Anna", tasks[:10])]

    def test_whatComesBehindATaskThatAnotherTakesIsSentAhead(self) -> None:
        self.scheduler.runTimes = RunTimes()
        self.scheduler.runTimes.note(short, QUANTUM / 10)
        self.attach("Anna", capacity=AHEAD)
        self.attach("Bert")
        first, unknown, last = *self.put(1, short), *self.put(1), *self.put(1, short)
        # Anna is offered the second one before Bert takes it.
        expected = [("Anna", [first, last]), ("Bert", [unknown])]
        assert self.scheduler.decide() == expected

    def test_moreIsSentAsSoonAsSomethingCameBack(self) -> None:
        self.attach("Anna", capacity=Capacity(1, aheadSeconds=0.0035))
        tasks = self.put(20, short)
        assert self.scheduler.decide() == [("Anna", tasks[:3])]
        self.scheduler.release("Anna", [(task, 0.001) for task in tasks[:2]])
        assert self.scheduler.decide() == [("Anna", tasks[3:5])]

    def test_nothingIsSentAheadBehindATaskThatIsNotShort(self) -> None:
        self.attach("Anna", capacity=AHEAD)
        (long,) = self.put(function=slow)
        self.put(5, short)
        assert self.scheduler.decide() == [("Anna", [long])]

    def test_taskThatIsNotShortIsNotPassedOver(self) -> None:
        self.attach("Anna", capacity=AHEAD)
        first, *_ = self.put(1, short), self.put(1, slow), self.put(5, short)
        assert self.scheduler.decide() == [("Anna", first)]

    def test_noTaskWithATimeoutIsSentAheadNorOneBehindIt(self) -> None:
        self.attach("Anna", capacity=AHEAD)
        first = self.put(1, short)
        timed = self.put(1, short, timeout=100)
        rest = self.put(2, short)
        assert self.scheduler.decide() == [("Anna", first)]
        self.scheduler.release("Anna", [(first[0], 0.001)])
        assert self.scheduler.decide() == [("Anna", timed)]
        self.scheduler.release("Anna", [(timed[0], 0.001)])
        assert self.scheduler.decide() == [("Anna", rest)]

    def test_oneSlowRunEndsSendingAheadAtOnce(self) -> None:
        self.attach("Anna", capacity=AHEAD)
        tasks = self.put(20, short)
        ((_, held),) = self.scheduler.decide()
        self.scheduler.release("Anna", [(held[0], 5.0), *((task, None) for task in held[1:])])
        assert self.scheduler.decide() == [("Anna", tasks[len(held) : len(held) + 1])]

    def test_workerForWhomNothingGoesAheadIsTheDefault(self) -> None:
        self.attach("Anna")
        tasks = self.put(5, short)
        assert self.scheduler.decide() == [("Anna", tasks[:1])]

    def test_freeWorkersShareShortTasks(self) -> None:
        self.attach("Anna", "Bert", capacity=Capacity(1, aheadSeconds=1.0, aheadTasks=64))
        self.put(20, short)
        given = dict(self.scheduler.decide())
        assert {name: len(tasks) for name, tasks in given.items()} == {"Anna": 10, "Bert": 10}

    def test_workersGetAQuantumOfTheTiniestTasksInTurn(self) -> None:
        self.scheduler.runTimes = RunTimes()
        self.scheduler.runTimes.note(short, 0.0)
        quantum = round(QUANTUM / OVERHEAD)
        self.attach("Anna", "Bert", capacity=Capacity(1, aheadSeconds=1.0, aheadTasks=1000))
        tasks = self.put(6 * quantum, short)
        given = dict(self.scheduler.decide())
        assert tasks[0] in given["Anna"]
        assert abs(len(given["Anna"]) - len(given["Bert"])) <= quantum + 1


class StallTests(SchedulerTestCase):
    def test_stalledWorkerIsSentNothingAheadUntilAllIsOver(self) -> None:
        self.attach("Anna", capacity=AHEAD)
        self.put(30, short)
        ((_, held),) = self.scheduler.decide()
        self.scheduler.stall("Anna")
        self.scheduler.release("Anna", [(task, 0.001) for task in held[:-1]])
        assert self.scheduler.decide() == []
        self.scheduler.release("Anna", [(held[-1], 0.001)])
        ((_, next),) = self.scheduler.decide()
        assert len(next) == len(held) == 8

    def test_stalledWorkerStillFillsItsSlots(self) -> None:
        self.attach("Anna", capacity=Capacity(2, aheadSeconds=1.0))
        self.put(1, short)
        self.scheduler.decide()
        self.scheduler.stall("Anna")
        second, _ = self.put(2, short)
        assert self.scheduler.decide() == [("Anna", [second])]

    def test_stallOfAWorkerThatHoldsNothingHasNoEffect(self) -> None:
        self.attach("Anna", "Bert", capacity=AHEAD)
        self.scheduler.stall("Anna")
        tasks = self.put(1, short)
        assert self.scheduler.decide() == [("Anna", tasks)]

    def test_putBackTasksOfAStalledWorkerGoToAnother(self) -> None:
        self.attach("Anna", capacity=AHEAD)
        tasks = self.put(4, short)
        self.scheduler.decide()
        self.scheduler.stall("Anna")
        self.scheduler.release("Anna", [(task, None) for task in tasks[1:]])
        for task in tasks[1:]:
            self.scheduler.putBack(task)
        assert self.scheduler.decide() == []
        self.attach("Bert", capacity=AHEAD)
        assert self.scheduler.decide() == [("Bert", tasks[1:])]
