"""
How far a task's run has come.
"""

from __future__ import annotations

from typing import NamedTuple


class Progress(NamedTuple):
    """
    What a task's function said last of how far it has come.

    @ivar done: how much is done, in whatever unit the function counts.
    @ivar total: how much there is to do, in the same unit; C{None} if that is not known.
    @ivar time: when that was heard, in seconds of the queue's clock.
    """

    done: float
    total: float | None
    time: float
