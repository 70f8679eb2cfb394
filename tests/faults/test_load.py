"""
Faults that come of how much is put. A test's number is its row's in the list of faults.
"""

from __future__ import annotations

import gc
import random
import subprocess
import sys
import time
import tracemalloc
import weakref
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock

from asynqueue import ResizableDispatchQueue, TaskQueue
from asynqueue.rdq import JobCancelled
from asynqueue.tasks import priorityOf
from asynqueue.testing import far
from asynqueue.testing.stepworker import StepWorker
from benchmarks.measure import Contender
from benchmarks.measures import dispatch, pending
from tests.support.cases import QueueCase

ROOT = Path(__file__).parents[2]

BUDGET = 600
"""Bytes that a task which waits may take up, its argument and its Deferred included."""

BYTES_OF_TASKS = Contender("tasks", pending.bytesEach, {"tasks": 1_000_000}, {"tasks": 20_000})
BYTES_OF_JOBS = Contender("jobs", dispatch.bytesEach, {"jobs": 1_000_000}, {"jobs": 20_000})


def bytesEach(contender: Contender, isQuick: bool) -> float:
    """
    Measure it in a process of its own, whose memory nothing else has used before.
    """
    told = subprocess.run(
        contender.command(isQuick), cwd=ROOT, capture_output=True, check=True, text=True
    )
    return float(told.stdout)


@pytest.mark.parametrize("contender", [BYTES_OF_TASKS, BYTES_OF_JOBS], ids=lambda each: each.name)
def test_60_twentyThousandPendingAreWithinTheBudget(contender: Contender) -> None:
    assert bytesEach(contender, isQuick=True) <= BUDGET


@pytest.mark.slow
@pytest.mark.parametrize("contender", [BYTES_OF_TASKS, BYTES_OF_JOBS], ids=lambda each: each.name)
def test_60_aMillionPendingAreWithinTheBudget(contender: Contender) -> None:
    assert bytesEach(contender, isQuick=False) <= BUDGET


# Many are cancelled
# -------------------------------------------------------------------------------------------------

MANY = 100_000
SOME = 2_000
FEW = 2_000

MORE = 1.5
"""How many times more steps a cancelling may take among some than among a tenth of them. With a
heap that has three more layers then, it may take a few more."""

STALL = 4.0
"""How many times more a cancelling may cost among many than among a tenth of them. With work that
grows with their number, it would be ten times. The difference that there is comes of the memory,
which is further away."""

LEFT = 10.0
"""Bytes that may be left of each task."""


def ignore(failure: Any) -> None:
    """
    Take a cancelling as it is meant.
    """
    failure.trap(CancelledError, JobCancelled)


class Tasks:
    """
    Many calls that wait in a queue, in two series, each with an argument of its own.
    """

    def __init__(self, count: int) -> None:
        self.queue = TaskQueue(reactor=Clock())
        arguments = [far.Thing() for _ in range(count)]
        self.all: list[Any] = []
        for number, argument in enumerate(arguments):
            # Some of them out of the order of putting.
            niceness = number % 3
            task = self.queue.submit(far.echo, argument, series=number % 2, niceness=niceness)
            task.d.addErrback(ignore)
            self.all.append(task)
        self.sample = [weakref.ref(argument) for argument in arguments[::97]]

    @property
    def waiting(self) -> int:
        return len(self.queue._engine.scheduler)


class Jobs:
    """
    Many jobs that wait.
    """

    def __init__(self, count: int) -> None:
        self.queue = ResizableDispatchQueue(far.echo, reactor=Clock())
        arguments = [far.Thing() for _ in range(count)]
        self.all: list[Any] = []
        for number, argument in enumerate(arguments):
            d = self.queue.put(argument, priority=number % 3)
            d.addErrback(ignore)
            self.all.append(d)
        self.sample = [weakref.ref(argument) for argument in arguments[::97]]

    @property
    def waiting(self) -> int:
        return self.queue.size().pending


def inRandomOrder(them: Any) -> None:
    random.Random(61).shuffle(them.all)
    for each in them.all:
        each.cancel()


def lastFirst(them: Any) -> None:
    for each in reversed(them.all):
        each.cancel()


def allAtOnce(them: Tasks) -> None:
    them.queue.cancelAll()


def aSeriesAtATime(them: Tasks) -> None:
    them.queue.cancelSeries(0)
    them.queue.cancelSeries(1)


def fromWithinCallbacks(them: Tasks) -> None:
    """
    Each that fails cancels some others, which fail within that.
    """
    rest = iter(them.all)

    def cancelSome(_: object) -> None:
        for _ in range(3):
            other = next(rest, None)
            if other is not None:
                other.cancel()

    while them.waiting:
        first = next(rest)
        first.d.addCallback(cancelSome)
        first.cancel()


def stepsEach(make: Callable[[int], Any], cancel: Callable[[Any], None], count: int) -> float:
    """
    @return: how many functions are called, Python's own among them, to cancel one of so many.
    """
    them = make(count)
    steps = 0

    def note(frame: Any, event: str, argument: Any) -> None:
        nonlocal steps
        steps += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        cancel(them)
    finally:
        sys.setprofile(before)
    assert them.waiting == 0
    return steps / count


def secondsEach(
    make: Callable[[int], Any], cancel: Callable[[Any], None], count: int, trials: int = 1
) -> float:
    """
    @return: how much processor time it takes to cancel one of so many, the least of some trials.
    """
    seconds = []
    for _ in range(trials):
        them = make(count)
        gc.collect()
        began = time.thread_time()
        cancel(them)
        seconds.append((time.thread_time() - began) / count)
        assert them.waiting == 0
    return min(seconds)


KINDS = pytest.mark.parametrize(
    ("make", "cancel"),
    [
        *((Tasks, way) for way in (inRandomOrder, lastFirst, allAtOnce, aSeriesAtATime)),
        (Tasks, fromWithinCallbacks),
        *((Jobs, way) for way in (inRandomOrder, lastFirst)),
    ],
)


@KINDS
def test_61_cancellingSomeTakesEachNoMoreStepsThanCancellingFew(
    make: Callable[[int], Any], cancel: Callable[[Any], None]
) -> None:
    assert stepsEach(make, cancel, SOME) < MORE * stepsEach(make, cancel, SOME // 10)


@pytest.mark.slow
@KINDS
def test_61_cancellingManyCostsEachNoMoreThanCancellingATenth(
    make: Callable[[int], Any], cancel: Callable[[Any], None]
) -> None:
    few = secondsEach(make, cancel, MANY // 10, trials=3)
    assert secondsEach(make, cancel, MANY) < STALL * few


@KINDS
def test_61_theMemoryOfWhatIsCancelledIsReleased(
    make: Callable[[int], Any], cancel: Callable[[Any], None]
) -> None:
    def left(count: int) -> int:
        tracemalloc.start()
        try:
            them = make(count)
            before, _ = tracemalloc.get_traced_memory()
            sample = them.sample
            cancel(them)
            queue = them.queue
            del them
            gc.collect()
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert before > 100 * count
        assert not any(reference() for reference in sample)
        assert queue is not None
        return after - 150 * len(sample)

    # The queue itself is left, however many it had.
    left(FEW)
    # Whatever else the process allocates meanwhile is counted, too, but is not there each time. So
    # the least of some trials counts, and no more are made than it takes to be below the limit.
    limit = LEFT * (FEW - FEW // 10)
    assert any(left(FEW) - left(FEW // 10) < limit for _ in range(3))


# A flood
# -------------------------------------------------------------------------------------------------


class FloodTests(QueueCase):
    """
    Tests with a flood of calls in one series, beside others.
    """

    def start(self) -> tuple[TaskQueue, StepWorker]:
        worker = StepWorker(["flood", "usual", "nice"])
        queue = self.makeQueue(worker)
        self.addCleanup(queue.cancelAll)
        return queue, worker

    def put(self, queue: TaskQueue, series: str, numbers: range, **options: Any) -> None:
        for number in numbers:
            d = queue.call(far.echo, (series, number), series=series, **options)
            d.addErrback(ignore)

    def runSome(self, worker: StepWorker, count: int) -> list[tuple[str, int]]:
        """
        @return: what the next calls that a worker runs are called with, which are those of each
            series in the order of putting.
        """
        begun = len(worker.past) - (worker.task is not None)
        for _ in range(count):
            worker.step()
        ran = [task.args[0] for task in worker.past[begun : begun + count]]
        for series in {series for series, _ in ran}:
            numbers = [number for each, number in ran if each == series]
            self.assertEqual(numbers, sorted(numbers), series)
        return ran

    def assertShared(self, ran: list[tuple[str, int]], **niceness: int) -> None:
        """
        Some series got what is due to each for its niceness.
        """
        weights = {series: 1 / priorityOf(1, each) for series, each in niceness.items()}
        counts = Counter(series for series, _ in ran)
        self.assertLessEqual(set(counts), set(niceness))
        for series, weight in weights.items():
            expected = len(ran) * weight / sum(weights.values())
            self.assertLess(abs(counts[series] - expected), 4, f"{counts} for {series}")

    def test_62_equalPrioritiesRunInTheOrderOfPutting(self) -> None:
        queue, worker = self.start()
        for number in range(2_000):
            self.put(queue, "flood", range(2 * number, 2 * number + 2), niceness=-20)
            self.put(queue, "usual", range(number, number + 1))
        ran = self.runSome(worker, 6_000)
        self.assertEqual(len(set(ran)), 6_000)

    def test_62_everySeriesKeepsItsShare(self) -> None:
        queue, worker = self.start()
        for number in range(1_000):
            self.put(queue, "flood", range(4 * number, 4 * number + 4), niceness=-20)
            self.put(queue, "usual", range(number, number + 1))
            self.put(queue, "nice", range(number, number + 1), niceness=20)
        # Those whose turn comes often begin at once.
        self.runSome(worker, 100)
        for _ in range(4):
            ran = self.runSome(worker, 1_000)
            self.assertShared(ran, flood=-20, usual=0, nice=20)

    def test_62_aSeriesThatComesInAFloodGetsItsShareOfWhatFollows(self) -> None:
        queue, worker = self.start()
        self.put(queue, "flood", range(5_000), niceness=-20)
        for number in range(500):
            self.put(queue, "usual", range(number, number + 1))
            self.put(queue, "nice", range(number, number + 1), niceness=20)
        self.put(queue, "flood", range(5_000, 10_000), niceness=-20)
        # Nothing overtakes what has been waiting, but all that has not is shared.
        self.runSome(worker, 5_100)
        for _ in range(2):
            self.assertShared(self.runSome(worker, 1_000), flood=-20, usual=0, nice=20)

    def test_62_whatIsUrgentWaitsForNoFloodOfWhatIsNot(self) -> None:
        queue, worker = self.start()
        self.put(queue, "flood", range(5_000), niceness=20)
        self.put(queue, "usual", range(200), niceness=-20)
        counts = Counter(series for series, _ in self.runSome(worker, 600))
        self.assertEqual(counts["usual"], 200)

    def test_62_aFloodOfCallsToBeDoneNext(self) -> None:
        queue, worker = self.start()
        self.put(queue, "usual", range(100))
        self.put(queue, "nice", range(100), niceness=20)
        self.put(queue, "flood", range(2_000), doNext=True)
        # One was begun before.
        ran = self.runSome(worker, 2_001)
        self.assertEqual(Counter(series for series, _ in ran), {"usual": 1, "flood": 2_000})
        rest = self.runSome(worker, 199)
        self.assertEqual(rest[0], ("usual", 1))
        self.assertEqual(Counter(series for series, _ in rest), {"usual": 99, "nice": 100})
