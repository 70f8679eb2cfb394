"""
What a worker does for itself as long as no queue employs it.
"""

from __future__ import annotations

from typing import Any

from twisted.python.failure import Failure
from zope.interface import implementer

from asynqueue.interfaces import IWorkerListener


@implementer(IWorkerListener)
class Standalone:
    """
    Keeps the tasks that a runner did not begin, for the next one.
    """

    def __init__(self) -> None:
        self._kept: list[Any] = []

    def take(self) -> list[Any]:
        """
        @return: what was kept and is still wanted. It is not kept any longer.
        """
        kept, self._kept = self._kept, []
        return [task for task in kept if not task.isDone]

    def fail(self, reason: Exception) -> None:
        """
        There will be no next runner: what was kept fails.
        """
        for task in self.take():
            task.errback(Failure(reason))

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
        tasks = self.take()
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
        self._kept += tasks

    def stalled(self, worker: Any) -> None:
        """
        Nobody else could run what waits.
        """

    def lost(self, worker: Any, reason: Exception) -> None:
        """
        The worker heals by itself.
        """
