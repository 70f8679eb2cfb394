"""
Random histories: of what a queue is asked to do, also from within its callbacks.
"""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from twisted.internet.defer import Deferred

from asynqueue.errors import JobNotDispatched, QueueFull, QueueStopped, StateError
from asynqueue.rdq import Job, JobCancelled, JobDeferred, ResizableDispatchQueue, Retry
from tests.dispatch.cases import CountingClock, Held, firings

KINDS = ("value", "error", "held", "stubborn")

kinds = st.sampled_from(KINDS)
priorities = st.integers(-2, 2)
which = st.integers(0, 15)
seconds = st.integers(0, 8).map(lambda ticks: ticks / 4)
widths = st.integers(0, 4)
deeds = st.one_of(
    st.tuples(st.just("put"), kinds, priorities, st.none() | seconds, st.none()),
    st.tuples(st.just("cancel"), which, st.booleans()),
    st.tuples(st.just("end"), which, st.booleans()),
    st.tuples(st.just("reprioritize"), which, priorities),
    st.tuples(st.just("setWidth"), widths),
    st.tuples(st.just("setRate"), st.none() | st.integers(1, 3), seconds.map(lambda s: s + 0.25)),
    st.tuples(st.just("pause")),
    st.tuples(st.just("resume"), st.none() | widths),
    st.tuples(st.just("clear")),
    st.tuples(st.just("whenReady")),
    st.tuples(st.just("watch"), which),
)
"""What can be done, from outside or from a callback."""


class StormMachine(RuleBasedStateMachine):
    """
    Keeps an account of every Deferred.
    """

    def __init__(self) -> None:
        super().__init__()
        self.clock = CountingClock()
        self.held = Held()
        self.numbers = iter(range(10**6))
        self.jobs: list[Job] = []
        self.fired: list[tuple[Job, list[Any]]] = []
        self.drained: list[list[Any]] = []
        self.ready: list[list[Any]] = []
        self.within: dict[int, Any] = {}
        self.queue: ResizableDispatchQueue

    @initialize(
        size=st.none() | st.integers(1, 4),
        retries=st.integers(1, 3),
        width=widths,
        stopsWithin=st.integers(0, 2),
    )
    def begin(self, size: int | None, retries: int, width: int, stopsWithin: int) -> None:
        self.stopsWithin = stopsWithin
        retry = Retry(retries, delays=lambda failures: failures / 2)
        self.queue = ResizableDispatchQueue(
            self.function,
            width,
            size,
            rateKey=lambda jobarg: jobarg[1],
            retry=retry,
            reactor=self.clock,
        )

    def function(self, jobarg: tuple[int, str]) -> Any:
        number, kind = jobarg
        assert not self.queue.paused and not self.queue.stopped, "a job begins only while running"
        assert len(self.queue.underway()) <= self.queue.width, "no more than the width"
        self.do(self.within.pop(number, None))
        if kind == "value":
            return number
        if kind == "error":
            raise ValueError(number)
        if kind == "held":
            return self.held(jobarg)
        return self.stubborn(jobarg)

    async def stubborn(self, jobarg: tuple[int, str]) -> None:
        try:
            await self.held(jobarg)
        finally:
            await self.held(jobarg)

    # Deeds

    def do(self, deed: Any) -> None:
        if deed is not None:
            name, *args = deed
            try:
                getattr(self, name)(*args)
            except QueueStopped:
                assert self.queue.stopped

    def put(
        self, kind: str, priority: int, delay: float | None, deed: Any, within: Any = None
    ) -> None:
        number = next(self.numbers)
        self.within[number] = within
        isFull = self.queue._limit is not None and len(self.queue.pending()) >= self.queue._limit
        try:
            d = self.queue.put((number, kind), priority, delay=delay)
        except QueueFull:
            assert isFull
        else:
            assert not isFull
            self.jobs.append(d.job)
            self.account(d, deed)

    def account(self, d: JobDeferred, deed: Any = None) -> None:
        fired = firings(d)
        self.fired.append((d.job, fired))
        d.addCallback(lambda _: self.do(deed))

    def chosen(self, which: int) -> Job | None:
        return self.jobs[-which] if 0 < which <= len(self.jobs) else None

    def cancel(self, which: int, throughDeferred: bool) -> None:
        job = self.chosen(which)
        if job is None:
            return
        before = job.state, job.result, job.failure, job.stopTime
        if throughDeferred and not job.isDone:
            watcher = job.watch()
            self.account(watcher)
            watcher.cancel()
        elif not job.cancel():
            assert before == (job.state, job.result, job.failure, job.stopTime)

    def end(self, which: int, isError: bool) -> None:
        jobargs = list(self.held._calls)
        if which < len(jobargs):
            if isError:
                self.held.fail(jobargs[which], ValueError(which))
            else:
                self.held.finish(jobargs[which])

    def reprioritize(self, which: int, priority: int) -> None:
        job = self.chosen(which)
        if job is not None:
            try:
                job.reprioritize(priority)
            except StateError:
                assert job.state != Job.PENDING
            except ValueError:
                assert self.queue.stopped

    def stop(self, cancelUnderway: bool) -> None:
        self.drained.append(firings(self.queue.stop(cancelUnderway)))

    def setWidth(self, width: int) -> None:
        self.queue.width = width

    def setRate(self, rate: int | None, per: float) -> None:
        self.queue.setRate(rate, per)

    def pause(self) -> None:
        self.drained.append(firings(self.queue.pause()))

    def resume(self, width: int | None) -> None:
        self.queue.resume(width)

    def clear(self) -> None:
        self.queue.clearQueue()

    def whenReady(self) -> None:
        self.ready.append(firings(self.queue.whenReady()))

    def watch(self, which: int) -> None:
        job = self.chosen(which)
        if job is not None:
            self.account(job.watch())

    # Rules

    @rule(deed=deeds)
    def doOne(self, deed: Any) -> None:
        self.do(deed)

    @rule(
        kind=kinds,
        priority=priorities,
        delay=st.none() | seconds,
        deed=deeds | st.none(),
        within=deeds | st.none(),
    )
    def putOne(self, kind: str, priority: int, delay: float | None, deed: Any, within: Any) -> None:
        self.do(("put", kind, priority, delay, deed, within))

    @rule(elapsed=seconds)
    def passTime(self, elapsed: float) -> None:
        asked = self.clock.asked
        begun = sum(job.attempts for job in self.jobs)
        self.clock.advance(elapsed)
        begun = sum(job.attempts for job in self.jobs) - begun
        # No busy loop: turns come with jobs, and with times at which rates or delays are over.
        assert self.clock.asked - asked <= 10 + 4 * (begun + len(self.jobs))

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "queue"):
            return
        pending, underway = self.queue.pending(), self.queue.underway()
        assert all(job.state == Job.PENDING for job in pending)
        assert not any(job.state == Job.PENDING for job in underway)
        assert pending == sorted(pending, key=lambda job: (job.priority, job.id))
        for job in self.jobs:
            isLeft = self.queue.stopped and job.state == Job.PENDING
            assert isLeft or (job.state == Job.PENDING) == (job in pending)
            assert isLeft or job.isDone or job in underway or job in pending
        for job, fired in self.fired:
            self.checkFired(job, fired)

    def checkFired(self, job: Job, fired: list[Any]) -> None:
        isLeft = self.queue.stopped and job.state == Job.PENDING
        assert len(fired) == (job.isDone or isLeft), "each fires once, when its job has ended"
        if isLeft:
            assert isinstance(fired[0], JobNotDispatched) and fired[0].job is job
        if job.state == Job.FINISHED:
            assert fired[0] is job
        elif job.state in (Job.FAILED, Job.CANCELLED):
            assert job.failure is not None
            assert fired[0] is job.failure.value and fired[0].job is job
            assert isinstance(fired[0], JobCancelled) == (job.state == Job.CANCELLED)

    def teardown(self) -> None:
        if not hasattr(self, "queue"):
            return
        if self.stopsWithin:
            self.do(("put", "value", -5, None, None, ("stop", self.stopsWithin > 1)))
            self.queue.setRate(None)
            self.queue.resume(10)
            self.clock.advance(1)
        pending = [job for job in self.jobs if job.state == Job.PENDING]
        stopped: Deferred[list[Job]] = self.queue.stop(cancelUnderway=True)
        left = firings(stopped)
        while self.held._calls:
            self.held.finish(next(iter(self.held._calls)))
        assert len(left) == 1
        for job in pending:
            assert job in left[0] and job.state in (Job.PENDING, Job.CANCELLED)
        self.agrees()
        assert not any(job.state == Job.UNDERWAY for job in self.jobs)
        assert all(len(fired) == 1 for fired in [*self.drained, *self.ready])
        assert self.clock.getDelayedCalls() == []


StormMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=50)
TestStormMachine = StormMachine.TestCase
