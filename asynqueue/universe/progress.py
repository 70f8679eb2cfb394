"""
Reports of progress, not too many of them.
"""

from __future__ import annotations

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
        self._sent: tuple[int, float] | None = None
        self._withheld: Message | None = None

    def report(self, id: int | None, done: float, total: float | None) -> None:
        """
        @param id: the task's ID; if there is none, nobody wants to know.
        @raise TypeError: if these are no numbers.
        """
        if id is None:
            return
        # As plain numbers, whatever they are made of, so that they can travel.
        message = (PROGRESS, id, _number(done), None if total is None else _number(total))
        now = self._clock()
        if self._sent is not None and self._sent[0] == id and now - self._sent[1] < REPORT_SECONDS:
            self._withheld = message
            return
        self._withheld = None
        self._sent = id, now
        self._post(message)

    def flush(self, id: int) -> None:
        """
        A task is about to end: post what was withheld of it.
        """
        message, self._withheld = self._withheld, None
        if message is not None and message[1] == id:
            self._post(message)


def _number(value: float) -> float:
    return value if type(value) in (int, float) else float(value)
