"""
Make one call in its context, and tell what came of it.

This is the only place where a worker runs a task's function. The runner of a child process or of a
thread uses it, and so do calls in an executor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextvars import Context
from typing import Any, Final, Protocol

from asynqueue._runner.codecs import Body
from asynqueue._runner.context import applyContext
from asynqueue._runner.exceptions import explained
from asynqueue._runner.packing import PLAIN
from asynqueue._runner.progress import Reporter, reporting
from asynqueue._runner.streams import isIterator
from asynqueue.errors import CallNotRebuilt

PLAIN_VALUE: Final = 1
"""The function returned a value of a L{PLAIN<asynqueue._runner.packing.PLAIN>} type."""

VALUE: Final = 2
"""The function returned another object that is no iterator."""

ITERATOR: Final = 3
"""The function returned an iterator."""

RAISED: Final = 4
"""The function raised an exception. The exception's traceback begins with the frame that caught
it."""

WAITING: Final = 5
"""The function returned a Deferred or coroutine that has not ended yet."""

Outcome = tuple[int, Any]
"""One of the numbers above, and the value or the exception."""


class Waiter(Protocol):
    """
    Waits for what a function returned in place of its result.
    """

    def accepts(self, value: object) -> bool:
        """Return whether a value has to be waited for."""

    def wait(self, value: Any, later: Callable[[Outcome], object]) -> Outcome:
        """Return the outcome, or return C{WAITING} and call C{later} once with the outcome."""

    def iterate(self, value: Any) -> Any:
        """Make an iterator of an asynchronous one. Return anything else as it is."""

    def interrupt(self) -> bool:
        """Cancel what is being waited for. Return whether there was anything to cancel."""

    def close(self) -> None:
        """Release what waiting has needed."""


def makeCall(
    context: Context,
    reporter: Reporter | None,
    body: Body,
    waiter: Waiter,
    later: Callable[[Outcome], object],
) -> Outcome:
    """
    Call a function in a context, and wait for the coroutine that it may return.

    @param context: the context to run all code of the call in.
    @param reporter: takes what the call reports of its progress.
    @param body: the call.
    @param waiter: waits for what is no result yet.
    @param later: takes the outcome if this returns C{WAITING}.
    @return: the outcome. Nothing is raised, unless a signal's handler raises it before the call has
        begun.
    """
    function, args, kwargs, pairs = body
    try:
        context.run(reporting.set, reporter)
        if pairs:
            context.run(_applyContext, pairs)
        value = context.run(function, *args, **kwargs)
        if type(value) in PLAIN:
            return PLAIN_VALUE, value
        if waiter.accepts(value):
            return context.run(waiter.wait, value, later)
        return outcomeOf(waiter.iterate(value))
    except BaseException as error:
        return RAISED, error


def outcomeOf(value: object) -> Outcome:
    """
    Classify what a function or a coroutine returned.
    """
    if type(value) in PLAIN:
        return PLAIN_VALUE, value
    return (ITERATOR if isIterator(value) else VALUE), value


def _applyContext(pairs: Iterable[tuple[str, object]]) -> None:
    try:
        applyContext(pairs)
    except Exception as error:
        raise explained(CallNotRebuilt, "rebuild the call's context variables", error) from None
