"""
State tables: a lifecycle written as data.

A table says which event leads from which state to which. An event that the table does not list
raises L{StateError<asynqueue.errors.StateError>} and changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from asynqueue.errors import StateError

Table = Mapping[str, Mapping[str, str]]
"""For each state, the events that it allows and the state that each leads to. A state that allows
no event is final."""

PENDING: Final = "PENDING"
"""A task waits in a queue."""
UNDERWAY: Final = "UNDERWAY"
"""A worker has the task."""
FINISHED: Final = "FINISHED"
"""The task has its result."""
FAILED: Final = "FAILED"
"""The task has failed."""
CANCELLED: Final = "CANCELLED"
"""The task was cancelled."""

ENDED: Final = frozenset((FINISHED, FAILED, CANCELLED))
"""The states of tasks and jobs that have ended, which are also what observers hear then."""

TASK: Final[Table] = {
    # The task waits in a queue. It can fail there, because its call cannot be pickled or the queue
    # stops.
    PENDING: {"start": UNDERWAY, "cancel": CANCELLED, "fail": FAILED},
    # A worker has the task. A worker gives back a task that it has not begun.
    UNDERWAY: {
        "finish": FINISHED,
        "fail": FAILED,
        "cancel": CANCELLED,
        "giveBack": PENDING,
    },
    FINISHED: {},
    FAILED: {},
    CANCELLED: {},
}

STARTING: Final = "STARTING"
"""A worker waits until its runner is there."""
READY: Final = "READY"
"""The worker takes tasks."""
RETIRING: Final = "RETIRING"
"""The worker lets its runner end its tasks, and will then start another runner."""
DRAINING: Final = "DRAINING"
"""The worker ends its tasks, and will then stop."""
STOPPED: Final = "STOPPED"
"""The worker, or the queue, has stopped for good."""
LOST: Final = "LOST"
"""The runner of the worker is gone, unexpectedly."""

WORKER: Final[Table] = {
    # The worker has asked for a runner, which has not said hello yet.
    STARTING: {"hello": READY, "drain": DRAINING, "lose": LOST, "crash": STOPPED},
    READY: {"retire": RETIRING, "drain": DRAINING, "lose": LOST, "crash": STOPPED},
    # The worker replaces a sound runner. It gives the runner no new tasks, and what is underway may
    # end. The runner's end then counts as a loss that needs no back-off.
    RETIRING: {"drain": DRAINING, "lose": LOST, "crash": STOPPED},
    # The worker stops. It takes no new tasks, and what is underway may end.
    DRAINING: {"stopped": STOPPED, "lose": LOST, "crash": STOPPED},
    # The runner is gone. The worker starts another one, or waits to.
    LOST: {"restart": STARTING, "drain": STOPPED, "crash": STOPPED},
    STOPPED: {},
}

RUNNING: Final = "RUNNING"
DROPPED: Final = "DROPPED"
STOPPING: Final = "STOPPING"

QUEUE: Final[Table] = {
    RUNNING: {"drop": DROPPED, "shutdown": STOPPING},
    # The program does not refer to the queue any more. The queue shuts down when its calls and
    # iterations are done.
    DROPPED: {"shutdown": STOPPING},
    # The queue takes no new calls. The calls that it has still run.
    STOPPING: {"stopped": STOPPED},
    STOPPED: {},
}


def describeState(state: str, count: int) -> str:
    """
    Describe a worker for people.

    @param state: its state.
    @param count: how many tasks it has.
    """
    if not count:
        return state
    tasks = "1 task" if count == 1 else f"{count} tasks"
    return f"{'BUSY' if state == READY else state} with {tasks}"


def nextState(table: Table, state: str, event: str, subject: object) -> str:
    """
    Look up where an event leads.

    @param table: the lifecycle.
    @param state: the present state of C{subject}.
    @param event: what happened to it.
    @param subject: the object whose lifecycle it is, named in the error.
    @return: the new state.
    @raise StateError: if the table does not allow the event in that state.
    """
    try:
        return table[state][event]
    except KeyError:
        raise StateError(subject, state, event) from None
