"""
Iterators that an executor advances in the interpreter that wants their items.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextvars import Context
from typing import Any, NamedTuple

from asynqueue._runner.codecs import DIRECT
from asynqueue._runner.coroutines import CoroutineRunner
from asynqueue._runner.streams import FarStream, quietly


class Batch(NamedTuple):
    """
    The next items of an iterator.

    @ivar items: the items.
    @ivar isOver: whether it has come to its end.
    @ivar error: what it raised after these items, or C{None}.
    """

    items: list[Any]
    isOver: bool
    error: Any


class PullStream:
    """
    An iterator that a call in an executor returned to the interpreter that made the call. The
    executor runs the methods, one at a time.
    """

    def __init__(self, iterator: Iterator[Any], context: Context, runner: CoroutineRunner) -> None:
        """
        Advance it for the first time.
        """
        self._far = FarStream(0, iterator, time.perf_counter, DIRECT, context)
        self._runner = runner
        self._first: Batch | None = self.advance()

    def takeFirst(self) -> Batch:
        """
        @return: the batch that was ready when the call ended. Ask for it once.
        """
        first, self._first = self._first, None
        assert first is not None
        return first

    def advance(self) -> Batch:
        """
        Produce a batch. The items of the batches before must have been taken.

        @return: the batch. Nothing is raised.
        """
        items: list[Any] = []
        try:
            used, isOver = self._far.produce(items)
            self._far.grant(len(items), used)
            if isOver:
                self._runner.close()
        except BaseException as error:
            batch = Batch(items, True, DIRECT.describe(error))
            quietly(self._close)
            return batch
        return Batch(items, isOver, None)

    def _close(self) -> None:
        try:
            self._far.close()
        finally:
            self._runner.close()

    def close(self) -> BaseException | None:
        """
        End the iterator; a generator's C{finally} runs.

        @return: what that raised, or C{None}.
        """
        try:
            self._close()
        except BaseException as error:
            return DIRECT.describe(error)  # type: ignore[no-any-return]
        return None
