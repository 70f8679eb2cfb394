from __future__ import annotations

import os
import platform
import sys
from typing import Any

import numpy as np
from twisted.trial.unittest import SynchronousTestCase

from asynqueue._runner.callrunner import CallRunner
from asynqueue._runner.messages import HELLO, RAISED, RETURNED, STREAMING, VERSION, Message
from asynqueue._runner.packing import LARGE, STANDARD
from asynqueue.errors import CallNotRebuilt, ResultNotPicklable
from tests.runner.stage import Stage, StageTestCase, Unpicklable


def double(number: Any) -> Any:
    return number * 2


def nothing() -> None: ...


def fail(error: BaseException) -> None:
    raise error


class HelloTests(SynchronousTestCase):
    def test_saysItsProcessProtocolAndPython(self) -> None:
        said: list[Message] = []
        CallRunner(said.append).hello()
        assert said == [(HELLO, os.getpid(), VERSION, platform.python_version())]


class ReturningTests(StageTestCase):
    def test_plainValuesComeBackAsTheyAre(self) -> None:
        for id, value in enumerate([None, True, 3, 2.5, "text"]):
            self.stage.call(id, lambda value: value, value)
            self.stage.run()
            assert self.stage.messages[-1] == (RETURNED, id, 0.0, value)
            assert type(self.stage.messages[-1][3]) is type(value)

    def test_otherValuesComeBackEqual(self) -> None:
        values: list[Any] = [[1, 2], {"a": (1,)}, b"bytes", range(3), {1, 2}]
        for id, value in enumerate(values):
            self.stage.call(id, lambda value: value, value)
            assert self.stage.run() == [("begin", id), ("RETURNED", id, value)]

    def test_keywordsAndArgumentsOfAllKindsArrive(self) -> None:
        def echo(*args: Any, **kw: Any) -> Any:
            return args, kw

        calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
            ((), {}),
            ((1, "a", None), {}),
            (([1], [2]), {}),
            ((1,), {"key": 2}),
            ((), {"key": [2]}),
            (([],), {}),
        ]
        for id, (args, kw) in enumerate(calls):
            self.stage.call(id, echo, *args, **kw)
            assert self.stage.run()[-1] == ("RETURNED", id, (args, kw))

    def test_largeArraysArriveAndAreWritable(self) -> None:
        def fill(array: Any) -> Any:
            array[:] += 1
            return array

        self.stage.call(1, fill, np.zeros(LARGE, np.uint8))
        assert self.stage.run()[-1][2].sum() == LARGE

    def test_tellsHowLongTheRunTook(self) -> None:
        def work() -> None:
            self.stage.now += 1.5

        self.stage.now = 100.0
        self.stage.call(1, work)
        self.stage.run()
        assert self.stage.messages == [(RETURNED, 1, 1.5, None)]

    def test_tellsHowLongARunTookThatFailedOrYieldedAnIterator(self) -> None:
        def work(result: Any) -> Any:
            self.stage.now += 1.5
            return iter(()) if result else fail(ValueError())

        self.stage.call(1, work, False)
        self.stage.call(2, work, True)
        self.stage.run()
        kinds = {message[0]: message[1:3] for message in self.stage.messages[:2]}
        assert kinds == {RAISED: (1, 1.5), STREAMING: (2, 1.5)}


class FailingTests(StageTestCase):
    def test_exceptionFailsTheCall(self) -> None:
        self.stage.call(1, fail, ValueError("wrong"))
        _, event = self.stage.run()
        assert self.raised(event, 1, ValueError) == "wrong"
        assert "in fail" in str(event[2].__cause__)

    def test_whateverIsRaisedFailsThatCallOnly(self) -> None:
        errors = [
            SystemExit(3),
            KeyboardInterrupt(),
            GeneratorExit(),
            StopIteration(),
            MemoryError(),
        ]
        for error in errors:
            self.stage.call(1, fail, error)
            self.stage.call(2, double, 4)
            _, event, *rest = self.stage.run()
            self.raised(event, 1, type(error))
            assert rest == [("begin", 2), ("RETURNED", 2, 8)]
        assert not self.runner.ended

    def test_exitFailsThatCallOnly(self) -> None:
        self.stage.call(1, sys.exit, "bye")
        assert self.raised(self.stage.run()[-1], 1, SystemExit) == "bye"

    def test_resultThatCannotBePickledFailsThatCallAndNamesItsType(self) -> None:
        self.stage.call(1, lambda: [Unpicklable()])
        self.stage.call(2, double, 4)
        _, event, *rest = self.stage.run()
        text = self.raised(event, 1, ResultNotPicklable)
        assert text == "could not bring back the result, of type list: TypeError: not me"
        assert rest == [("begin", 2), ("RETURNED", 2, 8)]

    def test_resultThatExitsWhileItIsPickledFailsThatCallOnly(self) -> None:
        class Exits:
            def __reduce__(self) -> Any:
                raise SystemExit

        self.stage.call(1, Exits)
        self.stage.call(2, double, 4)
        _, event, *rest = self.stage.run()
        assert "Exits: SystemExit" in self.raised(event, 1, ResultNotPicklable)
        assert rest == [("begin", 2), ("RETURNED", 2, 8)]

    def test_wrongArgumentsAreTheFunctionsError(self) -> None:
        self.stage.call(1, STANDARD.pack(double), 1, 2, 3)
        assert "double()" in self.raised(self.stage.run()[-1], 1, TypeError)


class OrderTests(StageTestCase):
    def test_callsRunAndAreAnsweredInTheOrderInWhichTheyCame(self) -> None:
        for id in range(20):
            self.stage.call(id, double, id)
        events = [event for id in range(20) for event in (("begin", id), ("RETURNED", id, 2 * id))]
        assert self.stage.run() == events

    def test_oneStepRunsOneCall(self) -> None:
        self.stage.call(1, double, 1)
        self.stage.call(2, double, 2)
        self.runner.step()
        assert self.stage.taken() == [("begin", 1), ("RETURNED", 1, 2)]
        self.runner.step()
        assert self.stage.taken() == [("begin", 2), ("RETURNED", 2, 4)]

    def test_beginIsToldBeforeAnythingOfTheCallIsDone(self) -> None:
        def seen() -> None:
            assert self.stage.taken() == [("begin", 1)]

        self.stage.call(1, seen)
        self.stage.call(2, b"garbage")
        events = self.stage.run()
        assert events[0] == ("RETURNED", 1, None)
        assert events[1] == ("begin", 2)
        self.raised(events[2], 2, CallNotRebuilt)

    def test_stepWithNothingToDoDoesNothing(self) -> None:
        assert not self.runner.hasWork
        self.runner.step()
        assert self.stage.taken() == []

    def test_runningIsTheCallWhoseCodeRunsAtThisMoment(self) -> None:
        def look() -> Any:
            return self.runner.running

        for id in (5, 6):
            self.stage.call(id, look)
            assert self.runner.running is None
            assert self.stage.run()[-1] == ("RETURNED", id, id)
            assert self.runner.running is None

    def test_hasWorkWhileCallsWait(self) -> None:
        self.stage.call(1, double, 1)
        assert (self.runner.hasWork, self.runner.hasStreams) == (True, False)
        self.runner.step()
        assert (self.runner.hasWork, self.runner.hasStreams) == (False, False)


class RawTests(StageTestCase):
    def iterate(self, stage: Stage, raw: bool | None) -> Any:
        stage.call(1, lambda: iter([1, 2]), raw=raw)
        return stage.run()[1]

    def test_callDecidesOrElseTheRunner(self) -> None:
        for default in (False, True):
            for raw in (None, False, True):
                event = self.iterate(Stage(default), raw)
                if raw or (raw is None and default):
                    assert (event[0], list(event[2])) == ("RETURNED", [1, 2])
                else:
                    assert event == ("STREAMING", 1)

    def test_generatorCannotBeBroughtBackRaw(self) -> None:
        self.stage.call(1, lambda: (item for item in "abc"), raw=True)
        text = self.raised(self.stage.run()[-1], 1, ResultNotPicklable)
        assert "of type generator" in text
