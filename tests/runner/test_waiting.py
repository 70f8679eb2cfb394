"""
A runner whose calls are waited for without any code of theirs running: with Deferreds, as where a
reactor runs.
"""

from __future__ import annotations

import gc
import traceback
from collections.abc import Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from asynqueue._runner.codecs import DIRECT, PICKLED, Codec
from asynqueue._runner.exceptions import TaskInterrupted
from asynqueue._runner.messages import CREDIT_ITEMS
from asynqueue._runner.reactormain import DeferredWaiter
from asynqueue.errors import RemoteTraceback
from tests.runner.stage import Stage, StageTestCase


def nothing(_: Any = None) -> None: ...


class WaitingCase(StageTestCase):
    codec: Codec = DIRECT

    def setUp(self) -> None:
        self.moves = 0
        self.waiter = DeferredWaiter(self._moved)
        self.stage = Stage(codec=self.codec, waiter=self.waiter)
        self.runner = self.stage.runner
        self.d: Deferred[Any] = Deferred()

    def _moved(self) -> None:
        self.moves += 1

    def wait(self, id: int = 1) -> None:
        """
        Begin a call that returns C{self.d}.
        """
        self.stage.call(id, lambda: self.d)
        assert self.stage.run() == [("begin", id)]


class CallTests(WaitingCase):
    def test_theAnswerComesWhenItFires(self) -> None:
        self.wait()
        self.stage.now += 2.5
        self.d.callback([7])
        assert self.stage.run() == [("RETURNED", 1, [7])]
        assert self.stage.messages[-1][2] == 2.5

    def test_oneThatHasFiredIsAnsweredAtOnce(self) -> None:
        self.stage.call(1, succeed, 3)
        self.stage.call(2, fail, ValueError("no"))
        events = self.stage.run()
        assert events[:3] == [("begin", 1), ("RETURNED", 1, 3), ("begin", 2)]
        self.raised(events[3], 2, ValueError)

    def test_theNextCallBeginsOnlyThen(self) -> None:
        self.wait()
        self.stage.call(2, nothing)
        assert self.stage.run() == []
        self.d.callback(None)
        assert self.moves == 1
        assert self.stage.run() == [
            ("RETURNED", 1, None),
            ("begin", 2),
            ("RETURNED", 2, None),
        ]

    def test_itsCallIsCurrentMeanwhile(self) -> None:
        self.wait()
        assert (self.runner.running, self.runner.current) == (None, 1)
        self.d.callback(None)
        assert self.runner.current is None

    def test_aCoroutineAwaitsDeferreds(self) -> None:
        async def work() -> Any:
            first = await self.d
            return first + await succeed(1)

        self.stage.call(1, work)
        assert self.stage.run() == [("begin", 1)]
        self.d.callback(2)
        assert self.stage.run() == [("RETURNED", 1, 3)]

    def test_itsIteratorStreams(self) -> None:
        self.wait()
        self.d.callback(iter([1, 2]))
        assert self.stage.run() == [("STREAMING", 1), ("ITEMS", 1, [1, 2]), ("ENDED", 1)]

    def test_nothingOfItIsKeptWithoutCollectingGarbage(self) -> None:
        class Marked:
            alive = 0

            def __init__(self) -> None:
                Marked.alive += 1

            def __del__(self) -> None:
                Marked.alive -= 1

        gc.disable()
        self.addCleanup(gc.enable)
        self.wait()
        self.d.callback(Marked())
        self.d = Deferred()
        self.stage.run()
        self.stage.messages.clear()
        assert Marked.alive == 0


class FailureTests(WaitingCase):
    def errorOf(self, function: Any) -> BaseException:
        self.stage.call(1, function)
        *_, (kind, _, error) = self.stage.run()
        assert kind == "RAISED"
        assert isinstance(error, BaseException)
        return error

    def textOf(self, error: BaseException) -> str:
        return "".join(traceback.format_exception(error))

    def test_aFailuresTracebackComesAlong(self) -> None:
        async def refuse() -> None:
            await succeed(None)
            raise ValueError("here")

        assert "in refuse" in self.textOf(self.errorOf(refuse))

    def test_theOnlyEntryOfATracebackIsKept(self) -> None:
        def refuse() -> Deferred[Any]:
            try:
                raise ValueError("here")
            except ValueError:
                return fail()

        error = self.errorOf(refuse)
        assert "in refuse" in self.textOf(error)
        assert "runner.py" not in self.textOf(error)
        assert error.__context__ is None

    def test_aFailureWithoutATracebackIsAFailure(self) -> None:
        assert str(self.errorOf(lambda: fail(ValueError("bare")))) == "bare"

    def test_aFailureWhoseTracebackTwistedMadeATextIsAFailure(self) -> None:
        def refuse() -> None:
            raise ValueError("long ago")

        try:
            refuse()
        except ValueError:
            failure = Failure()
        failure.cleanFailure()
        d: Deferred[Any] = fail(failure)
        error = self.errorOf(lambda: d)
        assert str(error) == "long ago"
        assert isinstance(error.__cause__, RemoteTraceback)
        assert "in refuse" in str(error.__cause__)

    def test_aCauseOfItsOwnIsKept(self) -> None:
        async def refuse() -> None:
            raise ValueError("second") from KeyError("first")

        assert type(self.errorOf(refuse).__cause__) is KeyError


class PickledFailureTests(FailureTests):
    """
    As it arrives on the other side of a pipe.
    """

    codec = PICKLED

    test_theOnlyEntryOfATracebackIsKept = None  # type: ignore[assignment]
    test_aCauseOfItsOwnIsKept = None  # type: ignore[assignment]

    def test_theFarTracebackIsTheCause(self) -> None:
        async def refuse() -> None:
            raise ValueError("second") from KeyError("first")

        cause = str(self.errorOf(refuse).__cause__)
        assert "in refuse" in cause
        assert "KeyError: 'first'" in cause


class CancelTests(WaitingCase):
    def test_cancellingCallsItsCanceller(self) -> None:
        cancelled: list[Any] = []
        self.d = Deferred(cancelled.append)
        self.wait()
        self.stage.cancel(1)
        assert self.runner.hasWork
        [event] = self.stage.run()
        assert type(event[2]) is TaskInterrupted
        assert cancelled == [self.d]

    def test_aCoroutineIsCancelledAndCleansUp(self) -> None:
        events: list[str] = []

        async def work() -> None:
            try:
                await self.d
            finally:
                events.append("cleaned up")

        self.stage.call(1, work)
        self.stage.run()
        self.stage.cancel(1)
        [event] = self.stage.run()
        assert event[:2] == ("RAISED", 1)
        assert events == ["cleaned up"]

    def test_aCancelledErrorOfItsOwnIsItsOwn(self) -> None:
        self.wait()
        self.d.errback(CancelledError())
        assert type(self.only(self.stage.run())[2]) is CancelledError

    def test_oneThatWillNotEndIsAskedOnce(self) -> None:
        asked: list[int] = []

        async def resist() -> None:
            while True:
                try:
                    await Deferred()
                except CancelledError:
                    asked.append(1)

        self.stage.call(1, resist)
        self.stage.run()
        self.stage.cancel(1)
        assert self.stage.run() == []
        assert asked == [1]
        assert not self.runner.hasWork

    def test_oneWhoseCancellerFailsGoesOn(self) -> None:
        def refuse(d: Any) -> None:
            raise ValueError("not now")

        self.d = Deferred(refuse)
        self.wait()
        self.stage.cancel(1)
        assert self.stage.run() == []
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.d.callback(1)
        assert self.stage.run() == [("RETURNED", 1, 1)]

    def test_oneThatComesAfterTheAnswerChangesNothing(self) -> None:
        self.wait()
        self.d.callback(1)
        self.stage.cancel(1)
        assert self.stage.run() == [("RETURNED", 1, 1)]
        self.d = Deferred()
        self.wait(2)
        assert not self.runner.hasWork

    def test_aCallBehindItIsGivenBack(self) -> None:
        self.wait()
        self.stage.call(2, nothing)
        self.stage.cancel(2)
        assert self.stage.run() == [("UNBEGUN", [2])]

    def test_itIsHeededWhileAStreamsCodeIsRunning(self) -> None:
        def some() -> Iterator[Any]:
            yield 0
            self.stage.now += 1
            yield 1
            self.stage.now += 1
            self.stage.cancel(2)
            # As a nudge does it, which is meant for what is running.
            self.runner.interrupt()
            yield 2

        self.stage.call(1, some)
        self.stage.call(2, lambda: self.d)
        events = self.stage.run()
        assert type(next(event[2] for event in events if event[0] == "RAISED")) is TaskInterrupted
        assert self.stage.items(1) == [0, 1, 2]

    def test_aStreamIsInterruptedAndNotWhatIsWaitedFor(self) -> None:
        def some() -> Iterator[Any]:
            yield 0
            self.stage.cancel(2)
            self.runner.interrupt()
            yield 1

        self.d = Deferred()
        go: Deferred[Any] = Deferred()
        self.stage.call(2, lambda: go)
        self.stage.run()
        go.callback(some())
        self.stage.call(3, lambda: self.d)
        events = self.stage.run()
        assert ("ENDED", 2) in events
        assert self.runner.current == 3
        self.d.callback("there")
        assert self.stage.run() == [("RETURNED", 3, "there")]


class EndTests(WaitingCase):
    def test_quittingGivesUpWhatIsWaitedForAndAnswersIt(self) -> None:
        self.wait()
        self.stage.call(2, nothing)
        self.stage.quit()
        self.runner.close()
        unbegun, event = self.stage.taken()
        assert unbegun == ("UNBEGUN", [2])
        assert type(event[2]) is TaskInterrupted
        assert self.runner.waiting is None

    def test_terminationWhileNothingRunsRaisesNothing(self) -> None:
        self.wait()
        self.runner.terminate()
        assert self.runner.ended
        self.runner.close()
        assert self.stage.taken() == []
        assert self.runner.waiting is None

    def test_closingEndsEvenIfItWillNot(self) -> None:
        async def resist() -> None:
            while True:
                try:
                    await Deferred()
                except CancelledError:
                    continue

        self.stage.call(1, resist)
        self.stage.run()
        self.stage.quit()
        self.runner.close()
        assert self.stage.taken() == []


class StreamTests(WaitingCase):
    def test_streamsGoOnWhileACallIsWaitedFor(self) -> None:
        self.stage.call(1, lambda: iter(range(CREDIT_ITEMS + 100)))
        self.stage.call(2, lambda: self.d)
        self.stage.run()
        assert len(self.stage.items(1)) == CREDIT_ITEMS
        self.stage.grant(1, 200, 1 << 20)
        assert ("ENDED", 1) in self.stage.run()
        assert len(self.stage.items(1)) == CREDIT_ITEMS + 100
        self.d.callback(3)
        assert self.stage.run() == [("RETURNED", 2, 3)]


actions = st.lists(
    st.one_of(
        st.tuples(st.just("call"), st.sampled_from(["wait", "plain", "stream", "fired"])),
        st.tuples(st.sampled_from(["cancel", "fire", "grant"]), st.integers(0, 8)),
        st.tuples(st.just("step"), st.integers(1, 3)),
        st.tuples(st.just("recall"), st.just(0)),
    ),
    max_size=30,
)


class Program:
    """
    Takes a runner through a program.
    """

    def __init__(self) -> None:
        self.stage = Stage(codec=DIRECT, waiter=DeferredWaiter(lambda: None))
        self.waits: dict[int, Deferred[Any]] = {}
        self.count = 0

    def begin(self, id: int, kind: str) -> Any:
        """
        What a call does.
        """
        if kind == "wait":
            self.waits[id] = Deferred()
            return self.waits[id]
        return {"plain": id, "fired": succeed(id), "stream": iter([id])}[kind]

    def call(self, kind: str) -> None:
        self.stage.call(self.count, self.begin, self.count, kind)
        self.count += 1

    def step(self, times: int) -> None:
        for _ in range(times):
            self.stage.runner.step()

    def recall(self, _: int) -> None:
        self.stage.recall()

    def cancel(self, id: int) -> None:
        self.stage.cancel(id)

    def grant(self, id: int) -> None:
        self.stage.grant(id, 10, 100)

    def fire(self, id: int) -> None:
        if id in self.waits and not self.waits[id].called:
            self.waits[id].callback(id)

    def finish(self) -> list[Any]:
        """
        Fire what is waited for until nothing is. This fails if there is work for ever.

        @return: all events.
        """
        events = self.stage.run()
        while pending := [id for id, d in self.waits.items() if not d.called]:
            self.fire(pending[0])
            events += self.stage.run()
        return events


class PropertyTests(SynchronousTestCase):
    @settings(max_examples=150, deadline=None)
    @given(actions)
    def test_everyCallIsAnsweredOnceAndThereIsNoWorkForEver(
        self, actions: list[tuple[str, Any]]
    ) -> None:
        program = Program()
        for what, value in actions:
            getattr(program, what)(value)
        answers = dict.fromkeys(range(program.count), 0)
        for name, who, *_ in program.finish():
            for id in who if name == "UNBEGUN" else [who]:
                answers[id] += name in ("RETURNED", "RAISED", "UNBEGUN", "ENDED")
        assert answers == dict.fromkeys(range(program.count), 1)
