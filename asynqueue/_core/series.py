"""
The series that are in use: their serial numbers, and their tasks that wait.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sized
from heapq import heapify, heappop, heappush, heapreplace
from itertools import count
from typing import Any

from asynqueue._core.heap import Place, PriorityHeap
from asynqueue._core.priorities import FACTORS


class Series:
    """
    A series that is in use, which means that some of its tasks are not done.

    @ivar name: its name.
    @ivar number: the serial number that was taken last.
    @ivar last: the greatest priority that its numbers have made.
    @ivar users: how many of its numbers are taken and not released.
    @ivar numberBound: the number up to which L{_Greatest} need not be told of C{number}.
    @ivar lastBound: the same for C{last}.
    @ivar tasks: its tasks that wait; C{None} if none has waited yet.
    @ivar head: the first of them, as the heap in which the series stands knows it.
    @ivar id: the head's id.
    @ivar priority: the head's priority.
    @ivar place: belongs to the heap in which the series stands.
    """

    __slots__ = (
        "head",
        "id",
        "last",
        "lastBound",
        "name",
        "number",
        "numberBound",
        "place",
        "priority",
        "tasks",
        "users",
    )

    def __init__(self, name: Hashable) -> None:
        self.name = name
        self.number = 0
        self.last = 0.0
        self.users = 0
        self.numberBound = self.lastBound = math.inf
        # The tasks are of the type that the scheduler is for.
        self.tasks: PriorityHeap[Any] | None = None
        self.head: Any = None
        self.id = 0
        self.priority = 0.0
        self.place: Place | None = None


class SerialNumbers:
    """
    The serial numbers of the series that are in use.

    Each series counts for itself. A new series, or one of which no task was left, starts at the
    highest number in use, or earlier if an earlier number already puts it behind all priorities in
    use. So it does not overtake what waits and is as urgent. Nor is it held back by tasks that ran
    long ago, or by tasks that more urgent series are yet to put.

    All operations are O(log n) or better in the number of series, amortised.
    """

    __slots__ = (
        "_alone",
        "_default",
        "_highest",
        "_isStale",
        "_last",
        "_lasts",
        "_numbers",
        "_series",
        "users",
    )

    def __init__(self) -> None:
        # How many numbers are taken and not released.
        self.users = 0
        # The series None is kept even when it is not in use, because it comes and goes with each
        # call of most programs.
        self._default = Series(None)
        self._series: dict[Hashable, Series] = {None: self._default}
        # The highest number in use, and the greatest priority. They may be too high when they are
        # stale, because a series that may have had them is gone.
        self._highest = 0
        self._last = 0.0
        self._isStale = False
        self._numbers = _Greatest(self._series, "number", "numberBound")
        self._lasts = _Greatest(self._series, "last", "lastBound")
        # The only series in use, or the last one that was. The two do not know of it.
        self._alone: Series | None = None

    def __len__(self) -> int:
        """
        How many series are in use.
        """
        return len(self._series) - (not self._default.users)

    def take(self, name: Hashable, niceness: int = 0) -> int:
        """
        Take the next serial number of a series. Each number must be given back with L{release} when
        its task is done.

        @param name: the name of the series.
        @param niceness: the niceness of the task.
        @return: the number, from 1 upwards.
        """
        return self.enter(name, niceness).number

    def enter(self, name: Hashable, niceness: int) -> Series:
        """
        Take the next serial number of a series, as L{take} does.

        @return: the series, whose C{number} it is.
        """
        series = self._series.get(name)
        if series is None or (not series.users and series is not self._alone):
            series = self._start(name, niceness)
        number = series.number = series.number + 1
        series.users += 1
        self.users += 1
        priority = number * FACTORS[niceness]
        # This is done for each task that is put, and max() takes longer.
        if number > self._highest:  # noqa: PLR1730
            self._highest = number
        if number > series.numberBound:
            self._numbers.add(series, number + series.users - 1)
        if priority > series.last:
            series.last = priority
            if priority > self._last:  # noqa: PLR1730
                self._last = priority
            if priority > series.lastBound:
                self._lasts.add(series, priority + (series.users - 1) * FACTORS[niceness])
        return series

    def get(self, name: Hashable) -> Series | None:
        """
        Return a series, or C{None} if it is not in use.
        """
        return self._series.get(name)

    def all(self) -> list[Series]:
        """
        Return all series in use, and perhaps the series C{None}.
        """
        return list(self._series.values())

    def release(self, name: Hashable, number: int = 1) -> None:
        """
        Give numbers back, because tasks of the series are done. If these were the last ones, the
        series is forgotten.

        @param name: the series.
        @param number: how many.
        @raise KeyError: if not so many numbers of the series are taken.
        """
        series = self._series[name]
        if series.users < number:
            raise KeyError(name)
        self.users -= number
        series.users -= number
        if not series.users:
            if series is self._alone:
                # It starts anew, unless another series comes first.
                series.number = self._highest = 0
                series.last = self._last = 0.0
            elif series.number == self._highest or series.last == self._last:
                self._isStale = True
            if series is not self._default:
                del self._series[name]

    def _restart(self, series: Series) -> None:
        """
        Start a series while no other is in use.
        """
        if self._numbers.entries or self._lasts.entries:
            self._numbers.entries.clear()
            self._lasts.entries.clear()
        series.number = self._highest = 0
        series.last = self._last = 0.0
        series.numberBound = series.lastBound = math.inf
        self._isStale = False
        self._alone = series

    def _start(self, name: Hashable, niceness: int) -> Series:
        series = self._default if name is None else Series(name)
        self._series[name] = series
        if not self.users:
            self._restart(series)
            return series
        alone = self._alone
        if alone is not None:
            self._alone = None
            self._numbers.add(alone, alone.number)
            self._lasts.add(alone, alone.last)
        if self._isStale:
            self._isStale = False
            self._highest = self._numbers.find()
            self._last = self._lasts.find()
        series.number = min(self._highest, int(self._last / FACTORS[niceness]))
        series.last = 0.0
        series.numberBound = series.lastBound = -1
        return series


class _Greatest:
    """
    Finds the greatest figure of all series in use. A series' figure only grows.

    A series need not tell each growth: it stands in a binary heap by a bound, and tells when its
    figure exceeds that. To find the greatest figure, bounds are lowered to the figures until a
    series comes first whose figure is its bound.

    @ivar entries: the binary heap. Entries of forgotten series and of former bounds are dead, and
        are dropped when they come up.
    """

    __slots__ = ("_bound", "_figure", "_inUse", "_numbers", "entries")

    SMALL = 64
    """With fewer entries than this, dropping the dead at once is not worth the effort."""

    def __init__(self, inUse: Sized, figure: str, bound: str) -> None:
        """
        @param inUse: the series in use.
        @param figure: the name of the figure, an attribute of L{Series}.
        @param bound: the name of its bound.
        """
        self._inUse = inUse
        self._figure = figure
        self._bound = bound
        self._numbers = count()
        self.entries: list[tuple[float, int, Series]] = []

    def add(self, series: Series, bound: float) -> None:
        """
        Give a series a new bound, no less than its figure.
        """
        setattr(series, self._bound, bound)
        heappush(self.entries, (-bound, next(self._numbers), series))
        if len(self.entries) > 2 * len(self._inUse) + self.SMALL:
            self.entries = [entry for entry in self.entries if self._isAlive(entry)]
            heapify(self.entries)

    def find(self) -> Any:
        """
        @return: the greatest figure, or 0 if no series is known.
        """
        entries = self.entries
        while entries:
            entry = entries[0]
            if not self._isAlive(entry):
                heappop(entries)
                continue
            series = entry[2]
            figure = getattr(series, self._figure)
            if figure == -entry[0]:
                return figure
            setattr(series, self._bound, figure)
            heapreplace(entries, (-figure, next(self._numbers), series))
        return 0

    def _isAlive(self, entry: tuple[float, int, Series]) -> bool:
        series = entry[2]
        return series.users > 0 and getattr(series, self._bound) == -entry[0]
