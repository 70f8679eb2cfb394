"""
When to start another universe.
"""

from __future__ import annotations

from typing import Final

FIRST_DELAY: Final = 0.05
LONGEST_DELAY: Final = 1.0
FREE_LOSSES: Final = 3
START_TRIES: Final = 5


class Healing:
    """
    Counts the universes that were lost in a row without a call that came to its end, and says how
    long to wait for the next one.

    The first C{FREE_LOSSES} are healed at once. Each further one waits twice as long as the one
    before, from C{FIRST_DELAY} to C{LONGEST_DELAY} seconds. When C{START_TRIES} in a row did not
    even start, it is given up.
    """

    def __init__(self) -> None:
        self._losses = 0
        self._falseStarts = 0

    def works(self) -> None:
        """
        A call came to its end.
        """
        self._losses = self._falseStarts = 0

    def delayAfterLoss(self, hadStarted: bool) -> float | None:
        """
        @param hadStarted: whether the universe that was lost had been there at all.
        @return: how many seconds to wait before starting the next one, or C{None} to give up.
        """
        self._losses += 1
        self._falseStarts = 0 if hadStarted else self._falseStarts + 1
        if self._falseStarts >= START_TRIES:
            return None
        if self._losses <= FREE_LOSSES:
            return 0.0
        return min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(self._losses - FREE_LOSSES - 1, 16))
