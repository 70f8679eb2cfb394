"""
What workers promise whose calls are pickled, as tests.
"""

# Trial's assertions carry no annotations.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asynqueue.errors import CallNotPicklable, RemoteError, ResultNotPicklable, ResultNotRebuilt
from asynqueue.testing import far
from asynqueue.testing.contract import WorkerContract
from asynqueue.tools.consumers import ListConsumer


class PicklingWorkerContract(WorkerContract):
    """
    L{WorkerContract<asynqueue.testing.WorkerContract>}, and what becomes of values that cannot
    travel: each is the failure of its own task, and of no other. Take it along with
    L{FarWorkerContract<asynqueue.testing.FarWorkerContract>} and
    L{IteratingWorkerContract<asynqueue.testing.IteratingWorkerContract>}.
    """

    async def assertFails(
        self, worker: Any, kind: type[BaseException], function: Callable[..., Any], *args: Any
    ) -> Any:
        """
        Run a task that is to fail, and another that is not.

        @return: the exception of the first.
        """
        bad, _ = self.give(worker, function, *args)
        error = await self.ending(bad)
        self.assertIsInstance(error, kind)
        await self.assertWorks(worker, f"a task that fails with {kind.__name__}")
        return error

    async def test_whatIsSentIsACopy(self) -> None:
        worker = await self.start()
        items = [1, 2]
        task, _ = self.give(worker, far.append, items, 3)
        self.assertEqual(await self.ending(task), [1, 2, 3])
        self.assertEqual(items, [1, 2], "a function gets copies of its arguments")

    async def test_anArgumentThatCannotBePickledFailsAlone(self) -> None:
        worker = await self.start()
        error = await self.assertFails(worker, CallNotPicklable, far.echo, lambda: None)
        self.assertIn("argument 1", str(error), "the error says what cannot be pickled")

    async def test_aFunctionThatCannotBePickledFailsAlone(self) -> None:
        worker = await self.start()
        await self.assertFails(worker, CallNotPicklable, lambda: None)

    async def test_whatWasNotSentLeavesTheWorkerFree(self) -> None:
        worker = await self.start()
        _, ready = self.give(worker, far.echo, lambda: None)
        await self.wait(ready)

    async def test_aResultThatCannotBePickledFailsAlone(self) -> None:
        worker = await self.start()
        await self.assertFails(worker, ResultNotPicklable, far.makeLambda)

    async def test_aResultThatCannotBeRebuiltFailsAlone(self) -> None:
        worker = await self.start()
        for exits in (False, True):
            await self.assertFails(worker, ResultNotRebuilt, far.makeBomb, exits)

    async def test_anExceptionThatCannotTravelArrivesAsText(self) -> None:
        worker = await self.start()
        for function, text in (
            (far.raiseUnpicklable, "stays here"),
            (far.raiseUnrebuildable, "arrives as text"),
        ):
            error = await self.assertFails(worker, RemoteError, function)
            self.assertEqual(error.text, text)
            self.assertIn(error.traceback, str(error.__cause__), "the cause is the far traceback")

    async def test_anItemThatCannotTravelComesAfterThoseBefore(self) -> None:
        worker = await self.start()
        for function, kind in ((far.lambdas, ResultNotPicklable), (far.bombs, ResultNotRebuilt)):
            consumer = ListConsumer()
            task, _ = self.give(worker, function, 3, consumer=consumer)
            self.assertIsInstance(await self.ending(task), kind)
            self.assertEqual(await self.wait(consumer()), [0, 1, 2])
        await self.assertWorks(worker, "items that cannot travel")
