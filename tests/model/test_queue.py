"""
A whole queue in all states that a few actions lead to, and broken ones that the search must find
out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from asynqueue import QueuedTask
from asynqueue._queue.engine import BUSY, Engine
from asynqueue._queue.shutdown import Shutdown
from tests.model.contract import RecordingProtocol
from tests.model.explorer import Counterexample, Explored, explore
from tests.model.queueworld import IDEMPOTENT, SERVED, USUAL, QueueWorld, Setup

DEATHS = Setup((USUAL, SERVED, IDEMPOTENT), frozenset({"die"}), atFirst=3)
"""How runners die with tasks that were sent ahead."""

POISON = Setup((IDEMPOTENT,), frozenset({"die"}), atFirst=1, deaths=4)
"""How often a task is run again whose runners die."""

CANCELS = Setup((USUAL, SERVED, USUAL), frozenset({"cancel", "stall", "interrupt"}))
"""How tasks are cancelled, and recalled from a worker that stalls."""

WORKERS = Setup((SERVED, USUAL), frozenset({"attach", "detach", "crash", "shutdown"}))
"""How workers come and go, and the queue with them."""

ALL = Setup(
    (USUAL, SERVED, IDEMPOTENT),
    CANCELS.verbs | WORKERS.verbs | {"die", "lose"},
    atFirst=2,
)
"""All that may happen."""

SMALL = {
    "deaths": (DEATHS, 5),
    "poison": (POISON, 8),
    "cancels": (CANCELS, 6),
    "workers": (WORKERS, 4),
    "all": (ALL, 2),
}


def search(setup: Setup, depth: int) -> Explored:
    explored = explore(lambda: QueueWorld(setup), depth=depth, settle=QueueWorld.settle)
    print(explored)  # noqa: T201
    return explored


@pytest.mark.parametrize(("setup", "depth"), SMALL.values(), ids=SMALL)
def test_whateverAFewActionsLeadToKeepsTheContract(setup: Setup, depth: int) -> None:
    assert search(setup, depth).states > 100


@pytest.mark.slow
@pytest.mark.parametrize(("setup", "depth"), SMALL.values(), ids=SMALL)
def test_whateverMoreActionsLeadToKeepsTheContract(setup: Setup, depth: int) -> None:
    assert search(setup, depth + 2).states > 1000


# Broken on purpose --------------------------------------------------------------------------------


class Losing(Engine):
    """Does not have the tasks wait again that a worker gives back."""

    def _putBack(self, task: QueuedTask, hadBegun: bool) -> None:
        pass


class Repeating(Engine):
    """Takes a task that had begun for one that had not."""

    def _putBack(self, task: QueuedTask, hadBegun: bool) -> None:
        super()._putBack(task, False)


class Sleepy(Engine):
    """Decides nothing when something has happened to a worker."""

    def handle(self, record: Any, events: Any) -> None:
        self._phase, phase = BUSY, self._phase
        super().handle(record, events)
        self._phase = phase


class Insistent(Engine):
    """Lets a task wait on that was cancelled."""

    def cancelled(self, task: QueuedTask, wasUnderway: bool) -> None:
        if wasUnderway:
            super().cancelled(task, wasUnderway)


class Accusing(RecordingProtocol):
    """Blames the call behind the one that was begun last."""

    def split(self, begun: int | None) -> tuple[list[Any], list[Any]]:
        return super().split(None if begun is None else begun + 1)


class Excusing(RecordingProtocol):
    """Spares the call that was begun last."""

    def split(self, begun: int | None) -> tuple[list[Any], list[Any]]:
        return super().split(None if begun is None else begun - 1)


BROKEN: dict[Any, Setup] = {
    Losing: DEATHS,
    Repeating: POISON,
    Sleepy: CANCELS,
    Insistent: CANCELS,
    Accusing: DEATHS,
    Excusing: DEATHS,
}


@pytest.mark.parametrize("broken", BROKEN)
def test_aBrokenQueueIsFoundOut(broken: Callable[..., Any]) -> None:
    setup = BROKEN[broken]
    if issubclass(broken, Engine):  # type: ignore[arg-type]
        setup = replace(setup, makeEngine=broken)
    else:
        setup = replace(setup, makeProtocol=broken)
    with pytest.raises(Counterexample) as caught:
        search(setup, 16)
    assert len(caught.value.actions) <= 14


def test_aShutdownThatDoesNotWaitIsFoundOut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Shutdown, "isOver", lambda self: True)
    with pytest.raises(Counterexample):
        search(WORKERS, 4)
