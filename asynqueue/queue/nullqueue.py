"""
A queue for the main loop.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

from asynqueue.queue.taskqueue import TaskQueue
from asynqueue.workers.local import AsyncWorker


class NullQueue(TaskQueue):
    """
    A L{TaskQueue} that runs its calls in the main loop, so that what does not block can be queued
    too: what returns a Deferred, or a coroutine::

        async with NullQueue(slots=10) as queue:
            page = await queue.call(fetch, url, niceness=5)
    """

    def __init__(
        self,
        *,
        slots: int = 1,
        raw: bool = False,
        series: Iterable[Hashable] = (),
        **kw: Any,
    ) -> None:
        """
        @param slots: how many calls may be underway at once, waiting for their Deferreds.
        @param raw: whether an iterator that a call returns is its result as it is, rather than a
            L{Deferator<asynqueue.iteration.Deferator>}, where the call does not say.
        @param series: the series that may be run, besides C{None}, C{'async'} and C{'local'}.
        @param kw: L{TaskQueue}'s keywords.
        @raise ValueError: if C{slots} is not a positive integer.
        """
        worker = AsyncWorker(series, raw=raw, slots=slots, reactor=kw.get("reactor"))
        super().__init__(worker, **kw)
