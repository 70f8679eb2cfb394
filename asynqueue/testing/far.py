"""
What tests call in a universe: functions that are pickled by their names.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def echo(value: Any = None) -> Any:
    return value


def add(first: Any, second: Any = 0) -> Any:
    return first + second


def keywords(*args: Any, **kw: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, kw


def refuse(text: str = "no") -> Any:
    raise ValueError(text)


def square(number: int) -> int:
    return number * number


def reciprocal(number: float) -> float:
    return 1 / number


def numbers(count: int) -> Iterator[int]:
    yield from range(count)


def numbersUntilRefused(count: int) -> Iterator[int]:
    yield from range(count)
    raise ValueError("no more")


def endless() -> Iterator[int]:
    number = 0
    while True:
        yield number
        number += 1


def endlessUntilClosed(path: str) -> Iterator[int]:
    """
    Numbers without end; a file is made at this path when the generator is closed.
    """
    try:
        yield from endless()
    finally:
        Path(path).touch()


def lambdas(count: int) -> Iterator[Any]:
    """
    Some numbers, then something that cannot be pickled.
    """
    yield from range(count)
    yield lambda: None


def makeLambda() -> Any:
    return lambda: None


def exit(code: int = 0) -> None:
    sys.exit(code)


class Unpicklable(Exception):
    """
    An exception that cannot be pickled.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.obstacle = lambda: None


class Unrebuildable(Exception):
    """
    An exception that can be pickled, but whose constructor wants more than its pickle gives.
    """

    def __init__(self, text: str, more: int) -> None:
        super().__init__(text)


def raiseUnpicklable() -> None:
    raise Unpicklable("stays here")


def raiseUnrebuildable() -> None:
    raise Unrebuildable("arrives as text", 1)


class Bomb:
    """
    Goes off when it is rebuilt from its pickle, with C{SystemExit} if asked to.
    """

    def __init__(self, exits: bool = False) -> None:
        self._exits = exits

    def __reduce__(self) -> Any:
        return _explode, (self._exits,)


def _explode(exits: bool) -> None:
    if exits:
        sys.exit("bang")
    raise ValueError("bang")


def makeBomb(exits: bool = False) -> Bomb:
    return Bomb(exits)


def bombs(count: int) -> Iterator[Any]:
    """
    Some numbers, then a bomb, then one more number.
    """
    yield from range(count)
    yield Bomb()
    yield count


class Thing:
    """
    Something that can be weakly referred to.
    """
