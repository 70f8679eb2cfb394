"""
The workers in memory keep the contract, so tests of other parts can use them.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from asynqueue.testing import (
    Hold,
    InlineWorker,
    MemoryWorker,
    MortalRunnerContract,
    PicklingWorkerContract,
    StepWorker,
    WorkerContract,
)


class MemoryWorkerTests(MortalRunnerContract, PicklingWorkerContract, TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()

    def makeWorker(self) -> MemoryWorker:
        return MemoryWorker(reactor=self.clock, stepSeconds=0.0)

    def pump(self) -> None:
        self.clock.advance(0)

    def makeHold(self) -> Hold:
        return Hold()

    def killRunner(self, worker: Any) -> None:
        worker.die()


class HandSteppedMemoryWorkerTests(MemoryWorkerTests):
    """
    Nothing happens before the first pump: not even the runner is there.
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

    def setUp(self) -> None:
        super().setUp()
        self.workers: list[StepWorker] = []

    def makeWorker(self) -> StepWorker:
        self.workers.append(self.workerClass())
        return self.workers[-1]

    def makeHold(self) -> Hold:
        return Hold()

    def pump(self) -> None:
        while any(worker.step() for worker in self.workers):
            pass


class InlineWorkerTests(StepWorkerTests):
    workerClass = InlineWorker
