"""
A model of the scheduler, written from what it promises: lists, looked through from end to end.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any

from asynqueue.tasks import Capacity, Task

NEVER_MEASURED = 3600.0
ROUNDING = 1e-9
Decisions = list[tuple[Hashable, list[Task]]]


@dataclass(eq=False)
class ModelWorker:
    name: int
    qualified: set[Hashable]
    capacity: Capacity
    open: bool = False
    stalled: bool = False
    held: list[Task] = field(default_factory=list)
    freeSince: int = 0

    @property
    def isFree(self) -> bool:
        return self.open and len(self.held) < self.capacity.slots


class ModelScheduler:
    """
    @ivar waiting: for each waiting task, its place: the priority, and the number that decides among
        equals.
    """

    def __init__(self) -> None:
        self.waiting: dict[Task, tuple[float, int]] = {}
        self.workers: dict[int, ModelWorker] = {}
        # For each series its last number, how many are out, and the highest as a priority.
        self.serials: dict[Hashable, tuple[int, int, float]] = {}
        self.estimates: dict[Callable[..., Any], float] = {}
        # How long each task that is held was expected to take when it was assigned.
        self.expected: dict[Task, float] = {}
        self.turn = 0

    # Facts

    def put(self, task: Task) -> None:
        options = task.options
        factor = 1 + ((options.niceness + 20) / 10) ** 2
        highest = max((last for last, _, _ in self.serials.values()), default=0)
        behind = max((top for _, _, top in self.serials.values()), default=0.0)
        start = min(highest, int(behind / factor))
        last, users, top = self.serials.get(options.series, (start, 0, 0.0))
        priority = (last + 1) * factor
        self.serials[options.series] = (last + 1, users + 1, max(top, priority))
        if options.doNext:
            priority = float("-inf")
        elif options.doLast:
            priority = float("inf")
        self.waiting[task] = (priority, task.id)

    def done(self, task: Task) -> None:
        last, users, top = self.serials.pop(task.options.series)
        if users > 1:
            self.serials[task.options.series] = (last, users - 1, top)

    def note(self, task: Task, seconds: float | None) -> None:
        if seconds is not None and hasattr(task.function, "__code__"):
            known = self.estimates.get(task.function, 0.0)
            lowered = known + (seconds - known) * 0.1
            self.estimates[task.function] = seconds if seconds >= known else lowered

    def release(self, worker: ModelWorker, tasks: Iterable[Task]) -> None:
        wasFree = worker.isFree
        for task in tasks:
            worker.held.remove(task)
            del self.expected[task]
        if not worker.held:
            worker.stalled = False
        self.freed(worker, wasFree)

    def freed(self, worker: ModelWorker, wasFree: bool) -> None:
        if worker.isFree and not wasFree:
            self.turn += 1
            worker.freeSince = self.turn

    # Questions

    def expect(self, task: Task) -> float:
        if task.options.timeout is not None:
            return NEVER_MEASURED
        return max(self.estimates.get(task.function, NEVER_MEASURED), 1e-5)

    def choiceOf(self, worker: ModelWorker) -> list[Task]:
        """
        The waiting tasks that a worker may run, the first one first.
        """
        tasks = [task for task in self.waiting if task.series in worker.qualified]
        return sorted(tasks, key=self.waiting.__getitem__)

    def load(self, worker: ModelWorker) -> float:
        load = sum(self.expected[task] for task in worker.held)
        return load + NEVER_MEASURED if worker.stalled else load

    def unrunnable(self) -> set[Task]:
        served = {series for worker in self.workers.values() for series in worker.qualified}
        return {task for task in self.waiting if task.series not in served}

    def firstServed(self) -> list[ModelWorker]:
        """
        The free workers of whom one is to be served first: one, unless rounding decides.
        """
        free = [w for w in self.workers.values() if w.isFree and self.choiceOf(w)]
        if not free:
            return []
        least = min(map(self.load, free))
        if least:
            return [worker for worker in free if self.load(worker) <= least + ROUNDING]
        return [min((w for w in free if not self.load(w)), key=lambda w: w.freeSince)]

    def decideForSimple(self) -> Decisions:
        """
        What is to be decided for workers that each run one task, and get none ahead.
        """
        decisions: Decisions = []
        given: set[Task] = set()
        for worker in sorted(self.workers.values(), key=lambda worker: worker.freeSince):
            choice = [task for task in self.choiceOf(worker) if task not in given]
            if worker.isFree and choice:
                decisions.append((worker.name, choice[:1]))
                given.add(choice[0])
        return decisions

    # Decisions

    def check(self, decisions: Decisions) -> None:
        """
        Check the scheduler's decisions against each promise, and take them over.
        """
        workers = list(self.workers.values())
        first = self.firstServed()
        if first:
            assert decisions[0][0] in [worker.name for worker in first]
            assert decisions[0][1][0] is self.choiceOf(self.workers[_int(decisions[0][0])])[0]
        if all(w.capacity.slots == 1 and not w.capacity.aheadSeconds for w in workers):
            assert decisions == self.decideForSimple()
        assert len({name for name, _ in decisions}) == len(decisions)
        places = dict(self.waiting)
        for name, tasks in decisions:
            self._assign(self.workers[_int(name)], tasks)
        for name, tasks in decisions:
            self._checkGiven(self.workers[_int(name)], [places[task] for task in tasks])
        for worker in workers:
            self._checkNothingIsLeft(worker)

    def checkSubmitted(self, task: Task, worker: Hashable | None) -> None:
        """
        Check whom a new task was assigned to, and take it over.
        """
        free = [w for w in self.workers.values() if w.isFree and task.series in w.qualified]
        least = min(map(self.load, free), default=0.0)
        near = [w for w in free if self.load(w) <= least + ROUNDING] if least else free
        first = [w for w in near if self.load(w)] or near
        if least == 0 and free:
            first = [min((w for w in free if not self.load(w)), key=lambda w: w.freeSince)]
        served = [w for w in first if self.choiceOf(w)[0] is task]
        if worker is None:
            assert len(served) < max(1, len(first)), "a free worker gets what goes first"
        else:
            chosen = self.workers[_int(worker)]
            assert chosen in first, "the worker with the least to do gets it"
            assert chosen in served, "none is passed over"
            self._assign(chosen, [task])

    def _assign(self, worker: ModelWorker, tasks: list[Task]) -> None:
        assert tasks and worker.open, "a closed worker gets nothing"
        for task in tasks:
            assert task.series in worker.qualified
            # A task that is given twice is not there the second time.
            del self.waiting[task]
            self.expected[task] = self.expect(task)
            worker.held.append(task)

    def _checkGiven(self, worker: ModelWorker, places: list[tuple[float, int]]) -> None:
        assert places == sorted(places), "tasks are given in their order"
        for task in self.choiceOf(worker)[:1]:
            assert places[-1] < self.waiting[task], "none is passed over"
        capacity = worker.capacity
        if len(worker.held) > capacity.slots:
            assert not worker.stalled, "a stalled worker is sent nothing ahead"
            assert len(worker.held) <= capacity.aheadTasks
            assert self.load(worker) <= capacity.aheadSeconds + ROUNDING

    def _checkNothingIsLeft(self, worker: ModelWorker) -> None:
        """
        A worker without a free slot has as much ahead as it may, too.
        """
        choice = self.choiceOf(worker)
        if not worker.open or not choice:
            return
        capacity, held = worker.capacity, len(worker.held)
        assert held >= capacity.slots, "a free worker gets what it may run"
        load = self.load(worker) + self.expect(choice[0])
        assert held >= capacity.aheadTasks or load > capacity.aheadSeconds - ROUNDING


def _int(name: Hashable) -> int:
    assert isinstance(name, int)
    return name
