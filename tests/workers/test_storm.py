"""
In any order of events, every task of a worker ends once or is given back once.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from asynqueue import QueuedTask
from asynqueue.errors import WorkerDied, WorkerStartError
from asynqueue.tasks import DRAINING, LOST, READY, STARTING, STOPPED
from asynqueue.testing import far
from asynqueue.testing.memory import MemoryChannel, MemoryWorker, act
from asynqueue.testing.owner import RecordingListener, TaskOwner

numbers = st.integers(0, 1000)


class WorkerMachine(RuleBasedStateMachine):
    """
    A worker, employed or not, with whatever runners it gets.
    """

    @initialize(isEmployed=st.booleans(), tellsBegun=st.booleans())
    def start(self, isEmployed: bool, tellsBegun: bool) -> None:
        self.clock = Clock()
        self.owner = TaskOwner(self.clock)
        self.listener = RecordingListener(self.clock)
        self.isEmployed = isEmployed
        self.tellsBegun = tellsBegun
        self.refusals = 0
        self.tasks: list[QueuedTask] = []
        self.left: list[QueuedTask] = []
        self.ready: list[Deferred[None]] = []
        self.stops: list[Deferred[None]] = []
        self.worker = MemoryWorker(reactor=self.clock, prepare=self.prepare)
        self.worker.actions["die"] = self.worker.die
        if isEmployed:
            self.worker.setListener(self.listener)

    def prepare(self, channel: MemoryChannel) -> None:
        channel.tellsBegun = self.tellsBegun
        channel.refuses = self.refusals > 0
        self.refusals -= channel.refuses

    # Actions of its listener ----------------------------------------------------------------------

    @precondition(lambda self: self.worker.state in (STARTING, READY, LOST))
    @rule(
        functions=st.lists(
            st.sampled_from([far.echo, far.echo, far.refuse, far.endless, act, None]),
            min_size=1,
            max_size=4,
        ),
        byRun=st.booleans(),
    )
    def give(self, functions: list[Any], byRun: bool) -> None:
        tasks = []
        for function in functions:
            args = ("die",) if function is act else ()
            tasks.append(self.owner.make(function or far.echo, *args, *([self] * (not function))))
            tasks[-1].start(self.worker, self.clock.seconds())
        self.tasks += tasks
        if byRun:
            self.ready += [self.worker.run(task) for task in tasks]
        else:
            self.worker._report(self.worker.runMany(tasks))

    @precondition(lambda self: bool(self.tasks))
    @rule(which=numbers)
    def cancel(self, which: int) -> None:
        task = self.tasks[which % len(self.tasks)]
        if task not in self.left and task not in self.givenBack() and task.cancel():
            self.worker.cancel(task)

    @precondition(lambda self: bool(self.tasks))
    @rule(which=numbers)
    def stopIterating(self, which: int) -> None:
        result = self.tasks[which % len(self.tasks)].result
        if result is not None:
            result.stop()

    @precondition(lambda self: len(self.tasks) > 10)
    @rule()
    def stop(self) -> None:
        self.stops.append(self.worker.stop())

    @precondition(lambda self: len(self.tasks) > 10)
    @rule()
    def crash(self) -> None:
        self.left += self.worker.crash()

    # Events elsewhere -----------------------------------------------------------------------------

    @rule(times=st.integers(1, 5))
    def step(self, times: int) -> None:
        for _ in range(times):
            self.worker.step()

    @rule(losing=st.booleans())
    def die(self, losing: bool) -> None:
        self.worker.die(losing=losing)

    @rule()
    def runWithoutTelling(self) -> None:
        if not self.worker.channel._incoming:
            self.worker.channel.advance()

    @rule(count=st.integers(1, 9))
    def refuse(self, count: int) -> None:
        self.refusals = count

    @rule(seconds=st.sampled_from([0, 0.05, 0.25, 1, 5]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    # Invariants -----------------------------------------------------------------------------------

    def givenBack(self) -> list[QueuedTask]:
        return [task for tasks in self.listener.of("givenBack") for task in tasks]

    @invariant()
    def noTaskEndsTwice(self) -> None:
        if not hasattr(self, "worker"):
            return
        assert self.worker.state in (STARTING, READY, DRAINING, LOST, STOPPED)
        ends = Counter([*self.left, *self.givenBack()])
        for task in self.tasks:
            assert ends[task] <= 1
        released = Counter(self.listener.of("released"))
        assert all(count == 1 for count in released.values())

    def teardown(self) -> None:
        """
        Stop it, and see that all is accounted for.
        """
        if not hasattr(self, "worker"):
            return
        self.stops.append(self.worker.stop())
        for _ in range(1000):
            if all(stop.called for stop in self.stops):
                break
            self.worker.step()
            self.clock.advance(0.1)
        assert all(stop.called for stop in self.stops), self.worker
        assert self.worker.state == STOPPED
        assert self.clock.getDelayedCalls() == []
        assert all(ready.called for ready in self.ready)
        assert not self.worker._runWaiters
        self.noTaskEndsTwice()
        accounted = {*self.left, *self.givenBack()}
        for task in self.tasks:
            assert task.isDone or task in accounted, task
        # Where the channel cannot tell what was begun, that is only supposed.
        if self.tellsBegun and self.isEmployed:
            self.checkDeaths()

    def checkDeaths(self) -> None:
        deaths = Counter(
            task.failure.value.pid
            for task in self.tasks
            if task.failure is not None
            and isinstance(task.failure.value, WorkerDied)
            and task.function is not far.endless
        )
        assert all(count == 1 for count in deaths.values()), deaths
        for task in self.tasks:
            if task.failure is not None:
                assert not isinstance(task.failure.value, WorkerStartError)


StormTests = WorkerMachine.TestCase
StormTests.settings = settings(max_examples=100, stateful_step_count=40)
