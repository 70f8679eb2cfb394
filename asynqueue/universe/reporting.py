"""
How a task says, from within, how far it has come.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

Reporter = Callable[[float, float | None], object]
"""Takes how much is done, and how much there is to do."""

_reporter: ContextVar[Reporter | None] = ContextVar("asynqueue's reporter", default=None)


def report(done: float, total: float | None = None) -> None:
    """
    Called in a task's function, or in what that calls: say how far it has come. The task's
    C{progress} and the queue's observers hear of it.

    Reports may be as frequent as one likes: of those that follow each other within a twentieth of a
    second, only the last need arrive. Outside of a task nothing happens, so that a function which
    reports can be called by itself.

    A thread that the function starts does not count as in the task, unless it runs in a copy of the
    function's context.

    @param done: how much is done, in whatever unit: a number.
    @param total: how much there is to do, in the same unit; C{None} if that is not known.
    """
    reporter = _reporter.get()
    if reporter is not None:
        reporter(done, total)


def setReporter(reporter: Reporter | None) -> None:
    """
    Set who hears of L{report}, in the present context.
    """
    _reporter.set(reporter)
