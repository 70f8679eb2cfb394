from __future__ import annotations

import pytest

import asynqueue
import asynqueue.rdq


@pytest.mark.parametrize("name", asynqueue.rdq.__all__)
def test_faceHasWhatItLists(name: str) -> None:
    assert getattr(asynqueue.rdq, name) is not None


@pytest.mark.parametrize(
    "name", sorted({*asynqueue.rdq.__all__} & {*asynqueue.__all__}) or ["nothing"]
)
def test_faceAndTopAreOne(name: str) -> None:
    assert getattr(asynqueue.rdq, name) is getattr(asynqueue, name)
