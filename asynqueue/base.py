"""
The import path that AsynQueue 0.9's users type. The home is L{asynqueue.queue}.
"""

from __future__ import annotations

from asynqueue.queue.taskqueue import TaskQueue

__all__ = ["TaskQueue"]
