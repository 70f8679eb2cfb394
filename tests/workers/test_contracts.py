"""
The workers in memory keep the contract, and so are fit to test others with.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from asynqueue.testing.contract import WorkerContract
from asynqueue.testing.farcontract import FarWorkerContract
from asynqueue.testing.memory import MemoryWorker
from asynqueue.testing.stepworker import StepWorker


class MemoryWorkerTests(FarWorkerContract, TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()

    def makeWorker(self) -> MemoryWorker:
        return MemoryWorker(reactor=self.clock, stepSeconds=0.0)

    def pump(self) -> None:
        self.clock.advance(0)

    def killUniverse(self, worker: Any) -> None:
        worker.die()


class HandSteppedMemoryWorkerTests(MemoryWorkerTests):
    """
    Nothing happens before the first pump: not even the universe is there.
    """

    def setUp(self) -> None:
        super().setUp()
        self.workers: list[MemoryWorker] = []

    def makeWorker(self) -> MemoryWorker:
        self.workers.append(MemoryWorker(reactor=self.clock))
        return self.workers[-1]

    def pump(self) -> None:
        for _ in range(3):
            for worker in self.workers:
                worker.stepAll()
            self.clock.advance(0)


class StepWorkerTests(WorkerContract, TestCase):
    workerClass = StepWorker

    def makeWorker(self) -> StepWorker:
        self.worker = self.workerClass()
        return self.worker

    def pump(self) -> None:
        while self.worker.step():
            pass
