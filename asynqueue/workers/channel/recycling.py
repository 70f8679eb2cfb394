"""
When a universe has done enough.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from asynqueue.errors import WorkerRecycled
from asynqueue.interfaces import IChannel

LOOK_SECONDS: Final = 1.0
"""How often, at the most, a universe's memory is looked at for this. It costs about 20
microseconds."""


class Recycling:
    """
    Says between two tasks whether the universe is to be replaced, and why.
    """

    def __init__(self, maxTasks: int | None = None, maxKilobytes: int | None = None) -> None:
        """
        @param maxTasks: after how many tasks; C{None} for no limit.
        @param maxKilobytes: with how much resident memory; C{None} for no limit.
        @raise ValueError: if one is not a positive integer.
        """
        for name, limit in (("maxTasks", maxTasks), ("maxKilobytes", maxKilobytes)):
            if limit is not None and (type(limit) is not int or limit < 1):
                raise ValueError(f"{name} must be a positive integer or None, not {limit!r}")
        self._maxTasks = maxTasks
        self._maxKilobytes = maxKilobytes
        self._tasks = 0
        self._looked = float("-inf")

    def begin(self) -> None:
        """
        There is a new universe.
        """
        self._tasks = 0
        self._looked = float("-inf")

    def ran(
        self, tasks: int, channel: IChannel, seconds: Callable[[], float]
    ) -> WorkerRecycled | None:
        """
        The universe has run some tasks more.

        @return: why it is to be replaced, if it is.
        """
        self._tasks += tasks
        if self._maxTasks is not None and self._tasks >= self._maxTasks:
            return WorkerRecycled(f"it has run {self._tasks} tasks, and may run {self._maxTasks}")
        if self._maxKilobytes is None or seconds() - self._looked < LOOK_SECONDS:
            return None
        self._looked = seconds()
        resident = channel.residentKilobytes()
        if resident is None or resident <= self._maxKilobytes:
            return None
        return WorkerRecycled(
            f"it has {resident} kB of memory resident, and may have {self._maxKilobytes} kB"
        )
