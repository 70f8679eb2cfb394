"""
The asyncio face has all that the Twisted face has.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final, get_args, get_type_hints

import pytest
from twisted.internet.task import Clock

import asynqueue
from asynqueue import aio, wire

QUEUES: Final = {
    name: getattr(face, name)
    for face in (asynqueue, wire)
    for name in face.__all__
    if name.endswith("Queue")
}

WITHOUT: Final = {
    "log": "a logger is no part of a queue's use",
    "workerClass": "is for classes that derive from the Twisted queue",
    "deferToThread": "AsynQueue 0.9's name for call",
    "worker": "AsynQueue 0.9's name for the only worker",
    "start": "txRDQ's name for setting the width",
    "getWidth": "txRDQ's name for the width",
    "setWidth": "txRDQ's name for setting the width",
}
"""Public names that the asyncio face leaves out, and why."""

UNUSED: Final = {
    "reactor": "the queue uses that of its loop",
    "backlog": "is accepted for txRDQ's callers and has no effect",
    "returnFailure": "is accepted for AsynQueue 0.9's callers and has no effect",
}
"""Keywords of constructors that the asyncio face may leave out, and why."""


def publicNames(kind: Any) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")} - {*WITHOUT}


def parametersOf(function: Callable[..., Any]) -> list[str]:
    """
    @return: the names of the parameters, those of an C{Unpack}ed dictionary included.
    """
    found = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD and parameter.name == "keywords":
            # Those of a method are any options.
            [unpacked] = get_args(get_type_hints(function)["keywords"]) or [None]
            if unpacked is not None:
                found += unpacked.__annotations__
                continue
        found.append(parameter.name)
    return found


def test_everyQueueHasItsCounterpart() -> None:
    assert {name for name in QUEUES if not hasattr(aio, name)} == set()
    assert {*QUEUES} <= {*aio.__all__}


@pytest.mark.parametrize("name", QUEUES)
def test_everyNameOfAQueueHasItsCounterpart(name: str) -> None:
    missing = publicNames(QUEUES[name]) - publicNames(getattr(aio, name))
    assert missing == set()


def test_everyAttributeOfAQueueHasItsCounterpart() -> None:
    for queue, counterpart in (
        (asynqueue.TaskQueue(reactor=Clock()), aio.TaskQueue),
        (asynqueue.ResizableDispatchQueue(abs, reactor=Clock()), aio.ResizableDispatchQueue),
    ):
        assert publicNames(queue) - publicNames(counterpart) == set()


def test_optionsHaveTheSameMethods() -> None:
    options = asynqueue.TaskQueue(reactor=Clock()).options()
    # What was named is seen at the Twisted options only.
    assert publicNames(options) - publicNames(aio.CallOptions) == {"options"}


@pytest.mark.parametrize("name", QUEUES)
def test_everyKeywordOfAMethodHasItsCounterpart(name: str) -> None:
    kind, counterpart = QUEUES[name], getattr(aio, name)
    for method in publicNames(kind):
        if inspect.isfunction(getattr(kind, method)):
            taken = parametersOf(getattr(counterpart, method))
            expected = parametersOf(getattr(kind, method))
            if method == "options":
                # Any option may be named.
                taken, expected = taken[:1], expected[:1]
            assert [*map(sameWord, taken)] == [*map(sameWord, expected)], method


def sameWord(name: str) -> str:
    # Both take any keywords.
    return "keywords" if name in ("options", "kw", "keywords") else name


@pytest.mark.parametrize("name", QUEUES)
def test_everyKeywordOfAConstructorHasItsCounterpart(name: str) -> None:
    expected = {*parametersOf(QUEUES[name])}
    taken = {*parametersOf(getattr(aio, name).__init__)} - {"self"}
    assert expected - taken - {*UNUSED} == set()
    assert taken - expected == set()
