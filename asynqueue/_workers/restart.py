"""
When a worker replaces its runner: after how long a lost one, and how soon a sound one.
"""

from __future__ import annotations

import errno
import signal
from collections.abc import Callable
from typing import Final

from asynqueue._core.checks import checkCount
from asynqueue.errors import ConnectionRefused, WorkerDied, WorkerRecycled, WorkerStartError
from asynqueue.interfaces import IChannel

FIRST_DELAY: Final = 0.05
LONGEST_DELAY: Final = 1.0
FREE_LOSSES: Final = 3
START_TRIES: Final = 8
CRASH_TRIES: Final = 20

LOOK_SECONDS: Final = 1.0
"""How often, at the most, L{Recycling} looks at a runner's memory. A look takes about 20 us."""

_CRASHES: Final = frozenset(
    getattr(signal, name, None) for name in ("SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV")
)
_SHORTAGES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM})


class RestartBackoff:
    """
    Counts the runners that were lost in a row before any call came to its end, and says how long to
    wait before the next one is started.

    The first wait takes C{FIRST_DELAY} seconds. Each further wait takes twice as long, up to
    C{LONGEST_DELAY}. The first C{FREE_LOSSES} runners that were there and died are replaced at
    once. A runner that cannot even start is waited for from the first time on. After C{START_TRIES}
    in a row, which take about three and a half seconds, the worker gives up, but only if the reason
    lies with the program: an exit code or an exception. Another try can mend a lack of file
    descriptors, processes or memory, and a signal from outside, so these never make it give up. A
    signal that tells of a crash hardly ever comes from outside. After C{CRASH_TRIES} crashes in a
    row, as of a module that crashes when it is imported, the worker gives up, too.

    A runner that was not ready within C{startTimeout} makes the worker give up at once.

    @ivar losses: how many runners were lost in a row.
    @ivar outages: how many starts in a row failed for a reason outside of the program.
    """

    def __init__(self) -> None:
        self.losses = self.outages = 0
        self._falseStarts = self._crashes = 0

    def works(self) -> None:
        """
        Start over, because a call came to its end.
        """
        self.losses = self.outages = self._falseStarts = self._crashes = 0

    def delayAfterLoss(self, reason: Exception) -> float | None:
        """
        Count a loss.

        @param reason: why the runner was lost: a L{WorkerStartError} if it was never there.
        @return: how many seconds to wait before the next one is started, or C{None} to give up.
        """
        self.losses += 1
        if not isinstance(reason, WorkerStartError):
            self._falseStarts = self.outages = self._crashes = 0
            return _delay(self.losses - FREE_LOSSES)
        if _comesFromOutside(reason):
            self.outages += 1
            self._crashes += isCrash(reason.__cause__)
            return None if self._crashes >= CRASH_TRIES else _delay(self.outages)
        if isinstance(reason, ConnectionRefused) or isinstance(reason.__cause__, TimeoutError):
            # Nobody waits for several such times, and another try does not mend a refusal.
            return None
        self._falseStarts += 1
        return None if self._falseStarts >= START_TRIES else _delay(self._falseStarts)


def isCrash(death: BaseException | None) -> bool:
    """
    Whether a process died of a signal that tells of a fault of its own.
    """
    return isinstance(death, WorkerDied) and death.signal in _CRASHES


def _comesFromOutside(reason: WorkerStartError) -> bool:
    """
    Whether a runner could not start because the system lacked something, or because it was killed.
    """
    cause = reason.__cause__
    if isinstance(cause, WorkerDied):
        return cause.signal is not None
    return isinstance(cause, OSError) and cause.errno in _SHORTAGES


def _delay(step: int) -> float:
    return 0.0 if step < 1 else min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(step - 1, 16))


class Recycling:
    """
    Says between two tasks whether a sound runner is to be replaced, and why.
    """

    def __init__(self, maxTasks: int | None = None, maxKilobytes: int | None = None) -> None:
        """
        @param maxTasks: after how many tasks; C{None} for no limit.
        @param maxKilobytes: with how much resident memory; C{None} for no limit.
        @raise ValueError: if one is not a positive integer.
        """
        self._maxTasks = checkCount("maxTasks", maxTasks, optional=True)
        self._maxKilobytes = checkCount("maxKilobytes", maxKilobytes, optional=True)
        self._looked = float("-inf")

    @property
    def isLimited(self) -> bool:
        """
        Whether there is any limit.
        """
        return self._maxTasks is not None or self._maxKilobytes is not None

    def due(
        self, tasks: int, channel: IChannel, seconds: Callable[[], float]
    ) -> WorkerRecycled | None:
        """
        Look at a runner.

        @param tasks: how many tasks it has run.
        @return: why it is to be replaced, or C{None}.
        """
        if self._maxTasks is not None and tasks >= self._maxTasks:
            return WorkerRecycled(f"it has run {tasks} tasks, and may run {self._maxTasks}")
        if self._maxKilobytes is None or seconds() - self._looked < LOOK_SECONDS:
            return None
        self._looked = seconds()
        resident = channel.residentKilobytes()
        if resident is None or resident <= self._maxKilobytes:
            return None
        return WorkerRecycled(
            f"it has {resident} kB of memory resident, and may have {self._maxKilobytes} kB"
        )
