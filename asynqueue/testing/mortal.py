"""
What workers promise whose runners can die, as tests.
"""

# Trial's assertions carry no annotations.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

from typing import Any

from asynqueue.errors import WorkerDied
from asynqueue.testing import far
from asynqueue.testing.farcontract import FarWorkerContract
from asynqueue.testing.iterating import IteratingWorkerContract


class MortalRunnerContract(FarWorkerContract, IteratingWorkerContract):
    """
    L{FarWorkerContract<asynqueue.testing.FarWorkerContract>}, L{IteratingWorkerContract
    <asynqueue.testing.IteratingWorkerContract>}, and what is promised where runners are killed::

        class MyWorkerTests(MortalRunnerContract, PicklingWorkerContract, TestCase):
            def makeWorker(self):
                return MyWorker()

            def killRunner(self, worker):
                os.kill(worker.pid, signal.SIGKILL)
    """

    def killRunner(self, worker: Any) -> None:
        """
        Kill the worker's present runner, from outside.
        """
        raise NotImplementedError("say how a runner is killed")

    async def test_theRunnerIsReplacedWhenItDies(self) -> None:
        worker = await self.start()
        self.killRunner(worker)
        self.pump()
        # The message may go to the runner that is dying, but then it is not begun there.
        await self.assertWorks(worker, "the death of its runner")

    async def test_aDeathCostsAtMostTheTaskThatWasBegun(self) -> None:
        worker = await self.start()
        held, _, _ = await self.hold(worker)
        others = self.giveMany(worker, 3)
        self.killRunner(worker)
        self.pump()
        error = await self.ending(held)
        self.assertTrue(error is None or isinstance(error, WorkerDied), repr(error))
        for number, task in enumerate(others):
            self.assertEqual(
                await self.ending(task), number, "what had not begun runs in the next runner"
            )

    async def test_aDeathInMidStreamComesAfterTheItems(self) -> None:
        worker = await self.start()
        deferator, _ = await self.iterate(worker, far.endless)
        self.assertEqual(await self.items(deferator, 1), [0])
        self.killRunner(worker)
        taken = [0]
        with self.assertRaises(WorkerDied):
            while True:
                taken += await self.items(deferator, 1)
        self.assertTrue(taken == list(range(len(taken))), "what arrived before it is in order")
