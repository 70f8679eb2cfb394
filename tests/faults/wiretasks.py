"""
Functions that the tests of cut connections call in runners.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def note(path: str, number: int) -> int:
    """
    Append a line to a file, and return the number.
    """
    with open(path, "ab", buffering=0) as file:
        file.write(b"%d\n" % number)
    return number


def noted(path: str, count: int, first: int = 0) -> Iterator[int]:
    """
    Yield so many numbers, and append a line to a file for each.
    """
    for number in range(first, first + count):
        yield note(path, number)


def big(size: int) -> bytes:
    """
    Return so many bytes.
    """
    return os.urandom(1) * size


def digest(value: bytes) -> str:
    """
    Return what tells a value from others.
    """
    return hashlib.sha256(value).hexdigest()


_barriers: list[threading.Barrier] = []


@contextmanager
def meeting(count: int) -> Iterator[None]:
    """
    Have L{meet} wait in this process until so many threads are in it.
    """
    _barriers.append(threading.Barrier(count, timeout=10))
    try:
        yield
    finally:
        _barriers.pop()


def meet() -> str:
    """
    @return: the thread's name.
    """
    _barriers[-1].wait()
    return threading.current_thread().name


def sameMemory(count: int, size: int) -> Iterator[Any]:
    """
    Yield the same array again and again, with another number in it each time.
    """
    import numpy

    array = numpy.zeros(size, numpy.uint8)
    for number in range(count):
        array[:] = number
        yield array
