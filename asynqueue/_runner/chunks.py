"""
Chunks: many small calls in one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from asynqueue._runner.exceptions import Described, describe

ChunkResult = tuple[list[Any], float, Described | None]
"""The results, how many seconds they took, and what the call after the last of them raised, if one
did."""


def runChunk(
    function: Callable[..., Any], items: Sequence[Any], isApart: bool = False
) -> ChunkResult:
    """
    Call a function for each item, in order, up to the first one that raises.

    @param function: the function.
    @param items: the items.
    @param isApart: whether each item is a tuple of several arguments.
    """
    started = time.perf_counter()
    results: list[Any] = []
    failure: Described | None = None
    try:
        if isApart:
            for item in items:
                results.append(function(*item))
        else:
            for item in items:
                results.append(function(item))
    except BaseException as error:
        failure = describe(error)
    return results, time.perf_counter() - started, failure
