"""
The import path that AsynQueue 0.9's users type. The home is L{asynqueue.deferreds}.
"""

from __future__ import annotations

from asynqueue.deferreds.info import Info
from asynqueue.deferreds.showresult import showResult, whichThread

__all__ = ["Info", "showResult", "whichThread"]
