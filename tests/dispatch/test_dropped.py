"""
A dispatch queue is dropped, without a stop.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from asynqueue import ResizableDispatchQueue
from asynqueue._reactor import ImmediateExecutor
from asynqueue.rdq import MemoryJobStore
from asynqueue.testing import far


@implementer(IReactorFromThreads)
class ThreadedClock(Clock):
    """
    A clock that lets threads in.
    """

    def callFromThread(
        self, callable: Callable[..., object], *args: object, **kwargs: object
    ) -> None:
        self.callLater(0, callable, *args, **kwargs)


class MemoryQueue(ResizableDispatchQueue):
    """
    Starts no thread.
    """

    def _makeExecutor(self) -> Any:
        return ImmediateExecutor()


class ClosableStore(MemoryJobStore):
    isClosed = False

    def close(self) -> None:
        super().close()
        self.isClosed = True


class DroppedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = ThreadedClock()

    def drop(self, queues: list[Any]) -> list[str]:
        """
        @return: what is warned of when the last reference to a queue is dropped.
        """
        gc.collect()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            queues.clear()
            gc.collect()
            texts = [str(each.message) for each in caught if each.category is ResourceWarning]
            del caught[:]
        self.clock.pump([0.0] * 3)
        return texts

    def test_itsStoreIsClosedAndKeepsTheJobs(self) -> None:
        store = ClosableStore()
        queues = [MemoryQueue(far.echo, store=store, reactor=self.clock)]
        queues[0].put(1)
        [text] = self.drop(queues)
        self.assertIn("<MemoryQueue: RUNNING, width 0, 0 underway, 1 pending> was dropped", text)
        self.assertIn("kept in its store", text)
        self.assertTrue(store.isClosed)
        self.assertEqual([job.arg for job in store.open()], ["1"])

    def test_theJobsOfOneWithoutAStoreAreLost(self) -> None:
        queues = [MemoryQueue(far.echo, reactor=self.clock)]
        queues[0].put(1)
        [text] = self.drop(queues)
        self.assertIn("are lost", text)

    def test_whoeverWaitsForAJobKeepsIt(self) -> None:
        queues = [MemoryQueue(far.echo, 1, store=ClosableStore(), reactor=self.clock)]
        d = queues[0].put(1)
        self.assertEqual(self.drop(queues), [])
        self.clock.pump([0.0] * 3)
        self.assertEqual(self.successResultOf(d).result, 1)
        done = [d]
        del d
        self.assertEqual(len(self.drop(done)), 1)

    def test_anIdleOneWithoutAStoreAndOneThatWasStoppedLeaveNothing(self) -> None:
        self.assertEqual(self.drop([MemoryQueue(far.echo, 1, reactor=self.clock)]), [])
        queues = [MemoryQueue(far.echo, store=ClosableStore(), reactor=self.clock)]
        queues[0].put(1)
        queues[0].stop()
        self.assertEqual(self.drop(queues), [])
