from __future__ import annotations

from importlib import import_module

import pytest

import asynqueue
import asynqueue.rdq


def test_roomHasWhatItLists() -> None:
    room = import_module("asynqueue.dispatch")
    names = [name for name in dir(room) if not name.startswith("_") and name != "lazyNames"]
    assert {"Job", "ResizableDispatchQueue", "Retry", "backoff"} <= set(names)
    assert all(getattr(room, name) is not None for name in names)


@pytest.mark.parametrize("name", asynqueue.rdq.__all__)
def test_faceHasWhatItLists(name: str) -> None:
    assert getattr(asynqueue.rdq, name) is not None


@pytest.mark.parametrize(
    "name", sorted({*asynqueue.rdq.__all__} & {*asynqueue.__all__}) or ["nothing"]
)
def test_faceAndTopAreOne(name: str) -> None:
    assert getattr(asynqueue.rdq, name) is getattr(asynqueue, name)
