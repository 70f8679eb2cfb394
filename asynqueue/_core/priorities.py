"""
Niceness: how a task's place in its series, and how nice it is, become its priority.
"""

from __future__ import annotations

from collections.abc import Hashable

NICEST = 20
"""The highest niceness, and so the least urgent; its negative is the most urgent. As in UNIX
C{nice}."""


def checkNiceness(niceness: int) -> int:
    """
    @param niceness: an integer in -20...20, as in UNIX: lower is more urgent, 0 is usual.
    @return: the same integer.
    @raise ValueError: if it is anything else.
    """
    if type(niceness) is not int or not -NICEST <= niceness <= NICEST:
        raise ValueError(f"niceness must be an integer from -20 to 20, not {niceness!r}")
    return niceness


def priorityOf(serial: int, niceness: int) -> float:
    """
    The priority of a task; lower goes first.

    With C{priority = serial * (1 + ((niceness + 20) / 10) ** 2)}, which is AsynQueue's formula, a
    series of tasks at niceness 10 advances at half the rate of one at niceness 0, whose factors are
    10 and 5.

    @param serial: the task's number within its series, from 1.
    @param niceness: an integer in -20...20.
    """
    return serial * _FACTORS[niceness]


_FACTORS = {
    niceness: 1.0 + ((niceness + NICEST) / 10.0) ** 2 for niceness in range(-NICEST, NICEST + 1)
}


class SerialNumbers:
    """
    The serial numbers of the series that are in use.

    Each series counts for itself. A series that is new, or of which no task was left, starts at the
    highest number in use, or earlier, where that gives it a priority right behind all that are in
    use: so it neither overtakes what waits already, if that is as urgent, nor is held back by
    what ran long ago, nor has to wait for what others, more urgent, are yet to put.
    """

    __slots__ = ("_highest", "_isStale", "_last", "_series")

    def __init__(self) -> None:
        self._series: dict[Hashable, _Series] = {}
        # The highest number, and the priority that goes last. They are looked for when a series
        # starts and one has gone since that may have had them.
        self._highest = 0
        self._last = 0.0
        self._isStale = False

    def take(self, series: Hashable, niceness: int = 0) -> int:
        """
        @param niceness: of the task that it is for.
        @return: the next serial number of C{series}, from 1 upwards. Each number taken must be
            given back with L{release} when its task is done.
        """
        taken = self._series.get(series)
        if taken is None:
            taken = self._start(series, niceness)
        number = taken.number = taken.number + 1
        taken.users += 1
        priority = number * _FACTORS[niceness]
        # Once for each task that is put, and max() takes longer.
        if priority > taken.last:
            taken.last = priority
            if priority > self._last:  # noqa: PLR1730
                self._last = priority
        if number > self._highest:  # noqa: PLR1730
            self._highest = number
        return number

    def _start(self, series: Hashable, niceness: int) -> _Series:
        if self._isStale:
            self._isStale = False
            self._highest = max((each.number for each in self._series.values()), default=0)
            self._last = max((each.last for each in self._series.values()), default=0.0)
        number = min(self._highest, int(self._last / _FACTORS[niceness]))
        started = self._series[series] = _Series(number)
        return started

    def release(self, series: Hashable) -> None:
        """
        A task of C{series} is done. When it was the last one, the series is forgotten.
        """
        taken = self._series[series]
        taken.users -= 1
        if not taken.users:
            del self._series[series]
            if taken.number == self._highest or taken.last == self._last:
                self._isStale = True

    @property
    def users(self) -> int:
        """
        How many numbers were taken and not given back.
        """
        return sum(each.users for each in self._series.values())

    def __len__(self) -> int:
        return len(self._series)


class _Series:
    """
    A series that is in use.

    @ivar number: the last number that was taken.
    @ivar last: of the priorities that they have made, the one that goes last.
    @ivar users: how many are taken.
    """

    __slots__ = ("last", "number", "users")

    def __init__(self, number: int) -> None:
        self.number = number
        self.last = 0.0
        self.users = 0
