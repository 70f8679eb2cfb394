"""
The scheduler as a world to explore, beside a model that says what it should do.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any

from asynqueue.tasks import Capacity, Scheduler, Task, TaskOptions
from tests.core.model import ModelScheduler, ModelWorker


def short() -> int:
    return 1


def unmeasured() -> int:
    return 2


@dataclass(frozen=True)
class Setup:
    """
    @ivar workers: the workers that there may be: the series that each is qualified for, and its
        capacity.
    @ivar kinds: the kinds of tasks that there may be: a function and the options.
    @ivar most: how many tasks are put at most.
    @ivar verbs: the names of the actions that may happen.
    @ivar makeScheduler: makes the scheduler.
    """

    workers: tuple[tuple[frozenset[Hashable], Capacity], ...]
    kinds: tuple[tuple[Callable[[], int], TaskOptions], ...]
    most: int
    verbs: frozenset[str]
    makeScheduler: Callable[[], Scheduler[Task]] = field(default=Scheduler)


SchedulerAction = tuple[str, int]
"""A verb, and the number of the task's kind, the task or the worker."""


class SchedulerWorld:
    """
    The scheduler and its model, told the same facts.
    """

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.scheduler = setup.makeScheduler()
        self.model = ModelScheduler()
        self.tasks: list[Task] = []
        self.history: list[SchedulerAction] = []
        # Whether nothing has happened since the last decision that might allow another one.
        self.isDecided = True
        # The worker that submit() gave the last task to.
        self.chosen: Hashable | None = None
        measured = Task(0, short)
        self.scheduler.release("nobody", [(measured, 0.001)])
        self.model.note(measured, 0.001)
        for name in range(len(setup.workers)):
            self.attach(name)

    # Actions

    def actions(self) -> list[SchedulerAction]:
        return [action for action in self._possible() if action[0] in self.setup.verbs]

    def _possible(self) -> Iterator[SchedulerAction]:
        if len(self.tasks) < self.setup.most:
            for kind in range(len(self.setup.kinds)):
                yield "put", kind
                yield "submit", kind
        if not self.isDecided:
            yield "decide", 0
        for task in self.tasks:
            if task in self.model.waiting:
                yield "cancel", task.id
                yield "hurry", task.id
            elif self._holder(task) is not None:
                yield "end", task.id
                yield "giveBack", task.id
        for name, (series, _) in enumerate(self.setup.workers):
            worker = self.model.workers.get(name)
            if worker is None:
                yield "attach", name
                continue
            yield ("close", name) if worker.open else ("open", name)
            yield "detach", name
            if worker.held and not worker.stalled:
                yield "stall", name
            if "extra" not in worker.qualified and series:
                yield "qualify", name

    def do(self, action: SchedulerAction) -> None:
        verb, number = action
        getattr(self, verb)(number)
        if verb not in ("decide", "stall", "close"):
            self.isDecided = False
        self.history.append(action)

    def _make(self, kind: int) -> Task:
        function, options = self.setup.kinds[kind]
        task = Task(len(self.tasks) + 1, function, options=options)
        self.tasks.append(task)
        return task

    def put(self, kind: int) -> None:
        task = self._make(kind)
        self.scheduler.put(task)
        self.model.put(task)
        assert task.priority == self.model.waiting[task][0], "the formula gives the priority"

    def submit(self, kind: int) -> None:
        task = self._make(kind)
        self.chosen = self.scheduler.submit(task)
        self.model.put(task)
        self.model.checkSubmitted(task, self.chosen)

    def decide(self, _: int) -> None:
        self.model.check(self.scheduler.decide())
        assert self.scheduler.decide() == [], "one decision decides all"
        self.isDecided = True

    def cancel(self, id: int) -> None:
        task = self.tasks[id - 1]
        assert self.scheduler.cancel(task)
        assert not self.scheduler.cancel(task), "it is cancelled once"
        self.scheduler.done(task)
        del self.model.waiting[task]
        self.model.done(task)

    def hurry(self, id: int) -> None:
        task = self.tasks[id - 1]
        self.scheduler.reprioritise(task, 1.0)
        self.model.waiting[task] = (1.0, task.id)

    def end(self, id: int) -> None:
        task = self.tasks[id - 1]
        worker = self._release(task)
        self.scheduler.ended(worker.name, task, None)
        self.model.done(task)

    def giveBack(self, id: int) -> None:
        task = self.tasks[id - 1]
        worker = self._release(task)
        self.scheduler.ended(worker.name, task, None, False)
        self.scheduler.putBack(task)
        self.model.waiting[task] = (task.priority, task.id)

    def attach(self, name: int) -> None:
        series, capacity = self.setup.workers[name]
        self.scheduler.attach(name, series, capacity)
        self.model.workers[name] = ModelWorker(name, {None, *series}, capacity)
        self.open(name)

    def open(self, name: int) -> None:
        worker = self.model.workers[name]
        self.scheduler.open(name)
        wasFree, worker.open = worker.isFree, True
        self.model.freed(worker, wasFree)

    def close(self, name: int) -> None:
        self.scheduler.close(name)
        self.model.workers[name].open = False

    def detach(self, name: int) -> None:
        """
        Its tasks wait again, as those of a worker do that has crashed.
        """
        worker = self.model.workers[name]
        self.scheduler.detach(name)
        for task in list(worker.held):
            self._release(task)
            self.scheduler.ended(name, task, None, False)
            self.scheduler.putBack(task)
            self.model.waiting[task] = (task.priority, task.id)
        del self.model.workers[name]

    def stall(self, name: int) -> None:
        self.scheduler.stall(name)
        self.model.workers[name].stalled = True

    def qualify(self, name: int) -> None:
        self.scheduler.qualify(name, "extra")
        self.model.workers[name].qualified.add("extra")

    def _holder(self, task: Task) -> ModelWorker | None:
        workers = self.model.workers.values()
        return next((worker for worker in workers if task in worker.held), None)

    def _release(self, task: Task) -> ModelWorker:
        worker = self._holder(task)
        assert worker is not None
        self.model.release(worker, [task])
        return worker

    # What is true in every state

    def check(self) -> None:
        if self.history and self.history[-1][0] == "submit":
            self._checkSubmission()
        scheduler, model = self.scheduler, self.model
        held = [task for worker in model.workers.values() for task in worker.held]
        assert len(held) == len(set(held)), "no task is held twice"
        assert scheduler.held == len(held), "the tasks that are held are counted"
        assert len(scheduler) == len(model.waiting), "the tasks that wait are counted"
        assert scheduler.alive == len(held) + len(model.waiting), "no task is lost"
        assert scheduler.hasFreeWorker == any(worker.isFree for worker in model.workers.values())
        order = sorted(model.waiting, key=model.waiting.__getitem__)
        waiting = list(scheduler)
        assert len(waiting) == len(order) and set(waiting) == set(order), "no task is lost"
        for series in {task.series for task in self.tasks}:
            expected = [task for task in order if task.series == series]
            assert list(scheduler.waitingIn(series)) == expected, "a series waits in its order"
        assert set(scheduler.unrunnable()) == model.unrunnable()

    def _checkSubmission(self) -> None:
        """
        Compare what submit() has just chosen with what decide() gives in a world that is the same.
        """
        twin = SchedulerWorld(self.setup)
        *before, (_, kind) = self.history
        for action in before:
            twin.do(action)
        wasDecided = not twin.scheduler.decide() if twin.isDecided else False
        twin.put(kind)
        given = {each.id: name for name, tasks in twin.scheduler.decide() for each in tasks}
        name = given.get(self.tasks[-1].id)
        if self.chosen is not None:
            assert name == self.chosen, "submit() chooses as decide() does"
        elif wasDecided:
            other = None if name is None else twin.model.workers[_int(name)]
            assert other is None or not other.isFree, "submit() gives what decide() would give"

    def key(self) -> Hashable:
        model = self.model
        waiting = [
            (task.id, *place, type(task.place).__name__) for task, place in model.waiting.items()
        ]
        kinds = [(task.id, task.function, task.options) for task in self._alive()]
        free = sorted(model.workers.values(), key=lambda worker: worker.freeSince)
        workers = [
            (
                worker.name,
                worker.open,
                worker.stalled,
                tuple((task.id, model.expected[task]) for task in worker.held),
                "extra" in worker.qualified,
            )
            for worker in free
        ]
        serials = sorted(model.serials.items(), key=repr)
        return (
            len(self.tasks),
            self.isDecided,
            tuple(sorted(waiting)),
            tuple(kinds),
            tuple(workers),
            tuple(serials),
        )

    def _alive(self) -> list[Task]:
        held: list[Any] = [task for worker in self.model.workers.values() for task in worker.held]
        return [task for task in self.tasks if task in self.model.waiting or task in held]


def _int(name: Hashable) -> int:
    assert isinstance(name, int)
    return name
