"""
Functions that the tests of cut connections call in runners.
"""

from __future__ import annotations

import os
from collections.abc import Iterator


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
