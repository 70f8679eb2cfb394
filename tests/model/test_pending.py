"""
All states of a dispatch queue's pending jobs, for small sizes, against a model that looks at each
job anew each time.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from functools import partial
from typing import Any

import pytest

from asynqueue import Job
from asynqueue._dispatch.pending import PendingJobs
from tests.model.explorer import Counterexample, explore

PER = 2.0
"""The length of a rate's window."""

LATEST = 3
"""At what time the clock stands still."""

PRIORITIES = (1, 0, 1)
KEYS = ("a", "a", "b")
"""Of the jobs, which share two buckets."""

DUE = (None, 2.0, None)
"""Of the jobs: before when they do not begin."""

Action = tuple[Any, ...]


class PendingWorld:
    """
    Three jobs in two buckets, at most two of them underway.
    """

    def __init__(self, kind: type[PendingJobs], rate: int, width: int) -> None:
        self.pending = kind(lambda number: KEYS[number])
        self.rate = rate
        self.width = width
        self.now = 0.0
        self.jobs: list[Job] = []
        self.starts: dict[str, list[float]] = {"a": [], "b": []}
        self.mayChangeRate = width == 1
        self.hasChangedRate = self.hasMoved = False
        self.pending.setRate((rate, PER, None))

    def waiting(self) -> list[Job]:
        return sorted(
            (job for job in self.jobs if job.state == Job.PENDING),
            key=lambda job: (job.priority, job.id),
        )

    def underway(self) -> list[Job]:
        return [job for job in self.jobs if job.state == Job.UNDERWAY]

    def opensAt(self, job: Job) -> float:
        """
        When a job may begin as far as its own time and its rate go.
        """
        starts = self.starts[KEYS[job.jobarg]][-self.rate :]
        free = starts[0] + PER if len(starts) == self.rate else 0.0
        return max(free, job.due or 0.0)

    # What the search asks -------------------------------------------------------------------------

    def actions(self) -> Iterator[Action]:
        if len(self.jobs) < len(KEYS):
            yield ("put",)
        if self.now < LATEST:
            yield ("tick",)
        if len(self.underway()) < self.width:
            yield ("take",)
        for job in self.waiting():
            yield ("cancel", job.id)
            if not self.hasMoved and job.id == 1:
                yield ("move", job.id)
        for job in self.underway():
            yield ("end", job.id)
            if job.attempts < 2 and job.id == 1:
                yield ("retry", job.id)
        if self.mayChangeRate and not self.hasChangedRate:
            yield ("changeRate",)

    def do(self, action: Action) -> None:
        getattr(self, action[0])(*action[1:])

    def check(self) -> None:
        assert list(self.pending) == self.waiting(), "nothing is lost, nothing twice, all in order"
        assert len(self.pending) == len(self.waiting())
        assert all((job in self.pending) == (job in self.waiting()) for job in self.jobs)
        assert len(self.underway()) <= self.width
        for starts in self.starts.values():
            for start in starts:
                inWindow = [one for one in starts if start <= one < start + PER]
                # A rate that was made less counts from then on.
                assert len(inWindow) <= (2 if self.hasChangedRate else self.rate)

    def key(self) -> Hashable:
        jobs = [(job.state, job.priority, job.due, job.attempts) for job in self.jobs]
        starts = [
            tuple(one for one in each if one + PER > self.now) for each in self.starts.values()
        ]
        inside = [
            (bucket.key, bucket.opensAt, bucket.announced and bucket.announced[:2])
            for bucket in self.pending._buckets.values()
        ]
        flags = self.rate, self.hasChangedRate, self.hasMoved
        return self.now, tuple(jobs), tuple(starts), tuple(inside), flags

    # The actions ----------------------------------------------------------------------------------

    def put(self) -> None:
        number = len(self.jobs)
        job = Job(number + 1, None, number, PRIORITIES[number], self.now)
        job.due = DUE[number]
        self.jobs.append(job)
        self.pending.put(job, self.now)

    def tick(self) -> None:
        self.now += 1

    def take(self) -> None:
        open_ = [job for job in self.waiting() if self.opensAt(job) <= self.now]
        expected = open_[0] if open_ else None
        job = self.pending.take(self.now)
        assert job is expected, f"{job} was taken, and not {expected}"
        if job is not None:
            job.begin(self.now)
            self.starts[KEYS[job.jobarg]].append(self.now)
            return
        time = self.pending.nextTime()
        times = [self.opensAt(job) for job in self.waiting()]
        assert (time is None) == (not times)
        if time is not None:
            assert self.now < time <= min(times), "the queue would look too late, or at once"

    def cancel(self, id: int) -> None:
        job = self.jobs[id - 1]
        assert self.pending.remove(job)
        job.cancelled(self.now)
        assert not self.pending.remove(job)

    def move(self, id: int) -> None:
        self.hasMoved = True
        job = self.jobs[id - 1]
        self.pending.reprioritise(job, 1 - job.priority)

    def end(self, id: int) -> None:
        self.jobs[id - 1].finish(None, self.now)

    def retry(self, id: int) -> None:
        job = self.jobs[id - 1]
        job.waitAgain()
        job.due = self.now + 1
        self.pending.put(job, self.now, isNew=False)

    def changeRate(self) -> None:
        self.hasChangedRate = True
        self.rate = 3 - self.rate
        self.pending.setRate((self.rate, PER, None))


def world(kind: type[PendingJobs], rate: int, width: int) -> Callable[[], PendingWorld]:
    return partial(PendingWorld, kind, rate, width)


@pytest.mark.parametrize("width", [0, 1, 2])
@pytest.mark.parametrize("rate", [1, 2])
def test_noStateOfPendingJobsIsWrong(rate: int, width: int) -> None:
    explored = explore(world(PendingJobs, rate, width))
    assert explored.states > 100


class WithoutRate(PendingJobs):
    def setRate(self, rate: tuple[int, float, int | None] | None) -> None:
        super().setRate(None)


class WithoutDelay(PendingJobs):
    def put(self, job: Job, now: float, isNew: bool = True) -> None:
        due, job.due = job.due, None
        super().put(job, now, isNew)
        job.due = due


class Unannounced(PendingJobs):
    def remove(self, job: Job) -> bool:
        announce, self._announce = self._announce, lambda bucket: None  # type: ignore[method-assign]
        try:
            return super().remove(job)
        finally:
            self._announce = announce  # type: ignore[method-assign]


class Unmoved(PendingJobs):
    def reprioritise(self, job: Job, priority: float) -> None:
        job.priority = priority


class Miscounted(PendingJobs):
    def take(self, now: float) -> Job | None:
        job = super().take(now)
        self._size += job is not None
        return job


class Sleepy(PendingJobs):
    def nextTime(self) -> float | None:
        time = super().nextTime()
        return None if time is None else time + 1


@pytest.mark.parametrize(
    "kind", [WithoutRate, WithoutDelay, Unannounced, Unmoved, Miscounted, Sleepy]
)
def test_aBrokenVariantIsFound(kind: type[PendingJobs]) -> None:
    with pytest.raises(Counterexample) as caught:
        explore(world(kind, 1, 2))
    assert len(caught.value.actions) <= 8
