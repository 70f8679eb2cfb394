"""
The scheduler in all states of small sizes, and broken ones that the search must find out.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import Any

import pytest

from asynqueue._core.groups import Groups, WorkerLoad
from asynqueue._core.heap import IN_LINE
from asynqueue._core.options import USUAL
from asynqueue.tasks import Capacity, PriorityHeap, Scheduler, Task, TaskOptions
from tests.model.explorer import Counterexample, Explored, explore
from tests.model.schedulerworld import SchedulerWorld, Setup, short, unmeasured

ONE = Capacity()
AHEAD = Capacity(slots=1, aheadSeconds=0.0025, aheadTasks=2)
SERIES = frozenset({"s"})
NO_SERIES: frozenset[Hashable] = frozenset()
SERVED = (unmeasured, TaskOptions(series="s"))
EXTRA = (unmeasured, TaskOptions(series="extra"))

TASKS = frozenset({"put", "submit", "decide", "end", "giveBack", "cancel"})

ENDS = Setup(
    workers=((SERIES, ONE), (NO_SERIES, ONE)),
    kinds=((unmeasured, USUAL), SERVED),
    most=3,
    verbs=TASKS,
)
"""How tasks come, wait, run, come back and end, with two workers and two series."""

WORKERS = replace(
    ENDS,
    kinds=((unmeasured, USUAL), SERVED, EXTRA),
    most=2,
    verbs=frozenset({"submit", "decide", "end", "open", "close", "attach", "detach", "qualify"}),
)
"""How workers come, are opened and closed, learn a series and go."""

SENT_AHEAD = replace(
    ENDS,
    workers=((NO_SERIES, AHEAD), (NO_SERIES, ONE)),
    kinds=((short, USUAL), (unmeasured, USUAL)),
    verbs=frozenset({"submit", "decide", "end", "giveBack", "stall"}),
)
"""How short tasks are sent ahead, to a worker that may stall."""

ORDER = replace(
    ENDS,
    workers=((SERIES, ONE),),
    kinds=((unmeasured, USUAL), (unmeasured, TaskOptions(doNext=True)), SERVED),
    verbs=frozenset({"put", "decide", "end", "giveBack", "cancel", "hurry"}),
)
"""In which order tasks run that are urgent, are moved, or come back."""

ALL = replace(
    ENDS,
    most=2,
    verbs=TASKS | WORKERS.verbs | {"hurry", "stall"},
)
"""All that may happen, with fewer tasks."""

SMALL = {"ends": ENDS, "workers": WORKERS, "sent ahead": SENT_AHEAD, "order": ORDER}


def search(setup: Setup) -> Explored:
    return explore(lambda: SchedulerWorld(setup))


@pytest.mark.parametrize("setup", SMALL.values(), ids=SMALL)
def test_everySmallStateKeepsThePromises(setup: Setup) -> None:
    assert search(setup).states > 100


@pytest.mark.slow
@pytest.mark.parametrize("setup", [*SMALL.values(), ALL], ids=[*SMALL, "all"])
def test_everyStateWithOneTaskMoreKeepsThePromises(setup: Setup) -> None:
    assert search(replace(setup, most=setup.most + 1)).states > 1000


class Forgetful(Scheduler[Task]):
    """Loses a task that comes back while its worker is not there."""

    def putBack(self, task: Task) -> None:
        if self._workers:
            super().putBack(task)


class Overtaking(Scheduler[Task]):
    """Assigns a new task although another one waits that goes first."""

    def _isBehind(self, task: Task, load: WorkerLoad) -> bool:
        return False


class Idle(Scheduler[Task]):
    """Does not see that a worker which is opened has a free slot."""

    def open(self, worker: Hashable) -> None:
        self._workers[worker].isOpen = True


class Unfair(Scheduler[Task]):
    """Serves the worker that became free last."""

    def _freed(self, load: WorkerLoad) -> None:
        super()._freed(load)
        load.freeSince = -load.freeSince


class Impatient(Scheduler[Task]):
    """Sends a stalled worker more."""

    def stall(self, worker: Hashable) -> None:
        pass


class Double(Scheduler[Task]):
    """Counts a task that has come back as held."""

    def ended(
        self, worker: Hashable, task: Task, seconds: float | None, isOver: bool = True
    ) -> None:
        super().ended(worker, task, seconds, isOver)
        self.held += not isOver


BROKEN = {
    Forgetful: WORKERS,
    Overtaking: ENDS,
    Idle: WORKERS,
    Unfair: ENDS,
    Impatient: SENT_AHEAD,
    Double: ENDS,
}


@pytest.mark.parametrize("scheduler", BROKEN)
def test_aBrokenSchedulerIsFoundOut(scheduler: type[Scheduler[Task]]) -> None:
    with pytest.raises(Counterexample) as caught:
        search(replace(BROKEN[scheduler], makeScheduler=scheduler))
    assert len(caught.value.actions) <= 8


def test_aHeapThatKeepsTheOrderOfPuttingIsFoundOut(monkeypatch: pytest.MonkeyPatch) -> None:
    def put(self: PriorityHeap[Any], item: Any, priority: float | None = None) -> None:
        self._line.append(item)
        item.place = IN_LINE

    monkeypatch.setattr(PriorityHeap, "put", put)
    with pytest.raises(Counterexample):
        search(ORDER)


def test_seriesThatKeepTheirFormerWorkersAreFoundOut(monkeypatch: pytest.MonkeyPatch) -> None:
    def remove(self: Groups, load: Any) -> None:
        """Leaves all as it is."""

    monkeypatch.setattr(Groups, "remove", remove)
    with pytest.raises(Counterexample):
        search(WORKERS)
