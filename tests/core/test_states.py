from __future__ import annotations

import pytest

from asynqueue._core.states import QUEUE, TASK, WORKER, Table, nextState
from asynqueue.errors import StateError

TABLES: list[tuple[str, Table]] = [("task", TASK), ("worker", WORKER), ("queue", QUEUE)]

LEGAL = [
    ("task", "PENDING", "start", "UNDERWAY"),
    ("task", "PENDING", "cancel", "CANCELLED"),
    ("task", "PENDING", "fail", "FAILED"),
    ("task", "UNDERWAY", "finish", "FINISHED"),
    ("task", "UNDERWAY", "fail", "FAILED"),
    ("task", "UNDERWAY", "cancel", "CANCELLED"),
    ("task", "UNDERWAY", "giveBack", "PENDING"),
    ("worker", "STARTING", "hello", "READY"),
    ("worker", "STARTING", "drain", "DRAINING"),
    ("worker", "STARTING", "lose", "LOST"),
    ("worker", "STARTING", "crash", "STOPPED"),
    ("worker", "READY", "retire", "RETIRING"),
    ("worker", "READY", "drain", "DRAINING"),
    ("worker", "READY", "lose", "LOST"),
    ("worker", "READY", "crash", "STOPPED"),
    ("worker", "RETIRING", "drain", "DRAINING"),
    ("worker", "RETIRING", "lose", "LOST"),
    ("worker", "RETIRING", "crash", "STOPPED"),
    ("worker", "DRAINING", "stopped", "STOPPED"),
    ("worker", "DRAINING", "lose", "LOST"),
    ("worker", "DRAINING", "crash", "STOPPED"),
    ("worker", "LOST", "restart", "STARTING"),
    ("worker", "LOST", "drain", "STOPPED"),
    ("worker", "LOST", "crash", "STOPPED"),
    ("queue", "RUNNING", "drop", "DROPPED"),
    ("queue", "RUNNING", "shutdown", "STOPPING"),
    ("queue", "DROPPED", "shutdown", "STOPPING"),
    ("queue", "STOPPING", "stopped", "STOPPED"),
]
"""Every allowed move, written down a second time."""

CASES = [
    (name, state, event)
    for name, table in TABLES
    for state in table
    for event in sorted({event for moves in table.values() for event in moves} | {"nonsense"})
]

EXPECTED = {(name, state, event): target for name, state, event, target in LEGAL}


@pytest.mark.parametrize(("name", "state", "event"), CASES)
def test_everyEventLeadsWhereTheTableSaysOrIsRefused(name: str, state: str, event: str) -> None:
    table = dict(TABLES)[name]
    target = EXPECTED.get((name, state, event))
    if target is not None:
        assert nextState(table, state, event, "it") == target
        return
    with pytest.raises(StateError) as caught:
        nextState(table, state, event, "the object")
    error = caught.value
    assert (error.subject, error.state, error.event) == ("the object", state, event)
    assert str(error) == f"the object is {state}: '{event}' is not allowed now"
    assert error.__suppress_context__


@pytest.mark.parametrize(("name", "table"), TABLES)
def test_everyMoveLeadsToAStateOfTheTable(name: str, table: Table) -> None:
    for moves in table.values():
        assert set(moves.values()) <= set(table)


@pytest.mark.parametrize(("name", "table"), TABLES)
def test_theTableHasExactlyTheAllowedMoves(name: str, table: Table) -> None:
    moves = {
        (name, state, event, target)
        for state, events in table.items()
        for event, target in events.items()
    }
    assert moves == {move for move in LEGAL if move[0] == name}


def test_anUnknownStateIsRefusedToo() -> None:
    with pytest.raises(StateError, match="the task is ASLEEP: 'start' is not allowed now"):
        nextState(TASK, "ASLEEP", "start", "the task")
