"""
An import path of AsynQueue 0.9: descriptions of calls and errors, for people.
"""

from __future__ import annotations

from asynqueue.tools.info import Info, showResult, whichThread

__all__ = [
    "Info",
    "showResult",
    "whichThread",
]
