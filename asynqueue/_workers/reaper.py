"""
What kills that which a program's worker processes leave behind, once the program is gone.

Each worker process leads a process group of its own, to which whatever its tasks start belongs. A
worker that ends while the program lives has its group killed by the program. For the case that the
program itself is killed, there is the guard: one small process a program, in a session of its own,
which knows the groups and kills them when the program has ended in whatever way.
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
    The near side of the guard. It runs while there is a group to watch, or somebody who will soon
    have one.

    A guard that was killed is replaced as soon as another group is to be watched. A program that
    was frozen into one executable has no interpreter to run a guard with, and so has none.

    My methods may be called in any thread.
    """

    def __init__(self) -> None:
        # Whoever has a group may be forgotten, which forgets the group, in the middle of this.
        self._lock = threading.RLock()
        self._groups: set[int] = set()
        self._holders = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._finalizer: Finalize | None = None

    @property
    def pid(self) -> int | None:
        """
        The guard's process ID, or C{None} where none runs.
        """
        process = self._process
        return None if process is None else process.pid

    def hold(self) -> None:
        """
        Somebody will have groups, again and again.
        """
        with self._lock:
            self._holders += 1

    def letGo(self) -> None:
        """
        Somebody who held it will have no more groups.
        """
        with self._lock:
            self._holders -= 1
            self._endIfIdle()

    def watch(self, group: int) -> None:
        """
        Have a group killed when this program is gone.

        @param group: its ID.
        @raise OSError: if a guard is needed and cannot be started.
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
        Nothing of a group is left.

        @param group: its ID. One that is not watched is no error.
        """
        with self._lock:
            if group in self._groups:
                self._groups.discard(group)
                # A guard that has died does not know of it; its successor never will.
                self._tell(-group)
                self._endIfIdle()

    def _tell(self, *orders: int) -> bool:
        """
        @return: whether the guard is there to hear it.
        """
        if self._process is None or self._process.stdin is None:
            return False
        try:
            for order in orders:
                os.write(self._process.stdin.fileno(), b"%d\n" % order)
        except OSError:
            # It is gone, or has heard nothing for thousands of orders.
            return False
        return True

    def _replace(self) -> None:
        self._end()
        self._process = self._start()
        # After the workers were killed, which is done with a higher one.
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
        # It has nothing to do any more that could be broken off.
        process.kill()
        with process, suppress(OSError):
            process.wait()


def programReaper() -> Reaper:
    """
    @return: the guard of this program. There is one, as there is one program whose end it waits
        for; a program that was forked from this one gets another.
    """
    return _reaperOf(os.getpid())


@cache
def _reaperOf(program: int) -> Reaper:
    return Reaper()
