"""
Facts about a process, and about this machine, that the system tells.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import psutil

if TYPE_CHECKING:
    from asynqueue._queue.queuedtask import QueuedTask


class RunnerFacts(NamedTuple):
    """
    The facts that a worker tells of its runner.

    @ivar state: how the worker is, in one word, or C{None} if it does not tell.
    @ivar pid: the process ID of its runner, or C{None} if that is no process of its own.
    @ivar residentKilobytes: that process's resident memory, or C{None} if it is not known.
    @ivar restarts: how many runners it had before the present one.
    @ivar losses: when the last few runners were lost or replaced, in seconds of the reactor's
        clock, and why.
    @ivar begun: the tasks that have begun in the runner, in the order of their beginning. The
        worker may have been sent others ahead. C{None} if the worker does not tell.
    @ivar recycled: how many of the former runners were sound, and were replaced because that was
        due or asked for.
    @ivar place: what the worker tells of the place where its calls run, such as a server or a
        cluster, as JSON can express it. Empty if that is this machine.
    """

    state: str | None = None
    pid: int | None = None
    residentKilobytes: int | None = None
    restarts: int = 0
    losses: Sequence[tuple[float, str]] = ()
    begun: Sequence[QueuedTask] | None = None
    recycled: int = 0
    place: Mapping[str, Any] = MappingProxyType({})


class Sight(NamedTuple):
    """
    What was seen of the run of a task before it was given up.

    @ivar stacks: the Python stacks of the runner's threads, as text; C{None} if they could not be
        told.
    @ivar residentKilobytes: the resident memory of the runner's process, or C{None} if it is not
        known.
    """

    stacks: str | None = None
    residentKilobytes: int | None = None


def cores(process: Path = Path("/proc/self")) -> int:
    """
    @param process: the folder in which Linux describes this process.
    @return: how many processor cores this program may use: those of its affinity, or fewer if the
        quota of its control group allows fewer. A part of a core counts as one.
    """
    if hasattr(os, "sched_getaffinity"):
        usable = len(os.sched_getaffinity(0))
    else:
        usable = os.cpu_count() or 1
    quotas = [math.ceil(quota) for quota in _quotas(process)]
    return max(1, min([usable, *quotas]))


def _quotas(process: Path) -> Iterator[float]:
    """
    Find how many cores' worth of time the control groups of a process, and the groups around them,
    may use. A group without a quota gives nothing.
    """
    for folder, top in _processorGroups(process):
        # What a container cannot see has no file here.
        for group in (folder, *folder.parents):
            with suppress(OSError, ValueError, ZeroDivisionError):
                yield _quotaOf(group)
            if group == top:
                break


def _quotaOf(group: Path) -> float:
    if (group / "cpu.max").exists():
        # Version 2: the quota in each period, both in microseconds; "max" for no quota.
        quota, period = (group / "cpu.max").read_text().split()
    else:
        quota = (group / "cpu.cfs_quota_us").read_text()
        period = (group / "cpu.cfs_period_us").read_text()
    if float(quota) <= 0:
        # Version 1 writes -1 for no quota.
        raise ValueError("this group has no quota")
    return float(quota) / float(period)


def _processorGroups(process: Path) -> Iterator[tuple[Path, Path]]:
    """
    Find the control groups that limit a process's use of the processor: one in version 2, and one
    in version 1. A system may have either, or both at once.

    @return: each group's folder, and the folder of the outermost group that can be seen.
    """
    try:
        groups = (process / "cgroup").read_text().splitlines()
        mounts = (process / "mountinfo").read_text().splitlines()
    except OSError:
        return
    paths = {}
    for line in groups:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            paths["cgroup2"] = path
        elif "cpu" in controllers.split(","):
            paths["cgroup"] = path
    for line in mounts:
        place, _, system = line.partition(" - ")
        kind, _, features = system.split(" ", 2)
        root, top = place.split(" ")[3:5]
        if kind in paths and (kind == "cgroup2" or "cpu" in features.split(",")):
            group = PurePosixPath(paths[kind])
            # In a container, the path may be that of the host, while only a part of it is mounted.
            inside = group.relative_to(root) if group.is_relative_to(root) else "."
            yield Path(top) / inside, Path(top)


SAMPLE_SECONDS: Final = 1.0
"""How many seconds lie at least between two measurements of a process's memory."""


def residentKilobytes(pid: int) -> int | None:
    """
    Return a process's resident memory in kilobytes. C{None} if the process is gone or ends, or the
    system cannot be asked, as when no file descriptors are left.
    """
    try:
        resident = int(psutil.Process(pid).memory_info().rss // 1024)
        # The system takes the memory of a process back before its parent hears of the end.
        return None if sys.platform == "linux" and _isExiting(pid) else resident
    except (psutil.Error, OSError):
        return None


PF_EXITING: Final = 4
"""Set in the flags of a process that ends. See proc_pid_stat(5) and Linux's sched.h."""


def _isExiting(pid: int) -> bool:
    # The name of the program, in parentheses, may contain anything.
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return bool(int(fields[6]) & PF_EXITING)


def processorSeconds(pid: int) -> float | None:
    """
    @return: for how many seconds a process has used a processor. C{None} if the process is gone, or
        the system cannot be asked.
    """
    try:
        used = psutil.Process(pid).cpu_times()
    except (psutil.Error, OSError):
        return None
    return float(used.user + used.system)


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
