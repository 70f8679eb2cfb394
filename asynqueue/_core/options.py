"""
The scheduling facts of a call.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Any, Final

from asynqueue._core.priorities import checkNiceness

RUNS: Final = 3
"""How many times a task that is declared idempotent is begun at most, if workers die with it."""


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
    @ivar stallTimeout: fail with C{TaskStalled} if it reports no progress for this many seconds,
        counted from the start of the run and from each report. C{None} for no limit.
    @ivar retries: how many times it is run again if its worker dies with it. What it did before
        that is done again, so it should be something that may be done twice.
    @ivar idempotent: say that it may be done twice, without a number: it is run again up to
        C{RUNS} times in all.
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
    stallTimeout: float | None = None
    retries: int = 0
    idempotent: bool = False

    def __post_init__(self) -> None:
        checkNiceness(self.niceness)
        if self.doNext and self.doLast:
            raise ValueError("doNext and doLast exclude each other")
        for name in ("timeout", "stallTimeout"):
            seconds = getattr(self, name)
            if seconds is not None and not seconds > 0:
                raise ValueError(f"{name} must be a positive number of seconds, not {seconds!r}")
        if type(self.retries) is not int or self.retries < 0:
            raise ValueError(f"retries must be an integer of 0 or more, not {self.retries!r}")
        hash(self.series)

    @property
    def isTimed(self) -> bool:
        """
        Whether the run's time is limited.
        """
        return self.timeout is not None or self.stallTimeout is not None

    @property
    def runs(self) -> int:
        """
        How many times it may be begun.
        """
        return max(1 + self.retries, RUNS if self.idempotent else 1)

    def changed(self, **changes: Any) -> TaskOptions:
        """
        @return: a copy in which the given options are different.
        @raise TypeError: if one of the names is no option.
        """
        return replace(self, **changes)


USUAL = TaskOptions()
"""What a call has that names no option."""

OPTION_NAMES = frozenset(
    {
        "consumer",
        "doLast",
        "doNext",
        "niceness",
        "raw",
        "returnFailure",
        "series",
        "timeout",
    }
)
"""The keywords that C{call} keeps for itself. The other options are for C{options} alone, so that
no more of a function's own keywords are taken from it."""
