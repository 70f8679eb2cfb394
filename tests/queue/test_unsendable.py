"""
A call that cannot be sent fails at once, even if it would have to wait.
"""

from __future__ import annotations

from contextvars import ContextVar
from threading import Lock
from typing import Any
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from asynqueue import Event, ResizableDispatchQueue, TaskQueue
from asynqueue._observers import QUEUED
from asynqueue._queue import checks
from asynqueue._runner.codecs import DIRECT
from asynqueue._runner.messages import CALL
from asynqueue._workers.picklability import EACH, CallCheck
from asynqueue.errors import CallNotPicklable
from asynqueue.iteration import ListConsumer
from asynqueue.tasks import FAILED, PENDING
from asynqueue.testing import far
from asynqueue.testing.memory import MemoryChannel, MemoryWorker
from asynqueue.testing.stepworker import StepWorker
from tests.support.cases import QueueCase

LOCK = Lock()

variable: ContextVar[Any] = ContextVar("variable")


class SharingWorker(MemoryWorker):
    """
    Says of itself that it pickles nothing. (Its calls are never run here.)
    """

    codec = DIRECT
    packer = None


class Meddling:
    """
    Does something when it is pickled, and refuses to be.
    """

    def __init__(self, action: Any, *args: Any) -> None:
        self.action = action
        self.args = args

    def __reduce__(self) -> Any:
        self.action(*self.args)
        raise ValueError("stays here")


class EarlyCase(QueueCase):
    def busyQueue(self, *series: str, count: int = 1) -> TaskQueue:
        """
        @return: a queue whose workers all have a task, and do nothing.
        """
        workers = [self.makeWorker(*series, stepSeconds=None) for _ in range(count)]
        queue = self.makeQueue(*workers)
        for worker in workers:
            worker.stepAll()
        self.held = [queue.submit(far.echo, number) for number in range(count)]
        self.assertEqual([task.worker for task in self.held], workers)
        return queue

    def refusalOf(self, d: Deferred[Any]) -> str:
        """
        @return: the text of the error that a Deferred has failed with already.
        """
        return str(self.failureResultOf(d, CallNotPicklable).value)

    def sent(self) -> list[Any]:
        """
        @return: the messages of all calls that were sent, in order of worker.
        """
        return [
            message
            for worker in self.workers
            for channel in worker.channels
            for message in channel.sent
            if message[0] == CALL
        ]


class RefusalTests(EarlyCase):
    def test_whileAllWorkersAreBusy(self) -> None:
        queue = self.busyQueue(count=2)
        before = self.sent()
        self.assertIn("argument 2 of keywords", self.refusalOf(queue.call(far.keywords, 1, LOCK)))
        self.assertIn("argument 'key' of", self.refusalOf(queue.call(far.keywords, key=LOCK)))
        self.assertIn("the function", self.refusalOf(queue.call(lambda: None)))
        self.assertEqual(self.sent(), before)
        self.assertEqual([task.isDone for task in self.held], [False, False])

    def test_whileAllWorkersAreStarting(self) -> None:
        worker = self.makeWorker(stepSeconds=None)
        queue = self.makeQueue(worker)
        self.refusalOf(queue.call(far.echo, LOCK))
        good = queue.call(far.echo, 1)
        worker.stepAll()
        self.clock.advance(0)
        worker.stepAll()
        self.assertEqual(self.successResultOf(good), 1)
        self.assertEqual([message[1] for message in self.sent()], [1], "no number was used")

    def test_whileAWorkerHasLostItsRunner(self) -> None:
        def refuse(channel: MemoryChannel) -> None:
            channel.refuses = bool(self.workers)

        worker = self.makeWorker(prepare=refuse)
        queue = self.makeQueue(worker)
        self.settle()
        worker.die()
        worker.step()
        self.refusalOf(queue.call(far.echo, LOCK))
        worker._prepare = None
        self.clock.advance(10)
        self.assertEqual(self.resultOf(queue.call(far.echo, 1)), 1)

    def test_theTaskHasAsIfNeverBeenThere(self) -> None:
        queue = self.busyQueue()
        task = queue.submit(far.echo, LOCK, niceness=-20, timeout=5)
        self.refusalOf(task.d)
        self.assertEqual((task.state, task.worker, task.startTime), (FAILED, None, None))
        self.assertEqual((task.attempts, task.stopTime), (0, self.clock.seconds()))
        self.assertIs(type(task.failure.value), CallNotPicklable)
        self.assertEqual((queue.load, len(queue._engine.scheduler)), (1, 0))

    def test_observersHearOfBothInTheirOrder(self) -> None:
        queue = self.busyQueue()
        events: list[Event] = []
        queue.addObserver(events.append)
        task = queue.submit(far.echo, LOCK)
        self.assertEqual(
            [(event.kind, event.task) for event in events], [(QUEUED, task), (FAILED, task)]
        )
        self.assertIs(events[1].reason, task.failure.value)
        self.refusalOf(task.d)

    def test_thoseBeforeAndBehindKeepTheirOrder(self) -> None:
        queue = self.busyQueue()
        order: list[int] = []
        for number in range(10):
            d = queue.call(far.echo, [number] if number % 3 else [number, LOCK])
            if number % 3:
                d.addCallback(order.extend)
            else:
                self.refusalOf(d)
        self.workers[0].stepAll()
        self.clock.pump([0] * 20)
        while self.workers[0].step():
            self.clock.advance(0)
        self.assertEqual(order, [1, 2, 4, 5, 7, 8])

    def test_contextVariablesAreLookedAtToo(self) -> None:
        worker = self.makeWorker(stepSeconds=None)
        queue = TaskQueue(worker, reactor=self.clock, contextvars=[f"{__name__}.variable"])
        self.queues.append(queue)
        token = variable.set([LOCK])
        try:
            text = self.refusalOf(queue.call(far.echo, 1))
        finally:
            variable.reset(token)
        self.assertIn(f"the value of the context variable {__name__}.variable", text)

    def test_theErrorIsTheSameAsAtItsTurn(self) -> None:
        waiting = self.busyQueue()
        free = self.makeQueue(self.makeWorker())
        self.settle()
        for function, args, kw in (
            (far.echo, (LOCK,), {}),
            (far.keywords, (1, [LOCK]), {}),
            (far.keywords, (), {"key": LOCK}),
            (LOCK.acquire, (), {}),
        ):
            early, late = (
                self.failureResultOf(queue.call(function, *args, **kw), CallNotPicklable).value
                for queue in (waiting, free)
            )
            self.assertEqual(str(early), str(late))
            self.assertEqual(str(early.__cause__), str(late.__cause__))

    def test_aShutdownMeanwhileIsNotHeldUp(self) -> None:
        worker = self.makeWorker()
        queue = self.makeQueue(worker)
        ended: list[Deferred[None]] = []
        d = queue.call(far.echo, Meddling(lambda: ended.append(queue.shutdown())))
        self.refusalOf(d)
        self.settle()
        self.assertIsNone(self.successResultOf(ended[0]))

    def test_whatPicklingItDoesToTheQueueIsDone(self) -> None:
        queue = self.busyQueue()
        calls: list[Deferred[Any]] = []
        d = queue.call(far.echo, Meddling(lambda: calls.append(queue.call(far.echo, LOCK))))
        self.assertIn("stays here", self.refusalOf(d))
        for inner in calls:
            self.refusalOf(inner)
        self.assertEqual(queue.load, 1)

    def test_aTaskThatIsCancelledMeanwhileIsCancelled(self) -> None:
        queue = self.busyQueue()
        d = queue.call(far.echo, Meddling(queue.cancelAll))
        self.assertNotIsInstance(self.failureResultOf(d).value, CallNotPicklable)
        self.assertEqual(queue.load, 1)

    def test_aCheckThatFailsFailsTheTask(self) -> None:
        def fail(check: object, task: object) -> None:
            raise LookupError("no name")

        queue = self.busyQueue()
        self.patch(CallCheck, "refusal", fail)
        self.failureResultOf(queue.call(far.echo, 1), LookupError)
        self.assertEqual(queue.load, 1)


class CallbackTests(EarlyCase):
    def test_inACallbackItFailsWhenThatHasReturned(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        seen: list[bool] = []
        inner: list[Deferred[Any]] = []

        def again(_: object) -> None:
            inner.append(queue.call(far.echo, LOCK))
            seen.append(inner[-1].called)

        queue.call(far.echo, 1).addCallback(again)
        self.settle()
        self.assertEqual(seen, [False])
        self.refusalOf(inner[0])

    def test_aFailureThatLeadsToTheNextIsNoDeepRecursion(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        left = [2000]

        def again(result: Any) -> None:
            if left[0]:
                left[0] -= 1
                queue.call(far.echo, LOCK).addErrback(again)

        queue.call(far.echo, 1).addCallback(again)
        self.settle()
        self.assertEqual((left, queue.load), ([0], 0))

    def test_whatWasCancelledMeanwhileIsNotLookedAt(self) -> None:
        queue = self.makeQueue(self.makeWorker())
        looked: list[bool] = []

        with self.together(queue):
            d = queue.call(far.echo, Meddling(looked.append, True))
            d.addErrback(lambda _: None)
            d.cancel()
        self.settle()
        self.assertEqual(looked, [])


class WhoeverIsQualifiedTests(EarlyCase):
    """
    Only if every worker that may run a task would refuse it, it fails before its turn.
    """

    def makeSharing(self, *series: str) -> MemoryWorker:
        worker = SharingWorker(series, reactor=self.clock)
        self.workers.append(worker)
        return worker

    def assertWaits(self, queue: TaskQueue, **options: Any) -> None:
        task = queue.submit(far.echo, LOCK, **options)
        self.assertEqual(task.state, PENDING)
        task.d.addErrback(lambda _: None)
        task.cancel()

    def test_withoutAWorkerNothingIsKnown(self) -> None:
        queue = self.makeQueue()
        self.assertWaits(queue)
        queue.attachWorker(self.makeWorker(stepSeconds=None)).addErrback(ignore)
        self.refusalOf(queue.call(far.echo, LOCK))

    def test_ofASeriesThatNobodyServesNothingIsKnown(self) -> None:
        queue = self.busyQueue()
        self.assertWaits(queue, series="special")
        queue.qualifyWorker(self.workers[0], "special")
        self.refusalOf(queue.call(far.echo, LOCK, series="special"))

    def test_aWorkerThatSharesItsMemoryMayTakeIt(self) -> None:
        queue = self.busyQueue()
        self.refusalOf(queue.call(far.echo, LOCK))
        sharing = self.makeSharing("special")
        queue.attachWorker(sharing).addErrback(ignore)
        self.assertWaits(queue)
        self.assertWaits(queue, series="special")
        queue.qualifyWorker(self.workers[0], "others")
        self.refusalOf(queue.call(far.echo, LOCK, series="others"))
        queue.detachWorker(sharing)
        self.refusalOf(queue.call(far.echo, LOCK))
        self.assertWaits(queue, series="special")

    def test_ofAWorkerOfSixMembersNothingIsKnown(self) -> None:
        queue = self.busyQueue()
        six = StepWorker(["special"])
        queue.attachWorker(six)
        queue.submit(far.echo, LOCK)
        self.assertIs(six.task.args[0], LOCK)
        self.assertWaits(queue)
        six.finish()

    def test_workersOfOneKindLookOnce(self) -> None:
        queue = self.busyQueue(count=3)
        looked: list[int] = []
        self.refusalOf(queue.call(far.echo, Meddling(looked.append, 1)))
        # Once to see, once more to tell which argument it was.
        self.assertEqual(looked, [1, 1])

    def test_onlySoManySeriesAreRemembered(self) -> None:
        self.patch(checks, "SERIES", 3)
        queue = self.busyQueue()
        for number in range(10):
            self.assertWaits(queue, series=number)
            self.assertLessEqual(len(queue._engine.pool.checks._bySeries), 3)

    @given(
        st.lists(
            st.one_of(
                st.tuples(st.just("attach"), st.sampled_from(["pickling", "sharing", "six"])),
                st.tuples(st.just("leave"), st.integers(0, 9)),
                st.tuples(st.just("qualify"), st.integers(0, 9)),
            ),
            max_size=12,
        )
    )
    def test_itIsRightWhoeverComesAndGoes(self, steps: list[tuple[str, Any]]) -> None:
        clock = Clock()
        # Every worker waits for its runner, or has its task, so nothing is ever sent.
        queue = TaskQueue(reactor=clock)
        kinds: dict[Any, str] = {}
        makers = {"pickling": MemoryWorker, "sharing": SharingWorker}
        for what, which in steps:
            workers = queue.workers()
            if what == "attach":
                if which == "six":
                    worker: Any = StepWorker()
                else:
                    worker = makers[which](reactor=clock, stepSeconds=None)
                kinds[worker] = which
                queue.attachWorker(worker).addErrback(ignore)
                if which == "six":
                    queue.call(far.echo, 1).addErrback(ignore)
            elif workers and what == "leave":
                queue.detachWorker(workers[which % len(workers)], crash=True).addErrback(ignore)
            elif workers:
                queue.qualifyWorker(workers[which % len(workers)], "special")
            for series in (None, "special"):
                able = [
                    kinds[worker]
                    for worker in queue.workers()
                    if series is None or series in worker.iQualified
                ]
                task = queue.submit(far.echo, LOCK, series=series)
                task.d.addErrback(ignore)
                isRefused = bool(able) and set(able) == {"pickling"}
                self.assertEqual(task.state == FAILED, isRefused, (series, able))
                task.cancel()
        queue.shutdown()


class PlainTests(EarlyCase):
    """
    The usual call, whose arguments are plain, is looked at no further.
    """

    def looks(self, queue: TaskQueue, *call: Any, **kw: Any) -> bool:
        """
        @return: whether a call is looked at that is found to be all right.
        """
        seen: list[Any] = []
        real = CallCheck.refusal

        def refusal(check: CallCheck, task: Any) -> Any:
            seen.append(task)
            return real(check, task)

        with patch.object(CallCheck, "refusal", refusal):
            queue.call(*call, **kw).addErrback(ignore)
        return bool(seen)

    def test_onlyTheFirstOfAFunctionIsLookedAt(self) -> None:
        queue = self.busyQueue()
        self.assertTrue(self.looks(queue, far.add, 1))
        for args in ((2,), (), (1, "two"), (None, 2.5), (True,)):
            self.assertFalse(self.looks(queue, far.add, *args))
        self.assertTrue(self.looks(queue, far.add, [1]))
        self.assertTrue(self.looks(queue, far.add, 1, second=2))
        self.assertTrue(self.looks(queue, far.echo, 1))

    def test_afterEveryChangeTheNextIsLookedAt(self) -> None:
        queue = self.busyQueue()
        self.looks(queue, far.add, 1)
        queue.attachWorker(self.makeWorker(stepSeconds=None)).addErrback(ignore)
        self.assertTrue(self.looks(queue, far.add, 1))
        queue.qualifyWorker(self.workers[0], "special")
        self.assertTrue(self.looks(queue, far.add, 1))
        queue.detachWorker(self.workers[1])
        self.assertTrue(self.looks(queue, far.add, 1))

    def test_aCallThatIsSentAtOnceIsPickledOnce(self) -> None:
        queue = self.makeQueue(self.makeWorker(stepSeconds=None))
        self.workers[0].stepAll()
        self.assertFalse(self.looks(queue, far.echo, [1]))


class OtherCallsTests(EarlyCase):
    def test_aMappingFails(self) -> None:
        queue = self.busyQueue()
        deferator = queue.map(far.echo, iter([LOCK, 2, 3]))
        self.assertIn("cannot be pickled", self.refusalOf(next(deferator)))
        for function, items in ((lambda item: item, [1]), (far.echo, [1, LOCK])):
            failed = queue.map(function, items, chunksize=2)
            self.refusalOf(next(failed))
        self.assertEqual(queue.load, 1)

    def test_anUpdateFailsAsItsWorkersAreGivenIt(self) -> None:
        queue = self.busyQueue(count=2)
        self.refusalOf(queue.update(far.echo, LOCK, ephemeral=True))
        self.assertEqual(len(self.sent()), 2)

    def test_aCallWithAConsumerFails(self) -> None:
        queue = self.busyQueue()
        consumer = ListConsumer()
        self.refusalOf(queue.call(far.lambdas, LOCK, consumer=consumer))

    def test_aJobOfADispatchQueueFailsWhileTheOthersGoOn(self) -> None:
        queue = self.busyQueue()
        jobs = ResizableDispatchQueue(far.echo, width=2, queue=queue, reactor=self.clock)
        good, bad, last = (jobs.put(value) for value in (1, [LOCK], 3))
        self.settle()
        self.assertIn("argument 1 of echo", self.refusalOf(bad))
        self.assertEqual({job.jobarg for job in jobs.underway()}, {1, 3})
        while self.workers[0].step():
            self.settle()
        self.assertEqual([self.successResultOf(d).result for d in (good, last)], [1, 3])
        self.successResultOf(jobs.stop())

    def test_whatIsWrongFurtherOnFailsAtItsTurn(self) -> None:
        queue = self.busyQueue()
        task = queue.submit(far.echo, [b"x" * EACH, LOCK])
        self.assertEqual(task.state, PENDING)
        self.workers[0].stepAll()
        self.refusalOf(task.d)


def ignore(_: Failure) -> None:
    """
    A callback for failures that are meant.
    """
