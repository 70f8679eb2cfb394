"""
Faults of re-entrancy and iteration, as far as they concern processes. A test's number is its row's
in the list of faults.
"""

from __future__ import annotations

import os
import select
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.interfaces import IConsumer
from zope.interface import implementer

from asynqueue import Delay, ListConsumer, ProcessQueue
from asynqueue._runner.messages import CREDIT_BYTES
from asynqueue._runner.streams import BATCH_BYTES
from asynqueue.errors import IterationStopped, QueueStopped, TaskTimeout, WorkerDied
from asynqueue.tasks import CANCELLED, FAILED, UNDERWAY
from asynqueue.testing import far
from tests.integration import tasks
from tests.support.processes import ProcessTestCase, isGone

BLOCK = 1 << 16


@implementer(IConsumer)
class PausedConsumer:
    """
    Takes one item, and no more for now.
    """

    def __init__(self) -> None:
        self.items: list[Any] = []
        self.isOver = False
        self.producer: Any = None

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        Take the producer.
        """
        self.producer = producer

    def unregisterProducer(self) -> None:
        """
        The end.
        """
        self.isOver = True

    def write(self, data: Any) -> None:
        """
        Take one, and pause.
        """
        self.items.append(data)
        self.producer.pauseProducing()


class HaltingConsumer(PausedConsumer):
    """
    Pauses until the reactor's next turn after each thousand items.
    """

    def write(self, data: Any) -> None:
        """
        Take an item, and maybe pause.
        """
        self.items.append(data)
        if len(self.items) % 1000 == 0:
            self.producer.pauseProducing()
            Delay()(0).addCallback(lambda _: self.producer.resumeProducing())


class FailingConsumer(ListConsumer):
    """
    Raises at the third item.
    """

    def write(self, data: Any) -> None:
        """
        Take an item, or not.
        """
        if self.count == 2:
            raise ValueError("no more")
        super().write(data)


class ReentrancyTests(ProcessTestCase):
    async def putFromCallbacks(self, chains: int, links: int) -> None:
        """
        Have callbacks put calls, whose callbacks put calls, and so on.
        """
        queue = self.makeQueue(2)
        finished: list[Deferred[None]] = [Deferred() for _ in range(chains)]

        def go(left: int, finish: Deferred[None]) -> None:
            if left:
                queue.call(far.echo, left - 1).addCallback(go, finish).addErrback(finish.errback)
            else:
                finish.callback(None)

        for finish in finished:
            go(links, finish)
        await gatherResults(finished)
        self.assertEqual(queue.submit(far.echo).id, chains * links + 1)

    async def putMany(self, count: int) -> None:
        """
        Have a callback put many calls.
        """
        queue = self.makeQueue(2)
        await queue.call(far.echo)
        calls = [queue.call(far.echo, number) for number in range(count)]
        self.assertEqual(await gatherResults(calls), list(range(count)))

    async def test_26_callbackCallsTheQueue(self) -> None:
        await self.putFromCallbacks(10, 1000)

    @pytest.mark.slow
    async def test_26_callbackCallsTheQueueAHundredThousandTimes(self) -> None:
        await self.putFromCallbacks(100, 1000)

    async def test_26_callbackPutsManyCalls(self) -> None:
        await self.putMany(10_000)

    @pytest.mark.slow
    async def test_26_callbackPutsAHundredThousandCalls(self) -> None:
        await self.putMany(100_000)

    async def test_27_callbackCallsShutdown(self) -> None:
        queue = self.makeQueue(2)
        # Right from within what the queue does with a result, with calls waiting.
        stopped = queue.call(far.echo, 1).addCallback(lambda _: queue.shutdown())
        waiting = [queue.call(far.echo, number) for number in range(10)]
        await stopped
        self.assertEqual(await gatherResults(waiting), list(range(10)))

    async def test_27_callbackCallsShutdownWhenItsProcessDied(self) -> None:
        queue = self.makeQueue(1)
        stopped = queue.call(tasks.killSelf).addErrback(lambda _: queue.shutdown())
        waiting = queue.call(far.echo, 5)
        await stopped
        self.assertEqual(await waiting, 5)

    async def test_27_lastErrbackCallsShutdownWhenItsProcessDied(self) -> None:
        queue = self.makeQueue(1)
        await queue.call(tasks.killSelf).addErrback(lambda _: queue.shutdown())

    async def test_28_cancelRacesAResult(self) -> None:
        queue = self.makeQueue(1)
        pid = await queue.call(os.getpid)
        await Delay()(0)
        task = queue.submit(far.echo, "late")
        waitForMessage(queue)
        self.assertEqual(task.state, UNDERWAY)
        task.cancel()
        await self.errorOf(task.d, CancelledError)
        self.assertEqual(await queue.call(os.getpid), pid)
        self.assertEqual((task.state, task.result), (CANCELLED, None))

    async def test_29_timeoutRacesAResult(self) -> None:
        queue = self.makeQueue(1)
        pid = await queue.call(os.getpid)
        await Delay()(0)
        task = queue.submit(far.echo, "late", timeout=0.01)
        waitForMessage(queue)
        tasks.sleepOr(0.02)
        # Both are due in the reactor's next turn.
        outcome = await task.d.addErrback(lambda failure: failure.value)
        if task.state == FAILED:
            self.assertIsInstance(outcome, TaskTimeout)
        else:
            self.assertEqual(outcome, "late")
        self.assertEqual(await queue.call(os.getpid), pid)

    async def test_30_cancelWhileRunning(self) -> None:
        queue = self.makeQueue(1)
        pid = await queue.call(os.getpid)
        path = self.makeFolder() / "hangs"
        running = queue.submit(tasks.hangStubbornly, str(path))
        await self.until(path.exists)
        waiting = queue.call(os.getpid)
        running.cancel()
        await self.errorOf(running.d, CancelledError)
        self.assertNotEqual(await waiting, pid)
        self.assertTrue(isGone(pid))


class IterationTests(ProcessTestCase):
    async def test_31_shutdownInMidIteration(self) -> None:
        queue = self.makeQueue(1)
        path = self.makeFolder() / "closed"
        deferator = await queue.call(far.endlessUntilClosed, str(path))
        self.assertEqual(await deferator.__anext__(), 0)
        # The generator has no end, and somebody takes its items.
        queue.timeout = 0.2
        stopped = queue.shutdown()
        with self.assertRaises(IterationStopped):
            async for _ in deferator:
                pass
        await stopped
        self.assertTrue(path.exists(), "the far generator was closed")

    async def test_31_shutdownTellsAConsumer(self) -> None:
        queue = self.makeQueue(1)
        path = self.makeFolder() / "closed"
        consumer = ListConsumer()
        done = queue.call(far.endlessUntilClosed, str(path), consumer=consumer)
        await self.until(lambda: consumer.count)
        queue.timeout = 0.2
        await queue.shutdown()
        await self.errorOf(done, IterationStopped)
        self.assertIsNone(consumer.producer)
        self.assertTrue(path.exists(), "the far generator was closed")

    async def test_31_shutdownWithAGeneratorThatHangs(self) -> None:
        queue = self.makeQueue(1)
        path = self.makeFolder() / "hangs"
        deferator = await queue.call(tasks.numbersThenHang, 2, str(path))
        await self.until(path.exists)
        await queue.shutdown()
        with self.assertRaises(IterationStopped):
            async for _ in deferator:
                pass

    async def test_32_consumerRaises(self) -> None:
        queue = self.makeQueue(1)
        path = self.makeFolder() / "closed"
        consumer = FailingConsumer()
        done = queue.call(far.endlessUntilClosed, str(path), consumer=consumer)
        await self.errorOf(done, ValueError)
        self.assertEqual(await consumer(), [0, 1])
        await self.until(path.exists)
        self.assertEqual(await queue.call(far.echo, 1), 1, "the worker is free")

    async def test_33_consumerPausesForEver(self) -> None:
        queue = self.makeQueue(1)
        consumer = PausedConsumer()
        done = queue.call(tasks.countedBlocks, BLOCK, consumer=consumer)
        await self.until(lambda: consumer.items)
        # When two answers are the same, nothing was produced between them.
        before, count = 0, await queue.call(tasks.yielded)
        while count != before:
            before, count = count, await queue.call(tasks.yielded)
        self.assertEqual(len(consumer.items), 1)
        # What lies between the two is all that there is, on either side.
        self.assertLessEqual(count * BLOCK, CREDIT_BYTES + BATCH_BYTES + BLOCK)
        self.assertGreater(count, 1)
        await queue.shutdown()
        self.assertTrue(consumer.isOver, "the consumer is let go")
        await self.errorOf(done, IterationStopped)
        self.assertEqual(len(consumer.items), 1)

    async def test_33_resumingGoesOn(self) -> None:
        queue = self.makeQueue(1)
        consumer = HaltingConsumer()
        await queue.call(far.numbers, 50_000, consumer=consumer)
        self.assertEqual(consumer.items, list(range(50_000)))

    async def test_34_processDiesInMidStream(self) -> None:
        queue = self.makeQueue(1)
        deferator = await queue.call(tasks.numbersThenDie, 50_000)
        items = []
        with self.assertRaises(WorkerDied) as caught:
            async for item in deferator:
                items.append(item)
        self.assertEqual(caught.exception.signal, 9)
        self.assertGreater(len(items), 0)
        self.assertEqual(items, list(range(len(items))))
        self.assertEqual(await queue.call(far.echo, 1), 1)

    async def test_34_processDiesAndAConsumerHearsOfIt(self) -> None:
        queue = self.makeQueue(1)
        consumer = ListConsumer()
        done = queue.call(tasks.numbersThenDie, 50_000, consumer=consumer)
        await self.errorOf(done, WorkerDied)
        items = await consumer()
        self.assertGreater(len(items), 0)
        self.assertEqual(items, list(range(len(items))))

    async def test_35_shutdownTwice(self) -> None:
        queue = self.makeQueue(2)
        pids = await queue.update(os.getpid, ephemeral=True)
        running = queue.call(tasks.sleepOr, 0.05)
        order: list[int] = []
        first = queue.shutdown().addCallback(lambda _: order.append(1))
        second = queue.shutdown().addCallback(lambda _: order.append(2))
        await gatherResults([first, second])
        self.assertEqual(order, [1, 2])
        self.assertTrue(running.called)
        self.assertTrue(all(isGone(pid) for pid in pids))
        await queue.shutdown()

    async def test_35_resizeDuringShutdown(self) -> None:
        queue = self.makeQueue(2)
        stopped = queue.shutdown()
        with self.assertRaises(QueueStopped):
            queue.resize(3)
        await stopped
        self.assertEqual(len(queue), 0)

    async def test_35_shutdownDuringResize(self) -> None:
        queue = self.makeQueue(1)
        resized = queue.resize(3)
        await queue.shutdown()
        await resized.addErrback(lambda _: None)
        self.assertEqual(len(queue), 0)


def waitForMessage(queue: ProcessQueue) -> None:
    """
    Block the reactor until the first worker's process has said something that nobody has read.
    """
    [worker] = queue.workers()
    readable, _, _ = select.select([worker._channel._pipe.fd], [], [], 20.0)
    assert readable
