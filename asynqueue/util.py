"""
The import path that AsynQueue 0.9's users type. The home is L{asynqueue.deferreds}.
"""

from __future__ import annotations

from asynqueue.deferreds import DeferredLock, DeferredTracker

__all__ = ["DeferredLock", "DeferredTracker"]
