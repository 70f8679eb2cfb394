"""
The import path that AsynQueue 0.9's users type. The home is L{asynqueue.queue}.
"""

from __future__ import annotations

from asynqueue.queue.nullqueue import NullQueue

__all__ = ["NullQueue"]
