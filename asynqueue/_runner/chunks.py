"""
Chunks: many small calls in one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from asynqueue._runner.exceptions import rebuild, withoutCatcher

Describe = Callable[[BaseException], Any]
"""Makes an exception ready to travel, as the codec of a channel does."""

ChunkResult = tuple[list[Any], float, dict[int, Any]]
"""The results, with C{None} for each call that raised and was followed by another; how many seconds
all took; and what the calls raised, by their numbers, counted from 0: the exceptions themselves, or
what a codec has made of them to travel."""


def runChunk(
    function: Callable[..., Any],
    items: Sequence[Any],
    isApart: bool = False,
    goesOn: bool = False,
    *,
    describe: Describe = withoutCatcher,
) -> ChunkResult:
    """
    Call a function for each item, in order, up to the first one that raises.

    @param function: the function.
    @param items: the items.
    @param isApart: whether each item is a tuple of several arguments.
    @param goesOn: whether to go on after one that raises an C{Exception}. Other errors, such as
        C{SystemExit} or the request to end, end the chunk all the same.
    @param describe: makes an exception ready to travel. Default: it stays what it is.
    """
    started = time.perf_counter()
    results: list[Any] = []
    failures: dict[int, Any] = {}
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


def describing(function: Callable[..., Any], describe: Describe) -> Callable[..., Any]:
    """
    @param function: a function that a call names.
    @param describe: makes an exception ready to travel from here.
    @return: the function. If it runs chunks, what their calls raise is described.
    """
    return partial(runChunk, describe=describe) if function is runChunk else function


def raisedIn(described: Any) -> BaseException:
    """
    @param described: what a call of a chunk has raised, after its journey.
    """
    return described if isinstance(described, BaseException) else rebuild(described)
