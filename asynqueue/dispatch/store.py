"""
What a store keeps of a job, and what it can be told.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

from zope.interface import Attribute, Interface, implementer

from asynqueue.errors import StoreError

WAITING: Final = "waiting"
BEGUN: Final = "begun"
DEAD: Final = "dead"


@dataclass(frozen=True, slots=True)
class StoredJob:
    """
    A job as it stands in a store. Its times are in seconds since the epoch, since no other clock
    goes on from one run of a program to the next.

    @ivar id: its number, in the order of putting.
    @ivar function: the name of the function that it is for.
    @ivar arg: its argument, encoded.
    @ivar priority: lower is more important.
    @ivar queued: when it was put.
    @ivar due: before when it is not to begin, or C{None}.
    @ivar unique: the key of which there is to be one only, or C{None}.
    @ivar state: C{WAITING}, C{BEGUN} or C{DEAD}.
    @ivar attempts: how many times it was begun.
    @ivar error: why its last attempt failed, or it is dead, or C{None}.
    """

    id: int
    function: str
    arg: bytes | str
    priority: float
    queued: float
    due: float | None = None
    unique: str | None = None
    state: str = WAITING
    attempts: int = 0
    error: str | None = None


INSERT: Final = "insert"
"""C{(INSERT, storedJob)}: a job was put."""

BEGIN: Final = "begin"
"""C{(BEGIN, id)}: an attempt begins, and counts from now on."""

WAIT: Final = "wait"
"""C{(WAIT, id, due, error)}: an attempt failed, or was given up; another is to follow."""

MOVE: Final = "move"
"""C{(MOVE, id, priority)}: its priority was changed."""

END: Final = "end"
"""C{(END, id)}: it has come to its end, or is not wanted any more."""

BURY: Final = "bury"
"""C{(BURY, id, error)}: it is dead, and is kept."""

REVIVE: Final = "revive"
"""C{(REVIVE, id)}: a dead one waits again, with no attempt counted."""

Change = tuple[Any, ...]


class IJobStore(Interface):
    """
    Where jobs live between runs. Its methods may block: they are called in a thread, one at a time,
    all in the same one.
    """

    name: str = Attribute("What it is called in messages to people: a path, say.")

    def open() -> list[StoredJob]:
        """
        Open the store for this program alone.

        @return: all jobs in it, in the order of their numbers.
        @raise StoreLocked: if somebody else has it open.
        @raise StoreCorrupt: if it makes no sense. It is not made anew.
        @raise StoreError: if it cannot be opened for another reason.
        """

    def highest() -> int:
        """
        @return: the highest number that a job in it ever had; 0 if there was none.
        """

    def apply(changes: list[Change]) -> None:
        """
        Make some changes, in this order: all of them, so that they survive whatever happens after
        this has returned; or, if it raises, none.

        @raise StoreError: if they could not be made.
        """

    def jobs(state: str) -> list[StoredJob]:
        """
        @return: the jobs in a state, in the order of their numbers.
        """

    def close() -> None:
        """
        Close the store, for somebody else to open.
        """


@implementer(IJobStore)
class MemoryJobStore:
    """
    Keeps jobs for as long as this object lives: for tests, and for whoever wants dead letters but
    no file.
    """

    name = "memory"

    def __init__(self) -> None:
        self._jobs: dict[int, StoredJob] = {}
        self._highest = 0
        self._isOpen = False

    def open(self) -> list[StoredJob]:
        """
        See L{IJobStore}.
        """
        if self._isOpen:
            raise StoreError("this store is open already")
        self._isOpen = True
        return list(self._jobs.values())

    def highest(self) -> int:
        """
        See L{IJobStore}.
        """
        return self._highest

    def apply(self, changes: list[Change]) -> None:
        """
        See L{IJobStore}.
        """
        jobs = dict(self._jobs)
        for kind, *what in changes:
            if kind == INSERT:
                [job] = what
                self._highest = max(self._highest, job.id)
                jobs[job.id] = job
            elif what[0] in jobs:
                _change(jobs, kind, *what)
        self._jobs = jobs

    def jobs(self, state: str) -> list[StoredJob]:
        """
        See L{IJobStore}.
        """
        return [job for job in self._jobs.values() if job.state == state]

    def close(self) -> None:
        """
        See L{IJobStore}.
        """
        self._isOpen = False


def _change(jobs: dict[int, StoredJob], kind: str, id: int, *what: Any) -> None:
    job = jobs[id]
    if kind == END:
        del jobs[id]
    elif kind == BEGIN:
        jobs[id] = replace(job, state=BEGUN, attempts=job.attempts + 1)
    elif kind == WAIT:
        jobs[id] = replace(job, state=WAITING, due=what[0], error=what[1])
    elif kind == MOVE:
        jobs[id] = replace(job, priority=what[0])
    elif kind == BURY:
        jobs[id] = replace(job, state=DEAD, error=what[0])
    elif kind == REVIVE:
        jobs[id] = replace(job, state=WAITING, attempts=0, due=None, error=None)
    else:
        raise StoreError(f"a store knows no change {kind!r}")


def inOrder(jobs: Iterable[StoredJob]) -> list[StoredJob]:
    """
    @return: jobs by priority, and then in the order of putting.
    """
    return sorted(jobs, key=lambda job: (job.priority, job.id))
