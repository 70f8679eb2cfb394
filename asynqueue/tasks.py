"""
The task record, its states and the scheduler, for authors of workers.
"""

from __future__ import annotations

from asynqueue._core.groups import Capacity
from asynqueue._core.heap import PriorityHeap
from asynqueue._core.options import TaskOptions
from asynqueue._core.priorities import priorityOf
from asynqueue._core.scheduler import RunTimes, Scheduler
from asynqueue._core.series import SerialNumbers
from asynqueue._core.states import (
    CANCELLED,
    DRAINING,
    FAILED,
    FINISHED,
    LOST,
    PENDING,
    READY,
    RETIRING,
    STARTING,
    STOPPED,
    UNDERWAY,
)
from asynqueue._core.task import Task

__all__ = [
    "CANCELLED",
    "DRAINING",
    "FAILED",
    "FINISHED",
    "LOST",
    "PENDING",
    "READY",
    "RETIRING",
    "STARTING",
    "STOPPED",
    "UNDERWAY",
    "Capacity",
    "PriorityHeap",
    "RunTimes",
    "Scheduler",
    "SerialNumbers",
    "Task",
    "TaskOptions",
    "priorityOf",
]
