"""
Facts that the system tells of a process and of this machine.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil


def cores() -> int:
    """
    @return: how many processor cores this program may use.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


SAMPLE_SECONDS: Final = 1.0
"""How often, at the most, a process's memory is looked at."""


def residentKilobytes(pid: int) -> int | None:
    """
    @return: a process's resident memory, or C{None} if it is not there any more or cannot be asked
        about, as when no file descriptors are left.
    """
    try:
        return int(psutil.Process(pid).memory_info().rss // 1024)
    except (psutil.Error, OSError):
        return None


def hasEnded(pid: int) -> bool:
    """
    @return: whether a process has ended. One that its parent has not waited for yet has ended, too.
    """
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class MemoryWatch:
    """
    Remembers how much memory a process had, and notices if the system has run out of memory since.

    @cvar counters: where Linux says how many processes it has killed for lack of memory, in a line
        of two words, since it was started or (in a container, too) whoever's they were.
    @ivar residentKilobytes: the resident memory at the last sight, or C{None}.
    """

    counters = Path("/proc/vmstat")

    def __init__(self, seconds: Callable[[], float]) -> None:
        """
        @param seconds: gives the time.
        """
        self.residentKilobytes: int | None = None
        self._seconds = seconds
        self._looked = float("-inf")
        self._kills = self._countKills()

    def look(self, residentKilobytes: Callable[[], int | None]) -> None:
        """
        Have a look, unless the last one was only just before.

        @param residentKilobytes: tells the resident memory.
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
        Whether the system has killed some process for lack of memory since the last look.
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
