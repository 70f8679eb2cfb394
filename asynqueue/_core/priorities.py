"""
How a task's number within its series and its niceness become its priority.
"""

from __future__ import annotations

from typing import Final

NICEST: Final = 20
"""The highest niceness, and so the least urgent; its negative is the most urgent. As in UNIX
C{nice}."""


def checkNiceness(niceness: int) -> int:
    """
    @param niceness: an integer from -20 to 20, as in UNIX: lower is more urgent, 0 is the default.
    @return: the same integer.
    @raise ValueError: if it is anything else.
    """
    if type(niceness) is not int or not -NICEST <= niceness <= NICEST:
        raise ValueError(f"niceness must be an integer from -20 to 20, not {niceness!r}")
    return niceness


def priorityOf(serial: int, niceness: int) -> float:
    """
    Compute the priority of a task; lower goes first.

    AsynQueue's formula is C{priority = serial * (1 + ((niceness + 20) / 10) ** 2)}. So a series of
    tasks at niceness 10, whose factor is 10, advances at half the rate of one at niceness 0, whose
    factor is 5.

    @param serial: the task's number within its series, from 1.
    @param niceness: an integer from -20 to 20.
    @return: the priority.
    """
    return serial * FACTORS[niceness]


FACTORS: Final = {
    niceness: 1.0 + ((niceness + NICEST) / 10.0) ** 2 for niceness in range(-NICEST, NICEST + 1)
}
"""For each niceness, the difference between the priorities of two tasks in a row."""
