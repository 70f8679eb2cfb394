"""
Servers that run calls, the workers and the queue that use them, and the keys that both need.

C{WireWorker} and C{WireServer} are AsynQueue 0.9's names. There is no C{WireWorkerUniverse},
because a server runs any function that it can import.
"""

from __future__ import annotations

from asynqueue._queue.remotequeue import RemoteQueue
from asynqueue._workers.wire.keys import newKey, readKey, writeCertificates, writeKey
from asynqueue._workers.wire.server import RemoteService
from asynqueue._workers.wire.worker import RemoteWorker

WireWorker = RemoteWorker
WireServer = RemoteService

__all__ = [
    "RemoteQueue",
    "RemoteService",
    "RemoteWorker",
    "WireServer",
    "WireWorker",
    "newKey",
    "readKey",
    "writeCertificates",
    "writeKey",
]
