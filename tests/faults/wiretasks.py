"""
Functions that the tests of cut connections call in runners.
"""

from __future__ import annotations

import contextvars
import hashlib
import logging
import os
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from twisted.logger import Logger


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


def noise(seed: int, size: int) -> bytes:
    """
    Return so many bytes that another seed does not give.
    """
    return random.Random(seed).randbytes(size)


def text(size: int) -> str:
    """
    Return a text of so many characters.
    """
    return "0123456789" * (size // 10)


def texts(count: int, size: int) -> Iterator[str]:
    """
    Yield such a text so many times.
    """
    for _ in range(count):
        yield text(size)


def noises(count: int, size: int) -> Iterator[bytes]:
    """
    Yield such bytes, with each of so many seeds.
    """
    for seed in range(count):
        yield noise(seed, size)


def digest(value: bytes) -> str:
    """
    Return what tells a value from others.
    """
    return hashlib.sha256(value).hexdigest()


def logBoth(name: str, level: int) -> None:
    """
    Log with C{logging}, in this thread and in one with the same context, and with Twisted's logger.
    """
    logging.getLogger(name).log(level, "from %s", "logging")
    context = contextvars.copy_context()
    thread = threading.Thread(
        target=context.run, args=(logging.getLogger(name).log, level, "from a thread of the task")
    )
    thread.start()
    thread.join()
    if level == logging.ERROR:
        Logger(name).error("from Twisted")


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
