"""
What the tests of the scheduler share: functions with known run times, and short ways to say facts.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from asynqueue._core.options import USUAL
from asynqueue.tasks import Capacity, Scheduler, Task, TaskOptions


def unmeasured() -> int:
    return 1


def short() -> int:
    return 2


def slow() -> int:
    return 3


class SchedulerTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.scheduler: Scheduler[Task] = Scheduler()
        self.scheduler.runTimes.note(short, 0.001)
        self.scheduler.runTimes.note(slow, 0.5)
        self.ids = 0

    def task(self, function: Callable[[], Any] = unmeasured, **options: Any) -> Task:
        self.ids += 1
        return Task(self.ids, function, options=TaskOptions(**options) if options else USUAL)

    def put(
        self, count: int = 1, function: Callable[[], Any] = unmeasured, **options: Any
    ) -> list[Task]:
        tasks = [self.task(function, **options) for _ in range(count)]
        for task in tasks:
            self.scheduler.put(task)
        return tasks

    def attach(
        self, *names: str, series: tuple[Hashable, ...] = (), capacity: Capacity | None = None
    ) -> None:
        for name in names:
            self.scheduler.attach(name, series, capacity)
            self.scheduler.open(name)

    def runAll(self, worker: str) -> list[Task]:
        """
        Have one worker run everything, one task after the other.
        """
        ran = []
        while decisions := self.scheduler.decide():
            ((name, tasks),) = decisions
            assert name == worker
            for task in tasks:
                self.scheduler.release(name, [(task, None)])
                self.scheduler.done(task)
            ran += tasks
        return ran
