"""
How a running task is asked to end.
"""

from __future__ import annotations


class TaskInterrupted(BaseException):
    """
    Raised within a running task that is no longer wanted, to ask it to end. It is no C{Exception},
    so that a task's usual error handling lets it pass.
    """
