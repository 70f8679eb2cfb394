"""
Functions for tests to call on any worker. They are pickled by name.
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
    Fail.

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
    Make the file C{begun}, then block until there is a file C{released}, or C{begun} is gone.

    @raise TimeoutError: if neither happens within so many seconds.
    """
    touch(begun)
    deadline = time.monotonic() + seconds
    while os.path.exists(begun) and not os.path.exists(released):
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"this call was not released within {seconds} seconds. If the worker runs tasks in "
                "the thread of its tests, the test case has to override makeHold()"
            )
        time.sleep(0.01)


def append(items: list[Any], item: Any) -> list[Any]:
    """
    Append an item to a list, and return the list.
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
    Return the reciprocal.

    @raise ZeroDivisionError: if the number is 0.
    """
    return 1 / number


def numbers(count: int) -> Iterator[int]:
    """
    Yield so many numbers, from 0.
    """
    yield from range(count)


def numbersUntilRefused(count: int) -> Iterator[int]:
    """
    Yield so many numbers, from 0, then raise C{ValueError}.
    """
    yield from range(count)
    raise ValueError("no more")


def endless() -> Iterator[int]:
    """
    Yield numbers from 0, without end.
    """
    number = 0
    while True:
        yield number
        number += 1


def tallied(path: str, count: int) -> Iterator[int]:
    """
    Yield so many numbers, from 0. The file at this path grows by one byte for each of them.
    """
    with open(path, "ab", buffering=0) as tally:
        for number in range(count):
            tally.write(b".")
            yield number


def endlessUntilClosed(path: str) -> Iterator[int]:
    """
    Yield numbers from 0, without end. When the generator is closed, make a file at this path,
    unless the test has removed its folder by then.
    """
    try:
        yield from endless()
    finally:
        with suppress(FileNotFoundError):
            touch(path)


def lambdas(count: int) -> Iterator[Any]:
    """
    Yield so many numbers, then a value that cannot be pickled.
    """
    yield from range(count)
    yield lambda: None


def makeLambda() -> Any:
    """
    Return a value that cannot be pickled.
    """
    return lambda: None


def exit(code: int = 0) -> None:
    """
    Leave the process.

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
    An exception that can be pickled but not unpickled, because its constructor needs more arguments
    than the pickle has.
    """

    def __init__(self, text: str, more: int) -> None:
        super().__init__(text)


def raiseUnpicklable() -> None:
    """
    Fail with an exception that cannot be pickled.

    @raise Unpicklable: always.
    """
    raise Unpicklable("stays here")


def raiseUnrebuildable() -> None:
    """
    Fail with an exception that can be pickled, but not rebuilt.

    @raise Unrebuildable: always.
    """
    raise Unrebuildable("arrives as text", 1)


class Bomb:
    """
    A value that can be pickled, but raises C{ValueError}, or C{SystemExit}, when it is unpickled.
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
    Return a value that can be pickled but not unpickled.
    """
    return Bomb(exits)


def bombs(count: int) -> Iterator[Any]:
    """
    Yield so many numbers, then a L{Bomb}, then one more number.
    """
    yield from range(count)
    yield Bomb()
    yield count


class Thing:
    """
    An object that weak references can refer to.
    """
