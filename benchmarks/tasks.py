"""
The functions that the benchmarks call in other processes.

These processes import this module, so it imports only what it needs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import cache
from typing import Any


def echo(value: int) -> int:
    """
    Return the argument, which shows that the call was made.
    """
    return value


def add(first: int, second: int) -> int:
    """
    Add two numbers.
    """
    return first + second


def nap(seconds: float) -> None:
    """
    Sleep.
    """
    time.sleep(seconds)


def countUp(number: int) -> Iterator[int]:
    """
    Yield the integers below a number.
    """
    yield from range(number)


def endsOf(array: Any) -> float:
    """
    Look at an array's first and last element.
    """
    return float(array[0] + array[-1])


@cache
def numbersOf(mebibytes: int) -> Any:
    """
    Return an array of so many MiB, the same one each time.
    """
    import numpy as np

    return np.arange(mebibytes << 17, dtype=np.float64)


def yieldBatches(items: int, pause: float) -> Iterator[int]:
    """
    Yield integers without end, with a pause before the last one of each batch.

    @param items: how many a batch has.
    @param pause: seconds, more than a batch may be in the making.
    """
    number = 0
    while True:
        for _ in range(items - 1):
            yield number
            number += 1
        time.sleep(pause)
        yield number
        number += 1
