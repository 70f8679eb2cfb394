"""
What a worker does for itself as long as no queue employs it.
"""

from __future__ import annotations

from typing import Any

from zope.interface import implementer

from asynqueue.interfaces import IEmployer


@implementer(IEmployer)
class SelfEmployed:
    """
    Keeps the tasks that a universe did not begin, for the next one.

    @ivar kept: those tasks.
    """

    def __init__(self) -> None:
        self.kept: list[Any] = []

    def begin(self) -> None:
        """
        Nothing is decided here.
        """

    def end(self) -> None:
        """
        Nothing is decided here.
        """

    def ready(self, worker: Any) -> None:
        """
        Run what was kept.
        """
        tasks, self.kept = self.kept, []
        if tasks:
            worker.runMany(tasks)

    def released(self, worker: Any, ended: list[tuple[Any, float | None]]) -> None:
        """
        Nothing is counted here.
        """

    def givenBack(self, worker: Any, tasks: list[Any]) -> None:
        """
        Keep them.
        """
        self.kept += tasks

    def stalled(self, worker: Any) -> None:
        """
        Nothing is sent ahead here.
        """

    def lost(self, worker: Any, reason: Exception) -> None:
        """
        The worker heals by itself.
        """
