from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError

from asynqueue.errors import QueueFull, QueueStopped
from asynqueue.rdq import Retry
from tests.dispatch.cases import DispatchCase, firings


class RoomTests(DispatchCase):
    def test_putIntoAFullQueueIsRefused(self) -> None:
        queue = self.makeQueue(size=2)
        self.putAll(queue, "ab")
        with pytest.raises(QueueFull, match="may have no more than 2 jobs pending"):
            queue.put("c")
        assert queue.size() == (0, 2)

    def test_onlyWhatWaitsCounts(self) -> None:
        queue = self.makeQueue(width=2, size=1)
        for jobarg in "abc":
            self.putAll(queue, jobarg)
            self.settle()
        assert queue.size() == (2, 1)
        with pytest.raises(QueueFull):
            queue.put("d")

    def test_readyAtOnceWhereThereIsRoom(self) -> None:
        self.successResultOf(self.makeQueue().whenReady())
        queue = self.makeQueue(size=1)
        self.successResultOf(queue.whenReady())

    def test_asManyAreToldAsThereIsRoomForTheFirstFirst(self) -> None:
        queue = self.makeQueue(width=0, size=2)
        self.putAll(queue, "ab")
        waiting = [queue.whenReady() for _ in range(3)]
        queue.width = 1
        self.settle()
        assert [d.called for d in waiting] == [True, False, False]
        self.putAll(queue, "c")
        queue.clearQueue()
        assert [d.called for d in waiting] == [True, True, True]

    def test_whoPutsInTheCallbackFindsRoom(self) -> None:
        queue = self.makeQueue(lambda _: None, 0, size=2)
        put: list[int] = []

        def feed(_: object = None) -> None:
            if len(put) < 50:
                put.append(len(put))
                self.putAll(queue, [put[-1]])
                queue.whenReady().addCallback(feed)

        feed()
        assert len(put) == 2
        queue.width = 1
        while self.clock.getDelayedCalls():
            self.settle()
        assert (len(put), queue.size()) == (50, (0, 0))

    def test_cancelAndClearMakeRoom(self) -> None:
        queue = self.makeQueue(size=1)
        [job] = self.putAll(queue, "a")
        first = queue.whenReady()
        self.assertNoResult(first)
        job.cancel()
        self.successResultOf(first)
        self.putAll(queue, "b")
        second = queue.whenReady()
        queue.clearQueue()
        self.successResultOf(second)

    def test_whoWaitsMayCancel(self) -> None:
        queue = self.makeQueue(size=1)
        [job] = self.putAll(queue, "a")
        first, second = queue.whenReady(), queue.whenReady()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        job.cancel()
        self.successResultOf(second)

    def test_stopFailsThoseWhoWait(self) -> None:
        queue = self.makeQueue(size=1)
        self.putAll(queue, "a")
        first, second, third = (queue.whenReady() for _ in range(3))
        fired = firings(second)
        first.addErrback(lambda _: second.cancel())
        queue.stop()
        self.successResultOf(first)
        assert [type(each) for each in fired] == [CancelledError]
        self.failureResultOf(third, QueueStopped)

    def test_jobsThatAreTriedAgainMayBeMoreThanTheSize(self) -> None:
        queue = self.makeQueue(width=1, size=1, retry=Retry(2, delays=lambda _: 5.0))
        self.putAll(queue, "a")
        self.settle()
        self.putAll(queue, "b")
        self.held.fail("a", ValueError())
        assert queue.size() == (0, 2)
        ready = queue.whenReady()
        self.settle()
        assert queue.size() == (1, 1)
        self.assertNoResult(ready)
        queue.clearQueue()
        self.successResultOf(ready)
