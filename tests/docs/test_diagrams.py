"""
The diagrams of lifecycles show the moves of the state tables, all of them and no others.
"""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from asynqueue._core.states import QUEUE, TASK, Table
from asynqueue._lifecycle import DRAIN
from tests.docs.pages import DOCS

SVG = "{http://www.w3.org/2000/svg}"

Move = tuple[str, str, str]


def movesOf(table: Table) -> set[Move]:
    """
    @return: the state, the event and the next state of each move that changes the state.
    """
    return {
        (state, event, following)
        for state, events in table.items()
        for event, following in events.items()
        if following != state
    }


def movesShown(diagram: str, table: str) -> list[Move]:
    root = ElementTree.parse(DOCS / diagram).getroot()
    return [
        (move.attrib["data-from"], move.attrib["data-event"], move.attrib["data-to"])
        for move in root.iter(f"{SVG}g")
        if move.get("data-table") == table
    ]


@pytest.mark.parametrize(
    ("diagram", "name", "table"),
    [
        ("task-life.svg", "TASK", TASK),
        ("job-life.svg", "TASK", TASK),
        ("shutdown.svg", "QUEUE", QUEUE),
        ("shutdown.svg", "DRAIN", DRAIN),
    ],
)
def test_diagramShowsTheMovesOfTheTable(diagram: str, name: str, table: Table) -> None:
    shown = movesShown(diagram, name)
    assert sorted(shown) == sorted(movesOf(table))


@pytest.mark.parametrize("diagram", ["task-life.svg", "job-life.svg", "shutdown.svg"])
def test_diagramNamesEachStateOfItsMoves(diagram: str) -> None:
    root = ElementTree.parse(DOCS / diagram).getroot()
    named = {
        text.text
        for state in root.iter(f"{SVG}g")
        if state.get("class", "").startswith("state")
        for text in state.iter(f"{SVG}text")
    }
    moves = [move for table in ("TASK", "QUEUE", "DRAIN") for move in movesShown(diagram, table)]
    assert {state for before, _, after in moves for state in (before, after)} <= named
