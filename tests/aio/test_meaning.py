"""
The two faces mean the same: each promise here is tried with the Twisted face and with that of
asyncio.
"""

# Trial's assertions carry no annotations.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import partial
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IConsumer
from twisted.internet.task import deferLater
from twisted.trial import unittest
from zope.interface import implementer

import asynqueue
from asynqueue import AsyncWorker, Retry, ThreadWorker, aio, report
from asynqueue.errors import (
    JobExists,
    JobNotDispatched,
    QueueFull,
    QueueStopped,
    TaskTimeout,
    WorkerDetached,
)
from asynqueue.rdq import JobCancelled

if TYPE_CHECKING:
    from twisted.trial.unittest import TestCase
else:
    # A class that derives from this derives from a test case as well.
    TestCase = object

PATIENCE = 30


class TwistedFace(TestCase):
    """
    Runs a coroutine of a test under Twisted's reactor.
    """

    timeout = PATIENCE
    face: Any = asynqueue
    Cancelled: Any = CancelledError

    def reactor(self) -> Any:
        """
        @return: the reactor that workers use.
        """
        from twisted.internet import reactor

        return reactor

    def gate(self) -> Any:
        """
        @return: what a function in the main loop returns to go on later.
        """
        return Deferred()

    def openGate(self, gate: Any, result: Any = None) -> None:
        gate.callback(result)

    def isDone(self, awaitable: Any) -> bool:
        called: bool = awaitable.called
        return called

    def sleep(self, seconds: float) -> Any:
        return deferLater(self.reactor(), seconds)


class AsyncioFace(TestCase):
    """
    Runs a coroutine of a test in a loop of asyncio.
    """

    face: Any = aio
    Cancelled: Any = asyncio.CancelledError

    def run(self, result: Any = None) -> Any:
        name = self.id().rpartition(".")[2]
        setattr(self, name, partial(self._inLoop, getattr(self, name)))
        return super().run(result)

    def _inLoop(self, test: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(PATIENCE):
                await test()

        asyncio.run(bounded(), debug=True)

    def reactor(self) -> Any:
        return aio.getReactor()

    def gate(self) -> Any:
        return asyncio.get_running_loop().create_future()

    def openGate(self, gate: Any, result: Any = None) -> None:
        gate.set_result(result)

    def isDone(self, awaitable: Any) -> bool:
        done: bool = awaitable.done()
        return done

    def sleep(self, seconds: float) -> Any:
        return asyncio.sleep(seconds)


@implementer(IConsumer)
class Written:
    """
    @ivar items: what was written.
    """

    def __init__(self) -> None:
        self.items: list[Any] = []

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        pass

    def unregisterProducer(self) -> None:
        pass

    def write(self, data: Any) -> None:
        self.items.append(data)


def progressing(number: int) -> int:
    report(number, 2 * number)
    return number


def countThenFail(count: int) -> Iterator[int]:
    yield from range(count)
    raise LookupError("no more")


def ignore(awaitable: Any) -> None:
    """
    Leave alone what becomes of a call.
    """
    if isinstance(awaitable, Deferred):
        awaitable.addErrback(lambda _: None)
    else:
        awaitable.add_done_callback(lambda future: future.cancelled() or future.exception())


class FaceContract(TestCase):
    """
    The parts of a face that its tests need.
    """

    face: Any
    Cancelled: Any
    reactor: Callable[[], Any]
    gate: Callable[[], Any]
    openGate: Callable[..., None]
    isDone: Callable[[Any], bool]
    sleep: Callable[[float], Any]


class QueueContract(FaceContract):
    """
    The promises of a task queue.
    """

    def makeWorker(self, **keywords: Any) -> AsyncWorker:
        return AsyncWorker(reactor=self.reactor(), **keywords)

    def makeQueue(self, **keywords: Any) -> Any:
        """
        @return: a queue with one worker in the main loop.
        """
        return self.face.TaskQueue(self.makeWorker(), **keywords)

    async def test_callsRunInTheOrderOfTheirUrgency(self) -> None:
        began: list[str] = []
        async with self.makeQueue() as queue:
            queue.pause()
            assert queue.paused
            calls = [
                queue.call(began.append, "usual"),
                queue.call(began.append, "last", doLast=True),
            ]
            calls += [queue.call(began.append, "urgent", niceness=-20)]
            calls += [queue.options(doNext=True).call(began.append, "first")]
            await self.sleep(0)
            assert (began, queue.load) == ([], 4)
            queue.resume()
            for call in calls:
                await call
        assert began == ["first", "urgent", "usual", "last"]

    async def test_tasksAreListedAndCancelled(self) -> None:
        gate = self.gate()
        async with self.makeQueue() as queue:
            assert (len(queue), bool(queue), queue.isRunning()) == (1, True, True)
            running = queue.submit(lambda: gate)
            waiting = [queue.submit(abs, number) for number in (-1, -2)]
            await self.sleep(0)
            assert queue.tasks() == [running, *waiting]
            assert [task.state for task in queue.tasks()] == ["UNDERWAY", "PENDING", "PENDING"]
            assert queue.tasks()[1].cancel()
            assert not waiting[0].cancel()
            with self.assertRaises(self.Cancelled):
                await waiting[0]
            self.openGate(gate, 7)
            assert (await running, await waiting[1], await waiting[1]) == (7, 2, 2)
            assert queue.tasks() == []

    async def test_seriesWaitForAQualifiedWorkerAndAreCancelled(self) -> None:
        async with self.makeQueue() as queue:
            mine, other = queue.call(abs, -1, series="mine"), queue.call(abs, -2, series="other")
            await self.sleep(0)
            assert not self.isDone(mine)
            assert queue.cancelSeries("other") == 1
            with self.assertRaises(self.Cancelled):
                await other
            queue.qualifyWorker(queue.workers()[0], "mine")
            # Another call has the queue look.
            assert await queue.call(abs, -3) == 3
            assert await mine == 1

    async def test_allCallsAreCancelled(self) -> None:
        gate = self.gate()
        async with self.makeQueue() as queue:
            calls = [queue.call(lambda: gate), queue.call(abs, 1)]
            await self.sleep(0)
            assert queue.cancelAll() == 1
            assert queue.cancelAll(underway=True) == 1
            for call in calls:
                with self.assertRaises(self.Cancelled):
                    await call

    async def test_cancellingACallGivesItUp(self) -> None:
        gate = self.gate()
        async with self.makeQueue() as queue:
            running, waiting = queue.call(lambda: gate), queue.submit(abs, 1)
            await self.sleep(0)
            call = queue.call(abs, 2)
            call.cancel()
            ignore(call)
            assert [task.state for task in queue.tasks()] == ["UNDERWAY", "PENDING"]
            self.openGate(gate)
            await running
            assert await waiting == 1

    async def test_boundedQueueRefusesAndTellsWhenThereIsRoom(self) -> None:
        gate = self.gate()
        async with self.makeQueue(maxPending=1) as queue:
            assert queue.room == 1
            calls = [queue.call(lambda: gate), queue.call(abs, -1)]
            with self.assertRaises(QueueFull):
                queue.call(abs, -2)
            ready, optioned = queue.whenReady(), queue.options().whenReady()
            await self.sleep(0)
            assert not self.isDone(ready)
            self.openGate(gate)
            await ready
            calls.append(queue.call(abs, -2))
            await optioned
            assert [await call for call in calls[1:]] == [1, 2]
            mapped = queue.map(abs, range(-9, 0))
            assert [number async for number in mapped] == [*range(9, 0, -1)]

    async def test_mapOrdersSkipsAndGoesOn(self) -> None:
        async with self.makeQueue() as queue:
            assert [each async for each in queue.map(pow, [2, 3], [3, 2])] == [8, 9]
            found = [each async for each in queue.map(abs, [-1, -2, -3], ordered=False)]
            assert sorted(found) == [1, 2, 3]
            going = queue.options(niceness=3).map(
                divmod, [4, 1], [2, 0], returnExceptions=True, chunksize=1
            )
            first, second = [each async for each in going]
            assert (first, type(second)) == ((2, 0), ZeroDivisionError)
            failing = queue.map(divmod, [4, 1, 6], [2, 0, 3], window=2)
            with self.assertRaises(ZeroDivisionError):
                async for each in failing:
                    assert each == (2, 0)

    async def test_streamsFailAfterTheirItemsAndCanBeStopped(self) -> None:
        closed: list[bool] = []

        async def endless() -> AsyncIterator[int]:
            try:
                while True:
                    yield 1
            finally:
                closed.append(True)

        async with self.makeQueue() as queue:
            found = []
            with self.assertRaises(LookupError):
                async for item in await queue.call(countThenFail, 2):
                    found.append(item)
            assert found == [0, 1]
            stream = await queue.call(endless)
            assert await anext(stream) == 1
            stream.stop()
            consumer = Written()
            assert await queue.call(iter, (1, 2), consumer=consumer) is consumer
            assert consumer.items == [1, 2]
        assert closed == [True]

    async def test_updatesReachWorkersThatComeLater(self) -> None:
        told: list[int] = []
        async with self.makeQueue() as queue:
            assert await queue.update(told.append, 1) == [None]
            later = self.makeWorker()
            number = await queue.attachWorker(later)
            assert (queue.workers(number), told) == (later, [1, 1])
            assert await queue.detachWorker(later) == []
            assert len(queue) == 1

    async def test_timeoutEndsACall(self) -> None:
        async with self.makeQueue() as queue:
            with self.assertRaises(TaskTimeout):
                await queue.call(self.gate, timeout=0.01)
            assert await queue.call(abs, -1) == 1

    async def test_callsAreTriedAgain(self) -> None:
        tries: list[int] = []

        def fail() -> int:
            tries.append(1)
            if len(tries) < 3:
                raise OSError("later")
            return len(tries)

        async with self.makeQueue() as queue:
            policy = Retry(3, delays=lambda _: 0.001)
            task = queue.options(retryOn=policy).submit(fail)
            assert (await task, task.attempts) == (3, 3)

    async def test_observersHearOfEverything(self) -> None:
        heard: list[Any] = []
        async with self.makeQueue(observers=[heard.append]) as queue:
            task = queue.submit(progressing, 3)
            assert await task == 3
            assert (task.progress.done, task.progress.total) == (3, 6)
            queue.removeObserver(heard.append)
            await queue.call(abs, 1)
        ofTask = [event for event in heard if event.task is not None]
        assert all(event.task == task for event in ofTask)
        assert [event.kind for event in ofTask] == ["QUEUED", "STARTED", "PROGRESSED", "FINISHED"]

    async def test_detachingLeavesItsTasksOrPutsThemBack(self) -> None:
        gate = self.gate()
        queue = self.face.TaskQueue(timeout=5)
        async with queue:
            for reassign in (False, True):
                worker = self.makeWorker()
                task = queue.submit(lambda: gate)
                await queue.attachWorker(worker)
                while task.state == "PENDING":
                    await self.sleep(0.001)
                left = await queue.detachWorker(worker, reassign=reassign, crash=True)
                if not reassign:
                    assert left == [task]
                    with self.assertRaises(WorkerDetached):
                        await left[0]
                else:
                    assert (left, task.state) == ([], "PENDING")
                    self.openGate(gate, 5)
                    await queue.attachWorker(self.makeWorker())
                    assert await task == 5

    async def test_shutdownRunsWhatItHasAndRefusesTheRest(self) -> None:
        queue = self.makeQueue()
        runs, hopeless = queue.call(abs, -1), queue.call(abs, -2, series="nobody's")
        done = queue.shutdown()
        with self.assertRaises(QueueStopped):
            queue.call(abs, 1)
        with self.assertRaises(QueueStopped):
            queue.whenReady()
        assert await runs == 1
        with self.assertRaises(QueueStopped):
            await hopeless
        await done
        await queue.shutdown()
        assert (queue.isRunning(), bool(queue)) == (False, False)

    async def test_queuesWithWorkersOfTheirOwnAreResized(self) -> None:
        async with self.face.ThreadQueue(1, callStats=True) as queue:
            await queue.resize(2)
            assert len(queue) == 2
            assert await queue.call(abs, -1) == 1
            assert len(await queue.stats()) == 1
            assert await queue.crashWorkers() == []
            assert len(queue) == 0
            await queue.attachWorker(ThreadWorker(reactor=self.reactor()))
            assert await queue.call(abs, -2) == 2
        async with self.face.NullQueue(slots=3) as queue:
            gate = self.gate()
            calls = [queue.call(lambda: gate) for _ in range(3)]
            await self.sleep(0)
            assert [task.state for task in queue.tasks()] == ["UNDERWAY"] * 3
            self.openGate(gate)
            for call in calls:
                ignore(call)


class TwistedQueueTests(TwistedFace, QueueContract, unittest.TestCase):
    pass


class AsyncioQueueTests(AsyncioFace, QueueContract, unittest.SynchronousTestCase):
    pass


class DispatchContract(FaceContract):
    """
    What a dispatch queue promises.
    """

    def makeQueue(self, function: Callable[[Any], Any], width: int = 0, **keywords: Any) -> Any:
        return self.face.ResizableDispatchQueue(function, width, **keywords)

    def storePath(self) -> str:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return f"{folder.name}/jobs"

    async def test_jobsBeginByPriorityAsFarAsTheWidthAllows(self) -> None:
        gates = {number: self.gate() for number in range(4)}
        async with self.makeQueue(gates.__getitem__) as queue:
            puts = [queue.put(number, priority=-number) for number in range(4)]
            assert [job.jobarg for job in queue.pending()] == [3, 2, 1, 0]
            queue.reprioritize(puts[0].job, -9)
            queue.width = 2
            await self.sleep(0.001)
            assert {job.jobarg for job in queue.underway()} == {0, 3}
            assert (queue.size(), queue.width) == ((2, 2), 2)
            for gate in gates.values():
                self.openGate(gate, "opened")
            assert [(await put).result for put in puts] == ["opened"] * 4

    async def test_jobsAreCancelled(self) -> None:
        async with self.makeQueue(lambda _: self.gate(), 1) as queue:
            first, second, third = (queue.put(number) for number in range(3))
            await self.sleep(0.001)
            assert first.job.state == "UNDERWAY"
            first.cancel()
            queue.cancelJob(second.job)
            assert third.job.cancel()
            for put in (second, third):
                with self.assertRaises((JobCancelled, self.Cancelled)):
                    await put
            ignore(first)
            states = [put.job.state for put in (first, second, third)]
            assert states == ["CANCELLED"] * 3
            assert queue.clearQueue() == []

    async def test_pauseWaitsForWhatIsUnderway(self) -> None:
        gate = self.gate()
        async with self.makeQueue(lambda _: gate, 1) as queue:
            first, second = queue.put(1), queue.put(2)
            await self.sleep(0.001)
            paused = queue.pause()
            assert (queue.paused, self.isDone(paused)) == (True, False)
            self.openGate(gate)
            await paused
            await first
            assert queue.size() == (0, 1)
            queue.resume(width=3)
            await second
            assert queue.width == 3

    async def test_stopLeavesWhatWaits(self) -> None:
        queue = self.makeQueue(abs)
        left = queue.put(-1)
        assert await queue.stop() == [left.job]
        with self.assertRaises(JobNotDispatched):
            await left
        with self.assertRaises(QueueStopped):
            queue.put(1)
        assert queue.stopped

    async def test_boundedQueueRefusesAndTellsWhenThereIsRoom(self) -> None:
        async with self.makeQueue(abs, size=1) as queue:
            first = queue.put(-1)
            with self.assertRaises(QueueFull):
                queue.put(-2)
            ready = queue.whenReady()
            assert not self.isDone(ready)
            queue.width = 1
            await ready
            assert [(await put).result for put in (first, queue.put(-2))] == [1, 2]

    async def test_fullTaskQueueIsWaitedFor(self) -> None:
        async with (
            self.face.ThreadQueue(1, maxPending=1) as calls,
            self.makeQueue(abs, 100, queue=calls) as queue,
        ):
            puts = [queue.put(-number) for number in range(30)]
            assert [(await put).result for put in puts] == [*range(30)]

    async def test_jobsAreTriedAgainAndBeginByTheRate(self) -> None:
        tries: list[int] = []

        def fail(number: int) -> None:
            tries.append(number)
            raise OSError("later")

        policy = Retry(2, delays=lambda _: 0.001)
        async with self.makeQueue(fail, 1, retry=policy, rate=100, per=0.001) as queue:
            assert queue.rate == (100, 0.001, None)
            put = queue.put(5)
            with self.assertRaises(OSError):
                await put
            assert (tries, put.job.attempts) == ([5, 5], 2)
            queue.setRate(None)
            assert queue.rate is None

    async def test_observersHearOfJobs(self) -> None:
        heard: list[Any] = []
        async with self.makeQueue(progressing, 1, observers=[heard.append]) as queue:
            job = await queue.put(3)
            assert (job.progress.done, job.progress.total) == (3, 6)
        assert {event.job for event in heard} == {job}
        assert [event.kind for event in heard] == ["QUEUED", "STARTED", "PROGRESSED", "FINISHED"]

    async def test_storeKeepsJobsAndDeadLetters(self) -> None:
        path = self.storePath()
        async with self.makeQueue(reciprocal, store=path) as queue:
            puts = [queue.put(number, unique=str(number)) for number in (0, 4)]
            for put in puts:
                ignore(put)
            with self.assertRaises(JobExists):
                queue.put(4, unique="4", mayStand=False)
            assert queue.put(4, unique="4").job is puts[1].job
            saved = queue.saved(puts[1].job) if self.face is aio else puts[1].job.saved
            assert await saved is puts[1].job
        async with self.makeQueue(reciprocal, 1, store=path, retry=None) as queue:
            jobs = {job.jobarg: job for job in [*queue.pending(), *queue.underway()]}
            assert {*jobs} == {0, 4}
            while not all(job.isDone for job in jobs.values()):
                await self.sleep(0.001)
            assert jobs[4].result == 0.25
            [letter] = await queue.deadLetters()
            assert letter.jobarg == 0
            again = await queue.retryDeadLetter(letter)
            while not again.isDone:
                await self.sleep(0.001)
            [letter] = await queue.deadLetters()
            await queue.dropDeadLetter(letter)
            assert await queue.deadLetters() == []


def reciprocal(number: int) -> float:
    return 1 / number


class TwistedDispatchTests(TwistedFace, DispatchContract, unittest.TestCase):
    def makeQueue(self, function: Callable[[Any], Any], width: int = 0, **keywords: Any) -> Any:
        return Stopping(super().makeQueue(function, width, **keywords))


class AsyncioDispatchTests(AsyncioFace, DispatchContract, unittest.SynchronousTestCase):
    pass


class Stopping:
    """
    A dispatch queue of the Twisted face, which is stopped at the end of an C{async with} as that of
    the asyncio face is.
    """

    def __init__(self, queue: asynqueue.ResizableDispatchQueue) -> None:
        vars(self)["queue"] = queue

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self)["queue"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(vars(self)["queue"], name, value)

    async def __aenter__(self) -> Stopping:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await vars(self)["queue"].stop()
