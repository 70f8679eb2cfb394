from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from asynqueue._core.states import TASK
from asynqueue._core.task import functionName
from asynqueue.errors import StateError
from asynqueue.tasks import CANCELLED, FAILED, FINISHED, PENDING, UNDERWAY, Task, TaskOptions
from asynqueue.testing import StepWorker


def work(*args: Any, **kwargs: Any) -> None: ...


Move = Callable[[Task], None]

WORKER, ANNA, BERT = StepWorker(), StepWorker(), StepWorker()

MOVES: dict[str, Move] = {
    "start": lambda task: task.start(WORKER, 99.0),
    "giveBack": lambda task: task.giveBack(),
    "finish": lambda task: task.finish("late", 99.0),
    "fail": lambda task: task.fail("late", 99.0),
    "cancel": lambda task: task.giveUp("late", 99.0),
}

WAYS: dict[str, list[str]] = {
    PENDING: [],
    UNDERWAY: ["start"],
    FINISHED: ["start", "finish"],
    FAILED: ["start", "fail"],
    CANCELLED: ["start", "cancel"],
}
"""How a task comes to each state."""


def taskIn(state: str) -> Task:
    task = Task(7, work, now=1.0)
    for event in WAYS[state]:
        MOVES[event](task)
    assert task.state == state
    return task


def facts(task: Task) -> dict[str, Any]:
    return {name: getattr(task, name) for name in Task.__slots__}


@pytest.mark.parametrize("state", WAYS)
@pytest.mark.parametrize("event", MOVES)
def test_everyMoveIsMadeOrRefusedWithNothingChanged(state: str, event: str) -> None:
    task = taskIn(state)
    target = TASK[state].get(event)
    if target is not None:
        MOVES[event](task)
        assert task.state == target
        return
    before = facts(task)
    with pytest.raises(StateError) as caught:
        MOVES[event](task)
    assert facts(task) == before
    assert str(caught.value) == f"<task 7 work: {state}> is {state}: '{event}' is not allowed now"


def test_theTestsKnowEveryStateAndEvent() -> None:
    assert set(WAYS) == set(TASK)
    assert set(MOVES) == {event for moves in TASK.values() for event in moves}


@pytest.mark.parametrize("state", WAYS)
def test_isDoneExactlyWhenNoMoveIsLeft(state: str) -> None:
    assert taskIn(state).isDone == (state in (FINISHED, FAILED, CANCELLED))


def test_beginsPendingWithNothingKnown() -> None:
    task = Task(1, work, now=12.5)
    assert (task.state, task.queuedTime, task.attempts, task.isDone) == (PENDING, 12.5, 0, False)
    rest = ("startTime", "stopTime", "worker", "priority", "place", "result", "failure", "expected")
    assert [getattr(task, name) for name in rest] == [None] * 8


def test_startNotesWorkerTimeAndAttempt() -> None:
    task = Task(1, work)
    task.start(ANNA, 3.0)
    assert (task.state, task.worker, task.startTime, task.attempts) == (UNDERWAY, ANNA, 3.0, 1)


def test_finishNotesResultAndTime() -> None:
    task = taskIn(UNDERWAY)
    task.finish(42, 5.0)
    assert (task.state, task.result, task.stopTime, task.failure) == (FINISHED, 42, 5.0, None)


@pytest.mark.parametrize("state", [PENDING, UNDERWAY])
def test_failureAndCancellationNoteReasonAndTime(state: str) -> None:
    failed, cancelled = taskIn(state), taskIn(state)
    failed.fail("why", 6.0)
    cancelled.giveUp("why", 6.0)
    for task, expected in ((failed, FAILED), (cancelled, CANCELLED)):
        assert (task.state, task.failure, task.stopTime, task.result) == (
            expected,
            "why",
            6.0,
            None,
        )


def test_givingBackForgetsTheStartAndDoesNotCountAsAnAttempt() -> None:
    task = Task(1, work, now=1.0)
    task.start(ANNA, 2.0)
    task.giveBack()
    assert (task.state, task.worker, task.startTime, task.attempts) == (PENDING, None, None, 0)
    task.start(BERT, 3.0)
    assert (task.worker, task.startTime, task.attempts, task.queuedTime) == (BERT, 3.0, 1, 1.0)


def test_doneTaskStillNamesItsWorker() -> None:
    assert taskIn(FINISHED).worker is WORKER


def test_callTupleIsTheCallWithKeywordsOfItsOwn() -> None:
    kwargs = {"b": 2}
    task = Task(1, work, (1,), kwargs)
    function, args, copied = task.callTuple
    assert (function, args, copied) == (work, (1,), {"b": 2})
    copied["c"] = 3
    assert task.kwargs == kwargs == {"b": 2}


def test_taskWithoutKeywordsGivesAnEmptyDictionaryOfItsOwn() -> None:
    one, other = Task(1, work), Task(2, work)
    one.callTuple[2]["x"] = 1
    assert other.callTuple == (work, (), {})
    assert one.callTuple == (work, (), {})


def test_seriesIsThatOfTheOptions() -> None:
    assert Task(1, work, options=TaskOptions(series="a")).series == "a"
    assert Task(1, work).series is None


def test_carriesNoDictionary() -> None:
    with pytest.raises(AttributeError):
        Task(1, work).surprise = 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("state", WAYS)
def test_reprNamesNumberFunctionAndState(state: str) -> None:
    assert repr(taskIn(state)) == f"<task 7 work: {state}>"


class Service:
    def method(self) -> None: ...

    def __call__(self) -> None: ...

    def __repr__(self) -> str:
        return "<service>"


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (work, "work"),
        (len, "len"),
        (Service, "Service"),
        pytest.param(Service.method, "Service.method", id="function of a class"),
        pytest.param(Service().method, "Service.method", id="bound method"),
        (Service(), "<service>"),
        (partial(len), "functools.partial(<built-in function len>)"),
    ],
)
def test_functionNameIsShortAndForPeople(function: object, name: str) -> None:
    assert functionName(function) == name
