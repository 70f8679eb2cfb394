"""
When to start another runner.
"""

from __future__ import annotations

import errno
from typing import Final

from asynqueue.errors import WorkerStartError

FIRST_DELAY: Final = 0.05
LONGEST_DELAY: Final = 1.0
FREE_LOSSES: Final = 3
START_TRIES: Final = 8


class RestartBackoff:
    """
    Counts the runners that were lost in a row without a call that came to its end, and says how
    long to wait for the next one.

    Waiting begins with C{FIRST_DELAY} seconds and doubles each time, up to C{LONGEST_DELAY}. The
    first C{FREE_LOSSES} runners that were there and died are replaced at once. One that could not
    even be started is waited for at once; when C{START_TRIES} in a row could not, which takes about
    three and a half seconds, it is given up. Those that could not for want of file descriptors do
    not count: whoever uses them up will give some back.

    @ivar shortages: how many in a row could not for that reason.
    """

    def __init__(self) -> None:
        self._losses = self._falseStarts = self.shortages = 0

    def works(self) -> None:
        """
        A call came to its end.
        """
        self._losses = self._falseStarts = self.shortages = 0

    def delayAfterLoss(self, reason: Exception) -> float | None:
        """
        @param reason: why the runner was lost: a L{WorkerStartError} if it was never there.
        @return: how many seconds to wait before starting the next one, or C{None} to give up.
        """
        self._losses += 1
        if not isinstance(reason, WorkerStartError):
            self._falseStarts = self.shortages = 0
            return _delay(self._losses - FREE_LOSSES)
        if _isShortage(reason):
            self.shortages += 1
            return _delay(self.shortages)
        self._falseStarts += 1
        return None if self._falseStarts >= START_TRIES else _delay(self._falseStarts)


def _isShortage(reason: Exception) -> bool:
    """
    Whether a runner could not be started because no file descriptors were left, to this process
    or to the whole system.
    """
    cause = reason.__cause__
    return isinstance(cause, OSError) and cause.errno in (errno.EMFILE, errno.ENFILE)


def _delay(step: int) -> float:
    return 0.0 if step < 1 else min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(step - 1, 16))
