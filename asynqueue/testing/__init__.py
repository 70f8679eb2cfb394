"""
Test cases for workers and stores of your own, and a queue for tests of code that uses one. They
need nothing beyond Twisted and its trial.

Names are imported when they are first asked for.
"""

from typing import TYPE_CHECKING

from asynqueue._lazy import lazyNames

if TYPE_CHECKING:
    from asynqueue.testing.contract import DeferredHold, FileHold, Hold, WorkerContract
    from asynqueue.testing.farcontract import (
        FarWorkerContract,
        MortalRunnerContract,
        PicklingWorkerContract,
    )
    from asynqueue.testing.iterating import IteratingWorkerContract
    from asynqueue.testing.memory import MemoryChannel, MemoryWorker, act, actStubbornly
    from asynqueue.testing.owner import RecordingListener, TaskOwner
    from asynqueue.testing.proxy import FaultProxy
    from asynqueue.testing.stepworker import InlineWorker, StepWorker
    from asynqueue.testing.storecontract import JobStoreContract
    from asynqueue.testing.synchronous import SynchronousQueue, killWorker

_HOMES = {
    "contract": "DeferredHold FileHold Hold WorkerContract",
    "farcontract": "FarWorkerContract MortalRunnerContract PicklingWorkerContract",
    "iterating": "IteratingWorkerContract",
    "memory": "MemoryChannel MemoryWorker act actStubbornly",
    "proxy": "FaultProxy",
    "owner": "RecordingListener TaskOwner",
    "stepworker": "InlineWorker StepWorker",
    "storecontract": "JobStoreContract",
    "synchronous": "SynchronousQueue killWorker",
}

__all__ = [
    "DeferredHold",
    "FarWorkerContract",
    "FaultProxy",
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
    "killWorker",
]

__getattr__, __dir__ = lazyNames(globals(), _HOMES)
