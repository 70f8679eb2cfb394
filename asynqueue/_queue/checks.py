"""
What is looked at when a call is made, so that one that cannot be sent fails at once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final

from asynqueue._queue.queuedtask import QueuedTask
from asynqueue._workers.picklability import CallCheck

if TYPE_CHECKING:
    from asynqueue._queue.pool import WorkerRecord


SERIES: Final = 1024
"""For how many series it is remembered what checks their tasks."""


class Checks:
    """
    Finds tasks that all workers qualified for them would refuse. If there is no such worker yet, or
    one that says nothing of what it would refuse, nothing is known.

    @ivar passed: a plain function of a task with which nothing was wrong, the last such one. With
        plain arguments alone (see L{PLAIN<asynqueue._runner.packing.PLAIN>}), it needs not be
        looked at again.
    """

    def __init__(self, records: Mapping[int, WorkerRecord]) -> None:
        """
        @param records: the workers that may get tasks. L{forget} is to be called when they have
            changed.
        """
        self._records = records
        self._made: dict[Callable[[], CallCheck], CallCheck] = {}
        self._bySeries: dict[Hashable, tuple[CallCheck, ...]] = {}
        self.passed: Any = None

    def forget(self) -> None:
        """
        There are other workers now, or they are qualified for other series.
        """
        self._bySeries.clear()
        self.passed = None

    def refusal(self, task: QueuedTask) -> Exception | None:
        """
        @return: why no worker could be sent a task, or C{None} if nothing is known.
        """
        series = task.options.series
        checks = self._bySeries.get(series)
        if checks is None:
            checks = self._find(series)
        refusal = None
        for check in checks:
            refusal = check.refusal(task)
            if refusal is None:
                if type(task.function) is FunctionType:
                    self.passed = task.function
                break
        return refusal

    def _find(self, series: Hashable) -> tuple[CallCheck, ...]:
        makers: set[Any] = {
            record.port.makeCheck
            for record in self._records.values()
            if series in (None, *record.port.cQualified, *record.port.iQualified)
        }
        checks = () if None in makers else tuple(self._make(maker) for maker in makers)
        if len(self._bySeries) >= SERIES:
            self._bySeries.clear()
        self._bySeries[series] = checks
        return checks

    def _make(self, maker: Callable[[], CallCheck]) -> CallCheck:
        if maker not in self._made:
            self._made[maker] = maker()
        return self._made[maker]
