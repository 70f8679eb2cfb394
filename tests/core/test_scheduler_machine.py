from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from asynqueue.tasks import Capacity, Scheduler, Task, TaskOptions
from tests.core.model import ModelScheduler, ModelWorker


def tiny() -> int:
    return 1


def short() -> int:
    return 2


def long() -> int:
    return 3


functions: st.SearchStrategy[Callable[..., Any]] = st.sampled_from(
    [tiny, short, long, partial(len)]
)
seriesNames = st.sampled_from([None, "a", "b", "c"])
runTimes = st.sampled_from([None, 0.0, 2e-6, 1e-4, 4e-4, 0.002, 0.5])
qualifications = st.sets(st.sampled_from(["a", "b"]))
capacities = st.builds(
    Capacity,
    slots=st.sampled_from([1, 1, 2, 3]),
    aheadSeconds=st.sampled_from([0.0, 0.001, 0.005, 1.0]),
    aheadTasks=st.sampled_from([1, 3, 64]),
)
taskOptions = st.builds(
    lambda place, **options: TaskOptions(**options, **place),
    st.sampled_from([{}, {}, {}, {"doNext": True}, {"doLast": True}]),
    niceness=st.sampled_from([-20, 0, 0, 10, 20]),
    series=seriesNames,
    timeout=st.sampled_from([None, None, None, 5.0]),
)


class SchedulerMachine(RuleBasedStateMachine):
    """
    The scheduler against its model, told the same facts.
    """

    def __init__(self) -> None:
        super().__init__()
        self.scheduler: Scheduler[Task] = Scheduler()
        self.model = ModelScheduler()
        self.ids = 0

    @initialize(
        areSimple=st.sampled_from([False, False, False, True]),
        measured=st.sampled_from([None, 0.0, 1e-4, 4e-4]),
        workers=st.lists(st.tuples(qualifications, capacities), min_size=1, max_size=3),
    )
    def begin(
        self,
        areSimple: bool,
        measured: float | None,
        workers: list[tuple[set[Hashable], Capacity]],
    ) -> None:
        self.areSimple = areSimple
        for qualified, capacity in workers:
            self.attach(qualified, capacity, True)
        if measured is not None:
            for task in (Task(0, tiny), Task(0, short)):
                self.scheduler.release("nobody", [(task, measured)])
                self.model.note(task, measured)

    def worker(self, data: st.DataObject) -> ModelWorker:
        return data.draw(st.sampled_from(list(self.model.workers.values())))

    # Tasks

    @rule(function=functions, options=taskOptions, count=st.integers(1, 12), decides=st.booleans())
    def put(
        self, function: Callable[..., Any], options: TaskOptions, count: int, decides: bool
    ) -> None:
        for _ in range(count):
            self.ids += 1
            task = Task(self.ids, function, options=options)
            self.scheduler.put(task)
            self.model.put(task)
            assert task.priority == self.model.waiting[task][0]
        if decides:
            self.decide()

    @rule(function=functions, options=taskOptions, decides=st.booleans())
    def submit(self, function: Callable[..., Any], options: TaskOptions, decides: bool) -> None:
        self.ids += 1
        task = Task(self.ids, function, options=options)
        worker = self.scheduler.submit(task)
        self.model.put(task)
        assert task.priority == self.model.waiting[task][0]
        self.model.checkSubmitted(task, worker)
        if decides:
            self.decide()

    @precondition(lambda self: self.model.waiting)
    @rule(data=st.data())
    def cancelOneThatWaits(self, data: st.DataObject) -> None:
        task = data.draw(st.sampled_from(list(self.model.waiting)))
        assert self.scheduler.cancel(task)
        assert not self.scheduler.cancel(task)
        self.scheduler.done(task)
        del self.model.waiting[task]
        self.model.done(task)

    @precondition(lambda self: self.model.waiting)
    @rule(data=st.data(), priority=st.sampled_from([float("-inf"), 0.0, 5.0, 50.0]))
    def reprioritise(self, data: st.DataObject, priority: float) -> None:
        task = data.draw(st.sampled_from(list(self.model.waiting)))
        self.scheduler.reprioritise(task, priority)
        self.model.waiting[task] = (priority, task.id)

    # Workers

    @precondition(lambda self: len(self.model.workers) < 4)
    @rule(qualified=qualifications, capacity=capacities, isOpen=st.booleans())
    def attach(self, qualified: set[Hashable], capacity: Capacity, isOpen: bool) -> None:
        name = next(name for name in range(5) if name not in self.model.workers)
        capacity = Capacity() if self.areSimple else capacity
        self.scheduler.attach(name, qualified, capacity)
        worker = ModelWorker(name, {None, *qualified}, capacity)
        self.model.workers[name] = worker
        if isOpen:
            self._open(worker)

    def _open(self, worker: ModelWorker) -> None:
        self.scheduler.open(worker.name)
        wasFree, worker.open = worker.isFree, True
        self.model.freed(worker, wasFree)

    @precondition(lambda self: self.model.workers)
    @rule(data=st.data(), isOpen=st.booleans())
    def openOrClose(self, data: st.DataObject, isOpen: bool) -> None:
        worker = self.worker(data)
        if isOpen:
            self._open(worker)
        else:
            self.scheduler.close(worker.name)
            worker.open = False

    @precondition(lambda self: self.model.workers)
    @rule(data=st.data(), series=seriesNames)
    def qualify(self, data: st.DataObject, series: Hashable) -> None:
        worker = self.worker(data)
        self.scheduler.qualify(worker.name, series)
        worker.qualified.add(series)

    @precondition(lambda self: self.model.workers)
    @rule(data=st.data())
    def stall(self, data: st.DataObject) -> None:
        worker = self.worker(data)
        self.scheduler.stall(worker.name)
        worker.stalled = bool(worker.held)

    @precondition(lambda self: self.model.workers)
    @rule(data=st.data(), putsBack=st.booleans())
    def detach(self, data: st.DataObject, putsBack: bool) -> None:
        worker = self.model.workers.pop(self.worker(data).name)
        places = {task: task.priority for task in worker.held}
        self.scheduler.detach(worker.name)
        self.scheduler.detach(worker.name)
        self.scheduler.release(worker.name, [(task, None) for task in worker.held])
        for task in places:
            self._settle(task, putsBack)

    # What becomes of the tasks that a worker holds

    def _settle(self, task: Task, putsBack: bool) -> None:
        self.model.expected.pop(task, None)
        if putsBack:
            assert task.priority is not None
            self.scheduler.putBack(task)
            self.model.waiting[task] = (task.priority, task.id)
        else:
            self.scheduler.done(task)
            self.model.done(task)

    @precondition(lambda self: any(worker.held for worker in self.model.workers.values()))
    @rule(
        data=st.data(),
        ends=st.lists(st.tuples(runTimes, st.booleans()), min_size=1, max_size=8),
        withAnUpdate=st.booleans(),
        decides=st.booleans(),
    )
    def release(
        self,
        data: st.DataObject,
        ends: list[tuple[float | None, bool]],
        withAnUpdate: bool,
        decides: bool,
    ) -> None:
        holding = [worker for worker in self.model.workers.values() if worker.held]
        worker = data.draw(st.sampled_from(holding))
        released = list(zip(worker.held, ends, strict=False))
        ended: list[tuple[Task, float | None]] = [(task, end[0]) for task, end in released]
        if withAnUpdate:
            # A task that the worker was given past the scheduler.
            ended.append((Task(0, partial(len)), None))
        self.scheduler.release(worker.name, ended)
        for task, seconds in ended:
            self.model.note(task, seconds)
        self.model.release(worker, [task for task, _ in released])
        for task, (seconds, putsBack) in released:
            self._settle(task, putsBack and seconds is None)
        if decides:
            self.decide()

    @precondition(lambda self: any(worker.held for worker in self.model.workers.values()))
    @rule(data=st.data(), seconds=runTimes, putsBack=st.booleans())
    def end(self, data: st.DataObject, seconds: float | None, putsBack: bool) -> None:
        holding = [worker for worker in self.model.workers.values() if worker.held]
        worker = data.draw(st.sampled_from(holding))
        task = data.draw(st.sampled_from(worker.held))
        self.scheduler.ended(worker.name, task, seconds, not putsBack)
        self.model.note(task, seconds)
        self.model.release(worker, [task])
        if putsBack:
            self.scheduler.putBack(task)
            assert task.priority is not None
            self.model.waiting[task] = (task.priority, task.id)
        else:
            self.model.done(task)

    @precondition(lambda self: self.model.waiting)
    @rule(series=seriesNames)
    def cancelSeriesInPieces(self, series: Hashable) -> None:
        expected = {task for task in self.model.waiting if task.series == series}
        tasks = self.scheduler.waitingIn(series)
        if expected:
            self.put(tiny, TaskOptions(series=series), 1, False)
        cancelled = [task for task in tasks if self.scheduler.cancel(task)]
        for task in cancelled:
            self.scheduler.done(task)
            del self.model.waiting[task]
            self.model.done(task)
        assert set(cancelled) == expected

    @precondition(lambda self: self.model.waiting)
    @rule(series=st.sampled_from([None, "a", "b", "c", "all of them"]))
    def clear(self, series: Hashable) -> None:
        cleared: list[Task] = []
        if series == "all of them":
            self.scheduler.clear(cleared)
            expected = set(self.model.waiting)
        else:
            self.scheduler.clearSeries(series, cleared)
            expected = {task for task in self.model.waiting if task.series == series}
        assert len(cleared) == len(expected)
        assert set(cleared) == expected
        for name in {task.series for task in cleared}:
            places = [self.model.waiting[task] for task in cleared if task.series == name]
            assert places == sorted(places)
        for task in cleared:
            assert not self.scheduler.cancel(task)
            del self.model.waiting[task]
            self.model.done(task)

    @rule()
    def decide(self) -> None:
        self.model.check(self.scheduler.decide())
        assert self.scheduler.decide() == []

    # What is to hold at any time

    @invariant()
    def countsAgree(self) -> None:
        workers = self.model.workers.values()
        assert len(self.scheduler) == len(self.model.waiting)
        assert self.scheduler.held == sum(len(worker.held) for worker in workers)
        assert self.scheduler.hasFreeWorker == any(worker.isFree for worker in workers)

    @invariant()
    def waitingTasksAgree(self) -> None:
        waiting = list(self.scheduler)
        assert len(waiting) == len(set(waiting))
        assert set(waiting) == set(self.model.waiting)
        for series in (None, "a", "b", "c"):
            places = [self.model.waiting[task] for task in waiting if task.series == series]
            assert places == sorted(places)
        unrunnable = list(self.scheduler.unrunnable())
        assert len(unrunnable) == len(set(unrunnable))
        assert set(unrunnable) == self.model.unrunnable()


SchedulerMachineTests = SchedulerMachine.TestCase
SchedulerMachineTests.settings = settings(max_examples=120, stateful_step_count=60)
