"""
In any order of events, every Deferred fires once, no task runs twice, no task that was not begun is
lost, and the death of a runner costs one task at most.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from asynqueue import QueuedTask, TaskQueue
from asynqueue._workers.restart import START_TRIES
from asynqueue.errors import (
    CallNotPicklable,
    IterationStopped,
    QueueStopped,
    TaskTimeout,
    WorkerDetached,
    WorkerDied,
    WorkerStartError,
)
from asynqueue.iteration import Deferator
from asynqueue.tasks import CANCELLED, FAILED, FINISHED, PENDING, STOPPED
from asynqueue.testing import far
from asynqueue.testing.memory import MemoryChannel, MemoryWorker, act, actStubbornly

SERIES = (None, "memory", "a", "b", "rare")

numbers = st.integers(0, 1000)


class Record:
    """
    The test's knowledge of one call.

    @ivar kind: what it does.
    @ivar outcomes: what its Deferred has fired with.
    @ivar runs: how often it was run.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.outcomes: list[Any] = []
        self.runs = 0
        self.task: QueuedTask | None = None

    def note(self, result: Any) -> None:
        self.outcomes.append(result.value if isinstance(result, Failure) else result)


class QueueMachine(RuleBasedStateMachine):
    """
    A queue with workers in memory, to which anything may happen that can happen to a queue.
    """

    #: The possible ends of a call, by kind, unless it is cancelled or dies.
    ends: ClassVar[dict[str, Any]] = {
        "run": type(None),
        "refuse": ValueError,
        "unpicklable": CallNotPicklable,
        "stream": Deferator,
        "die": WorkerDied,
        "hang": type(None),
    }

    @initialize(count=st.integers(1, 3))
    def start(self, count: int) -> None:
        self.clock = Clock()
        self.queue = TaskQueue(reactor=self.clock)
        self.records: list[Record] = []
        self.updates: list[Record] = []
        self.workers: list[MemoryWorker] = []
        self.refusals = self.refused = 0
        for _ in range(count):
            self.attach()

    # Actions of users -----------------------------------------------------------------------------

    @rule(
        kind=st.sampled_from(["run", "run", "run", "refuse", "unpicklable", "stream", "die"]),
        niceness=st.integers(-20, 20),
        series=st.sampled_from(SERIES),
        place=st.sampled_from([{}, {}, {"doNext": True}, {"doLast": True}]),
        timeout=st.sampled_from([None, None, 0.3, 5.0]),
    )
    def call(self, kind: str, niceness: int, series: Any, place: Any, timeout: Any) -> None:
        number = len(self.records)
        record = Record(kind)
        self.records.append(record)
        calls: dict[str, tuple[Any, tuple[Any, ...]]] = {
            "run": (act, ("run", number)),
            "die": (act, ("die", number)),
            "refuse": (far.refuse, ()),
            "unpicklable": (far.echo, (self,)),
            "stream": (far.numbers, (3,)),
        }
        function, args = calls[kind]
        record.task = self.queue.submit(
            function, *args, niceness=niceness, series=series, timeout=timeout, **place
        )
        record.task.d.addBoth(record.note)

    @rule(times=st.integers(2, 20))
    def callOften(self, times: int) -> None:
        for _ in range(times):
            self.call("run", 0, None, {}, None)

    @rule(which=numbers)
    def callWhatHangs(self, which: int) -> None:
        """
        A call that takes a second, and cancels another while it runs.
        """
        number = len(self.records)
        record = Record("hang")
        self.records.append(record)
        function = act if which % 2 else actStubbornly
        record.task = self.queue.submit(function, "hang", number, which)
        record.task.d.addBoth(record.note)

    @precondition(lambda self: self.records)
    @rule(which=numbers)
    def cancel(self, which: int) -> None:
        task = self.records[which % len(self.records)].task
        assert task is not None
        task.cancel()

    @rule(sequential=st.booleans(), ephemeral=st.booleans())
    def update(self, sequential: bool, ephemeral: bool) -> None:
        record = Record("update")
        self.updates.append(record)
        d = self.queue.update(far.echo, 1, sequential=sequential, ephemeral=ephemeral)
        d.addBoth(record.note)

    @precondition(lambda self: len(self.workers) < 8)
    @rule()
    def attach(self) -> None:
        worker = MemoryWorker(["a"], reactor=self.clock, prepare=self.prepare)
        worker.actions.update(
            run=self.run,
            die=lambda number: self.runToDeath(number, worker),
            hang=self.hang,
        )
        self.workers.append(worker)
        self.queue.attachWorker(worker).addErrback(lambda _: None)

    @precondition(lambda self: len(self.queue) > 1)
    @rule(which=numbers, crash=st.booleans())
    def detach(self, which: int, crash: bool) -> None:
        workers = self.queue.workers()
        self.queue.detachWorker(workers[which % len(workers)], crash=crash)

    @precondition(lambda self: bool(self.queue))
    @rule(which=numbers, series=st.sampled_from(SERIES))
    def qualify(self, which: int, series: Any) -> None:
        workers = self.queue.workers()
        self.queue.qualifyWorker(workers[which % len(workers)], series)

    # Events elsewhere -----------------------------------------------------------------------------

    def prepare(self, channel: MemoryChannel) -> None:
        channel.refuses = self.refusals > 0
        self.refusals -= channel.refuses
        self.refused += channel.refuses

    def run(self, number: int) -> None:
        self.records[number].runs += 1

    def runToDeath(self, number: int, worker: MemoryWorker) -> None:
        self.run(number)
        worker.die()

    def hang(self, number: int, which: int) -> None:
        self.run(number)
        for _ in range(8):
            self.clock.advance(0.125)
        other = self.records[which % len(self.records)].task
        assert other is not None
        other.cancel()

    def one(self, which: int) -> MemoryWorker:
        return self.workers[which % len(self.workers)]

    @rule(which=numbers, times=st.integers(1, 5))
    def step(self, which: int, times: int) -> None:
        for _ in range(times):
            self.one(which).step()

    @rule(which=numbers)
    def runWithoutTelling(self, which: int) -> None:
        """
        Run one call whose result is not delivered yet.
        """
        channel = self.one(which).channel
        if not channel._incoming:
            channel.advance()

    @rule(which=numbers, losing=st.booleans())
    def kill(self, which: int, losing: bool) -> None:
        self.one(which).die(losing=losing)

    @rule(which=numbers, losing=st.booleans())
    def killWithResult(self, which: int, losing: bool) -> None:
        """
        Kill a runner that has run a call and was just about to tell so, or has told so.
        """
        self.step(which, 3)
        self.runWithoutTelling(which)
        self.kill(which, losing)

    @rule(count=st.integers(1, 3))
    def refuse(self, count: int) -> None:
        """
        So many runners will refuse to start.
        """
        self.refusals = count

    @rule(seconds=st.sampled_from([0, 0, 0.05, 0.25, 1, 5]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    # Invariants -----------------------------------------------------------------------------------

    @invariant()
    def theBooksAreRight(self) -> None:
        if not hasattr(self, "queue"):
            return
        states = Counter(record.task.state for record in self.records if record.task)
        assert len(self.queue._engine.scheduler) == states[PENDING]
        for record in self.records:
            assert record.task is not None
            assert len(record.outcomes) == record.task.isDone
            assert record.runs <= 1

    def teardown(self) -> None:
        """
        Let everything come to its end, then shut down.
        """
        if not hasattr(self, "queue"):
            return
        self.refusals = 0
        self.settle(lambda: not self.queue._engine.scheduler.held)
        done: list[Any] = []
        self.queue.shutdown().addBoth(done.append)
        self.settle(lambda: bool(done))
        assert done == [None]
        assert self.clock.getDelayedCalls() == []
        assert all(worker.state == STOPPED for worker in self.workers)
        self.theBooksAreRight()
        for record in self.records:
            self.check(record)
        for update in self.updates:
            assert len(update.outcomes) == 1
        deaths = Counter(
            outcome.pid
            for record in self.records
            for outcome in record.outcomes
            if isinstance(outcome, WorkerDied) and record.kind != "stream"
        )
        assert all(count == 1 for count in deaths.values()), deaths

    def settle(self, isEnough: Any) -> None:
        for _ in range(2000):
            moved = [worker.step() for worker in self.workers]
            if not any(moved) and isEnough():
                return
            self.clock.advance(0.05)
        raise AssertionError(f"{self.queue} does not come to rest")

    def check(self, record: Record) -> None:
        [outcome] = record.outcomes
        task = record.task
        assert task is not None
        assert task.state in (FINISHED, FAILED, CANCELLED)
        # Any other end was caused by a rule of this test.
        allowed: tuple[Any, ...] = (self.ends[record.kind], WorkerDied, WorkerDetached)
        allowed += (CancelledError, TaskTimeout, QueueStopped)
        if record.kind == "stream":
            allowed += (IterationStopped,)
        if self.refused >= START_TRIES:
            # A worker may have given up.
            allowed += (WorkerStartError,)
        assert isinstance(outcome, allowed), (record.kind, outcome)
        if isinstance(outcome, QueueStopped):
            assert task.series not in (None, "memory", "a"), task
        if isinstance(outcome, TaskTimeout):
            assert task.options.timeout is not None
        if record.kind in ("run", "hang") and task.state == FINISHED:
            assert record.runs == 1


StormTests = QueueMachine.TestCase
StormTests.settings = settings(max_examples=60, stateful_step_count=60)
