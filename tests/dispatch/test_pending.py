from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from asynqueue import Job
from asynqueue._dispatch.pending import FEW, PendingJobs


class Nobody:
    """
    Keeps jobs that nobody cancels or moves but the line's test.
    """

    def cancelJob(self, job: Job) -> None:
        raise AssertionError

    def reprioritize(self, job: Job, priority: float) -> None:
        raise AssertionError


class Maker:
    """
    Makes jobs and puts them.
    """

    def __init__(self, line: PendingJobs) -> None:
        self.line = line
        self.number = 0

    def __call__(
        self, jobarg: object, priority: float = 0, now: float = 0.0, due: float | None = None
    ) -> Job:
        self.number += 1
        job = Job(self.number, Nobody(), jobarg, priority, now)
        job.due = due
        self.line.put(job, now)
        return job


def takeAll(line: PendingJobs, now: float = 0.0) -> list[object]:
    taken = []
    while (job := line.take(now)) is not None:
        taken.append(job.jobarg)
    return taken


def test_emptyLineGivesNothingEver() -> None:
    line = PendingJobs()
    assert (line.take(0.0), line.nextTime(), len(line), list(line)) == (None, None, 0, [])


def test_keyThatIsNotHashableIsRefusedAtOnce() -> None:
    line = PendingJobs(key=lambda jobarg: jobarg)
    put = Maker(line)
    with pytest.raises(TypeError, match="unhashable"):
        put([], due=5.0)
    assert len(line) == 0
    assert line.nextTime() is None


def test_keyWithoutARateHoldsUpNobody() -> None:
    line = PendingJobs(key=lambda jobarg: jobarg)
    put = Maker(line)
    line.setRate((1, 10.0, None))
    for jobarg in "aaabac":
        put(jobarg)
    assert takeAll(line) == ["a", "b", "c"]
    assert line.nextTime() == 10.0
    assert takeAll(line, 10.0) == ["a"]


def test_limitThatNobodyWaitsForWakesNobody() -> None:
    line = PendingJobs()
    put = Maker(line)
    line.setRate((1, 10.0, None))
    put("a")
    job = put("b")
    assert takeAll(line) == ["a"]
    assert line.nextTime() == 10.0
    assert line.remove(job)
    assert line.nextTime() is None
    put("c", now=5.0)
    assert takeAll(line, 5.0) == []
    assert line.nextTime() == 10.0


def test_bucketsThatAreNotNeededAreForgotten() -> None:
    line = PendingJobs(key=lambda jobarg: jobarg)
    put = Maker(line)
    line.setRate((1, 1.0, None))
    for number in range(20 * FEW):
        put(number, now=float(number))
        assert takeAll(line, float(number)) == [number]
    assert len(line._buckets) <= 2 * FEW


def test_bucketsWhoseLimitStillCountsAreNotForgotten() -> None:
    line = PendingJobs(key=lambda jobarg: jobarg)
    put = Maker(line)
    line.setRate((1, 1000.0, None))
    for number in range(5 * FEW):
        put(number)
    assert len(takeAll(line)) == 5 * FEW
    for number in range(5 * FEW):
        put(number, now=1.0)
    assert takeAll(line, 1.0) == []


def test_movingTheFirstJobOverAndOverLeavesLittleBehind() -> None:
    line = PendingJobs()
    put = Maker(line)
    job, _ = put("a"), put("b")
    for number in range(50 * FEW):
        line.reprioritise(job, -number)
    assert len(line._open) <= 3 * FEW
    assert takeAll(line) == ["a", "b"]


def test_jobOfAnotherLineIsNotTouched() -> None:
    line, other = PendingJobs(), PendingJobs()
    put = Maker(other)
    mine, later = put("a"), put("b", due=5.0)
    for job in (mine, later):
        assert not line.remove(job)
        with pytest.raises(ValueError, match="does not wait here"):
            line.reprioritise(job, 3)
        assert job.priority == 0
    assert list(other) == [mine, later]


def test_wrongRateIsRefusedAndTheOldOneHolds() -> None:
    line = PendingJobs()
    line.setRate((1, 10.0, None))
    with pytest.raises(ValueError, match="rate must be"):
        line.setRate((0, 10.0, None))
    assert line.rate == (1, 10.0, None)


TICK = 2.0**-4
ticks = st.integers(0, 60).map(lambda number: number * TICK)
priorities = st.integers(-2, 2)
keys = st.integers(0, 3)
rates = st.none() | st.tuples(st.integers(1, 3), ticks.map(lambda per: per + TICK), st.none())
chosen = st.integers(0, 30)


class LineMachine(RuleBasedStateMachine):
    """
    A line beside a list of jobs that is searched.
    """

    def __init__(self) -> None:
        super().__init__()
        self.line = PendingJobs(key=lambda jobarg: jobarg)
        self.put = Maker(self.line)
        self.now = 0.0
        self.jobs: list[Job] = []
        self.rate: tuple[int, float, None] | None = None
        self.starts: dict[object, list[float]] = {}

    # The model

    def opens(self, key: object) -> float:
        """
        When one of a key may begin.
        """
        starts = self.starts.get(key, [])
        if self.rate is None or len(starts) < self.rate[0]:
            return 0.0
        return starts[-self.rate[0]] + self.rate[1]

    def begins(self, job: Job) -> float:
        """
        When a job may begin, if no other does before.
        """
        return max(job.due or 0.0, self.opens(job.jobarg))

    def ordered(self) -> list[Job]:
        return sorted(self.jobs, key=lambda job: (job.priority, job.id))

    # What may happen

    @rule(key=keys, priority=priorities, delay=st.none() | ticks)
    def putOne(self, key: int, priority: int, delay: float | None) -> None:
        due = None if delay is None else self.now + delay
        self.jobs.append(self.put(key, priority, self.now, due))

    @rule()
    def take(self) -> None:
        allowed = [job for job in self.ordered() if self.begins(job) <= self.now]
        job = self.line.take(self.now)
        if allowed:
            assert job is allowed[0]
            self.jobs.remove(job)
            self.starts.setdefault(job.jobarg, []).append(self.now)
        else:
            assert job is None
            self.checkNextTime()

    def checkNextTime(self) -> None:
        time = self.line.nextTime()
        earliest = min(map(self.begins, self.jobs), default=None)
        if time is None or earliest is None:
            assert time is earliest
        else:
            # It may be too early, where a job whose time comes finds its rate used up.
            assert self.now < time <= earliest
            dues = [job.due for job in self.jobs]
            assert time == earliest or time in dues

    @rule()
    def takeAll(self) -> None:
        while self.jobs:
            before = len(self.jobs)
            self.take()
            if len(self.jobs) == before:
                break

    @rule(seconds=ticks)
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.jobs)
    @rule()
    def waitForTheNext(self) -> None:
        """
        Whoever looks at the times that are told, and only then, begins each job when it may.
        """
        self.takeAll()
        for _ in range(len(self.jobs) + len(self.starts) + 1):
            time = self.line.nextTime()
            if time is None:
                break
            self.now = time
            before = len(self.jobs)
            self.take()
            if len(self.jobs) < before:
                return
        assert not self.jobs

    @rule(which=chosen)
    def remove(self, which: int) -> None:
        if which < len(self.jobs):
            job = self.jobs.pop(which)
            assert self.line.remove(job)
            assert not self.line.remove(job)

    @rule(which=chosen, priority=priorities)
    def reprioritise(self, which: int, priority: int) -> None:
        if which < len(self.jobs):
            self.line.reprioritise(self.jobs[which], priority)
            assert self.jobs[which].priority == priority

    @rule()
    def clear(self) -> None:
        assert list(self.line.clear()) == self.ordered()
        self.jobs.clear()

    @rule(rate=rates)
    def setRate(self, rate: tuple[int, float, None] | None) -> None:
        self.line.setRate(rate)
        for starts in self.starts.values():
            # So many are known.
            del starts[: None if self.rate is None else -self.rate[0]]
        self.rate = rate

    @invariant()
    def agrees(self) -> None:
        assert len(self.line) == len(self.jobs)
        assert list(self.line) == self.ordered()
        assert self.line.rate == self.rate


LineMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=60)
TestLineMachine = LineMachine.TestCase
