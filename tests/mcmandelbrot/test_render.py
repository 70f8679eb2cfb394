"""
Rendering: stripes that come from a queue become one file, in order and no faster than it is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from mcmandelbrot.errors import OutputClosed
from mcmandelbrot.plan import StripePlan
from mcmandelbrot.render import writePicture
from mcmandelbrot.stripe import Stripe, drawStripe
from mcmandelbrot.view import View
from tests.mcmandelbrot.references import decodePNG

# Such that its stripes begin with one row.
VIEW = View(16, -0.7453, 0.1127, 6.5e-3, 6.5e-3, 2**21)


class InlineQueue:
    """
    I run what is mapped right here, each call when its result is asked for.

    @ivar begun: how many calls were run.
    @ivar isStopped: whether the iteration was left.
    """

    def __init__(self) -> None:
        self.begun = 0
        self.isStopped = False
        self._results: Iterator[Any] = iter(())

    def map(
        self, function: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int
    ) -> InlineQueue:
        assert chunksize == 1
        self._results = map(function, iterable)
        return self

    async def __aenter__(self) -> InlineQueue:
        return self

    async def __aexit__(self, *error: object) -> None:
        self.isStopped = True

    def __aiter__(self) -> InlineQueue:
        return self

    async def __anext__(self) -> Any:
        for result in self._results:
            self.begun += 1
            return result
        raise StopAsyncIteration


class WritePictureTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.queue = InlineQueue()
        self.plan = StripePlan(VIEW, 2)
        self.file = b""
        self.done: list[int] = []

    def start(self, write: Callable[[bytes], Deferred[None]]) -> Deferred[None]:
        return Deferred.fromCoroutine(
            writePicture(self.queue, VIEW, self.plan, write, self.done.append)
        )

    def keep(self, data: bytes) -> Deferred[None]:
        self.file += data
        return succeed(None)

    def test_fileHasThePixelsOfOneDrawing(self) -> None:
        self.successResultOf(self.start(self.keep))
        picture = decodePNG(self.file)
        self.assertEqual((picture.width, picture.height), (16, 16))
        self.assertEqual(b"".join(picture.rows), drawStripe(Stripe(VIEW, 0, 16)))

    def test_progressIsOfAllRows(self) -> None:
        self.successResultOf(self.start(self.keep))
        self.assertEqual(sum(self.done), 16)
        self.assertGreater(len(self.done), 1)

    def test_planLearnsFromEachStripe(self) -> None:
        learnt: list[int] = []
        self.patch(self.plan, "learn", lambda rows, seconds: learnt.append(rows))
        self.successResultOf(self.start(self.keep))
        self.assertEqual(learnt, self.done)

    def test_slowOutputHoldsUpTheWork(self) -> None:
        waiting: list[Deferred[None]] = []

        def write(data: bytes) -> Deferred[None]:
            waiting.append(Deferred())
            return waiting[-1]

        d = self.start(write)
        self.assertEqual(self.queue.begun, 0)
        waiting[0].callback(None)
        self.assertEqual(self.queue.begun, 1)
        self.assertEqual(self.done, [])
        waiting[1].callback(None)
        self.assertEqual(self.queue.begun, 2)
        self.assertEqual(len(self.done), 1)
        self.assertNoResult(d)
        d.cancel()
        self.failureResultOf(d, CancelledError)

    def test_failedOutputStopsTheWork(self) -> None:
        def write(data: bytes) -> Deferred[None]:
            if self.queue.begun:
                raise OutputClosed("nobody reads")
            return succeed(None)

        self.failureResultOf(self.start(write), OutputClosed)
        self.assertTrue(self.queue.isStopped)
        self.assertEqual(self.queue.begun, 1)

    def test_cancellingStopsTheWork(self) -> None:
        d = self.start(lambda data: Deferred() if self.queue.begun else succeed(None))
        d.cancel()
        self.failureResultOf(d, CancelledError)
        self.assertTrue(self.queue.isStopped)
