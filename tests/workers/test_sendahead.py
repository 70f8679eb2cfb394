"""
Calls that are sent ahead, recalled and given back.
"""

from __future__ import annotations

from asynqueue import QueuedTask
from asynqueue._runner.messages import CALL, RECALL
from asynqueue.errors import CallNotPicklable, PayloadTooLarge
from asynqueue.testing import far
from asynqueue.testing.memory import MemoryChannel, MemoryWorker, act
from tests.support.cases import WorkerCase


class RecallTests(WorkerCase):
    def runSlowly(self, *seconds: float) -> tuple[MemoryWorker, list[QueuedTask]]:
        """
        Run calls of these lengths, which are sent together.
        """
        worker = self.makeWorker()
        worker.actions["dawdle"] = self.dawdle
        tasks = self.giveMany(worker, *[(act, "dawdle", length) for length in seconds])
        worker.stepAll()
        return worker, tasks

    def dawdle(self, seconds: float) -> None:
        self.clock.pump([0.01] * round(seconds * 100))

    def test_whatWaitsBehindASlowCallIsRecalled(self) -> None:
        worker, [slow, *others] = self.runSlowly(0.05, 0, 0)
        self.assertIn((RECALL,), worker.channel.sent)
        self.assertEqual(worker.channel.signals, [("nudge", 0.05)])
        self.assertTrue(slow.isDone)
        self.assertEqual(
            self.listener.notes[1:],
            [
                ("stalled", None),
                # The messages that came while it ran are answered after it.
                ("released", others[0]),
                ("released", others[1]),
                ("givenBack", others),
                ("released", slow),
            ],
        )

    def test_whatGetsOnIsLeftAlone(self) -> None:
        worker, tasks = self.runSlowly(0.04, 0.04, 0.04)
        self.assertEqual(worker.channel.signals, [])
        self.assertTrue(all(task.isDone for task in tasks))

    def test_aSlowCallBehindQuickOnesIsNoticedToo(self) -> None:
        worker, tasks = self.runSlowly(0.03, 0.2, 0)
        self.assertEqual([task.isDone for task in tasks], [True, True, False])
        self.assertEqual(worker.channel.signals[0][0], "nudge")

    def test_aRunnerThatGetsNoTimeToRunIsLeftAlone(self) -> None:
        worker = self.makeWorker()
        tasks = self.giveMany(worker, (far.echo, 1), (far.echo, 2))
        self.dawdle(1)
        self.assertNotIn((RECALL,), worker.channel.sent)
        self.assertEqual(self.listener.of("stalled"), [])
        worker.stepAll()
        self.assertEqual([task.result for task in tasks], [1, 2])

    def test_butNotWhereAStreamMayBeWhatRuns(self) -> None:
        worker = self.makeWorker()
        stream = self.give(worker, far.endless)
        worker.stepAll()
        tasks = self.giveMany(worker, (far.echo, 1), (far.echo, 2))
        self.dawdle(0.05)
        self.assertIn((RECALL,), worker.channel.sent)
        worker.stepAll()
        self.assertEqual(self.listener.of("givenBack"), [tasks])
        stream.result.stop()

    def test_norWhereTheChannelCannotTell(self) -> None:
        worker = self.makeWorker(lambda channel: setattr(channel, "tellsBegun", False))
        self.giveMany(worker, (far.echo, 1), (far.echo, 2))
        self.dawdle(0.05)
        self.assertIn((RECALL,), worker.channel.sent)

    def test_aLoneCallMayTakeItsTime(self) -> None:
        worker, _ = self.runSlowly(5)
        self.assertEqual(worker.channel.signals, [])
        self.assertEqual(self.listener.of("stalled"), [])

    def test_whatWasCancelledMeanwhileIsNotGivenBack(self) -> None:
        worker = self.makeWorker()

        def dawdle() -> None:
            self.clock.advance(0.05)
            # Recalled already, which only is not known yet.
            self.dropTask(worker, second)

        worker.actions["dawdle"] = dawdle
        _, second, third = self.giveMany(worker, (act, "dawdle"), (far.echo,), (far.echo,))
        worker.stepAll()
        self.assertEqual(self.listener.of("givenBack"), [[third]])

    def test_theFunctionOfARecalledCallIsStillKnown(self) -> None:
        worker = self.makeWorker()
        worker.actions["dawdle"] = lambda: self.clock.advance(1)
        self.giveMany(worker, (act, "dawdle"), (far.echo, 1))
        worker.stepAll()
        task = self.give(worker, far.echo, 2)
        worker.stepAll()
        self.assertEqual(task.result, 2)

    def test_stoppingLeavesNothingForTheClock(self) -> None:
        worker = self.makeWorker()
        self.giveMany(worker, (far.echo,), (far.echo,))
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        worker.stop()
        worker.stepAll()
        self.assertAtRest()


class ReleaseTests(WorkerCase):
    """
    The listener hears exactly once that the worker no longer has a task.
    """

    def released(self) -> list[QueuedTask]:
        """
        @return: the tasks, in the order of their numbers.
        """
        return sorted(self.listener.of("released"), key=lambda task: task.id)

    def test_onceForEachWayToEnd(self) -> None:
        worker = self.makeWorker()
        worker.actions["die"] = worker.die
        tasks = self.giveMany(
            worker,
            (far.echo,),
            (far.refuse,),
            (far.makeLambda,),
            (far.makeBomb,),
            (far.numbers, 3),
            (far.echo, lambda: None),
            (far.endless,),
            (far.echo,),
            (act, "die"),
            (far.echo,),
        )
        self.dropTask(worker, tasks[7])
        worker.stepAll()
        self.assertEqual(self.released(), tasks)

    def test_onceWithALostRunnerThatHadToldOfTheEnd(self) -> None:
        worker = self.makeWorker()
        tasks = self.giveMany(worker, (far.echo, 1), (far.echo, 2))
        worker.channel.advance()
        worker.die()
        worker.stepAll()
        self.assertEqual(self.released(), tasks)
        self.assertEqual(tasks[0].result, 1)
        self.assertEqual(self.listener.of("givenBack"), [tasks[1:]])


class SendTests(WorkerCase):
    def limit(self, channel: MemoryChannel) -> None:
        channel.largest = 2000

    def test_tasksAreSentTogether(self) -> None:
        worker = self.makeWorker()
        self.giveMany(worker, *[(far.echo, number) for number in range(5)])
        self.assertEqual(
            [message[:2] for message in worker.channel.sent],
            [(CALL, number) for number in range(1, 6)],
        )

    def test_aCallThatIsTooLargeFailsAlone(self) -> None:
        worker = self.makeWorker(self.limit)
        small, large, other = self.giveMany(
            worker, (far.echo, 1), (far.echo, "x" * 2000), (far.echo, 2)
        )
        worker.stepAll()
        self.assertEqual((small.result, other.result), (1, 2))
        self.assertIsInstance(large.failure.value, PayloadTooLarge)

    def test_callsThatAreTooLargeTogetherAreSentApart(self) -> None:
        worker = self.makeWorker(self.limit)
        texts = [letter * 1000 for letter in "abc"]
        tasks = self.giveMany(worker, *[(far.echo, text) for text in texts])
        worker.stepAll()
        self.assertEqual([task.result for task in tasks], texts)

    def test_aFunctionWhoseFirstCallIsTooLargeCanBeCalledLater(self) -> None:
        worker = self.makeWorker(self.limit)
        large, other = self.giveMany(worker, (far.echo, "x" * 2000), (far.echo, 1))
        later = self.give(worker, far.echo, 2)
        another = self.give(worker, far.square, 3)
        worker.stepAll()
        self.assertIsInstance(large.failure.value, PayloadTooLarge)
        self.assertEqual((other.result, later.result, another.result), (1, 2, 9))

    def test_aCallThatCannotBePickledDoesNotHoldUpTheOthers(self) -> None:
        worker = self.makeWorker()
        bad, good = self.giveMany(worker, (far.echo, lambda: None), (far.echo, 1))
        self.assertIsInstance(bad.failure.value, CallNotPicklable)
        worker.stepAll()
        self.assertEqual(good.result, 1)

    def test_aCrashOnHearingOfItLosesNoTask(self) -> None:
        worker = self.makeWorker()
        left: list[QueuedTask] = []
        bad = self.owner.make(far.echo, lambda: None)
        good = self.owner.make(far.echo, 1)
        bad.d.addBoth(lambda _: left.extend(worker.crash()))
        for task in (bad, good):
            task.start(worker, 0.0)
        worker._report(worker.runMany([bad, good]))
        self.assertEqual(left, [good])
        worker.stepAll()
        self.assertAtRest()

    def test_runIsReadyAgainAtOnceWhereNothingWasSent(self) -> None:
        worker = self.makeWorker()
        task = self.owner.make(lambda: None)
        task.start(worker, 0.0)
        self.successResultOf(worker.run(task))


class StatsTests(WorkerCase):
    def test_itTellsTheTimesOfCallsThatCameToTheirEnd(self) -> None:
        worker = self.makeWorker(callStats=True)
        worker.actions["dawdle"] = self.clock.advance
        first = self.give(worker, act, "dawdle", 2)
        second = self.give(worker, act, "dawdle", 3)
        self.clock.advance(0.01)
        worker.step()
        self.assertTrue(first.isDone)
        self.give(worker, act, "dawdle", 1)
        worker.crash()
        worker.stepAll()
        self.assertFalse(second.isDone)
        [(total, run)] = self.successResultOf(worker.stats())
        self.assertAlmostEqual(total, 2.01)
        self.assertAlmostEqual(run, 2)

    def test_itTellsNothingUnlessAskedTo(self) -> None:
        worker = self.makeWorker()
        self.give(worker, far.echo)
        worker.stepAll()
        self.assertEqual(self.successResultOf(worker.stats()), [])

    def test_aTaskWithoutAStartTimeIsLeftOut(self) -> None:
        worker = self.makeWorker(callStats=True)
        task = self.owner.make(far.echo)
        worker._report(worker.runMany([task]))
        worker.stepAll()
        self.assertEqual(self.successResultOf(worker.stats()), [])
        self.assertEqual(self.listener.of("released"), [task])
