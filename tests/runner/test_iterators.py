from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterator
from enum import Enum
from typing import Any

import pytest

from asynqueue.iteration import isIterator


class Own:
    def __iter__(self) -> Own:
        return self

    def __next__(self) -> int:
        raise StopIteration


class OnlyNext:
    def __next__(self) -> int:
        return 1


class OnlyIter:
    def __iter__(self) -> Iterator[int]:
        return iter(())


class PretendsByInstance:
    def __init__(self) -> None:
        self.__next__ = self.__iter__ = None


class PretendsEverything:
    def __getattr__(self, name: str) -> Any:
        return self


class Colour(Enum):
    RED = 1


async def coroutineFunction() -> None: ...


async def asynchronous() -> Any:
    yield 1


ITERATORS: dict[str, Any] = {
    "generator": (item for item in "abc"),
    "iter of a list": iter([]),
    "iter of a dict": iter({}),
    "map": map(str, ()),
    "zip": zip((), strict=True),
    "filter": filter(None, ()),
    "enumerate": enumerate(()),
    "reversed": reversed([]),
    "file": io.StringIO("a\nb"),
    "class of one's own": Own(),
}

OTHERS: dict[str, Any] = {
    "None": None,
    "number": 3,
    "string": "abc",
    "bytes": b"abc",
    "list": [],
    "tuple": (),
    "set": set(),
    "dict": {},
    "items of a dict": {}.items(),
    "range": range(3),
    "deque": deque(),
    "only __next__": OnlyNext(),
    "only __iter__": OnlyIter(),
    "an iterator class": Own,
    "an enumeration": Colour,
    "a generator function": lambda: (yield),
    "a function": len,
    "attributes of the instance": PretendsByInstance(),
    "an object with every attribute": PretendsEverything(),
    "an asynchronous generator": asynchronous(),
}


@pytest.mark.parametrize("name", ITERATORS)
def test_isAnIterator(name: str) -> None:
    assert isIterator(ITERATORS[name]) is True


@pytest.mark.parametrize("name", OTHERS)
def test_isNone(name: str) -> None:
    assert isIterator(OTHERS[name]) is False


def test_coroutineIsNone() -> None:
    coroutine = coroutineFunction()
    assert not isIterator(coroutine)
    coroutine.close()


def test_lookingTakesNoItem() -> None:
    iterator = iter([1, 2])
    assert isIterator(iterator)
    assert list(iterator) == [1, 2]
