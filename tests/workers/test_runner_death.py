"""
The death of a runner fails exactly the task that was running. The others run again.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from asynqueue._runner.messages import ENDED, HELLO, ITEMS, RETURNED, UNBEGUN, VERSION
from asynqueue.errors import ProtocolError, WorkerDied, WorkerStartError
from asynqueue.tasks import FINISHED, LOST, READY, UNDERWAY
from asynqueue.testing import far
from asynqueue.testing.memory import MemoryChannel, act
from tests.support.cases import WorkerCase


def tellNothing(channel: MemoryChannel) -> None:
    channel.tellsBegun = False


class DeathTests(WorkerCase):
    def test_beforeACallBeganItIsGivenBack(self) -> None:
        worker = self.makeWorker()
        tasks = self.giveMany(worker, (far.echo,), (far.echo,))
        worker.die()
        worker.step()
        self.assertEqual(self.listener.of("givenBack"), [tasks])
        self.assertEqual([task.state for task in tasks], [UNDERWAY, UNDERWAY])

    def test_inTheMiddleOfACallThatCallFailsAndNoOther(self) -> None:
        worker = self.makeWorker()
        worker.actions["die"] = lambda: worker.channel.die(signal=11)
        tasks = self.giveMany(worker, (far.echo, 1), (act, "die"), (far.echo, 2), (far.echo, 3))
        worker.stepAll()
        self.assertEqual(tasks[0].result, 1)
        error = tasks[1].failure.value
        self.assertIsInstance(error, WorkerDied)
        self.assertEqual(error.signal, 11)
        self.assertIn("SIGSEGV", str(error))
        self.assertEqual(self.listener.of("givenBack"), [tasks[2:]])

    def test_exitingWithoutAnErrorIsADeathToo(self) -> None:
        worker = self.makeWorker()
        worker.actions["die"] = lambda: worker.channel.die(exitCode=0)
        task = self.give(worker, act, "die")
        worker.stepAll()
        self.assertEqual(task.failure.value.exitCode, 0)

    def test_aResultThatWasSaidBeforeIsHeard(self) -> None:
        worker = self.makeWorker()
        task = self.give(worker, far.echo, 1)
        worker.channel.advance()
        worker.die()
        worker.step()
        self.assertEqual(task.result, 1)

    def test_aResultThatIsLostWithItIsADeath(self) -> None:
        worker = self.makeWorker()
        task = self.give(worker, far.echo, 1)
        worker.channel.advance()
        worker.die(losing=True)
        worker.step()
        self.assertIsInstance(task.failure.value, WorkerDied)

    def test_whereTheChannelCannotTellTheFirstCallCountsAsBegun(self) -> None:
        worker = self.makeWorker(tellNothing)
        first, *others = self.giveMany(worker, (far.echo,), (far.echo,), (far.echo,))
        worker.die()
        worker.step()
        self.assertIsInstance(first.failure.value, WorkerDied)
        self.assertEqual(self.listener.of("givenBack"), [others])

    def test_butWithoutARunnerNoCallHasBegun(self) -> None:
        def prepare(channel: MemoryChannel) -> None:
            channel.tellsBegun = False
            channel.isStillborn = True

        worker = self.makeWorker(prepare, isReady=False)
        task = self.give(worker, far.echo)
        worker.step()
        [reason] = self.listener.of("lost")
        self.assertIsInstance(reason, WorkerStartError)
        self.assertEqual(self.listener.of("givenBack"), [[task]])

    def test_aCancelledCallDiesUnnoticed(self) -> None:
        worker = self.makeWorker()

        def die() -> None:
            self.dropTask(worker, task)
            worker.die()

        worker.actions["die"] = die
        task = self.give(worker, act, "die")
        waiting = self.give(worker, far.echo)
        dropped = self.give(worker, far.echo)
        self.dropTask(worker, dropped)
        worker.stepAll()
        self.assertEqual(self.listener.of("givenBack"), [[waiting]])

    def test_deathsWithinCallbacksOfDeaths(self) -> None:
        worker = self.makeWorker()
        worker.actions["die"] = worker.die
        again = self.owner.make(far.echo, "again")
        task = self.give(worker, act, "die")
        again.start(worker, 0.0)
        # Given to a worker that has just lost its runner.
        task.d.addBoth(lambda _: worker._report(worker.runMany([again])))
        worker.stepAll()
        self.assertEqual(self.listener.of("givenBack"), [[again]])

    @given(
        before=st.integers(0, 5),
        after=st.integers(0, 5),
        inTheMiddle=st.booleans(),
        losing=st.booleans(),
    )
    def test_exactlyTheBegunTaskFails(
        self, before: int, after: int, inTheMiddle: bool, losing: bool
    ) -> None:
        self.setUp()
        worker = self.makeWorker()
        worker.actions["die"] = lambda: worker.die(losing=losing)
        done = self.giveMany(worker, *[(far.echo, number) for number in range(before)])
        fatal = self.giveMany(worker, *[(act, "die")] * inTheMiddle)
        waiting = self.giveMany(worker, *[(far.echo, number) for number in range(after)])
        for _ in range(before):
            worker.step()
        if not inTheMiddle:
            worker.die(losing=losing)
        worker.stepAll()
        self.assertTrue(all(task.state is FINISHED for task in done))
        self.assertTrue(all(type(task.failure.value) is WorkerDied for task in fatal))
        self.assertEqual(self.listener.of("givenBack"), [waiting] if waiting else [])


class NonsenseTests(WorkerCase):
    """
    A runner that says what makes no sense is killed.
    """

    def check(self, *message: object) -> None:
        worker = self.makeWorker()

        def say() -> None:
            worker.channel.post(message)
            # It is heard while the call is still running.
            worker.channel.deliver()

        worker.actions["say"] = say
        begun, unbegun = self.giveMany(worker, (act, "say"), (far.echo, 1))
        worker.step()
        self.assertEqual(worker.state, LOST)
        self.assertEqual(worker.channel.signals, [("kill", 0.0)])
        self.assertIsInstance(begun.failure.value, WorkerDied)
        self.assertEqual(self.listener.of("givenBack"), [[unbegun]])
        self.assertEqual(len(self.flushLoggedErrors()), 1)
        self.clock.advance(0)
        worker.stepAll()
        self.assertEqual(worker.state, READY)

    def test_aMessageOfNoKind(self) -> None:
        self.check(99, 1)

    def test_anEmptyMessage(self) -> None:
        self.check()

    def test_theResultOfACallThatWasNotMade(self) -> None:
        self.check(RETURNED, 77, 0.0, None)

    def test_itemsOfAStreamThatIsNotThere(self) -> None:
        self.check(ITEMS, 77, [1], 16)

    def test_theEndOfAStreamThatIsNotThere(self) -> None:
        self.check(ENDED, 77)

    def test_aCallGivenUpThatWasNotMade(self) -> None:
        self.check(UNBEGUN, [77])

    def test_aMessageThatIsTooShort(self) -> None:
        self.check(RETURNED)

    def test_aMessageThatIsNoTuple(self) -> None:
        worker = self.makeWorker()
        worker.channel.post(17)  # type: ignore[arg-type]
        worker.step()
        self.assertEqual(worker.state, LOST)
        self.assertEqual(len(self.flushLoggedErrors()), 1)

    def test_anotherVersionOfTheProtocol(self) -> None:
        def beMute(channel: MemoryChannel) -> None:
            channel.isMute = True

        worker = self.makeWorker(beMute, isReady=False)
        worker.channel.post((HELLO, 1, VERSION + 1, "3.99"))
        worker.step()
        self.assertEqual(worker.state, LOST)
        [logged] = self.flushLoggedErrors(ProtocolError)
        self.assertIn(f"version {VERSION + 1} of the protocol (on Python 3.99)", str(logged.value))

    def test_whatItSaysAfterItsKillDoesNoHarm(self) -> None:
        worker = self.makeWorker()
        worker.channel.post((99,))
        worker.channel.post((99,))
        worker.step()
        self.assertEqual(worker.state, LOST)
        worker._supervisor.received([(99,)])
        self.assertEqual(worker.channel.signals, [("kill", 0.0)])
        self.assertEqual(len(self.flushLoggedErrors()), 1)
