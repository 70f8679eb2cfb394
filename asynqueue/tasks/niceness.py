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
    return serial * (1.0 + ((niceness + NICEST) / 10.0) ** 2)


class SerialNumbers:
    """
    The serial numbers of the series that are in use.

    Each series counts for itself. A series that is new, or of which no task was left, starts at the
    highest number in use, so that it neither overtakes what waits already nor is held back by what
    ran long ago.
    """

    __slots__ = ("_highest", "_numbers", "_users")

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}
        self._users: dict[Hashable, int] = {}
        # None when the series that had the highest number has gone.
        self._highest: int | None = 0

    def take(self, series: Hashable) -> int:
        """
        @return: the next serial number of C{series}, from 1 upwards. Each number taken must be
            given back with L{release} when its task is done.
        """
        number = self._numbers.get(series)
        if number is None:
            number = self._findHighest()
            self._users[series] = 0
        number += 1
        self._numbers[series] = number
        self._users[series] += 1
        if self._highest is not None and number > self._highest:
            self._highest = number
        return number

    def release(self, series: Hashable) -> None:
        """
        A task of C{series} is done. When it was the last one, the series is forgotten.
        """
        users = self._users[series] - 1
        if users:
            self._users[series] = users
            return
        del self._users[series]
        if self._numbers.pop(series) == self._highest:
            self._highest = None

    @property
    def users(self) -> int:
        """
        How many numbers were taken and not given back.
        """
        return sum(self._users.values())

    def _findHighest(self) -> int:
        if self._highest is None:
            self._highest = max(self._numbers.values(), default=0)
        return self._highest

    def __len__(self) -> int:
        return len(self._numbers)
