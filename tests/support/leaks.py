"""
Snapshots of processes, threads, descriptors and delayed calls, to find those that a test leaves.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import forkserver, process, resource_tracker
from typing import Any

import psutil

from asynqueue._workers.reaper import programReaper

GRACE = 5.0
"""How many seconds processes and threads that were told to end may take."""

POLL_SECONDS = 0.005

CHILDREN_ARE_LISTED = os.path.exists(f"/proc/self/task/{os.getpid()}/children")
"""Whether the kernel tells a process's children, which is much faster than to ask all processes."""

FD_FOLDER = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """
    The resources of the program at one moment, or those that are new since another moment.

    @ivar processes: the IDs of all descendants but L{ownPids}.
    @ivar groups: the process groups that the program's reaper watches.
    @ivar unjoined: the processes of C{multiprocessing} that were not joined.
    @ivar threads: the running threads, with daemons.
    @ivar fds: for each open file descriptor but L{ownFds}, which file it is.
    @ivar calls: the delayed calls of the reactor.
    """

    processes: frozenset[int]
    groups: frozenset[int]
    unjoined: frozenset[process.BaseProcess]
    threads: frozenset[threading.Thread]
    fds: frozenset[tuple[int, ...]]
    calls: frozenset[Any]

    def __bool__(self) -> bool:
        return any((self.processes, self.groups, self.unjoined, self.threads, self.fds, self.calls))

    def since(self, before: Snapshot) -> Snapshot:
        """
        @return: the resources that are in this snapshot and not in an earlier one, without
            processes that have ended.
        """
        return Snapshot(
            frozenset(_living(self.processes - before.processes)),
            self.groups - before.groups,
            self.unjoined - before.unjoined,
            self.threads - before.threads,
            self.fds - before.fds,
            self.calls - before.calls,
        )

    def describe(self) -> list[str]:
        """
        @return: a line of text for each resource.
        """
        return [
            *(f"process {describeProcess(pid)}" for pid in sorted(self.processes)),
            *(f"process group {group} that the reaper watches" for group in sorted(self.groups)),
            *(f"process that was not joined: {each!r}" for each in self.unjoined),
            *(f"thread {thread!r}" for thread in self.threads),
            *(f"file descriptor {describeFd(fd)}" for fd, *_ in sorted(self.fds)),
            *(f"delayed call {call}" for call in self.calls),
        ]

    def clear(self) -> None:
        """
        Kill the processes, forget the groups and cancel the delayed calls, because they would
        disturb later tests.
        """
        for pid in self.processes:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for group in self.groups:
            programReaper().forget(group)
        for call in self.calls:
            if call.active():
                call.cancel()


def takeSnapshot() -> Snapshot:
    """
    @return: the resources of this moment.
    """
    multiprocess: Any = process
    return Snapshot(
        frozenset(_descendants() - ownPids()),
        frozenset(_groups()),
        frozenset(multiprocess._children),
        frozenset(threading.enumerate()),
        frozenset(_openFiles()),
        frozenset(_delayedCalls()),
    )


def leftSince(before: Snapshot, seconds: float) -> Snapshot:
    """
    @param before: an earlier snapshot.
    @param seconds: how many seconds processes and threads that were told to end may take to end and
        to close their descriptors. A thread is no longer listed when its last objects are released.
        Garbage is not collected meanwhile.
    @return: the resources that were not in the earlier snapshot.
    """
    deadline = time.monotonic() + seconds
    with _garbageKept():
        while True:
            left = takeSnapshot().since(before)
            isEnding = left.processes or left.groups or left.threads or left.fds
            if not isEnding or time.monotonic() > deadline:
                return left
            time.sleep(POLL_SECONDS)


def ownPids() -> set[int]:
    """
    @return: the IDs of the processes that C{multiprocessing} keeps for itself, and that of the
        reaper, which outlast every test.
    """
    server: Any = forkserver
    tracker: Any = resource_tracker
    own: set[Any] = {
        server._forkserver._forkserver_pid,
        tracker._resource_tracker._pid,
        programReaper().pid,
    }
    return own - {None}


def ownFds() -> set[int]:
    """
    @return: the file descriptors that keep L{ownPids} running, and the one that Twisted keeps for
        the case that there are no more, from the first time that it listens at a port.
    """
    server: Any = forkserver
    tracker: Any = resource_tracker
    tcp: Any = sys.modules.get("twisted.internet.tcp")
    reserve = getattr(getattr(tcp, "_reservedFD", None), "_fileDescriptor", None)
    own = {server._forkserver._forkserver_alive_fd, tracker._resource_tracker._fd}
    reaper: Any = programReaper()
    if reaper.pid is not None:
        own.add(reaper._process.stdin.fileno())
    if reserve is not None:
        own.add(reserve.fileno())
    return own - {None}


def keepReaper() -> None:
    """
    Have the reaper of this process go on when the last worker of a test has ended. Otherwise each
    test with worker processes would start one. A snapshot has the groups that it watches.
    """
    programReaper().hold()


def adoptOrphans() -> None:
    """
    On Linux, make descendants whose parent has ended children of this process, so that snapshots
    find them.
    """
    if sys.platform == "linux":
        setChildSubreaper = 36
        ctypes.CDLL(None).prctl(setChildSubreaper, 1)


def strangers() -> list[int]:
    """
    @return: the IDs of the living descendants of this process, without L{ownPids}.
    """
    return sorted(_living(_descendants() - ownPids()))


def isGone(pid: int) -> bool:
    """
    @return: whether a process has ended. A zombie has ended.
    """
    try:
        return psutil.Process(pid).status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return True


def describeProcess(pid: int) -> str:
    """
    @return: a description of a process for messages.
    """
    with suppress(psutil.NoSuchProcess):
        found = psutil.Process(pid)
        return f"{pid}, {found.status()}: {' '.join(found.cmdline())}"
    return f"{pid}, which is gone by now"


def countFds() -> int:
    """
    @return: the number of open file descriptors. Garbage is not collected before.
    """
    return sum(1 for _ in _openFiles())


def describeFd(fd: int) -> str:
    """
    @return: a description of a file descriptor for messages.
    """
    try:
        return f"{fd}: {os.readlink(f'{FD_FOLDER}/{fd}')}"
    except OSError as error:
        return f"{fd}: {error}"


@contextmanager
def _garbageKept() -> Iterator[None]:
    wasEnabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if wasEnabled:
            gc.enable()


def _living(pids: Iterable[int]) -> Iterator[int]:
    for pid in pids:
        # Only this process can wait for an adopted orphan. Otherwise zombies would pile up, and
        # every snapshot would take longer.
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        if not isGone(pid):
            yield pid


def _descendants() -> set[int]:
    """
    @return: the IDs of all descendants of this process, zombies among them.
    """
    if not CHILDREN_ARE_LISTED:
        return {child.pid for child in psutil.Process().children(recursive=True)}
    found: set[int] = set()
    unseen = [os.getpid()]
    while unseen:
        children = set(_childrenOf(unseen.pop())) - found
        found |= children
        unseen += children
    return found


def _childrenOf(pid: int) -> Iterator[int]:
    # A process or a thread may end between two steps.
    with suppress(FileNotFoundError, ProcessLookupError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with (
                suppress(FileNotFoundError, ProcessLookupError),
                open(f"/proc/{pid}/task/{thread}/children") as children,
            ):
                yield from map(int, children.read().split())


def _groups() -> set[int]:
    reaper: Any = programReaper()
    return set(reaper._groups)


def _openFiles() -> Iterator[tuple[int, ...]]:
    own = ownFds()
    for name in os.listdir(FD_FOLDER):
        # One of them was that of the listing.
        with suppress(OSError):
            fd = int(name)
            file = os.fstat(fd)
            if fd not in own:
                yield fd, file.st_dev, file.st_ino, file.st_mode


def _delayedCalls() -> list[Any]:
    # Importing it here would install it, which is not for who only looks.
    reactor: Any = sys.modules.get("twisted.internet.reactor")
    return [] if reactor is None else reactor.getDelayedCalls()
