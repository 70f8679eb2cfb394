"""
Coroutines and asynchronous generators in a runner.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import traceback
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from asynqueue._runner.codecs import DIRECT
from asynqueue._runner.coroutines import CoroutineRunner
from asynqueue._runner.exceptions import TaskInterrupted
from tests.runner.stage import Stage, StageTestCase

letter: ContextVar[str] = ContextVar("letter", default="a")


async def double(number: int) -> int:
    await asyncio.sleep(0)
    return number * 2


class CoroutineCase(StageTestCase):
    def setUp(self) -> None:
        self.stage = Stage(codec=DIRECT)
        self.runner = self.stage.runner
        self.addCleanup(self.runner.close)

    def result(self, function: Any, *args: Any) -> Any:
        self.stage.call(1, function, *args)
        _, (kind, _, result) = self.stage.run()
        assert kind == "RETURNED", result
        return result

    def error(self, function: Any, *args: Any) -> Any:
        self.stage.call(1, function, *args)
        _, (kind, _, error) = self.stage.run()
        assert kind == "RAISED", error
        return error

    def cancelDuring(self, id: int) -> None:
        """
        Do what a nudge does, while the call is running.
        """
        self.stage.cancel(id)
        self.runner.interrupt()


class CallTests(CoroutineCase):
    def test_theResultIsThatOfTheCoroutine(self) -> None:
        assert self.result(double, 4) == 8

    def test_theTimeIsThatOfTheWholeRun(self) -> None:
        async def work() -> None:
            self.stage.now += 1.5

        self.result(work)
        assert self.stage.messages[-1][2] == 1.5

    def test_aPickledResultIsPacked(self) -> None:
        self.stage = Stage()

        async def make() -> list[int]:
            return [1, 2]

        assert self.result(make) == [1, 2]
        self.stage.runner.close()

    def test_anExceptionComesWithTheCoroutinesTracebackOnly(self) -> None:
        async def deeper() -> None:
            await asyncio.sleep(0)
            raise ValueError("from within")

        async def refuse() -> None:
            await deeper()

        error = self.error(refuse)
        assert str(error) == "from within"
        names = [entry.name for entry in traceback.extract_tb(error.__traceback__)]
        assert names == ["refuse", "deeper"]

    def test_exitingFailsThatCallOnly(self) -> None:
        async def exit() -> None:
            sys.exit("bye")

        assert type(self.error(exit)) is SystemExit
        assert self.result(double, 1) == 2

    def test_aStopIterationFailsThatCallOnly(self) -> None:
        async def stop() -> None:
            raise StopAsyncIteration

        assert isinstance(self.error(stop), StopAsyncIteration)
        assert self.result(double, 1) == 2

    def test_theCallsAfterItRunAfterIt(self) -> None:
        order: list[str] = []

        async def slow() -> None:
            for _ in range(3):
                await asyncio.sleep(0)
                order.append("slow")

        self.stage.call(1, slow)
        self.stage.call(2, order.append, "next")
        self.stage.run()
        assert order == ["slow"] * 3 + ["next"]

    def test_variablesAreThoseOfTheCallAndGoWithIt(self) -> None:
        async def change() -> tuple[str, str]:
            before = letter.get()
            letter.set("z")
            await asyncio.sleep(0)
            return before, letter.get()

        self.stage.call(1, change, context=((f"{__name__}.letter", "q"),))
        assert self.stage.run()[1] == ("RETURNED", 1, ("q", "z"))
        assert self.result(change) == ("a", "z")
        assert letter.get() == "a"

    def test_theLoopIsKeptBetweenCalls(self) -> None:
        async def loop() -> Any:
            return asyncio.get_running_loop()

        assert self.result(loop) is self.result(loop)

    def test_whatOneLeavesOpenIsOfUseToTheNext(self) -> None:
        async def open() -> Any:
            return asyncio.get_running_loop().create_future()

        future = self.result(open)

        async def put() -> None:
            future.set_result("kept")

        async def take() -> Any:
            return await future

        self.result(put)
        assert self.result(take) == "kept"

    def test_closingCancelsWhatWasLeft(self) -> None:
        events: list[str] = []

        async def linger() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                events.append("cancelled")

        async def leave() -> None:
            self.left = asyncio.ensure_future(linger())
            await asyncio.sleep(0)

        self.result(leave)
        assert events == []
        self.stage.quit()
        self.runner.close()
        assert events == ["cancelled"]

    def test_whatWasLeftCannotEndTheNextOneUnanswered(self) -> None:
        async def exitLater() -> None:
            await asyncio.sleep(0)
            sys.exit(3)

        async def leave() -> None:
            self.left = asyncio.ensure_future(exitLater())

        async def forever() -> None:
            await asyncio.Event().wait()

        self.result(leave)
        assert type(self.error(forever)) is SystemExit
        assert isinstance(self.left.exception(), SystemExit)
        assert self.result(double, 3) == 6

    def test_aDeferredInItIsRefusedAndSaysWhatToDo(self) -> None:
        async def wait() -> None:
            await Deferred()

        error = self.error(wait)
        assert "useReactor=True" in "".join(traceback.format_exception(error))
        assert self.result(double, 3) == 6

    def test_aCoroutineThatReturnsAnIteratorYieldsItsItems(self) -> None:
        async def some() -> Any:
            return iter([1, 2])

        self.stage.call(1, some)
        assert self.stage.run()[1:] == [("STREAMING", 1), ("ITEMS", 1, [1, 2]), ("ENDED", 1)]

    def test_nothingOfItIsLeftForTheGarbageCollector(self) -> None:
        self.result(double, 1)
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)

        class Marked:
            alive = 0

            def __init__(self) -> None:
                Marked.alive += 1

            def __del__(self) -> None:
                Marked.alive -= 1

        async def take(marked: Marked) -> None:
            await asyncio.sleep(0)

        self.result(take, Marked())
        self.stage.messages.clear()
        # The loop keeps its last handles until it runs again.
        self.result(double, 1)
        assert Marked.alive == 0


class InterruptionTests(CoroutineCase):
    def test_itIsCancelledAndCleansUp(self) -> None:
        events: list[str] = []

        async def wait() -> None:
            self.cancelDuring(1)
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                events.append("cleaned up")

        assert type(self.error(wait)) is TaskInterrupted
        assert events == ["cleaned up"]
        assert self.result(double, 1) == 2

    def test_oneThatSuppressesItGoesOn(self) -> None:
        async def resist() -> str:
            self.cancelDuring(1)
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await asyncio.sleep(0)
            return "done"

        assert self.result(resist) == "done"
        assert self.result(double, 1) == 2

    def test_itIsAskedAgainOnTermination(self) -> None:
        asked: list[int] = []

        async def resist() -> None:
            self.cancelDuring(1)
            for number in range(2):
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    asked.append(number)
                    self.runner.terminate()
            await asyncio.Event().wait()

        self.stage.call(1, resist)
        assert self.stage.run() == [("begin", 1)], "to the near side it has died"
        assert asked == [0, 1]
        assert self.runner.ended

    def test_aFunctionThatHasNotMadeItYetIsBrokenOff(self) -> None:
        def make() -> Any:
            self.cancelDuring(1)
            return double(1)

        assert type(self.error(make)) is TaskInterrupted

    def test_anInterruptionBeforeItsFirstStepIsHeeded(self) -> None:
        runner = CoroutineRunner()
        self.addCleanup(runner.close)
        started: list[bool] = []

        class Early:
            def __init__(self) -> None:
                self.runner = asyncio.Runner()

            def run(self, *args: Any, **kw: Any) -> Any:
                assert runner.interrupt()
                return self.runner.run(*args, **kw)

            def close(self) -> None:
                self.runner.close()

        async def work() -> None:
            started.append(True)

        early: Any = Early()
        runner._runner = early
        with self.assertRaises(TaskInterrupted):
            coroutine = work()
            runner.run(coroutine)
        coroutine.close()
        assert started == []

        async def give() -> int:
            return 5

        early.close()
        runner._runner = None
        assert runner.run(give()) == 5

    def test_oneAfterTheEndChangesNothing(self) -> None:
        runner = CoroutineRunner()
        self.addCleanup(runner.close)
        assert runner.run(double(2)) == 4
        assert not runner.interrupt()
        assert runner.run(double(3)) == 6

    def test_anAnswerIsGivenOnceEvenIfInterruptedInItsLastStep(self) -> None:
        async def work() -> int:
            await asyncio.sleep(0)
            self.cancelDuring(1)
            return 3

        self.stage.call(1, work)
        events = self.stage.run()
        assert len(events) == 2, events


class AsyncIterationTests(CoroutineCase):
    def setUp(self) -> None:
        super().setUp()
        self.closed: list[str] = []

    async def numbers(self, count: int) -> AsyncIterator[int]:
        try:
            for number in range(count):
                await asyncio.sleep(0)
                yield number
        finally:
            await asyncio.sleep(0)
            self.closed.append("closed")

    def test_itsItemsStream(self) -> None:
        self.stage.call(1, self.numbers, 5000)
        assert self.stage.run()[-1] == ("ENDED", 1)
        assert self.stage.items(1) == list(range(5000))
        assert self.closed == ["closed"]

    def test_itsFailureComesAfterItsItems(self) -> None:
        async def some() -> AsyncIterator[int]:
            yield 1
            raise ValueError("no more")

        self.stage.call(1, some)
        *_, items, failure = self.stage.run()
        assert items == ("ITEMS", 1, [1])
        assert self.raised(failure, 1, ValueError) == "no more"

    def test_closingItRunsItsFinally(self) -> None:
        self.stage.call(1, self.numbers, 1 << 60)
        self.stage.run()
        assert self.closed == []
        self.stage.cancel(1)
        assert self.stage.run()[-1] == ("ENDED", 1)
        assert self.closed == ["closed"]

    def test_quittingClosesIt(self) -> None:
        self.stage.call(1, self.numbers, 1 << 60)
        self.stage.run()
        self.stage.quit()
        self.runner.close()
        assert self.closed == ["closed"]

    def test_oneThatIsInterruptedEnds(self) -> None:
        async def hang() -> AsyncIterator[int]:
            try:
                yield 1
                self.cancelDuring(1)
                await asyncio.Event().wait()
            finally:
                self.closed.append("closed")

        self.stage.call(1, hang)
        assert self.stage.run()[-1] == ("ENDED", 1)
        assert self.closed == ["closed"]
        assert self.result(double, 2) == 4

    def test_itRunsInTheContextOfItsCall(self) -> None:
        async def letters() -> AsyncIterator[str]:
            yield letter.get()
            yield letter.get()

        self.stage.call(1, letters, context=((f"{__name__}.letter", "q"),))
        self.stage.run()
        assert self.stage.items(1) == ["q", "q"]

    def test_severalTakeTurnsWithCalls(self) -> None:
        for id in (1, 2):
            self.stage.call(id, self.numbers, 3000)
        self.stage.call(3, double, 4)
        events = self.stage.run()
        assert ("RETURNED", 3, 8) in events
        assert self.stage.items(1) == self.stage.items(2) == list(range(3000))


class LightnessTests(SynchronousTestCase):
    def test_whatIsNoCoroutineIsNotWaitedFor(self) -> None:
        runner = CoroutineRunner()
        assert not any(map(runner.accepts, (1, "a", [], Deferred(), iter(()))))
        assert runner.iterate([1]) == [1]
        runner.close()


class WithinALoopTests(SynchronousTestCase):
    def test_aCoroutineIsRunWhereALoopOfOthersRunsInTheThread(self) -> None:
        runner = CoroutineRunner()

        async def engine() -> list[int]:
            try:
                return [runner.run(double(number)) for number in range(3)]
            finally:
                runner.close()

        self.assertEqual(asyncio.run(engine()), [0, 2, 4])
