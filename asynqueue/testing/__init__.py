"""
What to test workers and stores of one's own with, and code that uses a queue. It needs Twisted's
trial, and nothing that Twisted does not bring along.

Names are imported when they are first asked for.
"""

from typing import TYPE_CHECKING

from asynqueue._lazy import lazyNames

if TYPE_CHECKING:
    from asynqueue.testing.contract import WorkerContract
    from asynqueue.testing.farcontract import FarWorkerContract
    from asynqueue.testing.hold import DeferredHold, FileHold, Hold
    from asynqueue.testing.iterating import IteratingWorkerContract
    from asynqueue.testing.memory import MemoryChannel, MemoryWorker, act, actStubbornly
    from asynqueue.testing.mortal import MortalRunnerContract
    from asynqueue.testing.owner import RecordingListener, TaskOwner
    from asynqueue.testing.pickling import PicklingWorkerContract
    from asynqueue.testing.stepworker import InlineWorker, StepWorker
    from asynqueue.testing.storecontract import JobStoreContract
    from asynqueue.testing.synchronous import SynchronousQueue

_HOMES = {
    "contract": "WorkerContract",
    "farcontract": "FarWorkerContract",
    "hold": "DeferredHold FileHold Hold",
    "iterating": "IteratingWorkerContract",
    "memory": "MemoryChannel MemoryWorker act actStubbornly",
    "mortal": "MortalRunnerContract",
    "owner": "RecordingListener TaskOwner",
    "pickling": "PicklingWorkerContract",
    "stepworker": "InlineWorker StepWorker",
    "storecontract": "JobStoreContract",
    "synchronous": "SynchronousQueue",
}

__all__ = [
    "DeferredHold",
    "FarWorkerContract",
    "FileHold",
    "Hold",
    "InlineWorker",
    "IteratingWorkerContract",
    "JobStoreContract",
    "MemoryChannel",
    "MemoryWorker",
    "MortalRunnerContract",
    "PicklingWorkerContract",
    "RecordingListener",
    "StepWorker",
    "SynchronousQueue",
    "TaskOwner",
    "WorkerContract",
    "act",
    "actStubbornly",
]

__getattr__, __dir__ = lazyNames(globals(), _HOMES)
