"""
How calls are written, and how a runner learns functions.
"""

from __future__ import annotations

import math
from functools import partial
from threading import Lock
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from asynqueue._runner.messages import CALL
from asynqueue._runner.packing import CLOUDPICKLE, unpack
from asynqueue._workers import protocol as calls
from asynqueue._workers.protocol import CallWriter
from asynqueue.errors import CallNotPicklable
from asynqueue.testing import far
from asynqueue.testing.owner import TaskOwner
from tests.support.cases import WorkerCase


class WritingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.owner = TaskOwner(Clock())
        self.writer = CallWriter()

    def write(self, function: Any, *args: Any, **kw: Any) -> Any:
        """
        @return: what the message says of the function and of the arguments.
        """
        task = self.owner.make(function, *args, raw=True)
        task.kwargs = kw
        call, number, function, arguments, raw, _ = self.writer.write(7, task)
        self.assertEqual((call, number, raw), (CALL, 7, True))
        return function, arguments

    def test_aFunctionIsTaughtOnceAndNumberedFromThenOn(self) -> None:
        (number, data), _ = self.write(far.echo)
        self.assertEqual((number, unpack(data)), (0, far.echo))
        self.assertEqual(self.write(far.echo)[0], 0)
        self.assertEqual(self.write(far.square)[0][0], 1)
        self.assertEqual([self.write(far.square)[0], self.write(far.echo)[0]], [1, 0])

    def test_soIsABuiltInOne(self) -> None:
        self.assertEqual(self.write(math.sqrt)[0][0], 0)
        self.assertEqual(self.write(math.sqrt)[0], 0)

    def test_whatMayChangeIsPickledEachTime(self) -> None:
        things: list[Any] = [partial(far.add, 1), far.Thing, [].append, "text".upper]
        for thing in things * 2:
            function, _ = self.write(thing)
            self.assertNotIsInstance(function, int)
            self.assertEqual(type(unpack(function)), type(thing))

    def test_functionThatIsPickledByValueIsPickledEachTime(self) -> None:
        self.writer = CallWriter(CLOUDPICKLE)
        factor = 2

        def scale(number: int) -> int:
            return factor * number

        self.assertEqual(unpack(self.write(scale)[0])(4), 8)
        factor = 3
        self.assertEqual(unpack(self.write(scale)[0])(4), 12)
        # One that can be imported is taught.
        self.assertEqual(self.write(far.echo)[0][0], 0)
        self.assertEqual(self.write(far.echo)[0], 0)

    def test_plainArgumentsTravelAsTheyAre(self) -> None:
        self.assertEqual(
            self.write(far.echo, 1, "a", None, 2.5, True)[1], (1, "a", None, 2.5, True)
        )
        self.assertEqual(self.write(far.echo)[1], ())

    def test_othersArePickledWithTheKeywords(self) -> None:
        self.assertEqual(unpack(self.write(far.echo, [1])[1]), (([1],), {}))
        self.assertEqual(unpack(self.write(far.echo, 1, two=2)[1]), ((1,), {"two": 2}))

    def test_aCallThatCannotBeWrittenTeachesNothing(self) -> None:
        self.assertRaises(CallNotPicklable, self.write, far.echo, Lock())
        self.assertEqual(self.write(far.echo)[0][0], 0)

    def test_aMessageThatWasNotSentTeachesNothing(self) -> None:
        for function, isTaught in ((far.echo, True), (partial(far.echo), False)):
            task = self.owner.make(function)
            message = self.writer.write(1, task)
            self.writer.unteach(task, message)
            again = self.writer.write(2, task)
            self.assertEqual(type(again[2]) is tuple, isTaught)
            self.assertNotEqual(again[2], 0)

    def test_numbersAreNotUsedAgain(self) -> None:
        task = self.owner.make(far.echo)
        self.writer.unteach(task, self.writer.write(1, task))
        numbers = [self.write(function)[0][0] for function in (far.square, far.echo, far.add)]
        self.assertEqual(numbers, [1, 2, 3])

    def test_onlySoManyFunctionsAreTaught(self) -> None:
        self.patch(calls, "FUNCTIONS", 2)
        for function in (far.echo, far.square):
            self.assertIsInstance(self.write(function)[0], tuple)
        for _ in range(2):
            self.assertEqual(unpack(self.write(far.add)[0]), far.add)
        self.assertEqual(self.write(far.square)[0], 1)

    def test_theErrorTellsWhatIsAtFault(self) -> None:
        cases: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
            ((lambda: None,), {}, "the function WritingTests."),
            ((far.echo, 1, Lock()), {}, "argument 2 of echo, <unlocked"),
            ((far.echo, "x" * 100, Lock()), {}, "argument 2 of echo"),
            ((far.echo,), {"one": Lock()}, "argument 'one' of echo"),
        ]
        for args, kw, text in cases:
            error = self.assertRaises(CallNotPicklable, self.write, *args, **kw)
            self.assertTrue(str(error).startswith(text), str(error))
            self.assertIn("cannot be pickled: ", str(error))
            self.assertIsNotNone(error.__cause__)

    def test_aLongArgumentIsCutShort(self) -> None:
        error = self.assertRaises(CallNotPicklable, self.write, far.echo, ["x" * 1000, Lock()])
        self.assertLess(len(str(error)), 300)


class TeachingTests(WorkerCase):
    def test_theRunnerUnderstandsNumbers(self) -> None:
        worker = self.makeWorker()
        tasks = self.giveMany(worker, (far.echo, 1), (far.square, 2), (far.echo, 3))
        worker.stepAll()
        more = self.giveMany(worker, (far.square, 4), (partial(far.add, 1), 5))
        worker.stepAll()
        self.assertEqual([task.result for task in [*tasks, *more]], [1, 4, 3, 16, 6])

    def test_aNewRunnerIsTaughtAnew(self) -> None:
        worker = self.makeWorker()
        self.give(worker, far.echo)
        worker.stepAll()
        worker.die()
        worker.step()
        self.clock.advance(0)
        worker.stepAll()
        task = self.give(worker, far.echo, 1)
        worker.stepAll()
        self.assertEqual(task.result, 1)
