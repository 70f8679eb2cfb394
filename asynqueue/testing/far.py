"""
Functions for tests to call, wherever a worker runs them. They are pickled by their names.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any


def echo(value: Any = None) -> Any:
    """
    Return the argument.
    """
    return value


def add(first: Any, second: Any = 0) -> Any:
    """
    Return the sum.
    """
    return first + second


def keywords(*args: Any, **kw: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """
    Return the arguments.
    """
    return args, kw


def refuse(text: str = "no") -> Any:
    """
    @raise ValueError: always, with this text.
    """
    raise ValueError(text)


def touch(path: str) -> None:
    """
    Make an empty file.
    """
    Path(path).touch()


def blockUntil(begun: str, released: str, seconds: float) -> None:
    """
    Make one file, then block until there is another, or the first is gone.

    @raise TimeoutError: if there is none after so many seconds.
    """
    touch(begun)
    deadline = time.monotonic() + seconds
    while os.path.exists(begun) and not os.path.exists(released):
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"this call was not released within {seconds} seconds; a worker that runs tasks in "
                "the thread of its tests needs a makeHold of its own"
            )
        time.sleep(0.01)


def append(items: list[Any], item: Any) -> list[Any]:
    """
    Change a list.
    """
    items.append(item)
    return items


def square(number: int) -> int:
    """
    Return the square.
    """
    return number * number


def reciprocal(number: float) -> float:
    """
    @raise ZeroDivisionError: of 0.
    """
    return 1 / number


def numbers(count: int) -> Iterator[int]:
    """
    Some numbers, from 0.
    """
    yield from range(count)


def numbersUntilRefused(count: int) -> Iterator[int]:
    """
    Some numbers, from 0, and then a C{ValueError}.
    """
    yield from range(count)
    raise ValueError("no more")


def endless() -> Iterator[int]:
    """
    Numbers without end, from 0.
    """
    number = 0
    while True:
        yield number
        number += 1


def tallied(path: str, count: int) -> Iterator[int]:
    """
    Some numbers; the file at this path grows by one byte for each of them.
    """
    with open(path, "ab", buffering=0) as tally:
        for number in range(count):
            tally.write(b".")
            yield number


def endlessUntilClosed(path: str) -> Iterator[int]:
    """
    Numbers without end; a file is made at this path when the generator is closed, unless that is so
    late that the test has taken its folder away.
    """
    try:
        yield from endless()
    finally:
        with suppress(FileNotFoundError):
            touch(path)


def lambdas(count: int) -> Iterator[Any]:
    """
    Some numbers, then something that cannot be pickled.
    """
    yield from range(count)
    yield lambda: None


def makeLambda() -> Any:
    """
    Return what cannot be pickled.
    """
    return lambda: None


def exit(code: int = 0) -> None:
    """
    @raise SystemExit: always.
    """
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
    """
    @raise Unpicklable: always.
    """
    raise Unpicklable("stays here")


def raiseUnrebuildable() -> None:
    """
    @raise Unrebuildable: always.
    """
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
    """
    Return what can be pickled, but not rebuilt.
    """
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
