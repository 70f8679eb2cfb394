from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Hashable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from twisted.trial.unittest import SynchronousTestCase

from asynqueue._core.priorities import checkNiceness
from asynqueue.tasks import Scheduler, SerialNumbers, Task, TaskOptions, priorityOf


class PriorityTests(SynchronousTestCase):
    def test_isTheFormulaOfAsynQueue(self) -> None:
        # serial * (1 + ((niceness + 20) / 10) ** 2), reckoned by hand.
        figures = [
            (1, -20, 1.0),
            (1, -10, 2.0),
            (1, 0, 5.0),
            (1, 5, 7.25),
            (1, 10, 10.0),
            (1, 20, 17.0),
            (7, 0, 35.0),
            (1000, 20, 17000.0),
        ]
        for serial, niceness, expected in figures:
            self.assertAlmostEqual(priorityOf(serial, niceness), expected, places=9)

    @given(st.integers(1, 10**9), st.integers(-20, 19))
    def test_nicerIsLaterAtTheSameSerial(self, serial: int, niceness: int) -> None:
        assert priorityOf(serial, niceness) < priorityOf(serial, niceness + 1)

    @given(st.integers(1, 10**9), st.integers(-20, 20))
    def test_laterInTheSeriesIsLaterAtTheSameNiceness(self, serial: int, niceness: int) -> None:
        assert priorityOf(serial, niceness) < priorityOf(serial + 1, niceness)


class CheckTests(SynchronousTestCase):
    def test_integersFromMinus20To20PassUnchanged(self) -> None:
        assert [checkNiceness(n) for n in range(-20, 21)] == list(range(-20, 21))

    def test_anythingElseIsRefusedAndNamed(self) -> None:
        others: list[Any] = [-21, 21, 0.0, True, None, "1"]
        for niceness in others:
            with self.assertRaises(ValueError) as caught:
                checkNiceness(niceness)
            text = f"niceness must be an integer from -20 to 20, not {niceness!r}"
            assert str(caught.exception) == text


class SerialTests(SynchronousTestCase):
    def test_eachSeriesCountsForItself(self) -> None:
        serials = SerialNumbers()
        assert serials.take("a") == 1
        assert serials.take("b") == 2
        assert [serials.take("a") for _ in range(3)] == [2, 3, 4]
        assert serials.take("b") == 3

    def test_newSeriesStartsAtTheHighestNumberInUse(self) -> None:
        serials = SerialNumbers()
        for _ in range(10):
            serials.take("old")
        assert serials.take("new") == 11
        assert serials.take("old") == 11

    def test_newSeriesThatIsNicerStartsRightBehindWhatIsThere(self) -> None:
        serials = SerialNumbers()
        for _ in range(100):
            serials.take("urgent", -20)
        # Their factors are 1, 5 and 17: it does not have to wait for what has not been put.
        assert serials.take("usual", 0) == 21
        assert serials.take("nice", 20) == 105 // 17 + 1

    def test_newSeriesThatIsMoreUrgentOvertakesWhatIsThere(self) -> None:
        serials = SerialNumbers()
        for _ in range(100):
            serials.take("nice", 20)
        assert serials.take("urgent", -20) == 101

    def test_whatIsGoneDoesNotDecideWhereANewSeriesStarts(self) -> None:
        serials = SerialNumbers()
        serials.take("nice", 20)
        for _ in range(50):
            serials.take("urgent", -20)
        serials.release("nice")
        assert serials.take("usual", 0) == 11

    def test_seriesIsRememberedUntilItsLastTaskIsDone(self) -> None:
        serials = SerialNumbers()
        serials.take("a")
        serials.take("a")
        serials.release("a")
        assert (len(serials), serials.take("a")) == (1, 3)

    def test_forgottenSeriesStartsAnewAtTheHighestInUse(self) -> None:
        serials = SerialNumbers()
        for _ in range(5):
            serials.take("a")
        for _ in range(5):
            serials.release("a")
        assert len(serials) == 0
        assert serials.take("a") == 1

    def test_whatRanLongAgoHoldsNobodyBack(self) -> None:
        serials = SerialNumbers()
        for _ in range(100):
            serials.take("busy")
        serials.take("quiet")
        for _ in range(100):
            serials.release("busy")
        assert serials.take("quiet") == 102
        serials.release("quiet")
        serials.release("quiet")
        assert serials.take("new") == 1

    def test_everyHashableNamesASeries(self) -> None:
        serials = SerialNumbers()
        names: list[Hashable] = [None, 1, "a", ("a", 1), frozenset()]
        assert [serials.take(name) for name in names] == [1, 2, 3, 4, 5]

    def test_releasingWhatWasNotTakenIsAnError(self) -> None:
        with self.assertRaises(KeyError):
            SerialNumbers().release("a")


class SerialMachine(RuleBasedStateMachine):
    """
    Serial numbers against a dictionary of each series' last number and how many are out.
    """

    names = st.sampled_from([None, "a", "b", "c"])

    def __init__(self) -> None:
        super().__init__()
        self.serials = SerialNumbers()
        self.model: dict[Hashable, tuple[int, int]] = {}

    @rule(name=names, times=st.integers(1, 4))
    def take(self, name: Hashable, times: int) -> None:
        for _ in range(times):
            highest = max((last for last, _ in self.model.values()), default=0)
            last, out = self.model.get(name, (highest, 0))
            assert self.serials.take(name) == last + 1
            self.model[name] = (last + 1, out + 1)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(list(self.model)))
        self.serials.release(name)
        last, out = self.model.pop(name)
        if out > 1:
            self.model[name] = (last, out - 1)

    @invariant()
    def agreesWithTheModel(self) -> None:
        assert len(self.serials) == len(self.model)


SerialMachineTests = SerialMachine.TestCase


def work() -> None: ...


def runAlternately(first: int, second: int, each: int, runs: int) -> Counter[str]:
    """
    Put tasks of two series in turn, let one worker run some, and count those of each series.
    """
    scheduler: Scheduler[Task] = Scheduler()
    scheduler.attach("worker", ["first", "second"])
    scheduler.open("worker")
    options = [TaskOptions(first, "first"), TaskOptions(second, "second")]
    for id, option in enumerate(itertools.chain.from_iterable([options] * each)):
        scheduler.put(Task(id, work, options=option))
    counts: Counter[str] = Counter()
    for _ in range(runs):
        ((worker, (task,)),) = scheduler.decide()
        counts[task.series] += 1
        scheduler.release(worker, [(task, None)])
        scheduler.done(task)
    return counts


class ProportionTests(SynchronousTestCase):
    def test_seriesTenNicerIsDequeuedAtHalfTheRate(self) -> None:
        # Their factors are 5 and 10.
        counts = runAlternately(0, 10, each=1000, runs=900)
        assert abs(counts["first"] - 600) <= 2

    def test_theRatesAreInverseToTheFactors(self) -> None:
        # Factors 1 and 17, then 2 and 5: of 900, 850 and 50, then 642.9 and 257.1.
        assert abs(runAlternately(-20, 20, 1000, 900)["first"] - 850) <= 2
        assert abs(runAlternately(-10, 0, 1000, 900)["first"] - 643) <= 2

    def test_seriesOfEqualNicenessTakeTurns(self) -> None:
        assert abs(runAlternately(3, 3, 500, 700)["first"] - 350) <= 2

    def test_niceSeriesIsSlowedDownButNeverStarved(self) -> None:
        counts = runAlternately(-20, 20, each=200, runs=400)
        assert counts == {"first": 200, "second": 200}
