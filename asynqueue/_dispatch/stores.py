"""
What a store keeps of a job, and the changes that a queue makes there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from zope.interface import implementer

from asynqueue.errors import StoreError, StoreLocked
from asynqueue.interfaces import IJobStore

WAITING: Final = "waiting"
BEGUN: Final = "begun"
DEAD: Final = "dead"


@dataclass(frozen=True, slots=True)
class StoredJob:
    """
    A job as a store keeps it. Its times are in seconds since the epoch, because no other clock goes
    on from one run of a program to the next.

    @ivar id: the job's number, in the order of putting.
    @ivar function: the name of the function that the job is for.
    @ivar arg: the argument, encoded.
    @ivar priority: lower is more important.
    @ivar queued: when the job was put.
    @ivar due: the time before which the job does not begin, or C{None}.
    @ivar unique: the key of which there is to be one job only, or C{None}.
    @ivar state: C{WAITING}, C{BEGUN} or C{DEAD}.
    @ivar attempts: how many times the job was begun.
    @ivar error: why the last attempt failed, or why the job is dead, or C{None}.
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
"""C{(BEGIN, id)}: an attempt begins, and counts."""

WAIT: Final = "wait"
"""C{(WAIT, id, due, error)}: an attempt has failed or was cut short, and another one follows."""

MOVE: Final = "move"
"""C{(MOVE, id, priority)}: the job's priority was changed."""

END: Final = "end"
"""C{(END, id)}: the job has ended, or is not wanted any more. The store forgets it."""

DEAD_LETTER: Final = "dead letter"
"""C{(DEAD_LETTER, id, error)}: the job has failed for good. The store keeps it."""

REQUEUE: Final = "requeue"
"""C{(REQUEUE, id, function)}: a dead letter waits again, for this function, with 0 attempts."""

CHANGES: Final = frozenset((INSERT, BEGIN, WAIT, MOVE, END, DEAD_LETTER, REQUEUE))

Change = tuple[Any, ...]
"""One of these verbs, and what belongs to it."""


@implementer(IJobStore)
class MemoryJobStore:
    """
    Keeps jobs as long as this object lives: for tests, and for programs that want dead letters but
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
            raise StoreLocked("this store is open already: a store belongs to one queue at a time")
        self._isOpen = True
        return self._inOrder()

    def highest(self) -> int:
        """
        See L{IJobStore}.
        """
        self._checkOpen()
        return self._highest

    def apply(self, changes: list[Change]) -> None:
        """
        See L{IJobStore}.
        """
        self._checkOpen()
        jobs, highest = dict(self._jobs), self._highest
        for kind, *what in changes:
            if kind not in CHANGES:
                raise StoreError(f"a store knows no change {kind!r}")
            if kind == INSERT:
                [job] = what
                if job.id in jobs:
                    raise StoreError(f"a job {job.id} is in this store already")
                jobs[job.id] = job
                highest = max(highest, job.id)
            elif what[0] in jobs:
                _change(jobs, kind, *what)
        self._jobs, self._highest = jobs, highest

    def jobs(self, state: str) -> list[StoredJob]:
        """
        See L{IJobStore}.
        """
        self._checkOpen()
        return [job for job in self._inOrder() if job.state == state]

    def close(self) -> None:
        """
        See L{IJobStore}.
        """
        self._isOpen = False

    def _inOrder(self) -> list[StoredJob]:
        return sorted(self._jobs.values(), key=lambda job: job.id)

    def _checkOpen(self) -> None:
        if not self._isOpen:
            raise StoreError("this store is not open")


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
    elif kind == DEAD_LETTER:
        jobs[id] = replace(job, state=DEAD, error=what[0])
    else:
        [function] = what
        jobs[id] = replace(job, function=function, state=WAITING, attempts=0, due=None, error=None)
