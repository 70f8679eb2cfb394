"""
Every worker that the pages show does what a queue needs of a worker.
"""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from twisted.trial.unittest import TestCase

from asynqueue import IWorker
from asynqueue.testing import DeferredHold, Hold, WorkerContract
from tests.docs.test_examples import EXAMPLES, Example

SHOWN = [example for example in EXAMPLES if "@implementer(IWorker)" in example.script]


def workersOf(example: Example) -> dict[str, Any]:
    """
    Run an example up to where its program begins.

    @return: the classes of workers that it defines, by their names.
    """
    names: dict[str, Any] = {"__name__": f"example_{example.page.stem}"}
    exec(compile(example.script, str(example), "exec"), names)
    return {
        name: value
        for name, value in names.items()
        if inspect.isclass(value)
        and IWorker.implementedBy(value)
        and value.__module__ == names["__name__"]
    }


WORKERS = {
    f"{example}-{name}": kind for example in SHOWN for name, kind in workersOf(example).items()
}


class ShownWorkerTests(WorkerContract, TestCase):
    """
    The contract for one of the workers. A class is made of this for each of them.
    """

    kind: Any = None

    def makeWorker(self) -> Any:
        from twisted.internet import reactor

        takesReactor = "reactor" in inspect.signature(self.kind).parameters
        return self.kind(reactor) if takesReactor else self.kind()

    def makeHold(self) -> Hold:
        return DeferredHold()


for _number, (_name, _kind) in enumerate(WORKERS.items()):
    globals()[f"Shown{_number}{_kind.__name__}Tests"] = type(
        f"Shown{_number}{_kind.__name__}Tests", (ShownWorkerTests,), {"kind": _kind}
    )
# pytest would collect it as well.
del ShownWorkerTests


def test_workersAreFound() -> None:
    assert {name.rpartition("-")[2] for name in WORKERS} >= {"LaterWorker", "HereWorker"}


@pytest.mark.parametrize("name", WORKERS)
def test_theClassSaysWhichSeriesItRuns(name: str) -> None:
    assert isinstance(WORKERS[name].cQualified, list)
