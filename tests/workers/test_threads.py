"""
Workers in threads: the contract, and their parts, moved by hand.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import ILogObserver, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import provider
from zope.interface.verify import verifyObject

from asynqueue import ThreadWorker
from asynqueue._runner.messages import (
    CALL,
    CANCEL,
    GRANT,
    HELLO,
    ITEMS,
    QUIT,
    RECALL,
    RETURNED,
    STREAMING,
    UNBEGUN,
    Message,
)
from asynqueue._workers.restart import START_TRIES
from asynqueue._workers.threads import Inbox, ThreadChannel
from asynqueue.errors import WorkerDied, WorkerStartError
from asynqueue.interfaces import IChannel
from asynqueue.tasks import FINISHED, LOST, READY, STARTING, STOPPED
from asynqueue.testing import FarWorkerContract, IteratingWorkerContract, TaskOwner, far

PATIENCE = 20.0


class ContractTests(FarWorkerContract, IteratingWorkerContract, TestCase):
    def makeWorker(self) -> ThreadWorker:
        return ThreadWorker()


def call(number: int, function: Callable[..., Any] = far.echo, *args: Any) -> Message:
    return (CALL, number, function, (args, {}), None, None)


class InboxTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.inbox = Inbox()

    def test_messagesAreTakenInOrderUpToTheFirstCall(self) -> None:
        self.inbox.put([(CANCEL, 1), (RECALL,), call(2), (CANCEL, 3), call(4)])
        self.assertEqual(self.inbox.take(True), [(CANCEL, 1), (RECALL,), call(2)])
        self.assertEqual(self.inbox.take(True), [(CANCEL, 3), call(4)])
        self.assertEqual(self.inbox.take(False), [])

    def test_aCallAmongOthersCanBeTakenBack(self) -> None:
        self.inbox.put([call(1), (CANCEL, 9), call(2), call(3)])
        self.assertEqual(self.inbox.takeCalls(2), [call(2)])
        self.assertEqual(self.inbox.takeCalls(2), [])
        self.assertEqual(self.inbox.take(False), [call(1)])
        self.assertEqual(self.inbox.take(False), [(CANCEL, 9), call(3)])

    def test_allCallsCanBeTakenBack(self) -> None:
        self.inbox.put([call(1), (CANCEL, 9), call(2)])
        self.assertEqual(self.inbox.takeCalls(), [call(1), call(2)])
        self.assertEqual(self.inbox.take(False), [(CANCEL, 9)])

    def waiting(self) -> tuple[threading.Thread, list[list[Message]]]:
        """
        Have a thread wait for messages.
        """
        taken: list[list[Message]] = []
        thread = threading.Thread(target=lambda: taken.append(self.inbox.take(True)), daemon=True)
        thread.start()
        return thread, taken

    def test_whoWaitsGetsWhatComes(self) -> None:
        thread, taken = self.waiting()
        self.inbox.put([call(1)])
        thread.join(PATIENCE)
        self.assertEqual(taken, [[call(1)]])

    def test_closingEndsTheWait(self) -> None:
        thread, taken = self.waiting()
        self.inbox.close()
        thread.join(PATIENCE)
        self.assertEqual(taken, [[]])
        self.assertEqual(self.inbox.take(True), [])

    def test_aClosedOneStillGivesWhatItHas(self) -> None:
        self.inbox.put([(QUIT,)])
        self.inbox.close()
        self.assertEqual(self.inbox.take(True), [(QUIT,)])

    def test_betweenManyThreadsNothingIsLostOrDoubled(self) -> None:
        count, taken = 2000, []

        def put(base: int) -> None:
            for number in range(count):
                self.inbox.put([call(base + number)])

        def takeBack() -> None:
            for _ in range(100):
                taken.extend(self.inbox.takeCalls())

        def take() -> None:
            while messages := self.inbox.take(True):
                taken.extend(messages)

        putting = [threading.Thread(target=put, args=(count * k,)) for k in range(2)]
        taking = [threading.Thread(target=work) for work in (takeBack, take)]
        for thread in putting + taking:
            thread.start()
        for thread in putting:
            thread.join(PATIENCE)
        self.inbox.close()
        for thread in taking:
            thread.join(PATIENCE)
        self.assertEqual(sorted(message[1] for message in taken), list(range(2 * count)))


class Receiver:
    """
    Notes what a channel tells it.
    """

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.losses: list[Exception] = []

    def received(self, messages: list[Message]) -> None:
        """Note it."""
        self.messages += messages

    def lost(self, reason: Exception) -> None:
        """Note it."""
        self.losses.append(reason)

    def kinds(self) -> list[int]:
        """Return the messages that came since the last call."""
        kinds = [message[0] for message in self.messages]
        self.messages.clear()
        return kinds


class HandMovedTests(SynchronousTestCase):
    """
    A channel whose thread is the test's own while the test steps it.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.targets: list[Callable[[], object]] = []
        self.receiver = Receiver()
        self.channel = ThreadChannel(self.clock, start=self._start)
        self.channel.open(self.receiver)

    def _start(self, target: Callable[[], object]) -> str:
        self.targets.append(target)
        return "no thread"

    def test_itProvidesIChannel(self) -> None:
        verifyObject(IChannel, self.channel)
        self.assertFalse(self.channel.isMortal)
        self.assertIsNone(self.channel.pid)
        self.assertIsNone(self.channel.residentKilobytes())

    def test_whatStartsTheThreadGetsWhatItIsToDo(self) -> None:
        self.assertEqual(len(self.targets), 1)
        self.assertEqual(self.channel.thread, "no thread")
        self.assertEqual(self.receiver.messages, [])

    def test_itServesUntilToldToQuit(self) -> None:
        self.channel.send([call(1, far.add, 3, 4), (QUIT,)])
        self.targets[0]()
        self.assertEqual(self.receiver.kinds(), [HELLO, RETURNED])
        self.assertEqual(self.channel.lastBegun, 1)
        [loss] = self.receiver.losses
        self.assertIsInstance(loss, WorkerDied)

    def test_whatHasNotBegunIsTakenBackWithoutTheThread(self) -> None:
        self.channel.send([call(1), call(2), call(3)])
        self.channel.send([(CANCEL, 2)])
        self.assertEqual(self.receiver.messages, [(UNBEGUN, [2])])
        self.channel.send([(RECALL,)])
        self.assertEqual(self.receiver.messages[1:], [(UNBEGUN, [1, 3])])
        self.channel.send([(QUIT,)])
        self.targets[0]()
        self.assertEqual(self.channel.lastBegun, 0)

    def test_whatIsCancelledByTheCallBeforeItDoesNotRun(self) -> None:
        self.channel.send([call(1, lambda: self.channel.send([(CANCEL, 2)])), call(2), (QUIT,)])
        self.targets[0]()
        answers = [message[:2] for message in self.receiver.messages[1:]]
        self.assertEqual(answers, [(UNBEGUN, [2]), (RETURNED, 1)])

    def test_anIteratorIsClosedWhenItsStreamIsCancelled(self) -> None:
        events: list[str] = []

        def some() -> Any:
            try:
                yield 1
                self.channel.send([(CANCEL, 1), (QUIT,)])
                yield 2
            finally:
                events.append("closed")

        self.channel.send([call(1, some)])
        self.targets[0]()
        self.assertEqual(events, ["closed"])
        self.assertEqual(self.receiver.kinds()[:3], [HELLO, STREAMING, ITEMS])

    def test_terminationEndsItAfterItsCall(self) -> None:
        self.channel.send([call(1, self.channel.terminate), call(2)])
        self.targets[0]()
        answers = [message[:2] for message in self.receiver.messages[1:]]
        self.assertEqual(answers, [(RETURNED, 1), (UNBEGUN, [2])])
        self.assertEqual(len(self.receiver.losses), 1)

    def test_whatIsLeftBehindIsNotHeardOfAgain(self) -> None:
        def leave() -> str:
            self.channel.kill()
            self.clock.advance(0)
            self.assertEqual(len(self.receiver.losses), 1)
            return "too late"

        events: list[str] = []
        self.channel.send([call(1, leave), call(2, events.append, "ran")])
        self.targets[0]()
        self.assertEqual(self.receiver.kinds(), [HELLO])
        self.assertEqual(len(self.receiver.losses), 1)
        self.assertEqual(events, [])

    def test_beingLeftBehindInACallIsLogged(self) -> None:
        logged: list[str] = []

        @provider(ILogObserver)
        def observe(event: Any) -> None:
            if event.get("log_namespace", "").endswith("ThreadChannel"):
                logged.append(event["log_format"].format(**event))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        self.channel.send([call(1, self.channel.kill)])
        self.targets[0]()
        self.assertEqual(logged, ["no thread is left behind, because it still runs call 1"])

    def test_killingAnIdleOneIsTheSameAndNothingToLog(self) -> None:
        self.channel.kill()
        self.channel.kill()
        self.assertEqual(self.receiver.losses, [])
        self.clock.advance(0)
        self.assertEqual(len(self.receiver.losses), 1)
        self.targets[0]()
        self.assertEqual(len(self.receiver.losses), 1)
        self.channel.kill()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_aBreakdownOfTheThreadIsALoss(self) -> None:
        self.channel.send([(12345,), call(1), (GRANT,)])
        with self.assertRaises(TypeError):
            self.targets[0]()
        self.assertEqual(len(self.receiver.losses), 1)


class StartTests(SynchronousTestCase):
    """
    Where the system has no more threads to give.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.refusals = 0
        self.channels: list[ThreadChannel] = []

    def makeWorker(self) -> ThreadWorker:
        test = self

        class Worker(ThreadWorker):
            def makeChannel(self) -> IChannel:
                channel = ThreadChannel(test.clock, start=test.start)
                test.channels.append(channel)
                return channel

        return Worker(reactor=self.clock)

    def start(self, target: Callable[[], object]) -> Any:
        """
        Start no thread, or refuse to.
        """
        if self.refusals:
            self.refusals -= 1
            raise RuntimeError("can't start new thread")
        return threading.Thread(target=target)

    def run1(self, task: Any) -> None:
        """
        Have the present channel serve until a task is done, then end.
        """
        channel = self.channels[-1]
        task.d.addCallback(lambda _: channel.send([(QUIT,)]))
        channel.thread.run()

    def give(self, worker: ThreadWorker) -> Any:
        task = TaskOwner(self.clock).make(far.echo, 5)
        task.start(worker, 0.0)
        worker._report(worker.runMany([task]))
        return task

    def test_aThreadThatCannotBeStartedIsTriedAgain(self) -> None:
        self.refusals = 3
        worker = self.makeWorker()
        self.assertEqual(worker.state, STARTING)
        self.assertIsNone(worker.thread)
        self.assertIn("STARTING", repr(worker))
        task = self.give(worker)
        self.clock.advance(0)
        self.assertEqual(worker.state, LOST)
        self.clock.pump([0.1] * 20)
        self.assertEqual(len(self.channels), 4)
        self.run1(task)
        self.assertEqual((task.state, task.result), (FINISHED, 5))

    def test_afterManyTriesItGivesUpAndItsTasksFail(self) -> None:
        self.refusals = 1000
        worker = self.makeWorker()
        task = self.give(worker)
        self.clock.pump([0.1] * 100)
        self.assertEqual(worker.state, STOPPED)
        self.assertEqual(len(self.channels), START_TRIES)
        error = task.failure.value
        self.assertIsInstance(error, WorkerStartError)
        self.assertIn("can't start new thread", str(error))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_aWorkerThatIsAttachedResigns(self) -> None:
        self.refusals = 1000
        worker = self.makeWorker()
        resigned: list[int] = []
        worker.setResignator(lambda: resigned.append(1))
        self.clock.pump([0.1] * 100)
        self.assertEqual(resigned, [1])

    def test_aThreadThatBreaksDownIsReplaced(self) -> None:
        worker = self.makeWorker()
        self.channels[0].send([(GRANT,)])
        with self.assertRaises(TypeError):
            self.channels[0].thread.run()
        self.clock.pump([0.1] * 5)
        self.assertEqual(len(self.channels), 2)
        task = self.give(worker)
        self.assertNotEqual(worker.state, READY)
        self.run1(task)
        self.assertEqual(task.result, 5)


class StatsTests(SynchronousTestCase):
    def test_aCallsOwnCallbackFindsItInTheStats(self) -> None:
        clock = Clock()
        worker = ThreadWorker(callStats=True, reactor=clock)
        task = TaskOwner(clock).make(far.echo, 5)
        task.start(worker, 0.0)
        found: list[Any] = []
        done = threading.Event()

        def look(_: Any) -> None:
            worker.stats().addCallback(found.extend)
            done.set()

        task.d.addCallback(look)
        # With a clock, everything is told in the worker's thread.
        worker._report(worker.runMany([task]))
        self.assertTrue(done.wait(PATIENCE))
        self.assertEqual(len(found), 1)
        thread = worker.thread
        worker.stop()
        thread.join(PATIENCE)
        self.assertEqual(len(self.successResultOf(worker.stats())), 1)


class LaterTests(SynchronousTestCase):
    """
    Of many threads some are started in later turns of the reactor.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.started: list[Any] = []
        self.lost: list[Exception] = []

    def start(self, target: Any) -> Any:
        # As long as a turn may take.
        self.clock.rightNow += 1.0
        self.started.append(target)
        return target

    def open(self) -> ThreadChannel:
        channel = ThreadChannel(self.clock, start=self.start)
        channel.open(_LostReceiver(self.lost))
        return channel

    def test_eachIsStartedInTheEnd(self) -> None:
        for _ in range(3):
            self.open()
        self.assertEqual(len(self.started), 1)
        self.clock.advance(0)
        self.assertEqual(len(self.started), 3)

    def test_whoeverAsksForAThreadGetsIt(self) -> None:
        self.open()
        channel = self.open()
        self.assertIs(channel.thread, self.started[1])
        self.clock.advance(0)
        self.assertEqual(len(self.started), 2)

    def test_lookingAtAWorkerDoesNotStartItsThread(self) -> None:
        self.open()
        self.assertIsNone(self.open().name)
        self.assertEqual(len(self.started), 1)

    def test_oneThatIsKilledBeforeIsNotStarted(self) -> None:
        self.open()
        self.open().kill()
        self.clock.advance(0)
        self.assertEqual((len(self.started), len(self.lost)), (1, 1))

    def test_aThreadThatCannotBeStartedLaterIsLost(self) -> None:
        self.open()
        self.start = self.refuse  # type: ignore[method-assign]
        self.open()
        self.clock.advance(0)
        self.assertEqual([type(reason) for reason in self.lost], [WorkerStartError])

    def refuse(self, target: Any) -> Any:
        raise RuntimeError("can't start new thread")


class _LostReceiver:
    def __init__(self, reasons: list[Exception]) -> None:
        self.lost = reasons.append

    def received(self, messages: list[Any]) -> None:
        pass
