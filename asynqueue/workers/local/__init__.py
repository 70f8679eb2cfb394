"""
The worker in the main loop.
"""

from __future__ import annotations

from asynqueue.workers.local.worker import AsyncWorker

__all__ = ["AsyncWorker"]
