"""
The scheduling facts of a call.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Any

from asynqueue.tasks.niceness import checkNiceness


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """
    How a task is to be scheduled and its result delivered. Tasks share one record where they can.

    @ivar niceness: an integer in -20...20 as in UNIX; a series at niceness N+10 is dequeued at
        about half the rate of one at N.
    @ivar series: a hashable name of the stream of tasks that this one belongs to. Only workers that
        are qualified for it run it; every worker is qualified for C{None}.
    @ivar doNext: go before everything else that waits, in the order of putting among others with
        C{doNext}.
    @ivar doLast: go after everything else, however long this has waited.
    @ivar timeout: fail with C{TaskTimeout} if it runs for longer than this many seconds, counted
        from the start of the run. C{None} for no limit.
    @ivar consumer: an C{IConsumer} that gets the items if the call yields an iterator.
    @ivar raw: bring an iterator back as it is, pickled, instead of streaming its items. C{None}
        leaves it to the worker.
    @ivar returnFailure: accepted for AsynQueue 0.9's callers; a task's exception comes back as a
        Failure always.
    """

    niceness: int = 0
    series: Hashable = None
    doNext: bool = False
    doLast: bool = False
    timeout: float | None = None
    consumer: Any = None
    raw: bool | None = None
    returnFailure: bool = True

    def __post_init__(self) -> None:
        checkNiceness(self.niceness)
        if self.doNext and self.doLast:
            raise ValueError("doNext and doLast exclude each other")
        if self.timeout is not None and not self.timeout > 0:
            raise ValueError(f"timeout must be a positive number of seconds, not {self.timeout!r}")
        hash(self.series)

    def changed(self, **changes: Any) -> TaskOptions:
        """
        @return: a copy in which the given options are different.
        @raise TypeError: if one of the names is no option.
        """
        return replace(self, **changes)


USUAL = TaskOptions()
"""What a call has that names no option."""

OPTION_NAMES = frozenset(TaskOptions.__dataclass_fields__)
"""The keywords that C{call} keeps for itself."""
