"""
The reaper: it kills what a program's worker processes leave behind, once the program is gone.

Each worker process leads a process group of its own, to which everything that its tasks start
belongs. When a worker ends while the program lives, the program kills the group. In case the
program itself is killed, it has one reaper: a small process in a session of its own, which knows
the groups and kills them when the program has ended in whatever way.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import suppress
from functools import cache
from multiprocessing import spawn
from multiprocessing.util import Finalize

from asynqueue._runner import reaper_main


class Reaper:
    """
    The near side of the reaper. The process runs while there is a group to watch, or while somebody
    holds it.

    A process that was killed is replaced as soon as another group is to be watched. A program that
    was frozen into one executable has no interpreter to run a reaper with, and so has none.

    All methods may be called in any thread.
    """

    def __init__(self) -> None:
        # The garbage collector may forget a group in the middle of this.
        self._lock = threading.RLock()
        self._groups: set[int] = set()
        self._holders = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._finalizer: Finalize | None = None

    @property
    def pid(self) -> int | None:
        """
        The ID of the reaper's process, or C{None} if none runs.
        """
        process = self._process
        return None if process is None else process.pid

    def hold(self) -> None:
        """
        Keep the process running although there may be no group for some time.
        """
        with self._lock:
            self._holders += 1

    def letGo(self) -> None:
        """
        Take back one L{hold}.
        """
        with self._lock:
            self._holders -= 1
            self._endIfIdle()

    def watch(self, group: int) -> None:
        """
        Have a group killed when this program is gone.

        @param group: its ID.
        @raise OSError: if the reaper has to be started and cannot be.
        """
        if getattr(sys, "frozen", False):
            return
        with self._lock:
            self._groups.add(group)
            try:
                if not self._tell(group):
                    self._replace()
            except BaseException:
                self._groups.discard(group)
                raise

    def forget(self, group: int) -> None:
        """
        Watch a group no longer, because nothing of it is left.

        @param group: its ID. It may be one that is not watched.
        """
        with self._lock:
            if group in self._groups:
                self._groups.discard(group)
                # A process that has died does not know of it, and its successor never will.
                self._tell(-group)
                self._endIfIdle()

    def _tell(self, *orders: int) -> bool:
        """
        @return: whether the process is there to take the orders.
        """
        if self._process is None or self._process.stdin is None:
            return False
        try:
            for order in orders:
                os.write(self._process.stdin.fileno(), b"%d\n" % order)
        except OSError:
            # It is gone, or has not read thousands of orders.
            return False
        return True

    def _replace(self) -> None:
        self._end()
        self._process = self._start()
        # The workers are killed before, with a higher priority.
        self._finalizer = Finalize(self, self._end, exitpriority=5)
        self._tell(*self._groups)

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            # It needs nothing but the standard library.
            [spawn.get_executable(), "-S", "-P", reaper_main.__file__, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            start_new_session=True,
        )
        assert process.stdin is not None
        os.set_blocking(process.stdin.fileno(), False)
        return process

    def _endIfIdle(self) -> None:
        if not self._groups and self._holders < 1:
            self._end()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if self._finalizer is not None:
            self._finalizer.cancel()
            self._finalizer = None
        # It has nothing left to do that this could break off.
        process.kill()
        with process, suppress(OSError):
            process.wait()


def programReaper() -> Reaper:
    """
    @return: the reaper of this program. There is one, because it waits for the end of the one
        program. A program that was forked from this one gets another.
    """
    return _reaperOf(os.getpid())


@cache
def _reaperOf(program: int) -> Reaper:
    return Reaper()
