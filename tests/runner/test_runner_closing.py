from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from typing import Any
from unittest import mock

from asynqueue._runner import streams
from asynqueue._runner.exceptions import TaskInterrupted
from asynqueue.errors import ResultNotPicklable
from tests.runner.stage import Unpicklable
from tests.runner.streaming import StreamTestCase, credit


class FailureTests(StreamTestCase):
    def test_itemsBeforeTheFailureComeFirst(self) -> None:
        self.stage.call(1, self.generator(1, 2, then=self.raising(ValueError("after two"))))
        *events, failure = self.stage.run()
        assert events == [("begin", 1), ("STREAMING", 1), ("ITEMS", 1, [1, 2])]
        assert self.raised(failure, 1, ValueError) == "after two"
        assert (self.runner.hasStreams, self.closed) == (False, [True])

    def test_whateverIsRaisedFailsThatStreamOnly(self) -> None:
        for error in (SystemExit(3), KeyboardInterrupt(), MemoryError()):
            self.stage.call(1, self.generator(1, then=self.raising(error)))
            self.stage.call(2, self.generator(5))
            events = self.stage.run()
            failure = self.only(event for event in events if event[0] == "RAISED")
            self.raised(failure, 1, type(error))
            assert [event for event in events if event[1] == 2][-2:] == [
                ("ITEMS", 2, [5]),
                ("ENDED", 2),
            ]

    def test_itemThatCannotBePickledFailsTheStreamAfterTheEarlierOnes(self) -> None:
        self.stage.call(1, self.generator(1, [2], Unpicklable(), 4))
        *events, failure = self.stage.run()
        assert events[-1] == ("ITEMS", 1, [1, [2]])
        text = self.raised(failure, 1, ResultNotPicklable)
        assert "could not bring back an item, of type " in text
        assert text.endswith("Unpicklable: TypeError: not me")
        assert (self.runner.hasStreams, self.closed) == (False, [True])

    def test_itemThatExitsWhileItIsPickledFailsTheStreamOnly(self) -> None:
        class Exits:
            def __reduce__(self) -> Any:
                raise SystemExit

        self.stage.call(1, self.generator(1, Exits()))
        self.stage.call(2, self.generator(5))
        events = self.stage.run()
        failure = self.only(event for event in events if event[0] == "RAISED")
        assert "Exits: SystemExit" in self.raised(failure, 1, ResultNotPicklable)
        assert ("ITEMS", 1, [1]) in events
        assert events[-1] == ("ENDED", 2)

    def test_whatClosingAddsToAFailureIsShownAndDoesNoHarm(self) -> None:
        def generate() -> Iterator[Any]:
            try:
                yield Unpicklable()
            finally:
                raise KeyError("while closing")

        hook = mock.Mock()
        self.patch(sys, "excepthook", hook)
        self.stage.call(1, generate)
        self.raised(self.stage.run()[-1], 1, ResultNotPicklable)
        ((kind, error, traceback),) = [call.args for call in hook.call_args_list]
        assert (kind, error.args, traceback) == (KeyError, ("while closing",), error.__traceback__)


class ClosingTests(StreamTestCase):
    def start(self, function: Any, id: int = 1) -> None:
        """
        Begin a stream, and take what it sends at first.
        """
        self.stage.call(id, function)
        self.runner.step()
        self.stage.taken()

    def test_cancelledStreamIsClosedAndEnded(self) -> None:
        self.start(self.endless)
        self.stage.cancel(1)
        assert self.runner.hasWork
        assert (self.stage.run(), self.closed) == ([("ENDED", 1)], [True])

    def test_streamWithoutCreditIsClosedToo(self) -> None:
        with credit(2):
            self.start(self.endless)
        self.stage.cancel(1)
        assert (self.stage.run(), self.closed) == ([("ENDED", 1)], [True])

    def test_cancellingTwiceEndsItOnce(self) -> None:
        self.start(self.endless)
        self.stage.cancel(1)
        self.stage.cancel(1)
        assert self.stage.run() == [("ENDED", 1)]
        self.stage.cancel(1)
        assert self.stage.run() == []

    def test_exceptionWhileClosingFailsTheStream(self) -> None:
        def generate() -> Iterator[int]:
            try:
                while True:
                    yield 1
            finally:
                raise KeyError("while closing")

        self.start(generate)
        self.stage.cancel(1)
        assert self.raised(self.only(self.stage.run()), 1, KeyError) == "'while closing'"
        assert not self.runner.hasStreams

    def test_generatorThatRefusesToCloseFails(self) -> None:
        def generate() -> Iterator[int]:
            try:
                yield 1
                yield 2
            except GeneratorExit:
                yield 3

        with credit(1):
            self.start(generate)
        self.stage.cancel(1)
        self.raised(self.only(self.stage.run()), 1, RuntimeError)

    def test_exitWhileClosingFailsThatStreamOnly(self) -> None:
        def generate() -> Iterator[int]:
            try:
                while True:
                    yield 1
            finally:
                sys.exit()

        self.start(generate, 1)
        self.start(self.endless, 2)
        self.stage.quit()
        self.runner.close()
        (one, two) = [event for event in self.stage.taken() if event[0] != "ITEMS"]
        self.raised(one, 1, SystemExit)
        assert two == ("ENDED", 2)

    def test_iteratorThatHasNothingToCloseJustEnds(self) -> None:
        with credit(1):
            self.start(lambda: iter([1, 2, 3]))
        self.stage.cancel(1)
        assert self.stage.run() == [("ENDED", 1)]

    def test_fileIsClosed(self) -> None:
        file = io.StringIO("1\n2\n3\n")
        with credit(1):
            self.start(lambda: file)
        self.stage.cancel(1)
        self.stage.run()
        assert file.closed

    def test_generatorThatRunsIsInterruptedAndEnds(self) -> None:
        def interrupted() -> None:
            self.stage.cancel(1)
            self.runner.interrupt()
            raise AssertionError

        self.stage.call(1, self.generator(1, 2, then=interrupted))
        assert self.stage.run()[2:] == [("ITEMS", 1, [1, 2]), ("ENDED", 1)]
        assert (self.closed, self.runner.hasStreams) == ([True], False)

    def test_generatorThatIsNotInterruptedSendsItsBatchAndEnds(self) -> None:
        with credit(3):
            self.stage.call(1, self.generator(1, then=lambda: self.stage.cancel(1)))
            assert self.stage.run()[2:] == [("ITEMS", 1, [1, None]), ("ENDED", 1)]

    def test_interruptionThatTheGeneratorSurvivesEndsItAllTheSame(self) -> None:
        def survive() -> str:
            self.stage.cancel(1)
            try:
                self.runner.interrupt()
            except TaskInterrupted:
                return "survived"
            return "was not interrupted"

        with credit(2):
            self.stage.call(1, self.generator(1, then=survive))
            assert self.stage.run()[2:] == [("ITEMS", 1, [1, "survived"]), ("ENDED", 1)]

    def test_cancellationOfAStreamThatIsOverInterruptsNoCallOfItsNumber(self) -> None:
        self.stage.call(1, self.generator(1, then=lambda: self.stage.cancel(1)))
        self.stage.run()
        self.stage.call(1, self.runner.interrupt)
        assert self.stage.run()[-1] == ("RETURNED", 1, None)

    def test_cancellingOneStreamInterruptsNoOther(self) -> None:
        def generate() -> Iterator[str]:
            self.stage.cancel(1)
            self.runner.interrupt()
            yield "went on"

        self.start(self.endless)
        self.stage.call(2, generate)
        self.stage.run()
        assert (self.stage.items(2), self.closed) == (["went on"], [True])


class SharingTests(StreamTestCase):
    def test_callsRunWhileStreamsProduce(self) -> None:
        self.stage.call(1, self.endless)
        self.runner.step()
        for id in range(2, 5):
            self.stage.call(id, lambda: "between")
        for id in range(2, 5):
            self.stage.taken()
            self.runner.step()
            kinds = [event[:2] for event in self.stage.events]
            assert kinds == [("begin", id), ("RETURNED", id), ("ITEMS", 1)]

    def test_streamsTakeTurns(self) -> None:
        for id in range(3):
            self.stage.call(id, lambda: iter(range(2 * streams.BATCH_ITEMS)))
        self.runner.step()
        self.runner.step()
        self.stage.taken()
        self.runner.step()
        kinds = [event[:2] for event in self.stage.taken()]
        assert kinds == [("begin", 2), ("STREAMING", 2), ("ENDED", 0), ("ITEMS", 1), ("ITEMS", 2)]

    def test_runningIsTheStreamWhoseCodeRunsAtThisMoment(self) -> None:
        def generate() -> Iterator[Any]:
            yield self.runner.running

        self.stage.call(7, generate)
        self.stage.run()
        assert (self.stage.items(7), self.runner.running) == ([7], None)
