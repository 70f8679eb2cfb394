"""
The import path that AsynQueue 0.9's users type. The homes are L{asynqueue.queue} and
L{asynqueue.workers.process}.
"""

from __future__ import annotations

from asynqueue.queue.processqueue import ProcessQueue
from asynqueue.workers.process.base import ProcessBase
from asynqueue.workers.process.worker import ProcessWorker

__all__ = ["ProcessBase", "ProcessQueue", "ProcessWorker"]
