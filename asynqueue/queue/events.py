"""
What happens to a queue's tasks and workers, as its observers hear of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from asynqueue.queue.queued import QueuedTask
from asynqueue.tasks.states import CANCELLED, FAILED, FINISHED, LOST

QUEUED: Final = "QUEUED"
STARTED: Final = "STARTED"
GIVEN_BACK: Final = "GIVEN_BACK"
PROGRESSED: Final = "PROGRESSED"

HIRED: Final = "HIRED"
REPLACED: Final = "REPLACED"
LEFT: Final = "LEFT"


@dataclass(frozen=True, slots=True)
class Event:
    """
    One thing that happened. Of each task an observer hears, in this order::

        QUEUED  ( STARTED  PROGRESSED*  GIVEN_BACK )*  STARTED  PROGRESSED*  FINISHED
                                                                             FAILED
                                                                             CANCELLED

    FAILED and CANCELLED may come without a STARTED: then no worker had the task. A worker gives
    back what it never began; the task then waits again. A task of C{update} is told of like any
    other, once for each worker that is to run it; no schedule has it, so its C{priority} is
    C{None}.

    Of each worker::

        HIRED  ( LOST  REPLACED )*  [ LOST ]  LEFT

    HIRED when it is ready for the first time, LOST when it lost its universe, REPLACED when it has
    another one that is ready, LEFT when it is gone. A worker that was never ready is told of with
    LEFT alone.

    @ivar kind: one of the words in the pictures.
    @ivar time: when it happened, in seconds of the queue's clock.
    @ivar task: the task that it happened to, or C{None}. Its state is the present one, which may be
        a later one than that of the event.
    @ivar worker: the worker that it happened to, or that had the task; C{None} if none had it.
    @ivar reason: the exception that is the reason why, for FAILED, CANCELLED and LOST, and for the
        LEFT of a worker that could work no more; C{None} for all others.
    """

    kind: str
    time: float
    task: QueuedTask | None = None
    worker: Any = None
    reason: BaseException | None = None


__all__ = [
    "CANCELLED",
    "FAILED",
    "FINISHED",
    "GIVEN_BACK",
    "HIRED",
    "LEFT",
    "LOST",
    "PROGRESSED",
    "QUEUED",
    "REPLACED",
    "STARTED",
    "Event",
]
