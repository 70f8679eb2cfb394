"""
A worker on a Dask cluster keeps the promises of every worker whose runners are processes.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import TestCase

from asynqueue import DaskWorker
from asynqueue.testing import MortalRunnerContract, PicklingWorkerContract
from tests.dask import cluster


class DaskWorkerTests(MortalRunnerContract, PicklingWorkerContract, TestCase):
    def makeWorker(self) -> DaskWorker:
        # With one slot its tasks run in their order.
        return cluster.worker(slots=1)

    def setUp(self) -> None:
        cluster.untilComplete()
        super().setUp()

    def killRunner(self, worker: Any) -> None:
        cluster.killBusy()
