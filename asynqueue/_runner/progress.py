"""
How far a call has come, as its function reports it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextvars import ContextVar
from typing import Final

from asynqueue._runner.messages import PROGRESS, Message

Reporter = Callable[[float, float | None], object]
"""Takes how much is done, and how much there is to do."""

reporting: Final[ContextVar[Reporter | None]] = ContextVar("asynqueue's reporter", default=None)
"""Holds what hears of L{report} in a task's context."""


def report(done: float, total: float | None = None) -> None:
    """
    Say how far the present task has come. Call this in the task's function, or in a function that
    it calls. The task's C{progress} is set, and the queue's observers hear of it.

    You may report as often as you like: of several reports within a twentieth of a second, only the
    last one is sure to arrive. Outside of a task nothing happens, so that you can call a function
    which reports by itself.

    A thread that the function starts is outside of the task, unless it runs in a copy of the
    function's context.

    @param done: how much is done, in whatever unit: a number.
    @param total: how much there is to do, in the same unit; C{None} if that is not known.
    """
    reporter = reporting.get()
    if reporter is not None:
        reporter(done, total)


def setReporter(reporter: Reporter | None) -> None:
    """
    Set who hears of L{report}, in the present context.
    """
    reporting.set(reporter)


REPORT_SECONDS: Final = 0.05
"""How long after one report of a task the next one is sent, in seconds. The last one is sent in any
case, before the task's end is told."""


class ProgressReports:
    """
    Posts what tasks report, of reports in quick succession only the last.
    """

    def __init__(self, post: Callable[[Message], None], clock: Callable[[], float]) -> None:
        self._post = post
        self._clock = clock
        # By the tasks' IDs: when the last report was sent, and the one after it.
        self.sent: dict[int, float] = {}
        self._withheld: dict[int, Message] = {}

    def report(self, id: int, done: float, total: float | None) -> None:
        """
        @param id: the task's ID.
        @raise TypeError: if these are no numbers.
        """
        # As plain numbers, whatever they are made of, so that they can travel.
        message = (PROGRESS, id, _number(done), None if total is None else _number(total))
        now = self._clock()
        if now - self.sent.get(id, -math.inf) < REPORT_SECONDS:
            self._withheld[id] = message
            return
        self._withheld.pop(id, None)
        self.sent[id] = now
        self._post(message)

    def flush(self, id: int) -> None:
        """
        A task is about to end: post what was withheld of it.
        """
        if self.sent.pop(id, None) is not None:
            message = self._withheld.pop(id, None)
            if message is not None:
                self._post(message)


def _number(value: float) -> float:
    # Unlike float(), this takes no texts.
    return value if type(value) in (int, float) else math.ldexp(value, 0)
