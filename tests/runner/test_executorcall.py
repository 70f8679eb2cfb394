"""
Calls on their way into an executor and back.
"""

from __future__ import annotations

import asyncio
import pickle
import sys
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from asynqueue._runner import executorcall as executed
from asynqueue._runner.executorcall import Call, Outcome, PickledCall, execute
from asynqueue._runner.pullstream import PullStream
from asynqueue.errors import CallNotRebuilt, ResultNotPicklable
from asynqueue.testing import far


class Near:
    def __init__(self) -> None:
        self.notes: list[Any] = []

    def begun(self) -> None:
        self.notes.append("begun")

    def report(self, done: float, total: float | None) -> None:
        self.notes.append((done, total))


class ExecutedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.near = Near()

    def call(self, function: Any, *args: Any, raw: bool = False, isSealed: bool = False) -> Call:
        return Call((function, args, {}, None), raw, self.near, isSealed)

    def errorOf(self, outcome: Outcome) -> Any:
        return outcome.codec.rebuild(outcome.error)

    def test_whatIsNotPickledIsHere(self) -> None:
        call = self.call(far.add, 1, 2)
        self.assertTrue(call.isHere)
        self.assertEqual(execute(call), Outcome(True, 3, None))
        self.assertEqual(self.near.notes, ["begun"])
        self.assertFalse(call.wasPickled)

    def test_whatIsPickledIsElsewhereAndKnowsNobody(self) -> None:
        for isSealed in (False, True):
            call = self.call(far.add, 1, 2, isSealed=isSealed)
            letter = pickle.loads(pickle.dumps(call))
            self.assertIsInstance(letter, PickledCall)
            self.assertEqual(execute(letter), Outcome(False, 3, None))
            self.assertTrue(call.wasPickled)
        self.assertEqual(self.near.notes, [])

    def test_whatIsInAnotherInterpreterWithoutHavingBeenPickledIsElsewhere(self) -> None:
        call = self.call(far.numbers, 3)
        self.patch(executed, "whereabouts", lambda: (1, 2))
        self.assertIsInstance(self.errorOf(execute(call)), ResultNotPicklable)
        self.assertEqual(self.near.notes, [])

    def test_aSealedCallThatCannotBeRebuiltDoesNoHarm(self) -> None:
        for exits in (False, True):
            call = self.call(far.echo, far.Bomb(exits), isSealed=True)
            letter = pickle.loads(pickle.dumps(call))
            self.assertIsInstance(self.errorOf(execute(letter)), CallNotRebuilt)

    def test_anIteratorThatCannotStreamIsClosed(self) -> None:
        events: list[str] = []

        def items() -> Iterator[int]:
            try:
                yield 1
            finally:
                events.append("closed")

        generator = items()
        next(generator)
        letter = PickledCall((lambda: generator, (), {}, None), False)
        self.assertIsInstance(self.errorOf(execute(letter)), ResultNotPicklable)
        self.assertEqual(events, ["closed"])

    def test_aBetterPicklerIsUsedWhereThereIsOne(self) -> None:
        letter = PickledCall((far.makeLambda, (), {}, None), False)
        without = {name: each for name, each in sys.modules.items() if name != "cloudpickle"}
        self.patch(sys, "modules", without)
        self.assertIsInstance(self.errorOf(execute(letter)), ResultNotPicklable)
        better = SimpleNamespace(dumps=lambda value: pickle.dumps("a function"))
        self.patch(sys, "modules", {**sys.modules, "cloudpickle": better})
        outcome = execute(letter)
        self.assertEqual(outcome.codec.unpack(outcome.result), "a function")

    def test_whatACoroutineLeavesRunningIsCancelled(self) -> None:
        events: list[str] = []

        async def background() -> None:
            try:
                await asyncio.sleep(3600)
            finally:
                events.append("cancelled")

        async def main() -> str:
            main.task = asyncio.ensure_future(background())  # type: ignore[attr-defined]
            await asyncio.sleep(0)
            return "done"

        self.assertEqual(execute(self.call(main)).result, "done")
        self.assertEqual(events, ["cancelled"])


class HereStreamTests(SynchronousTestCase):
    def stream(self, function: Any, *args: Any) -> PullStream:
        stream = execute(Call((function, args, {}, None), False, Near(), False)).result
        assert isinstance(stream, PullStream)
        return stream

    def test_itsBatchesAreBounded(self) -> None:
        stream = self.stream(far.numbers, 5_000)
        items = list((batch := stream.takeFirst()).items)
        sizes = [len(items)]
        while not batch.isOver:
            batch = stream.advance()
            sizes.append(len(batch.items))
            items += batch.items
        self.assertEqual(items, list(range(5_000)))
        self.assertLessEqual(max(sizes), 2048)

    def test_itYieldsMoreThanAnyCredit(self) -> None:
        stream = self.stream(far.numbers, 50_000)
        count = len((batch := stream.takeFirst()).items)
        while not batch.isOver:
            batch = stream.advance()
            count += len(batch.items)
        self.assertEqual(count, 50_000)

    def test_whatItRaisesComesAfterItsItems(self) -> None:
        batch = self.stream(far.numbersUntilRefused, 3).takeFirst()
        self.assertEqual((batch.items, batch.isOver), ([0, 1, 2], True))
        self.assertIsInstance(batch.error, ValueError)

    def test_whatClosingAddsToAFailureGoesToTheHook(self) -> None:
        class Items:
            def __iter__(self) -> Any:
                return self

            def __next__(self) -> Any:
                raise ValueError("told")

            def close(self) -> None:
                raise OSError("besides")

        hooked: list[Any] = []
        self.patch(sys, "excepthook", lambda *args: hooked.append(args))
        self.assertIsInstance(self.stream(Items).takeFirst().error, ValueError)
        self.assertEqual([kind for kind, *_ in hooked], [OSError])

    def test_closingAnAsynchronousOneRunsItsFinally(self) -> None:
        events: list[str] = []

        async def items() -> AsyncIterator[int]:
            try:
                while True:
                    yield 0
            finally:
                events.append("closed")

        self.assertIsNone(self.stream(items).close())
        self.assertEqual(events, ["closed"])
