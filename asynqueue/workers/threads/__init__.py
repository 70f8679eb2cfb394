"""
The worker in a thread.
"""

from __future__ import annotations

from asynqueue.workers.threads.worker import ThreadWorker

__all__ = ["ThreadWorker"]
