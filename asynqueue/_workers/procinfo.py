"""
Facts about a process, and about this machine, that the system tells.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import psutil


class RunnerFacts(NamedTuple):
    """
    What a worker tells of its runner.

    @ivar state: how the worker is, in one word, or C{None} if it does not tell.
    @ivar pid: the process ID of its runner, or C{None} if that is no process of its own.
    @ivar residentKilobytes: that process's resident memory, or C{None} if it is not known.
    @ivar restarts: how many runners it had before the present one.
    @ivar losses: when the last few runners were lost or replaced, in seconds of the reactor's
        clock, and why.
    @ivar begun: the tasks that have begun in the runner, in the order of their beginning. The
        worker may have been sent others ahead. C{None} if the worker does not tell.
    """

    state: str | None = None
    pid: int | None = None
    residentKilobytes: int | None = None
    restarts: int = 0
    losses: Sequence[tuple[float, str]] = ()
    begun: Sequence[Any] | None = None


def cores() -> int:
    """
    @return: how many processor cores this program may use.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


SAMPLE_SECONDS: Final = 1.0
"""How many seconds lie at least between two measurements of a process's memory."""


def residentKilobytes(pid: int) -> int | None:
    """
    @return: a process's resident memory in kilobytes. C{None} if the process is gone, or the system
        cannot be asked, as when no file descriptors are left.
    """
    try:
        return int(psutil.Process(pid).memory_info().rss // 1024)
    except (psutil.Error, OSError):
        return None


def hasEnded(pid: int) -> bool:
    """
    @return: whether a process has ended. A zombie, which its parent has not waited for yet, has.
    """
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def isStopped(pid: int) -> bool:
    """
    @return: whether somebody has stopped a process, as SIGSTOP does.
    """
    try:
        return psutil.Process(pid).status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
    except psutil.Error:
        return False


class MemoryWatch:
    """
    Remembers how much memory a process had, and notices whether the system has run out of memory
    since.

    @cvar counters: the file in which Linux counts the processes that it has killed for lack of
        memory since the system was started, in a line of two words. In a container, too, the count
        is that of the whole system.
    @ivar residentKilobytes: the resident memory at the last measurement, in kilobytes, or C{None}.
    """

    counters = Path("/proc/vmstat")

    def __init__(self, seconds: Callable[[], float]) -> None:
        """
        @param seconds: returns the time, in seconds.
        """
        self.residentKilobytes: int | None = None
        self._seconds = seconds
        self._looked = float("-inf")
        self._kills = self._countKills()

    def look(self, residentKilobytes: Callable[[], int | None]) -> None:
        """
        Measure the memory, unless the last measurement was less than L{SAMPLE_SECONDS} ago.

        @param residentKilobytes: measures the resident memory.
        """
        now = self._seconds()
        if now - self._looked < SAMPLE_SECONDS:
            return
        self._looked = now
        resident = residentKilobytes()
        if resident is not None:
            self.residentKilobytes = resident
            self._kills = self._countKills()

    def ranOut(self) -> bool:
        """
        Tell whether the system has killed some process for lack of memory since the last
        measurement.
        """
        kills = self._countKills()
        return kills is not None and self._kills is not None and kills > self._kills

    def _countKills(self) -> int | None:
        with suppress(OSError, ValueError), self.counters.open() as lines:
            for line in lines:
                name, _, count = line.partition(" ")
                if name == "oom_kill":
                    return int(count)
        return None
