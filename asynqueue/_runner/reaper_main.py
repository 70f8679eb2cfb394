"""
The reaper's own process, which runs this file as a script and imports next to nothing.

It kills process groups when the program that named them is gone. Its standard input has a line for
each order: a group's ID to watch the group, and the negative of the ID to forget it.
"""

from __future__ import annotations

import os
import select
import signal
import sys


def main(program: int) -> None:
    """
    Wait until a program ends, then kill the groups that it has named.

    @param program: its process ID.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    orders = 0
    watched = select.poll()
    watched.register(orders, select.POLLIN)
    isGone = not watchEnd(program, watched)
    groups: set[int] = set()
    rest = b""
    while True:
        ready = dict(watched.poll(0 if isGone else None))
        # Read everything that was written before the end.
        if orders not in ready:
            break
        data = os.read(orders, 1 << 16)
        if not data:
            break
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            heed(int(line), groups)
    for group in groups:
        if not killGroup(group):
            # The process that is to lead the group may not have made it yet.
            killProcess(group)


def heed(order: int, groups: set[int]) -> None:
    """
    Take one order.

    @param order: the ID of a group to watch, or the negative of one to forget.
    """
    if order > 0:
        groups.add(order)
    else:
        groups.discard(-order)


def watchEnd(program: int, watched: select.poll) -> bool:
    """
    Where the system can, wait for the end of the program itself too. The pipe from the program does
    not end while any process has it open, and processes that the program has forked may have.

    @return: C{False} if the program is known to have ended.
    """
    if not hasattr(os, "pidfd_open"):
        return True
    try:
        watched.register(os.pidfd_open(program), select.POLLIN)
    except ProcessLookupError:
        return False
    except OSError:
        # The system is too old for this, or does not allow it.
        return True
    return True


def killGroup(group: int) -> bool:
    """
    Kill all that is left of a process group.

    @param group: its ID, which is the ID of the process that leads it.
    @return: whether there is such a group.
    """
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return False
    except PermissionError:
        # What is left runs as another user, as a program that sudo runs does.
        return True
    return True


def killProcess(pid: int) -> None:
    """
    Kill a process if it is there.
    """
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


if __name__ == "__main__":
    main(int(sys.argv[1]))
