"""
A call with wrong values fails alone and with a clear error, and the queue and its process go on.
"""

from __future__ import annotations

import os
from typing import Any

from asynqueue import ProcessQueue, ProcessWorker, TaskQueue
from asynqueue.errors import (
    CallNotPicklable,
    CallNotRebuilt,
    ImplementationError,
    InvariantError,
    QueueStopped,
    RemoteError,
    ResultNotPicklable,
    ResultNotRebuilt,
)
from asynqueue.tasks import FAILED, FINISHED, PENDING
from asynqueue.testing import far
from tests.integration import tasks
from tests.support.processes import ProcessTestCase


class BadInputCase(ProcessTestCase):
    """
    Tests of one process that is to live on, whatever it is given.
    """

    async def start(self) -> ProcessQueue:
        queue = self.makeQueue()
        self.pid = await queue.call(os.getpid)
        return queue

    async def assertFails(
        self, queue: TaskQueue, kind: type[BaseException], *call: Any, **kw: Any
    ) -> Any:
        """
        A call fails with an error of this very kind, and calls put before and after it do not.

        @return: the error.
        """
        before = queue.call(far.echo, "before")
        bad = queue.submit(*call, **kw)
        after = queue.call(far.echo, "after")
        error = await self.errorOf(bad.d, kind)
        self.assertIs(type(error), kind)
        self.assertEqual(bad.state, FAILED)
        self.assertEqual((await before, await after), ("before", "after"))
        self.assertEqual(await queue.call(os.getpid), self.pid)
        return error


class CallTests(BadInputCase):
    """
    Calls that cannot be sent, or cannot be received.
    """

    async def test_aFunctionThatCannotBePickledIsNamed(self) -> None:
        queue = await self.start()

        def local() -> None:
            pass

        error = await self.assertFails(queue, CallNotPicklable, local)
        self.assertIn("the function", str(error))
        self.assertIn("local", str(error))

    async def test_anArgumentThatCannotBePickledIsNamed(self) -> None:
        queue = await self.start()
        error = await self.assertFails(queue, CallNotPicklable, far.keywords, 1, lambda: None)
        self.assertIn("argument 2 of keywords", str(error))
        error = await self.assertFails(
            queue, CallNotPicklable, far.keywords, 1, wanted=2, unwanted=lambda: None
        )
        self.assertIn("argument 'unwanted' of keywords", str(error))

    async def test_aFirstCallThatCannotBePickledSpoilsNoLaterOne(self) -> None:
        # Its function had never been sent before, and now has not been sent either.
        queue = await self.start()
        await self.assertFails(queue, CallNotPicklable, far.add, lambda: None)
        self.assertEqual(await queue.call(far.add, [1], [2]), [1, 2])

    async def test_anArgumentThatCannotBeShownIsStillRefusedClearly(self) -> None:
        queue = await self.start()
        await self.assertFails(queue, CallNotPicklable, far.echo, tasks.Nameless())

    async def test_anArgumentWhosePicklingExitsIsRefused(self) -> None:
        queue = await self.start()
        for kind in (SystemExit, KeyboardInterrupt, tasks.Resisting):
            await self.assertFails(queue, CallNotPicklable, far.echo, tasks.Unpicklable(kind))

    async def test_aCallableThatCannotBeHashedIsCalled(self) -> None:
        queue = await self.start()
        self.assertEqual(await queue.call(tasks.Adder(3), 4), 7)

    async def test_anArgumentThatCannotBeRebuiltFailsItsCall(self) -> None:
        queue = await self.start()
        for kind in (ValueError, SystemExit, KeyboardInterrupt, tasks.Resisting):
            error = await self.assertFails(
                queue, CallNotRebuilt, far.echo, tasks.RebuiltNowhere(kind)
            )
            self.assertIn(kind.__name__, str(error))

    async def test_whatIsNoCallableIsRefusedAtOnce(self) -> None:
        queue = await self.start()
        with self.assertRaises(TypeError):
            queue.call("not callable")  # type: ignore[call-overload]
        self.assertEqual(await queue.call(far.echo, 1), 1)


class ResultTests(BadInputCase):
    """
    Results that cannot come back.
    """

    async def test_aResultThatCannotBePickledIsNamed(self) -> None:
        queue = await self.start()
        error = await self.assertFails(queue, ResultNotPicklable, far.makeLambda)
        self.assertIn("function", str(error))
        for kind in (TypeError, SystemExit, KeyboardInterrupt, tasks.Resisting):
            error = await self.assertFails(queue, ResultNotPicklable, tasks.makeUnpicklable, kind)
            self.assertIn("Unpicklable", str(error))

    async def test_aResultThatCannotBeRebuiltFailsItsCall(self) -> None:
        queue = await self.start()
        for kind in (ValueError, SystemExit, KeyboardInterrupt, tasks.Resisting):
            error = await self.assertFails(queue, ResultNotRebuilt, tasks.makeRebuiltNowhere, kind)
            self.assertIn(kind.__name__, str(error))

    async def test_anItemThatCannotBeRebuiltComesAfterTheItemsBefore(self) -> None:
        queue = await self.start()
        deferator = await queue.call(tasks.yieldRebuiltNowhere, 3)
        items = []
        with self.assertRaises(ResultNotRebuilt):
            async for item in deferator:
                items.append(item)
        self.assertEqual(items, [0, 1, 2])
        self.assertEqual(await queue.call(os.getpid), self.pid)

    async def test_anItemThatCannotBePickledComesAfterTheItemsBefore(self) -> None:
        queue = await self.start()
        deferator = await queue.call(far.lambdas, 3)
        items = []
        with self.assertRaises(ResultNotPicklable):
            async for item in deferator:
                items.append(item)
        self.assertEqual(items, [0, 1, 2])
        self.assertEqual(await queue.call(os.getpid), self.pid)


class ExceptionTests(BadInputCase):
    """
    Exceptions that are unusual, or cannot come back.
    """

    async def test_anExceptionThatCannotBePickledComesAsItsText(self) -> None:
        queue = await self.start()
        error = await self.assertFails(queue, RemoteError, far.raiseUnpicklable)
        self.assertEqual(error.typeName, "asynqueue.testing.far.Unpicklable")
        self.assertEqual(error.text, "stays here")
        self.assertIn("raiseUnpicklable", error.traceback)
        self.assertIn("raiseUnpicklable", str(error.__cause__))

    async def test_anExceptionThatResistsAllIsStillTold(self) -> None:
        queue = await self.start()
        error = await self.assertFails(
            queue, RemoteError, tasks.raiseKind, tasks.UnpicklableError, "told"
        )
        self.assertEqual(error.text, "told")

    async def test_anExceptionWhoseInitBreaksUnpicklingComesAsItsText(self) -> None:
        queue = await self.start()
        error = await self.assertFails(queue, RemoteError, far.raiseUnrebuildable)
        self.assertEqual(error.typeName, "asynqueue.testing.far.Unrebuildable")
        self.assertEqual(error.text, "arrives as text")

    async def test_anExceptionWithoutATextComesWithItsType(self) -> None:
        queue = await self.start()
        await self.assertFails(queue, tasks.Resisting, tasks.raiseKind, tasks.Resisting)

    async def test_exitingATaskFailsItAlone(self) -> None:
        queue = await self.start()
        error = await self.assertFails(queue, SystemExit, far.exit, 3)
        self.assertEqual(error.code, 3)

    async def test_anyBaseExceptionFailsItsTaskAlone(self) -> None:
        queue = await self.start()
        for kind in (KeyboardInterrupt, GeneratorExit, BaseException, StopIteration):
            await self.assertFails(queue, kind, tasks.raiseKind, kind)

    async def test_exitingAnUpdateOrAMappingFailsItAlone(self) -> None:
        queue = await self.start()
        await self.errorOf(queue.update(far.exit, 3, ephemeral=True), SystemExit)
        with self.assertRaises(SystemExit):
            async for _ in queue.map(far.exit, [1, 2]):
                pass
        self.assertEqual(await queue.call(os.getpid), self.pid)


class OptionTests(BadInputCase):
    """
    Options, workers and times that are wrong.
    """

    async def test_nicenessOutOfRangeIsRefusedAtOnce(self) -> None:
        queue = await self.start()
        for niceness in (-21, 21, 0.5, "0", None):
            with self.assertRaises((ValueError, TypeError)):
                queue.call(far.echo, 1, niceness=niceness)
        for niceness in (-20, 20):
            self.assertEqual(await queue.call(far.echo, niceness, niceness=niceness), niceness)

    async def test_aConsumerThatIsNoneIsRefusedAtOnce(self) -> None:
        queue = await self.start()
        with self.assertRaises(ImplementationError):
            queue.call(far.numbers, 3, consumer=object())
        self.assertEqual(await queue.call(os.getpid), self.pid)

    async def test_callsAfterShutdownAreRefusedAtOnce(self) -> None:
        queue = await self.start()
        done = queue.shutdown()
        for late in (queue.call, queue.submit, queue.update):
            with self.assertRaises(QueueStopped):
                late(far.echo, 1)
        await done
        with self.assertRaises(QueueStopped):
            queue.call(far.echo, 1)
        with self.assertRaises(QueueStopped):
            queue.resize(2)

    async def test_whatIsNoWorkerIsNotAttached(self) -> None:
        queue = await self.start()
        noWorker: Any = object()
        with self.assertRaises(ImplementationError):
            queue.attachWorker(noWorker)
        with self.assertRaises(ImplementationError):
            TaskQueue(noWorker)
        self.assertEqual(len(queue), 1)
        self.assertEqual(await queue.call(os.getpid), self.pid)

    async def test_aWorkerWithoutListsOfSeriesIsNotAttached(self) -> None:
        queue = await self.start()
        worker = ProcessWorker()
        worker.iQualified = ("series",)  # type: ignore[assignment]
        with self.assertRaises(InvariantError):
            queue.attachWorker(worker)
        self.assertEqual(len(queue), 1)
        await worker.stop()

    async def test_aSeriesWithoutAWorkerWaitsForOne(self) -> None:
        queue = await self.start()
        task = queue.submit(os.getpid, series="special")
        self.assertEqual(await queue.call(os.getpid), self.pid)
        self.assertEqual(task.state, PENDING)
        [worker] = queue.workers()
        queue.qualifyWorker(worker, "special")
        self.assertEqual(await task, self.pid)
        self.assertEqual(task.state, FINISHED)

    async def test_aSeriesWithoutAWorkerDoesNotHoldUpTheEnd(self) -> None:
        queue = await self.start()
        task = queue.submit(os.getpid, series="special")
        await queue.shutdown()
        error = await self.errorOf(task.d, QueueStopped)
        self.assertIn("no worker is qualified", str(error))

    async def test_aNumberOfProcessesThatIsNoneIsRefused(self) -> None:
        for number in (0, -1, 1.0, "2", True):
            with self.assertRaises(ValueError):
                ProcessQueue(number)  # type: ignore[arg-type]
        queue = await self.start()
        with self.assertRaises(ValueError):
            queue.resize(0)
        self.assertEqual(len(queue), 1)
