"""
The table of AsynQueue 0.9.9's names says the truth about where they are now.
"""

from __future__ import annotations

from importlib import import_module

import pytest
from docutils import nodes

from tests.docs.pages import DOCS, readPage


def readTable() -> list[list[str]]:
    """
    @return: the rows, each with the old name, the import path here or a dash, and the remarks.
    """
    page = readPage(DOCS / "from-asynqueue-0.9.rst")
    (table,) = page.findall(nodes.table)
    (body,) = table.findall(nodes.tbody)
    return [[cell.astext() for cell in row.children] for row in body.children]


ROWS = readTable()
HOMES = sorted({home for _, home, _ in ROWS if home != "-"})


def test_noNameIsListedTwice() -> None:
    names = [name for name, _, _ in ROWS]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("home", HOMES)
def test_nameCanBeImportedFromItsHome(home: str) -> None:
    module, name = home.rsplit(".", 1)
    assert hasattr(import_module(module), name)


@pytest.mark.parametrize("name", [row[0] for row in ROWS if row[2].startswith("asynqueue.")])
def test_nameThatWasAtTheTopIsThere(name: str) -> None:
    assert hasattr(import_module("asynqueue"), name.rsplit(".", 1)[-1])


@pytest.mark.parametrize("row", [row for row in ROWS if row[1] == "-"], ids=lambda row: row[0])
def test_nameThatIsLeftOutHasAReasonAndIsNotThere(row: list[str]) -> None:
    name, _, reason = row
    assert reason
    module, attribute = f"asynqueue.{name}".rsplit(".", 1)
    try:
        found = import_module(module)
    except ModuleNotFoundError:
        return
    assert not hasattr(found, attribute)
