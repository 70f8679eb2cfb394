"""
The scheduling facts of a call.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Final

from asynqueue._core.checks import checkCount, checkSeconds
from asynqueue._core.priorities import checkNiceness
from asynqueue._core.retry import Retry

if TYPE_CHECKING:
    from twisted.internet.interfaces import IConsumer

RUNS: Final = 3
"""How many times an idempotent task is begun at most, if workers die with it."""


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """
    How a task is scheduled and its result delivered. Tasks share one record where they can.

    @ivar niceness: an integer from -20 to 20, as in UNIX. A series at niceness N+10 is dequeued at
        about half the rate of one at N.
    @ivar series: the hashable name of the series that the task belongs to. Only workers that are
        qualified for the series run the task. Every worker is qualified for C{None}.
    @ivar doNext: whether the task goes before everything else that waits. Several such tasks keep
        the order of putting.
    @ivar doLast: whether the task goes after everything else, however long it has waited.
    @ivar timeout: the task fails with C{TaskTimeout} if it runs for longer than this many seconds,
        counted from the start of the run. C{None} for no limit.
    @ivar stallTimeout: the task fails with C{TaskStalled} if it reports no progress for this many
        seconds, counted from the start of the run and from each report. C{None} for no limit.
    @ivar retries: how many times the task is run again if its worker dies with it. Its function
        then does again what it has done before, so it must be safe to do twice.
    @ivar idempotent: whether the task is safe to do twice. It is then run up to C{RUNS} times in
        all if its workers die with it.
    @ivar retryOn: the exceptions of the function after which the task is run again: a type, an
        iterable of types, or a C{Retry}, which says how often and after which delays as well. With
        types alone, the task is run C{1 + retries} times at most, or three times if there are no
        C{retries}, after the delays of C{backoff()}. C{None} for none.
    @ivar consumer: an C{IConsumer} that gets the items if the call yields an iterator.
    @ivar raw: whether an iterator is brought back as it is, pickled, instead of streaming its
        items. C{None} leaves it to the worker.
    @ivar returnFailure: accepted for AsynQueue 0.9's callers. A task's exception always comes back
        as a Failure.
    @ivar retry: what C{retryOn} means, or C{None}.
    @ivar isTimed: whether the run's time is limited, by C{timeout} or C{stallTimeout}.
    """

    niceness: int = 0
    series: Hashable = None
    doNext: bool = False
    doLast: bool = False
    timeout: float | None = None
    consumer: IConsumer | None = None
    raw: bool | None = None
    returnFailure: bool = True
    stallTimeout: float | None = None
    retries: int = 0
    idempotent: bool = False
    retryOn: Retry | type[BaseException] | Iterable[type[BaseException]] | None = None
    retry: Retry | None = field(init=False, repr=False, compare=False)
    isTimed: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        checkNiceness(self.niceness)
        if self.doNext and self.doLast:
            raise ValueError("doNext and doLast exclude each other")
        checkSeconds("timeout", self.timeout, positive=True, optional=True)
        checkSeconds("stallTimeout", self.stallTimeout, positive=True, optional=True)
        checkCount("retries", self.retries, least=0)
        hash(self.series)
        retry = self.retryOn
        if retry is not None and not isinstance(retry, Retry):
            retry = Retry(self.runs if self.runs > 1 else RUNS, errors=retry)
        object.__setattr__(self, "retry", retry)
        # The scheduler asks for each task, and a property would cost a call.
        isTimed = self.timeout is not None or self.stallTimeout is not None
        object.__setattr__(self, "isTimed", isTimed)

    @property
    def runs(self) -> int:
        """
        How many times the task may be begun.
        """
        return max(1 + self.retries, RUNS if self.idempotent else 1)

    def changed(self, **changes: Any) -> TaskOptions:
        """
        Return a copy in which the given options are different.

        @raise TypeError: if one of the names is no option.
        """
        return replace(self, **changes)


USUAL = TaskOptions()
"""The options of a call that names none."""

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
"""The keywords that C{call} keeps for itself. Only C{options} takes the other options, so that
C{call} takes no more keywords from the function."""

ALL_OPTION_NAMES = frozenset(field.name for field in fields(TaskOptions) if field.init)
"""The keywords of C{options}."""
