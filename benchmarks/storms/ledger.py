"""
Which task began when, and in which process: written by the worker processes, read by the storm.

Worker processes import this module, so it imports nothing that it can do without.
"""

from __future__ import annotations

import os
import struct
import time
from collections import Counter

_ENTRY = struct.Struct("=IId")


def step(path: str, number: int, seconds: float) -> int:
    """
    The task: note that it began, and sleep.

    @param path: of the ledger.
    @param number: the task's.
    @return: the number.
    """
    file = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        # In one piece behind all others, also those of other processes.
        os.write(file, _ENTRY.pack(number, os.getpid(), time.monotonic()))
    finally:
        os.close(file)
    time.sleep(seconds)
    return number


class Ledger:
    """
    The reader's side.
    """

    def __init__(self, path: str) -> None:
        """
        @param path: of its file, which is made if there is none.
        """
        self.path = path
        with open(path, "ab"):
            pass

    def length(self) -> int:
        """
        @return: how many runs have begun.
        """
        return os.stat(self.path).st_size // _ENTRY.size

    def latestProcesses(self, runs: int) -> list[int]:
        """
        @return: the IDs of the processes in which so many runs began last, sorted.
        """
        with open(self.path, "rb") as file:
            file.seek(max(0, self.length() - runs) * _ENTRY.size)
            entries = file.read(runs * _ENTRY.size)
        return sorted({pid for _, pid, _ in _ENTRY.iter_unpack(entries)})

    def entries(self) -> list[tuple[int, int, float]]:
        """
        @return: for each run, in the order in which they were noted: the task's number, the
            process's ID, and when it began, in seconds of C{time.monotonic}, which all processes of
            the system share.
        """
        with open(self.path, "rb") as file:
            return list(_ENTRY.iter_unpack(file.read()))

    def runs(self) -> Counter[int]:
        """
        @return: by task, how often it began.
        """
        return Counter(number for number, _, _ in self.entries())
