"""
Reports of progress, not too many of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from asynqueue.universe.messages import PROGRESS, Message

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
        self._sent: dict[int, float] = {}
        self._withheld: dict[int, Message] = {}

    def report(self, id: int, done: float, total: float | None) -> None:
        """
        @param id: the task's ID.
        @raise TypeError: if these are no numbers.
        """
        # As plain numbers, whatever they are made of, so that they can travel.
        message = (PROGRESS, id, _number(done), None if total is None else _number(total))
        now = self._clock()
        if now - self._sent.get(id, -math.inf) < REPORT_SECONDS:
            self._withheld[id] = message
            return
        self._withheld.pop(id, None)
        self._sent[id] = now
        self._post(message)

    def flush(self, id: int) -> None:
        """
        A task is about to end: post what was withheld of it.
        """
        if self._sent and self._sent.pop(id, None) is not None:
            message = self._withheld.pop(id, None)
            if message is not None:
                self._post(message)


def _number(value: float) -> float:
    # Unlike float(), this takes no texts.
    return value if type(value) in (int, float) else math.ldexp(value, 0)
