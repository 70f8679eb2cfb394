"""
Chunks: many small calls in one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from asynqueue._runner.exceptions import Described, describe

ChunkResult = tuple[list[Any], float, dict[int, Described]]
"""The results, with C{None} for each call that raised and was followed by another; how many seconds
all took; and what the calls raised, by their numbers, counted from 0."""


def runChunk(
    function: Callable[..., Any],
    items: Sequence[Any],
    isApart: bool = False,
    goesOn: bool = False,
) -> ChunkResult:
    """
    Call a function for each item, in order, up to the first one that raises.

    @param function: the function.
    @param items: the items.
    @param isApart: whether each item is a tuple of several arguments.
    @param goesOn: whether to go on after one that raises an C{Exception}. Other errors, such as
        C{SystemExit} or the request to end, end the chunk all the same.
    """
    started = time.perf_counter()
    results: list[Any] = []
    failures: dict[int, Described] = {}
    remaining = iter(items)
    while True:
        try:
            if isApart:
                for item in remaining:
                    results.append(function(*item))
            else:
                for item in remaining:
                    results.append(function(item))
        except BaseException as error:
            failures[len(results)] = describe(error)
            if goesOn and isinstance(error, Exception):
                results.append(None)
                continue
        return results, time.perf_counter() - started, failures
