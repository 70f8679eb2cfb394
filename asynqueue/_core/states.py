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
"""For each state, the events that it allows and the state that each leads to."""

PENDING: Final = "PENDING"
UNDERWAY: Final = "UNDERWAY"
FINISHED: Final = "FINISHED"
FAILED: Final = "FAILED"
CANCELLED: Final = "CANCELLED"

TASK: Final[Table] = {
    # A task waits in a queue's heap. It may fail there: its call cannot be pickled, or the queue
    # stops.
    PENDING: {"start": UNDERWAY, "cancel": CANCELLED, "fail": FAILED},
    # A worker has it. A worker gives back what it never began.
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
READY: Final = "READY"
DRAINING: Final = "DRAINING"
STOPPED: Final = "STOPPED"
LOST: Final = "LOST"

WORKER: Final[Table] = {
    # The runner was asked for and has not said hello yet.
    STARTING: {"hello": READY, "drain": DRAINING, "lose": LOST, "crash": STOPPED},
    READY: {"drain": DRAINING, "lose": LOST, "crash": STOPPED},
    # No new tasks; what is underway may end.
    DRAINING: {"stopped": STOPPED, "lose": LOST, "crash": STOPPED},
    # The runner is gone without having been asked. A worker that heals starts another.
    LOST: {"restart": STARTING, "drain": STOPPED, "crash": STOPPED},
    STOPPED: {},
}

RUNNING: Final = "RUNNING"
STOPPING: Final = "STOPPING"

QUEUE: Final[Table] = {
    RUNNING: {"shutdown": STOPPING},
    # No new calls; those already here still run.
    STOPPING: {"stopped": STOPPED},
    STOPPED: {},
}


def nextState(table: Table, state: str, event: str, subject: object) -> str:
    """
    Look up where an event leads.

    @param table: the lifecycle.
    @param state: the state that C{subject} is in.
    @param event: what happened to it.
    @param subject: whose lifecycle it is, for the error's text.
    @return: the new state.
    @raise StateError: if the table does not allow the event in that state.
    """
    try:
        return table[state][event]
    except KeyError:
        raise StateError(subject, state, event) from None
