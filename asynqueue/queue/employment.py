"""
What a roster knows of one worker, and what it needs of its queue.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from asynqueue.errors import ImplementationError, InvariantError, WorkerError
from asynqueue.interfaces import IWorker
from asynqueue.queue.queued import QueuedTask
from asynqueue.queue.updates import Update


class Desk(Protocol):
    """
    What a roster needs of its queue.
    """

    def begin(self) -> None:
        """Facts follow."""

    def end(self) -> None:
        """That was all: decide."""

    def wake(self) -> None:
        """There may be something to decide."""

    def workerGaveUp(self, worker: Any, reason: WorkerError) -> None:
        """A worker has left the roster because it can work no more."""

    def updateTask(self, update: Update) -> QueuedTask:
        """Make a task of an update, outside of the schedule."""


@dataclass(slots=True, eq=False)
class Employment:
    """
    What the roster knows of one worker.

    @ivar isFarSide: whether it is an C{IUniverseWorker}.
    @ivar hired: the Deferred to fire with the ID when the worker is first ready.
    @ivar isOpen: whether the worker may get tasks.
    @ivar hasUniverse: whether it has been ready since it was hired, or since it was last lost.
    @ivar reason: why it last lost its universe.
    @ivar gaveUp: why it can work no more, if it can not.
    @ivar held: what a worker of six members has.
    @ivar updates: the updates that it is to be given before it may get other tasks.
    @ivar isGiving: whether it is being given updates at this moment.
    @ivar left: the Deferred to fire when it is gone, once it was let go.
    @ivar reassign: whether what it then leaves unfinished goes back into the queue.
    @ivar unfinished: what it left.
    @ivar timer: the call that crashes it, if it takes too long to go.
    """

    ID: int
    worker: Any
    isFarSide: bool
    hired: Deferred[int]
    isOpen: bool = False
    hasUniverse: bool = False
    reason: Exception | None = None
    gaveUp: WorkerError | None = None
    held: set[QueuedTask] = field(default_factory=set)
    updates: deque[QueuedTask] = field(default_factory=deque)
    isGiving: bool = False
    left: Deferred[list[QueuedTask]] | None = None
    reassign: bool = False
    unfinished: list[QueuedTask] = field(default_factory=list)
    timer: IDelayedCall | None = None


def checkWorker(worker: Any) -> None:
    """
    @raise ImplementationError: if it is no L{IWorker}; C{InvariantError} if its lists are none.
    """
    if not IWorker.providedBy(worker):
        raise ImplementationError(
            f"{worker!r} does not provide IWorker: decorate its class with @implementer(IWorker)"
        )
    for name in ("cQualified", "iQualified"):
        if not isinstance(getattr(worker, name, None), list):
            raise InvariantError(f"{worker!r}: its {name} must be a list of series")
