"""
What workers promise whose universes can die, as tests.
"""

# Trial's assertions carry no annotations.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

from typing import Any

from asynqueue.errors import WorkerDied
from asynqueue.testing import far
from asynqueue.testing.farcontract import FarWorkerContract
from asynqueue.testing.iterating import IteratingWorkerContract


class MortalUniverseContract(FarWorkerContract, IteratingWorkerContract):
    """
    L{FarWorkerContract<asynqueue.testing.FarWorkerContract>}, L{IteratingWorkerContract
    <asynqueue.testing.IteratingWorkerContract>}, and what is promised where universes are killed::

        class MyWorkerTests(MortalUniverseContract, PicklingWorkerContract, TestCase):
            def makeWorker(self):
                return MyWorker()

            def killUniverse(self, worker):
                os.kill(worker.pid, signal.SIGKILL)
    """

    def killUniverse(self, worker: Any) -> None:
        """
        Kill the worker's present universe, from outside.
        """
        raise NotImplementedError("say how a universe is killed")

    async def test_theUniverseIsReplacedWhenItDies(self) -> None:
        worker = await self.start()
        self.killUniverse(worker)
        self.pump()
        # The message may go to the universe that is dying, but then it is not begun there.
        await self.assertWorks(worker, "the death of its universe")

    async def test_aDeathCostsAtMostTheTaskThatWasBegun(self) -> None:
        worker = await self.start()
        held, _, _ = await self.hold(worker)
        others = self.giveMany(worker, 3)
        self.killUniverse(worker)
        self.pump()
        error = await self.ending(held)
        self.assertTrue(error is None or isinstance(error, WorkerDied), repr(error))
        for number, task in enumerate(others):
            self.assertEqual(
                await self.ending(task), number, "what had not begun runs in the next universe"
            )

    async def test_aDeathInMidStreamComesAfterTheItems(self) -> None:
        worker = await self.start()
        deferator, _ = await self.iterate(worker, far.endless)
        self.assertEqual(await self.items(deferator, 1), [0])
        self.killUniverse(worker)
        taken = [0]
        with self.assertRaises(WorkerDied):
            while True:
                taken += await self.items(deferator, 1)
        self.assertTrue(taken == list(range(len(taken))), "what arrived before it is in order")
