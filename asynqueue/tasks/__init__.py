"""
The core of the queue, without Twisted and without I/O: the task record and its state table,
niceness, the priority heap, and the scheduler that decides who runs what.
"""

from asynqueue.tasks.heap import PriorityHeap
from asynqueue.tasks.niceness import SerialNumbers, priorityOf
from asynqueue.tasks.options import TaskOptions
from asynqueue.tasks.runtimes import RunTimes
from asynqueue.tasks.scheduler import Capacity, Scheduler
from asynqueue.tasks.states import (
    CANCELLED,
    DRAINING,
    FAILED,
    FINISHED,
    LOST,
    PENDING,
    READY,
    STARTING,
    STOPPED,
    UNDERWAY,
)
from asynqueue.tasks.task import Task

__all__ = [
    "CANCELLED",
    "DRAINING",
    "FAILED",
    "FINISHED",
    "LOST",
    "PENDING",
    "READY",
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
