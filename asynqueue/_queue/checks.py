"""
Checks of calls when they are made, so that a call that cannot be sent fails at once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from types import FunctionType
from typing import TYPE_CHECKING, Final

from asynqueue._queue.queuedtask import QueuedTask
from asynqueue._workers.picklability import CallCheck

if TYPE_CHECKING:
    from asynqueue._queue.pool import WorkerRecord


SERIES: Final = 1024
"""The largest number of series for which the checks of their tasks are remembered."""


class Checks:
    """
    Finds tasks that all workers qualified for them would refuse. It finds nothing as long as there
    is no such worker, or one of them has no check.

    @ivar passed: the function of the last task that was not refused, if that is a plain function.
        A call of it needs no check if all its arguments are plain (see
        L{PLAIN<asynqueue._runner.packing.PLAIN>}).
    """

    def __init__(self, records: Mapping[int, WorkerRecord]) -> None:
        """
        @param records: the workers that may get tasks. Call L{forget} when they have changed.
        """
        self._records = records
        self._made: dict[Callable[[], CallCheck], CallCheck] = {}
        self._bySeries: dict[Hashable, tuple[CallCheck, ...]] = {}
        self.passed: FunctionType | None = None

    def forget(self) -> None:
        """
        Forget which workers run which series, because that has changed.
        """
        self._bySeries.clear()
        self.passed = None

    def refusal(self, task: QueuedTask) -> Exception | None:
        """
        @return: the reason why no worker can be sent the task, or C{None} if none is known.
        """
        series = task.options.series
        checks = self._bySeries.get(series)
        if checks is None:
            checks = self._find(series)
        refusal = None
        for check in checks:
            refusal = check.refusal(task)
            if refusal is None:
                if isinstance(task.function, FunctionType):
                    self.passed = task.function
                break
        return refusal

    def _find(self, series: Hashable) -> tuple[CallCheck, ...]:
        makers: set[Callable[[], CallCheck] | None] = {
            record.port.makeCheck
            for record in self._records.values()
            if series in (None, *record.port.cQualified, *record.port.iQualified)
        }
        checks: tuple[CallCheck, ...] = ()
        if None not in makers:
            checks = tuple(self._make(maker) for maker in makers if maker is not None)
        if len(self._bySeries) >= SERIES:
            self._bySeries.clear()
        self._bySeries[series] = checks
        return checks

    def _make(self, maker: Callable[[], CallCheck]) -> CallCheck:
        if maker not in self._made:
            self._made[maker] = maker()
        return self._made[maker]
