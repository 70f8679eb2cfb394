"""
Ending a call or a stream that is no longer wanted: with a nudge, SIGTERM, then a kill.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from asynqueue import QueuedTask
from asynqueue._runner.exceptions import TaskInterrupted
from asynqueue._runner.messages import CANCEL
from asynqueue.errors import WorkerDied
from asynqueue.iteration import Deferator, ListConsumer
from asynqueue.tasks import CANCELLED, READY, STOPPED
from asynqueue.testing import far
from asynqueue.testing.memory import MemoryChannel, MemoryWorker, act, actStubbornly
from tests.support.cases import WorkerCase
from tests.tools.clocks import moveTo


def beDeaf(channel: MemoryChannel) -> None:
    channel.hearsNudges = False


def yieldThenAct(name: str) -> Iterator[int]:
    act("make")
    yield 0
    act(name)
    yield 1


def yieldThenActStubbornly(name: str) -> Iterator[int]:
    act("make")
    yield 0
    actStubbornly(name)
    yield 1


class LadderCase(WorkerCase):
    def signalsUntil(self, worker: MemoryWorker, *times: float) -> list[list[str]]:
        """
        @return: for each time to which the clock is moved, the signals that the runner has had.
        """
        seen: list[list[str]] = []
        for time in times:
            moveTo(self.clock, time)
            seen.append([signal for signal, _ in worker.channel.signals])
        return seen


class CallTests(LadderCase):
    def giveHanging(
        self, worker: MemoryWorker, whileItRuns: Callable[[QueuedTask], Any], function: Any = act
    ) -> QueuedTask:
        """
        Give the worker a call that is cancelled as soon as it runs.
        """

        def hang() -> None:
            self.dropTask(worker, task)
            whileItRuns(task)

        worker.actions["hang"] = hang
        task = self.give(worker, function, "hang")
        return task

    def test_firstItIsAsked(self) -> None:
        worker = self.makeWorker()
        task = self.giveHanging(worker, lambda _: None)
        other = self.give(worker, far.echo, 1)
        worker.stepAll()
        self.assertEqual(task.state, CANCELLED)
        self.assertEqual(worker.channel.signals, [("nudge", 0.0)])
        self.assertEqual(len(worker.channels), 1)
        self.assertEqual(other.result, 1)

    def test_askingInterruptsTheCall(self) -> None:
        raised: list[type[BaseException]] = []

        def hang() -> None:
            self.dropTask(worker, task)
            try:
                worker.channel.heed()
            except BaseException as error:
                raised.append(type(error))
                raise

        worker = self.makeWorker()
        worker.actions["hang"] = hang
        task = self.give(worker, act, "hang")
        worker.stepAll()
        self.assertEqual(raised, [TaskInterrupted])

    def test_thenItIsTerminatedThenKilled(self) -> None:
        seen: list[list[str]] = []

        def climb(task: QueuedTask) -> None:
            seen.extend(self.signalsUntil(worker, 0.249, 0.25, 1.249, 1.25))

        worker = self.makeWorker()
        task = self.giveHanging(worker, climb, actStubbornly)
        worker.stepAll()
        self.assertEqual(
            seen,
            [
                ["nudge"],
                ["nudge", "terminate"],
                ["nudge", "terminate"],
                ["nudge", "terminate", "kill"],
            ],
        )
        self.assertEqual(task.state, CANCELLED)

    def test_terminatingCostsTheRunnerAndNoOtherTask(self) -> None:
        worker = self.makeWorker(beDeaf)
        self.giveHanging(worker, lambda _: self.clock.advance(0.25))
        other = self.give(worker, far.echo, 1)
        worker.stepAll()
        self.assertEqual(self.listener.of("givenBack"), [[other]])
        self.assertFalse(other.isDone)
        self.assertIsInstance(self.listener.of("lost")[0], WorkerDied)
        self.clock.advance(0)
        worker.stepAll()
        self.assertEqual((worker.state, len(worker.channels)), (READY, 2))

    def test_aCallThatEndsInTimeCostsNothing(self) -> None:
        worker = self.makeWorker(beDeaf)
        self.giveHanging(worker, lambda _: self.clock.advance(0.249))
        worker.stepAll()
        self.clock.advance(10)
        self.assertEqual(worker.channel.signals, [("nudge", 0.0)])
        self.assertEqual(worker.state, READY)

    def test_itsLateResultIsDropped(self) -> None:
        worker = self.makeWorker(beDeaf)
        results: list[Any] = []
        task = self.giveHanging(worker, lambda _: None)
        task.d.addBoth(results.append)
        worker.stepAll()
        self.assertEqual(len(results), 1)
        self.assertIs(task.result, None)
        self.assertEqual(self.listener.of("released"), [task])

    def test_aCallThatIsNotBegunIsNeverRun(self) -> None:
        worker = self.makeWorker()
        ran: list[str] = []
        worker.actions["note"] = lambda: ran.append("it ran")
        first, second = self.giveMany(worker, (far.echo, 1), (act, "note"))
        self.dropTask(worker, second)
        worker.stepAll()
        self.assertEqual((first.result, ran), (1, []))
        self.assertEqual(self.listener.of("released"), [second, first])
        self.assertEqual(self.listener.of("givenBack"), [])

    def test_anotherCallsRunIsNotEndedForItsSake(self) -> None:
        seen: list[list[str]] = []

        def run() -> str:
            self.dropTask(worker, second)
            seen.extend(self.signalsUntil(worker, 10))
            return "undisturbed"

        worker = self.makeWorker(beDeaf)
        worker.actions["run"] = run
        first = self.give(worker, act, "run")
        second = self.give(worker, far.echo)
        worker.channel.advance()
        worker.channel.deliver()
        self.assertEqual(seen, [["nudge", "nudge"]])
        self.assertEqual(first.result, "undisturbed")
        # Now it is the first in line, and may be what runs.
        self.clock.advance(0.25)
        self.assertEqual(worker.channel.signals[-1][0], "terminate")

    def test_norIsARunnerThatGetsNoTimeToRun(self) -> None:
        worker = self.makeWorker()
        first, second = self.giveMany(worker, (far.echo, 1), (far.echo, 2))
        self.dropTask(worker, second)
        self.clock.pump([0.1] * 100)
        self.assertEqual({signal for signal, _ in worker.channel.signals}, {"nudge"})
        worker.stepAll()
        self.assertEqual(first.result, 1)

    def test_cancellingWhatItDoesNotHaveDoesNothing(self) -> None:
        worker = self.makeWorker()
        worker.cancel(self.owner.make(far.echo))
        task = self.give(worker, far.echo)
        worker.stepAll()
        worker.cancel(task)
        self.assertEqual(len(worker.channel.sent), 1)
        self.assertAtRest()


class StreamTests(LadderCase):
    def startStream(self, worker: MemoryWorker, function: Any, *args: Any) -> Deferator:
        """
        @return: the Deferator of a generator that has yielded at least one item.
        """
        task = self.give(worker, function, *args)
        worker.stepAll()
        assert isinstance(task.result, Deferator)
        return task.result

    def test_aStreamThatIsStoppedIsClosedAtOnce(self) -> None:
        worker = self.makeWorker()
        deferator = self.startStream(worker, far.endless)
        deferator.stop()
        self.assertEqual(worker.channel.sent[-1], (CANCEL, 1))
        worker.stepAll()
        self.assertFalse(worker.channel.runner.hasStreams)
        self.clock.advance(10)
        self.assertEqual(worker.channel.signals, [("nudge", 0.0)])
        self.assertAtRest()

    def test_aStreamIsAskedOnceThoughTheWorkerStopsToo(self) -> None:
        worker = self.makeWorker()
        deferator = self.startStream(worker, far.endless)
        deferator.stop()
        worker.stop()
        self.assertEqual(worker.channel.sent.count((CANCEL, 1)), 1)
        self.assertEqual(worker.channel.signals, [("nudge", 0.0)])
        worker.stepAll()
        self.assertEqual(worker.state, STOPPED)

    def test_aGeneratorThatHangsIsInterrupted(self) -> None:
        worker, seen = self.stopWhileItHangs(yieldThenAct, 0.249)
        self.assertEqual(seen, [["nudge"]])
        self.assertFalse(worker.channel.runner.hasStreams)
        self.clock.advance(10)
        self.assertEqual(worker.channel.signals[1:], [])
        self.assertEqual(worker.state, READY)

    def test_oneThatWillNotHearIsTerminatedThenKilled(self) -> None:
        _, seen = self.stopWhileItHangs(yieldThenActStubbornly, 0.249, 0.25, 1.249, 1.25)
        self.assertEqual(
            seen,
            [
                ["nudge"],
                ["nudge", "terminate"],
                ["nudge", "terminate"],
                ["nudge", "terminate", "kill"],
            ],
        )

    def stopWhileItHangs(
        self, function: Any, *times: float
    ) -> tuple[MemoryWorker, list[list[str]]]:
        """
        Stop a stream whose generator is in the midst of making its second item.

        @return: the worker, and the signals that its runner had had at some times thereafter.
        """
        seen: list[list[str]] = []

        def hang() -> None:
            began = self.clock.seconds()
            deferator.stop()
            seen.extend(self.signalsUntil(worker, *(began + time for time in times)))

        worker = self.makeWorker()
        worker.actions["hang"] = hang
        task = self.give(worker, function, "hang")
        # An item that takes a second to make is sent at once.
        worker.actions["make"] = lambda: self.clock.advance(1)
        worker.step()
        deferator = task.result
        assert isinstance(deferator, Deferator)
        worker.stepAll()
        return worker, seen

    def test_cancellingItsTaskEndsAStreamForAConsumer(self) -> None:
        worker = self.makeWorker(beDeaf)
        consumer = ListConsumer()
        task = self.give(worker, far.endless, consumer=consumer)
        worker.step()
        self.assertFalse(task.isDone)
        self.dropTask(worker, task)
        self.assertIn((CANCEL, 1), worker.channel.sent)
        worker.stepAll()
        self.assertFalse(worker.channel.runner.hasStreams)
        self.assertIsNone(consumer.producer)

    def test_aCallThatRunsIsNotEndedForAStreamsSake(self) -> None:
        seen: list[list[str]] = []

        def run() -> str:
            deferator.stop()
            seen.extend(self.signalsUntil(worker, 10))
            return "undisturbed"

        worker = self.makeWorker()
        worker.actions["run"] = run
        deferator = self.startStream(worker, far.endless)
        task = self.give(worker, act, "run")
        worker.stepAll()
        self.assertEqual(seen, [["nudge"]])
        self.assertEqual(task.result, "undisturbed")
        self.assertFalse(worker.channel.runner.hasStreams)
        self.assertEqual(worker.state, READY)

    def test_stoppingAWorkerDoesNotCostItTheCallThatRuns(self) -> None:
        def run() -> str:
            stops.append(worker.stop())
            self.clock.advance(10)
            return "undisturbed"

        stops: list[Any] = []
        worker = self.makeWorker()
        worker.actions["run"] = run
        self.startStream(worker, far.endless)
        task = self.give(worker, act, "run")
        worker.stepAll()
        self.assertEqual(task.result, "undisturbed")
        self.successResultOf(stops[0])
        self.assertAtRest()

    def test_aStreamThatHangsBeforeTheNextCallIsTerminatedAllTheSame(self) -> None:
        def hang() -> None:
            call.append(self.give(worker, far.echo, 1))
            deferator.stop()
            seen.extend(self.signalsUntil(worker, self.clock.seconds() + 0.25))

        seen: list[list[str]] = []
        call: list[QueuedTask] = []
        worker = self.makeWorker()
        worker.actions["make"] = lambda: self.clock.advance(1)
        worker.actions["hang"] = hang
        task = self.give(worker, yieldThenActStubbornly, "hang")
        worker.step()
        deferator = task.result
        worker.stepAll()
        # The first nudge recalls the call, which the stream keeps from its turn.
        self.assertEqual(seen, [["nudge", "nudge", "terminate"]])
        self.assertEqual(self.listener.of("givenBack"), [call])

    def test_stoppingStreamsOfADeadRunnerLeavesNothingToDo(self) -> None:
        worker = self.makeWorker()
        first = self.startStream(worker, far.endless)
        second = self.startStream(worker, far.endless)
        # The callback on the death of one stream stops the other stream.
        first.source.listen(second.stop)
        worker.crash()
        worker.stepAll()
        self.assertAtRest()
